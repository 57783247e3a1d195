"""CSV: Arrow splits it, strictly; here is what Arrow lets pass (stray quotes) and does not tell (lines).

Empty lines are skipped, but in a file of one column an empty line is a row without value.
"""

import csv
import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyarrow import csv as arrow_csv

from ml_assets.tables.format import Format
from ml_assets.tables.formats import texts
from ml_assets.tables.formats.cells import Cells, Typed, UnreadableError, require_unique
from ml_assets.tables.formats.unpack import after_line_ends, count_line_ends, line_at, require_no_nul, utf8
from ml_assets.tables.schema import Column

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_BLOCK = 2**22  # a row may be this long


class DelimitedCells(Cells):
    """The fields of a CSV file as text; null is an empty field, a quoted empty one is empty text."""

    place = "line"

    def __init__(self, table: pa.Table, numbers: pa.Array, format: Format) -> None:
        super().__init__(table.column_names, numbers)
        self._table, self._format = table, format

    def typed(self, column: Column) -> Typed:
        """By the text; words for null count in columns that are not text."""
        if column.type == "VARCHAR":
            return Typed(self._table[column.name])
        return texts.parse(self._values(column.name), column.type, self._format)

    def delivered(self, name: str) -> pa.ChunkedArray:
        """The fields, without their quotes."""
        return self._table[name]

    def given(self, name: str) -> pa.ChunkedArray:
        """A word for null is nothing, whatever the column may be."""
        return pc.is_valid(self._values(name))

    def infer(self, name: str) -> str | None:
        """By the texts, all of them."""
        values = self._values(name).drop_null()
        return texts.infer(values, self._format) if len(values) else None

    def hint(self, column: Column, at: int) -> str:
        """As for any text."""
        return texts.hint(self._table[column.name][at].as_py(), column.type, self._format)

    def _values(self, name: str) -> pa.ChunkedArray:
        words = pa.array(self._format.nulls, pa.string())
        return pc.if_else(pc.is_in(self._table[name], value_set=words), None, self._table[name])


def read(content: bytes, format: Format) -> Cells:
    """The cells of a CSV file; UnreadableError names the line."""
    text = utf8(content, format)
    if not re.search(rb"[^\s]", text):
        raise UnreadableError("it has no header line")
    require_no_nul(text)
    layout = _Layout(text, format)
    layout.require_quotes_in_place()
    try:
        table = _split(text, format)
    except pa.ArrowInvalid as error:
        raise UnreadableError(_ragged(text, format) or str(error).splitlines()[0].rstrip(".")) from error
    return DelimitedCells(table, layout.row_lines(table.num_rows, skip_empty=table.num_columns > 1), format)


def _split(text: bytes, format: Format) -> pa.Table:
    whole = text if count_line_ends(text) else b"%b\n" % text  # a header alone is no error of Arrow then
    parsing = _parsing(text, format)
    blocks = arrow_csv.ReadOptions(block_size=_BLOCK)
    with arrow_csv.open_csv(pa.BufferReader(whole), read_options=blocks, parse_options=parsing) as first:
        names = first.schema.names
    require_unique(names)
    parsing.ignore_empty_lines = len(names) > 1
    options = arrow_csv.ConvertOptions(
        check_utf8=False,
        column_types=dict.fromkeys(names, pa.string()),
        null_values=list(format.text_nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return arrow_csv.read_csv(pa.BufferReader(whole), blocks, parsing, options)


def _parsing(text: bytes, format: Format) -> arrow_csv.ParseOptions:
    signs = (format.quote, format.escape)
    return arrow_csv.ParseOptions(
        delimiter=format.delimiter,
        quote_char=format.quote or False,
        escape_char=format.escape or False,
        newlines_in_values=any(sign and sign.encode() in text for sign in signs),
    )


class _Layout:
    """Where quotes and lines are; escaped signs count as letters."""

    def __init__(self, text: bytes, format: Format) -> None:
        self.text, self.format = text, format
        self.plain = _without_escapes(text, format)
        self.codes = np.frombuffer(self.plain, np.uint8)
        quote = format.quote.encode()
        has_quotes = quote and quote in self.plain
        self.quotes = np.flatnonzero(self.codes == ord(quote)) if has_quotes else np.empty(0, np.int64)

    def require_quotes_in_place(self) -> None:
        """A quote opens a field, closes one or is doubled inside one; Arrow would join rows around others."""
        if not len(self.quotes):
            return
        openers, closers = self.quotes[0::2], self.quotes[1::2]
        wrong = [*self._misplaced(openers, openers - 1), *self._misplaced(closers, closers + 1)]
        if wrong:
            line = line_at(self.text, min(wrong))
            problem = f"a quote in the middle of a field on line {line}, or one that was not closed before"
        elif len(openers) > len(closers):
            problem = f"the quote on line {line_at(self.text, int(openers[-1]))} is never closed"
        else:
            return
        advice = "quote whole fields, with quotes inside of them doubled, or set format.quote or format.escape"
        raise UnreadableError(problem, advice)

    def _misplaced(self, quotes: np.ndarray, beside: np.ndarray) -> list[int]:
        """The first quote that has anything but a border or another quote beside it."""
        inside = (beside >= 0) & (beside < len(self.codes))
        borders = [ord(sign) for sign in (self.format.delimiter, self.format.quote, "\r", "\n")]
        stray = quotes[inside][~np.isin(self.codes[beside[inside]], borders)]
        return [int(stray[0])] if len(stray) else []

    def row_lines(self, n_rows: int, *, skip_empty: bool) -> pa.Array:
        """The line on which each row begins."""
        n_lines = count_line_ends(self.text) + (not self.text.endswith((b"\n", b"\r")))
        if n_lines == n_rows + 1:  # every line is a row
            return pa.array(np.arange(2, n_rows + 2, dtype=np.int64))
        ends = after_line_ends(self.plain)
        starts = np.concatenate([[0], ends[np.searchsorted(self.quotes, ends) % 2 == 0]])
        starts = starts[starts < len(self.codes)]
        if skip_empty:
            starts = starts[~np.isin(self.codes[starts], [10, 13])]
        lines = np.searchsorted(after_line_ends(self.text), starts, side="right") + 1
        if len(lines) != n_rows + 1:
            raise UnreadableError(f"{len(lines) - 1} rows by its line ends, but {n_rows} by its fields")
        return pa.array(lines[1:].astype(np.int64))


def _without_escapes(text: bytes, format: Format) -> bytes:
    if not format.escape or format.escape.encode() not in text:
        return text
    escape = format.escape.encode()
    for sign in (escape, format.quote.encode(), b"\n", b"\r", format.delimiter.encode()):
        if sign:
            text = text.replace(escape + sign, b"xx")
    return text


def _ragged(text: bytes, format: Format) -> str | None:
    """The first row that has more or fewer fields than the header, by the standard library, which counts lines."""
    lines = io.TextIOWrapper(io.BytesIO(text), "utf-8", newline="")
    quoting = {"quotechar": format.quote} if format.quote else {"quoting": csv.QUOTE_NONE}
    rows = csv.reader(lines, delimiter=format.delimiter, escapechar=format.escape, **quoting)  # pyright: ignore[reportArgumentType]
    wrong, width, line = [], None, 1
    try:
        for fields in rows:
            width = width or len(fields)
            if fields and len(fields) != width:
                wrong.append(f"line {line} has {len(fields)} fields, the header has {width}")
            line = rows.line_num + 1
    except csv.Error:
        return None
    return wrong[0] + (f" (and {len(wrong) - 1} more such lines)" if len(wrong) > 1 else "") if wrong else None
