"""A statistical portrait of every partition of a table, in a form that can be stored and compared.

The long form has a row for each partition and column, and one with the column "" whose `n` is the number of rows:

- `n` is the number of rows, `nulls` how many have no value; NaN and infinity count as no value.
- `distinct` is exact where `top` is given and the estimate of `approx_count_distinct` elsewhere, within 10 % or so.
- `minimum` and `maximum` are text, cut after 200 characters.
- `quantiles` are exact, at `QUANTILES`. `mean` and `std` (of the sample) are those of the values, of booleans the
  share that is true. Dates and times have no mean; their quantiles and histogram are in seconds since 1970.
- `histogram` has twelve bins of one width from the first to the last percentile, the last one closed, and a tail on
  either side that holds values. A column whose percentiles agree has one bin in place of the twelve.
- `top` has up to five most frequent values, ties in order of value: of text and booleans whose values repeat, and of
  whole numbers with at most 20 values.

The same rows give the same profile to the last bit, whatever their order, the number of threads and the partitions
beside them: sums are made of whole numbers, on a grid of 2^-52 (mean) and 2^-30 (deviation) of a column's range.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.engine import literal, quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ROWS = ""  # the column of the row that counts a partition's rows
BINS, _FINE, _COARSE = 12, 2**52, 2**30
_AT_ONCE = 50_000_000  # values; a statement holds those of its quantiles in memory
_MOST_DISTINCT = {"text": 1000, "truth": 2, "whole": 20}
_KINDS = {
    "whole": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    "real": ("FLOAT", "DOUBLE", "DECIMAL"),
    "time": ("DATE", "TIMESTAMP"),
    "truth": ("BOOLEAN",),
    "text": ("VARCHAR", "ENUM"),
}

_Found = dict[tuple[str, str], dict[str, Any]]


def PROFILE_SCHEMA() -> "pa.Schema":  # noqa: N802
    """The Arrow schema of the long form."""
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    bins = pa.list_(pa.struct({"low": number, "high": number, "n": count}))
    names = {"partition_key": text, "column": text, "type": text, "n": count, "nulls": count, "distinct": count}
    numbers = {"minimum": text, "maximum": text, "mean": number, "std": number, "quantiles": pa.list_(number)}
    return pa.schema({**names, **numbers, "histogram": bins, "top": pa.list_(pa.struct({"value": text, "n": count}))})


def profile_partitions(con: "duckdb.DuckDBPyConnection", rows: "pa.Table") -> "pa.Table":
    """Profile rows by their `partition_key` ("" without one), in order of partition and of the table's columns.

    Three statements for all partitions and columns: quantiles and counts, then what lies between the quantiles, then
    the most frequent values. Beyond 50 million values the first two are run for some columns at a time.
    """
    import pyarrow as pa

    con.register("_profiled", rows)
    try:
        source = (
            "_profiled" if "partition_key" in rows.column_names else "(SELECT '' AS partition_key, * FROM _profiled)"
        )
        columns = _columns(con)
        found: _Found = {}
        step = max(1, _AT_ONCE // max(1, rows.num_rows))
        for start in range(0, max(1, len(columns)), step):
            some = columns[start : start + step]
            found |= _quantiles(con, source, some)
            _add_moments(con, source, [column for column in some if column.measured], found)
        _add_top(con, source, columns, found)
    finally:
        con.unregister("_profiled")
    order = {name: place for place, name in enumerate([ROWS, *(column.name for column in columns)])}
    ordered = sorted(found, key=lambda key: (key[0], order[key[1]]))
    return pa.Table.from_pylist([_row(*key, found[key]) for key in ordered], PROFILE_SCHEMA())


@dataclass(frozen=True)
class _Column:
    name: str
    type: str

    @property
    def kind(self) -> str:
        word = self.type.partition("(")[0].partition(" ")[0].partition("_")[0]
        return "" if self.type.endswith("]") else next((kind for kind, words in _KINDS.items() if word in words), "")

    @property
    def measured(self) -> bool:
        return self.kind in ("whole", "real", "time", "truth")

    @property
    def value(self) -> str:
        """The column in SQL, null where it has no value."""
        name = quote(self.name)
        finite = self.type in ("FLOAT", "DOUBLE") or self.kind == "time"
        return f"CASE WHEN isfinite({name}) THEN {name} END" if finite else name

    @property
    def number(self) -> str:
        return f"epoch({self.value})" if self.kind == "time" else f"CAST({self.value} AS DOUBLE)"

    def repeats(self, n: int, distinct: int) -> bool:
        """Whether its most frequent values are worth knowing."""
        return 0 < distinct <= min(_MOST_DISTINCT.get(self.kind, 0), max(5, n // 2))


def _columns(con: "duckdb.DuckDBPyConnection") -> list[_Column]:
    described = con.execute("DESCRIBE SELECT * FROM _profiled").fetchall()
    return [_Column(name, str(kind).strip('"')) for name, kind, *_ in described if name != "partition_key"]


def _quantiles(con: "duckdb.DuckDBPyConnection", source: str, columns: Sequence[_Column]) -> _Found:
    """What one look at the rows gives; the first and last of `quantiles` are the least and the greatest number."""
    aggregates = []
    for column in columns:
        text = [f"left(CAST({end}({column.value}) AS VARCHAR), 200)" for end in ("min", "max")]
        at = [0, *QUANTILES, 1]
        quantiles = f"quantile_cont({column.number}, {at})" if column.measured else "CAST(NULL AS DOUBLE[])"
        aggregates.append(
            f"struct_pack(known := count({column.value}), distincts := approx_count_distinct({column.value}), "
            f"minimum := {text[0]}, maximum := {text[1]}, quantiles := {quantiles})"
        )
    found: _Found = {}
    select = f"SELECT partition_key, count(*), [{', '.join(aggregates)}] FROM {source} GROUP BY partition_key"
    for partition, n, columns_found in con.execute(select).fetchall():
        found[partition, ROWS] = {"n": n}
        for column, seen in zip(columns, columns_found, strict=True):
            found[partition, column.name] = {"n": n, "type": _short(column.type), **_one_zero(seen)}
    return found


def _one_zero(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the equal 0.0 and -0.0 is least would depend on the order of rows."""
    ends = {end: "0.0" if seen[end] == "-0.0" else seen[end] for end in ("minimum", "maximum")}
    return {**seen, **ends, "quantiles": [q + 0.0 for q in seen["quantiles"] or ()]}


