"""A first contract from a data file: what all of its rows keep, written so that a person corrects and completes it.

Types are those that the reader of deliveries finds, so the file keeps the contract that was made from it. Bounds of
numbers are rounded outward, a text with few values is a set, and codes have a pattern. What the rows cannot say, what
a column means and which gaps are normal, is left to fill; the evidence stands above each column.
"""

import json
import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import combinations
from math import isfinite
from typing import TYPE_CHECKING, Any

from ml_assets.engine import connect, literal, quote
from ml_assets.errors import DeliveryError, shorten
from ml_assets.tables.format import Format
from ml_assets.tables.schema import RESERVED, Column

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_PYTHON = {"VARCHAR": "str", "BIGINT": "int", "DOUBLE": "float", "BOOLEAN": "bool"} | {
    "TIMESTAMPTZ": "datetime",
    "DATE": "date",
}
_SET_AT_MOST, _ROWS_PER_VALUE, _LONGEST_OF_SET = 20, 10, 40
_KEY_CANDIDATES = 8
# The first that all values follow is the rule.
_PATTERNS = (
    r"\d{4}-\d{2}-\d{2}",
    r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?",
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    r"\d+",
    r"[A-Z]+",
    r"[A-Z0-9]+",
    r"[A-Z0-9_-]+",
)
_LINE = 120
_PLAIN_BELOW = 10**18
_TO_FILL = 'description=""'
_AS_NAMED = Format()


@dataclass(frozen=True)
class Seen:
    """What the rows show of one column."""

    column: Column
    n_rows: int
    nulls: int
    distinct: int
    low: Any = None
    high: Any = None
    lengths: tuple[int, int] | None = None
    pattern: str | None = None
    values: tuple[str, ...] = ()


def infer(content: bytes, name: str, *, class_name: str, keys: Sequence[str] = (), format: Format = _AS_NAMED) -> str:
    """The Python source of a contract that the rows of this file keep.

    Raises:
        DeliveryError: the file cannot be read, holds no rows, or its rows do not differ in `keys`.
    """
    rows, columns = _read(content, name, format)
    with connect() as con:
        con.register("seen", rows)
        found = [_look(con, column, rows.num_rows) for column in columns]
        by = _keys(con, found, tuple(keys), name)
    return _source(found, by, name=name, class_name=class_name, given=bool(keys))


def _read(content: bytes, name: str, format: Format) -> "tuple[pa.Table, list[Column]]":
    """The typed rows as deliveries are read."""
    import pyarrow as pa

    from ml_assets.tables.formats import read
    from ml_assets.tables.formats.cells import UnreadableError

    cells = read(content, name, format)
    if taken := [each for each in cells.names if each.lower() in RESERVED]:
        raise DeliveryError(f"{name}: ml_assets itself adds {shorten(taken)} to rows; rename it in the delivery")
    cells.load(cells.names)
    try:
        columns = [Column(each, cells.infer(each) or "VARCHAR", nullable=True) for each in cells.names]
    except UnreadableError as error:
        raise DeliveryError(f"{name}: {error}; {error.advice}") from error
    rows = pa.table({column.name: cells.typed(column).values for column in columns})
    if not rows.num_rows:
        raise DeliveryError(f"{name}: it holds no rows; a contract is made from rows")
    return rows, columns


def _look(con: "duckdb.DuckDBPyConnection", column: Column, n_rows: int) -> Seen:
    name = quote(column.name)
    value = f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END" if column.type == "DOUBLE" else name
    ((held, distinct),) = con.sql(f"SELECT count(v), count(DISTINCT v) FROM (SELECT {value} AS v FROM seen)").fetchall()
    nulls = n_rows - held
    shape = Column(column.name, column.type, nullable=nulls > 0)
    if column.type in ("BIGINT", "DOUBLE") and held:
        ((low, high),) = con.sql(
            f"SELECT min(v), max(v) FROM (SELECT {value} AS v FROM seen) WHERE isfinite(v::DOUBLE)"
        ).fetchall()
        return Seen(shape, n_rows, nulls, distinct, low, high)
    if column.type == "VARCHAR" and held:
        return _look_at_text(con, shape, n_rows, nulls, distinct)
    return Seen(shape, n_rows, nulls, distinct)


def _look_at_text(con: "duckdb.DuckDBPyConnection", column: Column, n_rows: int, nulls: int, distinct: int) -> Seen:
    name = quote(column.name)
    con.execute(f"CREATE OR REPLACE TEMP TABLE texts AS SELECT DISTINCT {name} AS v FROM seen WHERE {name} IS NOT NULL")
    tests = ", ".join(f"bool_and(regexp_full_match(v, {literal(pattern)}))" for pattern in _PATTERNS)
    ((shortest, longest, *fits),) = con.sql(f"SELECT min(length(v)), max(length(v)), {tests} FROM texts").fetchall()
    few = distinct <= _SET_AT_MOST and n_rows - nulls >= distinct * _ROWS_PER_VALUE and longest <= _LONGEST_OF_SET
    values = con.sql("SELECT v FROM texts ORDER BY v").fetchall() if few else []
    pattern = next((pattern for pattern, fit in zip(_PATTERNS, fits, strict=True) if fit), None)
    return Seen(
        column, n_rows, nulls, distinct, None, None, (shortest, longest), pattern, tuple(value for (value,) in values)
    )


