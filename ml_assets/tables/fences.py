"""The fences of IQR outliers, by partition: computed over rows, and applied to them in SQL."""

from collections.abc import Sequence

import duckdb

from ml_assets import engine
from ml_assets.tables.expectations import Fences, Outliers

TABLE = "_fences"


def erect(con: duckdb.DuckDBPyConnection, rows: str, outliers: Sequence[Outliers]) -> tuple[Fences, ...]:
    """Compute the fences of each partition of a SELECT, keep them as the temporary table `TABLE`, and count beyond."""
    quartiles = ", ".join(f"quantile_cont({engine.quote(o.column)}, [0.25, 0.75]) AS q{i}" for i, o in _each(outliers))
    bounds = ", ".join(
        f"q{i}, CASE WHEN q{i}[2] > q{i}[1] THEN q{i}[1] - {o.factor!r} * (q{i}[2] - q{i}[1]) END AS low{i}, "
        f"CASE WHEN q{i}[2] > q{i}[1] THEN q{i}[2] + {o.factor!r} * (q{i}[2] - q{i}[1]) END AS high{i}"
        for i, o in _each(outliers)
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {TABLE} AS SELECT partition_key, {bounds} "
        f"FROM (SELECT partition_key, {quartiles} FROM ({rows}) GROUP BY partition_key)"
    )
    counts = ", ".join(
        f"[count({engine.quote(o.column)}), count(*) FILTER (NOT {within(i, o)})], any_value(q{i}), "
        f"any_value(low{i}), any_value(high{i})"
        for i, o in _each(outliers)
    )
    found = con.execute(
        f"SELECT partition_key, {counts} FROM ({rows}) JOIN {TABLE} USING (partition_key) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return tuple(_read(o, row[0], *row[1 + 4 * i : 5 + 4 * i]) for row in found for i, o in _each(outliers))


def within(i: int, outliers: Outliers) -> str:
    """SQL over rows joined to `TABLE`: the value is null, not judged, or within the fences of its partition."""
    return f"coalesce({engine.quote(outliers.column)} BETWEEN low{i} AND high{i}, true)"


def clipped(i: int, outliers: Outliers, kind: str) -> str:
    """SQL for the value, or the fence that it lies beyond; for whole numbers the last one within."""
    name = engine.quote(outliers.column)
    low, high = (f"ceil(low{i})", f"floor(high{i})") if kind == "BIGINT" else (f"low{i}", f"high{i}")
    fence = f"CASE WHEN {name} < low{i} THEN {low} ELSE {high} END"
    return f"CASE WHEN {within(i, outliers)} THEN {name} ELSE CAST({fence} AS {kind}) END AS {name}"


def _each(outliers: Sequence[Outliers]) -> list[tuple[int, Outliers]]:
    return list(enumerate(outliers))


def _read(
    outliers: Outliers,
    partition: str,
    counts: list[int],
    quartiles: list[float] | None,
    low: float | None,
    high: float | None,
) -> Fences:
    q1, q3 = quartiles or (None, None)
    return Fences(outliers, partition, counts[0], counts[1], q1, q3, low, high)
