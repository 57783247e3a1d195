"""What profiles cost: against the same aggregates as bare SQL, and a year of partitions against one."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.cost import Cost, cpu
from ml_assets.engine import connect
from ml_assets.tables.profile import BINS, QUANTILES, profile_partitions
from ml_assets.tables.trend import steps_out_of_line


def costs(folder: Path) -> list[Cost]:  # noqa: ARG001  all benchmarks are called alike
    year = _rows(365, 1000, numbers=9, texts=3)
    with connect() as con:
        profiles = profile_partitions(con, year)
    profiled = cpu(lambda: _profile(year))
    return [
        _large(),
        Cost(
            "profile 365 partitions x 12 columns", profiled, "bare SQL, the same aggregates", cpu(lambda: _bare(year))
        ),
        Cost(
            "compare 365 partitions", cpu(lambda: steps_out_of_line(profiles[:0], profiles)), "profile them", profiled
        ),
    ]


def _large() -> Cost:
    rows = _rows(1, 10_000_000, numbers=8, texts=2)
    ours, theirs = cpu(lambda: _profile(rows), 1), cpu(lambda: _bare(rows), 1)
    return Cost("profile 10 M rows x 10 columns", ours, "bare SQL, the same aggregates", theirs, 2.0)


def _rows(days: int, rows: int, *, numbers: int, texts: int) -> pa.Table:
    rng = np.random.default_rng(7)
    named = {f"x{i}": rng.normal(size=days * rows) for i in range(numbers)}
    named |= {f"t{i}": pa.array(rng.integers(0, 50, days * rows)).cast(pa.string()) for i in range(texts)}
    keys = pa.array(np.repeat(np.arange(days), rows)).cast(pa.string())
    return pa.table({"partition_key": keys, **named})


def _profile(rows: pa.Table) -> None:
    with connect() as con:
        profile_partitions(con, rows)


def _bare(rows: pa.Table) -> None:
    """What someone would write: one look for the aggregates, one for fixed bins, one for each text column."""
    names = [name for name in rows.column_names if name != "partition_key"]
    numbers = [name for name in names if name.startswith("x")]
    aggregates = [f"count({name}), min({name}), max({name}), approx_count_distinct({name})" for name in names]
    aggregates += [f"avg({name}), stddev({name}), quantile_cont({name}, {list(QUANTILES)})" for name in numbers]
    bins = [f"histogram(CAST(greatest(0, least({BINS}, ({name} + 3) * 2)) AS TINYINT))" for name in numbers]
    with connect() as con:
        con.register("given", rows)
        for looked_up in (aggregates, bins):
            con.sql(f"SELECT partition_key, {', '.join(looked_up)} FROM given GROUP BY 1").to_arrow_table()
        for name in set(names) - set(numbers):
            con.sql(
                f"SELECT partition_key, {name}, count(*) AS n FROM given GROUP BY 1, 2 "
                "QUALIFY row_number() OVER (PARTITION BY partition_key ORDER BY count(*) DESC) <= 5"
            ).to_arrow_table()
