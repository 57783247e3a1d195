"""The point-in-time join of 10 million labels with 10 million feature rows, against bare DuckDB and against Feast.

Every contender runs in a process of its own, reads the same Parquet files and ends with a table in memory. Ours gives
every label once and in order, finds doubled feature rows, and is asked for that here; the bare statements are what one
would write by hand, and promise neither. Feast lives in a virtual environment that is made here.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.cost import Cost, measured, report
from benchmarks.peers import environment
from ml_assets.engine import connect
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FeatureView

ROWS = int(os.environ.get("ML_ASSETS_BENCH_ROWS", "10000000"))
FEW = 100_000  # for Feast's file store, which took 51 CPU seconds for as many labels
_DAY = 86_400_000_000
_AGE = f"epoch_us(s.at) - epoch_us(f.feature_timestamp) <= {_DAY}"
_INTERVAL = "s.at - f.feature_timestamp <= INTERVAL 1 DAY"
_VIEW = FeatureView(
    "v", ("entity",), timedelta(0), ("t",), max_age=timedelta(days=1), sql="SELECT entity, known_at, f1, f2 FROM t"
)
_LIMITS = ("2GB", "1GB")


def costs(folder: Path) -> list[Cost]:
    """Ours against the bare statements, with late arrivals, in little memory, and against Feast."""
    _write(folder, ROWS)
    ours, _ = _run("ours", folder)
    bare, _ = _run("bare", folder)
    tuned, _ = _run("tuned", folder)
    late, _ = _run("late", folder)
    said = f"join {ROWS:,} labels with {ROWS:,} feature rows"
    found = [
        Cost(said, ours, "the bare DuckDB ASOF statement", bare, 1.2),
        Cost(said, ours, "the same, with ages in microseconds instead of intervals", tuned),
        Cost(f"{said} that arrive late or again", late, "the bare DuckDB ASOF statement, blind to arrival", bare, 1.5),
        *(_peak(folder, limit, said) for limit in _LIMITS),
    ]
    return found + _against_feast(folder, ours, said)


def _peak(folder: Path, limit: str, said: str) -> Cost:
    """Beside DuckDB: Python's 0.25 GiB, and a row's bytes: label 24, number 8, hashes 16, matched 24, in order 16."""
    os.environ["ML_ASSETS_MEMORY_LIMIT"] = limit
    try:
        _, peak = _run("ours", folder, times=1)
    finally:
        del os.environ["ML_ASSETS_MEMORY_LIMIT"]
    bound = int(limit[0]) * 1e9 / 2**30 + ROWS * 88 / 2**30 + 0.25
    return Cost(f"{said}, peak GiB with ML_ASSETS_MEMORY_LIMIT={limit}", peak, "limit and result, GiB", bound, 1.0)


def _against_feast(folder: Path, ours: float, said: str) -> list[Cost]:
    python = environment("feast", ["feast[duckdb]==0.67.0"], "Feast's offline stores")
    if not python:
        return []
    script = [python, "-W", "ignore", str(Path(__file__).with_name("joins_peers.py"))]
    whole, _ = measured([*script, "duckdb", str(folder), str(ROWS)], 1)
    _agree(folder, "ours", "duckdb")
    measured([*script, "file", str(folder), str(FEW)], 1)
    kept, few = _told(folder, "duckdb")["rows"], _told(folder, "file")["rows"]
    return [
        Cost(said, ours, "Feast 0.67, DuckDB store", whole, 0.2),
        Cost(f"rows out of {ROWS:,} labels", _told(folder, "ours")["rows"], "Feast, DuckDB store", kept),
        Cost(f"rows out of {FEW:,} labels", FEW, "Feast, default store: it lost the others", few),
    ]


def _run(name: str, folder: Path, times: int = 3) -> tuple[float, float]:
    spent = measured([sys.executable, "-W", "ignore", "-m", "benchmarks.joins", name, str(folder)], times)
    if name != "late":
        _agree(folder, "ours", name)
    return spent


def _agree(folder: Path, *names: str) -> None:
    told = {name: _told(folder, name) for name in names}
    if len({json.dumps(facts) for facts in told.values()}) > 1:
        raise SystemExit(f"The joins differ: {told}")


def _told(folder: Path, name: str) -> dict[str, int]:
    return json.loads((folder / f"{name}.json").read_text())


def _write(folder: Path, rows: int) -> None:
    """Entities and times at random over 90 days; `late.parquet` has arrivals up to 2 days later and restatements."""
    entity = "CAST(floor(random() * 100000) AS BIGINT) AS entity"
    time = "TIMESTAMPTZ '2024-01-01' + to_microseconds(CAST(floor(random() * 90 * 86400000000) AS BIGINT))"
    late = "to_microseconds(CAST(floor((again + random()) * 2 * 86400000000) AS BIGINT))"
    with connect(threads=2) as con:
        con.execute("SELECT setseed(0.5)")
        features = f"SELECT {entity}, {time} AS feature_timestamp, random() AS f1, random() AS f2 FROM range({rows})"
        con.execute(f"COPY ({features}) TO '{folder}/features.parquet' (FORMAT parquet, COMPRESSION zstd)")
        once = f"(FROM '{folder}/features.parquet' LIMIT {rows - rows // 20})"
        twice = f"(FROM '{folder}/features.parquet' LIMIT {rows // 20})"
        known = f"(SELECT *, 0 AS again FROM {once} UNION ALL SELECT * REPLACE (-f1 AS f1), 1 AS again FROM {twice})"
        both = f"SELECT * EXCLUDE (again), feature_timestamp + {late} AS known_at FROM {known}"
        con.execute(f"COPY ({both}) TO '{folder}/late.parquet' (FORMAT parquet, COMPRESSION zstd)")
        labels = f'SELECT range AS n, {entity}, {time} AS "at" FROM range({rows})'
        con.execute(f"COPY ({labels}) TO '{folder}/labels.parquet' (FORMAT parquet, COMPRESSION zstd)")


def ours(folder: str, rows: str = "features") -> pa.Table:
    """Labels and feature rows by the project's join."""
    with connect(threads=2) as con:
        con.execute(f"SET temp_directory = '{folder}/spill'")
        con.execute(f"CREATE VIEW spine AS FROM '{folder}/labels.parquet'")
        con.execute(f"CREATE VIEW rows AS FROM '{folder}/{rows}.parquet'")
        found = join_as_of(con, "spine", [_VIEW], {"v": "rows"})
    return found.rename_columns([name.removeprefix("v__") for name in found.column_names])