def _short(kind: str) -> str:
    return kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")


def _add_moments(con: "duckdb.DuckDBPyConnection", source: str, columns: Sequence[_Column], found: _Found) -> None:
    """Count the values in each bin and sum them, exactly: where a value lies in its column's range, in whole steps."""
    import pyarrow as pa

    partitions = sorted({partition for partition, _ in found})
    bounds = [{"partition_key": p, **_bounds(found, p, columns)} for p in partitions]
    if not columns or not bounds:
        return
    con.register("_bounds", pa.Table.from_pylist(bounds))
    numbers = ", ".join(f"{column.number} AS x{i}" for i, column in enumerate(columns))
    positions = ", ".join(f"x{i}, {_position(i)} AS r{i}, {_bin(i)} AS b{i}" for i in range(len(columns)))
    sums = ", ".join(
        f"struct_pack(bins := histogram(b{i}), fine := sum(CAST(round(r{i} * {_FINE}) AS BIGINT)),"
        f" coarse := sum({_step(i)}), squares := sum({_step(i)} * {_step(i)}))"
        for i in range(len(columns))
    )
    try:
        given = f"(SELECT partition_key, {numbers} FROM {source}) JOIN _bounds USING (partition_key)"
        select = f"SELECT partition_key, [{sums}] FROM (SELECT partition_key, {positions} FROM {given})"
        for partition, moments in con.execute(f"{select} GROUP BY partition_key").fetchall():
            for column, values in zip(columns, moments, strict=True):
                found[partition, column.name] |= values
    finally:
        con.unregister("_bounds")


def _bounds(found: _Found, partition: str, columns: Sequence[_Column]) -> dict[str, float]:
    """What bins and positions are measured by; halves, since the range of doubles is more than a double."""
    named = {}
    for i, column in enumerate(columns):
        low, first, *_, last, high = found[partition, column.name]["quantiles"] or [0.0, 0.0, 0.0, 0.0]
        named |= {f"low{i}": low, f"first{i}": first, f"last{i}": last}
        named |= {f"width{i}": last / 2 - first / 2, f"range{i}": high / 2 - low / 2}
    return named


def _position(i: int) -> str:
    return f"CASE WHEN range{i} > 0 THEN (x{i} / 2 - low{i} / 2) / range{i} ELSE 0 END"