def _keys(con: "duckdb.DuckDBPyConnection", found: Sequence[Seen], keys: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The given keys, if the rows differ in them; else the first column, or two, that tell all rows apart."""
    if keys:
        _require_unique(con, found, keys, name)
        return keys
    n_rows = found[0].n_rows
    able = [s for s in found if not s.nulls and s.column.type not in ("DOUBLE", "BOOLEAN") and s.distinct > 1]
    for seen in able:
        if seen.distinct == n_rows and seen.column.type != "TIMESTAMPTZ":
            return (seen.column.name,)
    for pair in combinations(able[:_KEY_CANDIDATES], 2):
        names = tuple(seen.column.name for seen in pair)
        if pair[0].distinct * pair[1].distinct >= n_rows and _n_distinct(con, names) == n_rows:
            return names
    return ()


def _require_unique(con: "duckdb.DuckDBPyConnection", found: Sequence[Seen], keys: tuple[str, ...], name: str) -> None:
    by_name = {seen.column.name: seen for seen in found}
    if missing := [key for key in keys if key not in by_name]:
        raise DeliveryError(f"{name}: there is no column {shorten(missing)}, but {shorten(by_name, 50)}")
    if null := [key for key in keys if by_name[key].nulls]:
        raise DeliveryError(f"{name}: the key {shorten(null)} is null in {by_name[null[0]].nulls} rows; choose others")
    if doubled := found[0].n_rows - _n_distinct(con, keys):
        raise DeliveryError(f"{name}: {doubled} rows have the same {shorten(keys)} as another; choose other keys")


def _n_distinct(con: "duckdb.DuckDBPyConnection", names: Sequence[str]) -> int:
    columns = ", ".join(map(quote, names))
    return con.sql(f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM seen)").fetchall()[0][0]


def _source(found: Sequence[Seen], keys: Sequence[str], *, name: str, class_name: str, given: bool) -> str:
    kinds = {seen.column.type for seen in found}
    times = [word for kind, word in (("DATE", "date"), ("TIMESTAMPTZ", "datetime")) if kind in kinds]
    imported = f"from datetime import {', '.join(times)}\n\n" if times else ""
    n_rows = f"{found[0].n_rows:,} rows"
    held = (
        f"# keys: [{', '.join(keys)}]"
        if keys
        else "# keys: no one or two columns tell the rows apart; name those that do"
    )
    why = (
        "" if not keys else ", as you said; no two rows share them" if given else ", which no two rows share; is it so?"
    )
    body = "\n".join(line for index, seen in enumerate(found) for line in _field(seen, index))
    plain = re.sub(r'["\\\x00-\x1f]', "_", name)  # inside a docstring
    return (
        f'"""A first contract, from {n_rows} of {plain}. Say what each column means, and correct the rules."""\n\n'
        f"{imported}import pandera.pandas as pa\n\n\n"
        f'class {class_name}(pa.DataFrameModel):\n    """Rows like those of {plain}."""\n\n    {held}{why}\n{body}\n'
    )


def _field(seen: Seen, index: int) -> Iterator[str]:
    column = seen.column
    share = f"{seen.nulls:,} null ({seen.nulls / seen.n_rows:.1%})" if seen.nulls else "never null"
    span = f", from {seen.low} to {seen.high}" if seen.low is not None else ""
    yield f"    # {seen.n_rows:,} rows, {share}, {seen.distinct:,} distinct{span}"
    name, options = _python_name(column.name, index), list(_options(seen))
    if name != column.name:
        options.insert(0, f"alias={json.dumps(column.name, ensure_ascii=False)}")
    options.append(_TO_FILL)
    line = f"    {name}: {_PYTHON[column.type]} = pa.Field({', '.join(options)})"
    if len(line) <= _LINE:
        yield line
        return
    yield f"    {name}: {_PYTHON[column.type]} = pa.Field("
    yield from (f"        {option}," for option in options)
    yield "    )"


def _options(seen: Seen) -> Iterator[str]:
    if seen.column.nullable:
        yield "nullable=True"
    if seen.low is not None:
        low, high = _outward(seen.low, seen.high)
        yield from (f"{word}={bound}" for word, bound in (("ge", low), ("le", high)) if bound)
    if seen.values:
        yield f"isin=[{_listed(seen.values)}]"
    elif seen.lengths and seen.lengths[1]:
        shortest, longest = seen.lengths
        if seen.pattern:
            yield f'str_matches=r"{_sized(seen.pattern, shortest, longest)}$"'
        elif shortest == longest or shortest:
            most = f', "max_value": {longest}' if shortest == longest else ""
            yield f'str_length={{"min_value": {shortest if most else 1}{most}}}'


def _listed(values: Sequence[str]) -> str:
    """The values on one line, or, where that would be long, on lines of their own."""
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    if sum(map(len, texts)) + 2 * len(texts) <= _LINE - 20:
        return ", ".join(texts)
    return "".join(f"\n            {text}," for text in texts) + "\n        "


def _sized(pattern: str, shortest: int, longest: int) -> str:
    """A code of one length has it in its pattern."""
    return f"{pattern[:-1]}{{{longest}}}" if pattern.endswith("+") and shortest == longest else pattern


def _outward(low: float, high: float) -> tuple[str, str]:
    """Both bounds on two digits, away from what was seen; a small positive lower bound is zero."""
    start = "0" if 0 <= low <= high / 10 else _rounded(low, ROUND_FLOOR)
    return start, _rounded(high, ROUND_CEILING)


def _rounded(value: float, towards: str) -> str:
    """A number as Python writes it; nothing, where the next one outward is infinite."""
    exact = Decimal(str(value))
    if not exact:
        return "0"
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=towards)
    if rounded == int(rounded) and abs(rounded) < _PLAIN_BELOW:
        return str(int(rounded))
    return repr(float(rounded)) if isfinite(float(rounded)) else ""


def _python_name(name: str, index: int) -> str:
    from pandera.pandas import DataFrameModel

    plain = name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not name.startswith("_")
    if plain and not hasattr(DataFrameModel, name):
        return name
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return f"column_{index + 1}" if not made else f"column_{index + 1}_{made}"
