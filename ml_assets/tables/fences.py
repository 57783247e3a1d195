"""The fences of IQR outliers, by partition: computed from the rows of a SELECT, and applied to rows in SQL."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import duckdb

from ml_assets import engine
from ml_assets.tables.expectations import Fences, Outliers
from ml_assets.tables.schema import RELEASED

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TABLE = "_fences"


def erect(con: duckdb.DuckDBPyConnection, rows: str, outliers: Sequence[Outliers]) -> tuple[Fences, ...]:
    """Compute the fences of each partition of a SELECT, by numpy and in one scan; keep them as the table `TABLE`."""
    import pyarrow as pa

    names = [engine.quote(each.column) for each in outliers]
    lists = ", ".join(f"list({n}) FILTER ({n} IS NOT NULL) AS x{i}" for i, n in enumerate(names))
    values = con.sql(f"SELECT partition_key, {lists} FROM ({rows}) GROUP BY 1 ORDER BY 1").to_arrow_table()
    partitions = values.column("partition_key").to_pylist()
    bounds, found = {"partition_key": pa.array(partitions, pa.string())}, []
    for i, each in enumerate(outliers):
        mine = [_fences(each, partition, x) for partition, x in zip(partitions, _arrays(values, i), strict=True)]
        bounds |= {f"_low{i}": pa.array([f.low for f in mine], pa.float64())}
        bounds |= {f"_high{i}": pa.array([f.high for f in mine], pa.float64())}
        found += mine
    con.register("_bounds", pa.table(bounds))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {TABLE} AS SELECT * FROM _bounds")
    con.unregister("_bounds")
    return tuple(found)


def _arrays(values: "pa.Table", i: int) -> "Iterator[np.ndarray]":
    """The values of each partition, without a copy; a list that is null or empty has none."""
    for chunk in values.column(f"x{i}").chunks:
        numbers = chunk.values.to_numpy(zero_copy_only=False)
        bounds = chunk.offsets.to_pylist()
        present = chunk.is_valid().to_pylist()
        for start, end, valid in zip(bounds[:-1], bounds[1:], present, strict=True):
            yield numbers[start:end] if valid else numbers[:0]


def _fences(outliers: Outliers, partition: str, values: "np.ndarray") -> Fences:
    import numpy as np

    if not len(values):
        return Fences(outliers, partition, 0, 0, None, None, None, None)
    q1, q3 = _quartiles(np.sort(values))
    if q1 == q3:
        return Fences(outliers, partition, len(values), 0, q1, q3, None, None)
    low, high = q1 - outliers.factor * (q3 - q1), q3 + outliers.factor * (q3 - q1)
    beyond = int(np.count_nonzero((values < low) | (values > high)))
    return Fences(outliers, partition, len(values), beyond, q1, q3, low, high)


def _quartiles(ordered: "np.ndarray") -> tuple[float, float]:
    """As `numpy.quantile` has them, of values that are in order: to sort is faster than what it does to select."""
    import numpy as np

    places = [0.25 * (len(ordered) - 1), 0.75 * (len(ordered) - 1)]
    q1, q3 = (np.quantile(ordered[int(at) : int(at) + 2].astype(float), at % 1).item() for at in places)
    return q1, q3


def within(i: int, outliers: Outliers) -> str:
    """SQL over rows joined to `TABLE`: the value is null, not judged, within the fences, or let in by a person."""
    inside = f"{engine.quote(outliers.column)} BETWEEN _low{i} AND _high{i}"
    return f"coalesce({inside} OR starts_with(_file, {engine.literal(RELEASED)}), true)"


def suspect(outliers: Outliers, found: Sequence[Fences]) -> str:
    """SQL that is true for what lies beyond the narrowest fences: cheap, before the join that knows the partition."""
    mine = [(f.low, f.high) for f in found if f.outliers == outliers and f.low is not None and f.high is not None]
    if not mine:
        return "false"
    name, low, high = engine.quote(outliers.column), max(low for low, _ in mine), min(high for _, high in mine)
    return f"{name} < CAST('{low!r}' AS DOUBLE) OR {name} > CAST('{high!r}' AS DOUBLE)"


def clipped(i: int, outliers: Outliers, kind: str) -> str:
    """SQL for the value, or the fence that it lies beyond; for whole numbers the last one within."""
    name = engine.quote(outliers.column)
    low, high = (f"ceil(_low{i})", f"floor(_high{i})") if kind == "BIGINT" else (f"_low{i}", f"_high{i}")
    fence = f"CASE WHEN {name} < _low{i} THEN {low} ELSE {high} END"
    return f"CASE WHEN {within(i, outliers)} THEN {name} ELSE CAST({fence} AS {kind}) END AS {name}"