def _bin(i: int) -> str:
    inside = f"1 + least({BINS - 1}, floor((x{i} / 2 - first{i} / 2) / width{i} * {BINS}))"
    return (
        f"CAST(CASE WHEN x{i} < first{i} THEN 0 WHEN x{i} > last{i} THEN {BINS + 1} WHEN x{i} IS NULL THEN NULL "
        f"WHEN width{i} > 0 THEN {inside} ELSE 1 END AS TINYINT)"
    )


def _step(i: int) -> str:
    return f"CAST(round(r{i} * {_COARSE}) AS BIGINT)"


def _add_top(con: "duckdb.DuckDBPyConnection", source: str, columns: Sequence[_Column], found: _Found) -> None:
    """Count the values of columns that repeat them, in the partitions where they do; this also counts distinct ones."""
    import pyarrow as pa

    kinds = {column.name: column for column in columns}
    repeating = [
        {"partition_key": partition, "name": name}
        for (partition, name), seen in found.items()
        if name != ROWS and kinds[name].repeats(seen["n"], seen["distincts"])
    ]
    if not repeating:
        return
    con.register("_repeating", pa.Table.from_pylist(repeating))
    counted = " UNION ALL ".join(_counted(source, name) for name in sorted({each["name"] for each in repeating}))
    try:
        for partition, name, value, n, distincts in con.execute(f"{counted} ORDER BY ALL").fetchall():
            seen = found[partition, name]
            seen["distincts"] = distincts
            seen.setdefault("top", []).append({"value": value, "n": n})
    finally:
        con.unregister("_repeating")
    for seen in found.values():
        seen.get("top", []).sort(key=lambda one: -one["n"])


def _counted(source: str, name: str) -> str:
    text = f"left(CAST({quote(name)} AS VARCHAR), 200)"
    windows = (
        "count(*) OVER (PARTITION BY partition_key) AS distincts, "
        f"row_number() OVER (PARTITION BY partition_key ORDER BY count(*) DESC, {text}) AS place"
    )
    here = f"SEMI JOIN (FROM _repeating WHERE name = {literal(name)}) USING (partition_key)"
    groups = f"SELECT partition_key, {text} AS value, count(*) AS n, {windows} FROM {source} {here}"
    groups = f"{groups} WHERE {quote(name)} IS NOT NULL GROUP BY partition_key, {quote(name)}"
    return f"SELECT partition_key, {literal(name)} AS name, value, n, distincts FROM ({groups}) WHERE place <= 5"


def _row(partition: str, name: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    row = {"partition_key": partition, "column": name, "type": "", "n": seen["n"], "nulls": 0}
    row |= {"quantiles": [], "histogram": [], "top": []}
    if name == ROWS:
        return row
    row |= {key: seen[key] for key in ("type", "minimum", "maximum")}
    row |= {"nulls": seen["n"] - seen["known"], "distinct": min(seen["distincts"], seen["known"])}
    row["top"] = seen.get("top", [])
    if not seen["quantiles"]:
        return row
    if seen["type"] not in ("DATE", *(f"TIMESTAMP{end}" for end in ("", "TZ", "_S", "_MS", "_NS"))):
        row |= {"mean": _mean(seen), "std": _deviation(seen)}
    if seen["type"] != "BOOLEAN":
        row |= {"quantiles": seen["quantiles"][1:-1], "histogram": list(_histogram(seen))}
    return row


def _mean(seen: Mapping[str, Any]) -> float:
    low, high = seen["quantiles"][0], seen["quantiles"][-1]
    half = high / 2 - low / 2
    return 2 * (low / 2 + seen["fine"] / (seen["known"] * _FINE) * half) if half > 0 else low


def _deviation(seen: Mapping[str, Any]) -> float | None:
    n, half = seen["known"], seen["quantiles"][-1] / 2 - seen["quantiles"][0] / 2
    if n < 2:
        return None
    squares = n * seen["squares"] - seen["coarse"] ** 2
    return 2 * (math.sqrt(squares / (n * (n - 1))) / _COARSE * half)


def _histogram(seen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    least, low, *_, high, greatest = seen["quantiles"]
    counts = seen["bins"]
    inside = BINS if high / 2 > low / 2 else 1
    edges = [low, *(low * (1 - i / inside) + high * i / inside for i in range(1, inside)), high]
    for i, (left, right) in enumerate(zip([least, *edges], [*edges, greatest], strict=True)):
        if 0 < i <= inside or counts.get(i):
            yield {"low": left, "high": right, "n": counts.get(i, 0)}