def late(folder: str) -> pa.Table:
    """The same where rows arrive late or again."""
    return ours(folder, "late")


def bare(folder: str, fresh: str = _INTERVAL) -> pa.Table:
    """The statement that one would write: neither in order, nor sure that no feature row is there twice."""
    with connect(threads=2) as con:
        con.execute(f"SET temp_directory = '{folder}/spill'")
        values = ", ".join(f"CASE WHEN {fresh} THEN f.{name} END AS {name}" for name in ("f1", "f2"))
        return con.sql(
            f"SELECT s.*, {values} FROM '{folder}/labels.parquet' s ASOF LEFT JOIN '{folder}/features.parquet' f"
            " ON s.entity = f.entity AND s.at >= f.feature_timestamp"
        ).to_arrow_table()


def tuned(folder: str) -> pa.Table:
    """The same by someone who knows that DuckDB asks a calendar for the difference of two times."""
    return bare(folder, _AGE)


def main() -> None:
    """Run one contender, and keep what it found; ours must give each label once, in order."""
    name, folder = sys.argv[1:]
    contenders: dict[str, Callable[[str], pa.Table]] = {"ours": ours, "late": late, "bare": bare, "tuned": tuned}
    found: list[pa.Table] = []
    report(lambda: found.append(contenders[name](folder)))
    (table,) = found
    if name in ("ours", "late") and not np.array_equal(table["n"].to_numpy(), np.arange(ROWS)):
        raise SystemExit("Labels are lost, doubled or in another order.")
    summed = np.nansum(np.round(table["f1"].to_numpy() * 1e6))
    facts = {"rows": len(table), "filled": len(table) - table["f1"].null_count, "sum": int(summed)}
    Path(folder, f"{name}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
