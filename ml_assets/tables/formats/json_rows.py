"""JSON, as lines or as one document: DuckDB reads it, and every value keeps the type that JSON gave it.

1.0 and "1" are no integers, NaN and Infinity (which DuckDB reads although JSON has neither) are no numbers, a list or
an object is no text. A key that comes twice in a row is refused: one of the values would be lost.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute

from ml_assets import engine
from ml_assets.errors import shorten
from ml_assets.tables.format import Format
from ml_assets.tables.formats import texts
from ml_assets.tables.formats.cells import Cells, Typed, UnreadableError, arrow_type, row_numbers
from ml_assets.tables.formats.unpack import after_line_ends, utf8
from ml_assets.tables.schema import Column

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_INTEGERS = ("BIGINT", "UBIGINT")
_ACCEPTED = {
    "VARCHAR": ("VARCHAR",),
    "BIGINT": _INTEGERS,
    "DOUBLE": (*_INTEGERS, "DOUBLE"),
    "BOOLEAN": ("BOOLEAN",),
    "TIMESTAMPTZ": ("VARCHAR",),
    "DATE": ("VARCHAR",),
}


class JsonCells(Cells):
    """Rows of JSON; a key that a row has not is null."""

    def __init__(self, lines: pa.ChunkedArray, numbers: pa.Array, place: str, format: Format) -> None:
        self.place = place
        self.lines, self._format = lines, format
        super().__init__(_names(lines, numbers, place), numbers)
        self._found: dict[str, tuple[pa.ChunkedArray, pa.ChunkedArray]] = {}

    def load(self, names: Sequence[str]) -> None:
        """Extract columns in one pass over the rows."""
        if not names:
            return
        paths = "[" + ", ".join(engine.literal(_pointer([name])) for name in names) + "]"
        query = (
            f"SELECT json_extract_string(line, {paths}) AS values, json_type(line, {paths}) AS kinds FROM rows_of_json"
        )
        found = _query(self.lines, self.numbers, query)
        for i, name in enumerate(names):
            values, kinds = (pc.list_element(found[column], i) for column in ("values", "kinds"))
            nothing = pc.is_null(values)
            self._found[name] = values, pc.if_else(nothing, None, kinds)

    def typed(self, column: Column) -> Typed:
        """By the type that JSON gave each value, and then by its text."""
        values, kinds = self._column(column.name)
        if set(_distinct(kinds)) <= set(_ACCEPTED[column.type]):
            return _parsed(values, column.type, self._format)
        fits = pc.is_in(kinds, value_set=pa.array([*_ACCEPTED[column.type], None], pa.string()))
        parsed = _parsed(pc.if_else(fits, values, None), column.type, self._format)
        wrong = pc.invert(fits)
        return Typed(parsed.values, wrong if parsed.bad is None else pc.or_(wrong, parsed.bad))

    def delivered(self, name: str) -> pa.ChunkedArray:
        """Texts as they are, other values as JSON."""
        return self._column(name)[0]

    def infer(self, name: str) -> str | None:
        """By the types that JSON gave the values; only text can be a time."""
        values, kinds = self._column(name)
        found = set(_distinct(kinds))
        if found & {"OBJECT", "ARRAY"}:
            raise UnreadableError(f"column {name} holds a list or an object", "deliver it flat, or discard the column")
        if not found:
            return None
        if found == {"VARCHAR"}:
            return texts.infer_time(values.drop_null(), self._format)
        fitting = (kind for kind in ("BIGINT", "DOUBLE", "BOOLEAN") if found <= set(_ACCEPTED[kind]))
        kind = next(fitting, "VARCHAR")
        return "VARCHAR" if _parsed(values, kind, self._format).bad is not None else kind

    def hint(self, column: Column, at: int) -> str:
        """As for any text."""
        return texts.hint(self._column(column.name)[0][at].as_py(), column.type, self._format)

    def shown(self, name: str, at: int) -> str:
        """As JSON: text has quotes, a number has none."""
        value, kind = (column[at].as_py() for column in self._column(name))
        return json.dumps(value, ensure_ascii=False) if kind == "VARCHAR" else value

    def _column(self, name: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        if name not in self._found:
            self.load([name])
        return self._found[name]


def read_lines(content: bytes, format: Format) -> Cells:
    """The rows of JSON lines; empty lines are skipped, and each line is an object."""
    text = utf8(content, format)
    trimmed = pc.ascii_trim_whitespace(_pieces(text, after_line_ends(text)))
    filled = pc.greater(pc.binary_length(trimmed), 0)
    numbers = row_numbers(len(trimmed)).filter(filled)
    return JsonCells(pa.chunked_array([trimmed.filter(filled)]), numbers, "line", format)


def read_document(content: bytes, format: Format) -> Cells:
    """The objects of one list in a JSON document, at `format.items`, or of the document, if that is a list."""
    document = pa.chunked_array([_pieces(utf8(content, format), np.empty(0, np.int64))])
    _require_valid(document, row_numbers(1), "document")
    steps = format.items.split(".") if format.items else []
    path = engine.literal(_pointer(steps))
    kind = _query(document, row_numbers(1), f"SELECT json_type(line, {path}) AS kind FROM rows_of_json")["kind"][0]
    if kind.as_py() != "ARRAY":
        found = f"is of type {kind.as_py().lower()}" if kind.is_valid else "is not there"
        problem = f"the list of rows at {format.items or 'the top of the document'} {found}"
        raise UnreadableError(problem, "set format.items to where it is, as data.rows")
    query = f"""SELECT unnest(from_json(json_extract(line, {path}), '["JSON"]')) AS line FROM rows_of_json"""
    lines = _query(document, row_numbers(1), query)["line"].cast(pa.large_string())
    return JsonCells(lines, row_numbers(len(lines)), "row", format)


def _pieces(text: bytes, borders: np.ndarray) -> pa.LargeStringArray:
    """Text cut at positions, without a copy."""
    offsets = np.concatenate([[0], borders, [len(text)]]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text))


def _pointer(steps: Sequence[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def _query(lines: pa.ChunkedArray, numbers: pa.Array, query: str) -> pa.Table:
    con = engine.scratch()
    con.register("rows_of_json", pa.table({"line": lines, "number": numbers}))
    try:
        return con.sql(query).to_arrow_table()
    finally:
        con.unregister("rows_of_json")


def _names(lines: pa.ChunkedArray, numbers: pa.Array, place: str) -> list[str]:
    """All keys, in the order in which they come up; few rows have other keys than the row before."""
    _require_valid(lines, numbers, place)
    query = "SELECT json_keys(line) AS names, min(number) AS number FROM rows_of_json GROUP BY ALL ORDER BY number"
    found: dict[str, None] = {}
    for row in _query(lines, numbers, query).to_pylist():
        doubled = sorted(name for name, n in Counter(row["names"]).items() if n > 1)
        if doubled:
            raise UnreadableError(f"{place} {row['number']} has the key {shorten(doubled)} twice")
        found |= dict.fromkeys(row["names"])
    return list(found)


def _require_valid(lines: pa.ChunkedArray, numbers: pa.Array, place: str) -> None:
    what = "true" if place == "document" else "json_type(line) = 'OBJECT'"
    query = f"""SELECT line, number, json_valid(line) AS valid FROM rows_of_json
                WHERE NOT CASE WHEN json_valid(line) THEN {what} ELSE false END ORDER BY number LIMIT 1"""
    for row in _query(lines, numbers, query).to_pylist():
        where = "it" if place == "document" else f"{place} {row['number']}"
        complaint = " object" if row["valid"] else f": {_complaint(row['line'])}"
        raise UnreadableError(f"{where} is no JSON{complaint}")


def _complaint(line: str) -> str:
    try:
        engine.scratch().execute("SELECT json_type(?)", [line])
    except duckdb.InvalidInputException as error:
        return str(error).split("Malformed JSON ")[-1].split(". Input:")[0].split(".  Input:")[0]
    return "it does not parse"


def _distinct(kinds: pa.ChunkedArray) -> list[str]:
    return [kind for kind in kinds.unique().to_pylist() if kind is not None]


def _parsed(values: pa.ChunkedArray, kind: str, format: Format) -> Typed:
    if kind == "VARCHAR":
        return Typed(values.cast(arrow_type(kind)))
    return texts.parse(values, kind, _plain(format))


def _plain(format: Format) -> Format:
    """JSON has no decimal comma."""
    return Format(
        time_zone=format.time_zone,
        timestamp_format=format.timestamp_format,
        date_format=format.date_format,
        ambiguous_time=format.ambiguous_time,
    )
