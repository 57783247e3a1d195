"""The main paths: loading definitions, the lake, validating a month, joining as of a time, drift of a day."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cost import Cost, cpu
from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FeatureView
from ml_assets.feeds.flights import land
from ml_assets.monitoring import drift, profile
from ml_assets.tables import contract as contracts
from ml_assets.tables.validate import DeliveredFile, gather, validate

DAY = timedelta(days=1)


def python(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def costs(folder: Path) -> list[Cost]:
    return [
        definitions(),
        lake_write(folder),
        lake_again(folder),
        validation(folder),
        as_of_join(),
        drift_of_a_day(),
    ]


def definitions() -> Cost:
    ours = cpu(python("import ml_assets.definitions as d; d.defs()"), 6)
    floor = cpu(python("import dagster as dg; dg.Definitions()"), 6)
    return Cost("load the definitions", ours, "import dagster, empty Definitions", floor, 1.5)


def lake_write(folder: Path) -> Cost:
    rows, days = _rows_by_day(120, 900)
    counter = iter(range(1000))

    def ours() -> None:
        Lake(str(folder / f"lake{next(counter)}")).write("tables/t", rows, partitions=days)

    def floor() -> None:
        pq.write_to_dataset(rows, folder / f"plain{next(counter)}", partition_cols=["partition_key"])

    return Cost("write 120 days x 900 rows to the lake", cpu(ours), "pyarrow, plain Parquet by day", cpu(floor))


def lake_again(folder: Path) -> Cost:
    rows, days = _rows_by_day(120, 900)
    lake = Lake(str(folder / "again"))
    first = cpu(lambda: lake.write("tables/t", rows, partitions=days), 1)
    return Cost(
        "write the same rows again", cpu(lambda: lake.write("tables/t", rows, partitions=days)), "first write", first
    )


def validation(folder: Path) -> Cost:
    land(str(folder / "landing"), since=date(2013, 1, 1), until=date(2013, 1, 31))
    files = sorted((folder / "landing" / "flight_outcomes").glob("*.parquet"))
    contract = contracts.load("ml_assets.defs.flights.contracts.FlightOutcomes", keys=["flight_id"])
    now = datetime(2013, 2, 1, tzinfo=UTC)
    rows = gather([DeliveredFile(f.name, f.read_bytes(), f.stem[:10], now) for f in files], contract).rows

    def ours() -> None:
        with connect() as con:
            validate(con, rows, contract, partition_column="known_at")

    def floor() -> None:
        with connect() as con:
            con.register("rows", rows)
            good = " AND ".join(f"(({rule.sql}) IS NOT FALSE)" for rule in contract.rules if not rule.unique)
            con.sql(f"SELECT * FROM rows WHERE {good} ORDER BY flight_id").to_arrow_table()
            con.sql(f"SELECT * FROM rows WHERE NOT ({good})").to_arrow_table()

    return Cost(
        f"validate and quarantine {rows.num_rows:,} flights", cpu(ours), "the rules as hand-written SQL", cpu(floor)
    )


def as_of_join() -> Cost:
    rng = np.random.default_rng(7)
    start = np.datetime64("2013-01-01", "us")

    def instants(n: int, unit: str) -> pa.Array:
        return pa.array(start + rng.integers(0, 120 * 24, n).astype(f"timedelta64[{unit}]"), pa.timestamp("us", "UTC"))

    n = 1_000_000
    features = pa.table(
        {
            "carrier": rng.integers(0, 10_000, n).astype(str),
            "feature_timestamp": instants(n, "h"),
            "x": rng.normal(size=n),
        }
    )
    spine = pa.table({"carrier": rng.integers(0, 10_000, n).astype(str), "at": instants(n, "h")})
    con = connect()
    con.register("all", features)
    con.execute(
        'CREATE TABLE "features/v" AS SELECT carrier, feature_timestamp, any_value(x) AS x FROM "all" GROUP BY ALL'
    )
    con.register("given", spine)
    con.execute("CREATE TABLE spine AS FROM given")
    view = FeatureView(
        "v", ("carrier",), timedelta(hours=1), ("t",), max_age=DAY, sql="SELECT carrier, known_at, x FROM t"
    )
    bare = (
        'SELECT s.*, CASE WHEN s."at" - f.feature_timestamp <= INTERVAL 1 DAY THEN f.x END FROM spine s'
        ' ASOF LEFT JOIN "features/v" f ON s.carrier = f.carrier AND s."at" >= f.feature_timestamp'
    )
    theirs = cpu(lambda: con.sql(bare).to_arrow_table())
    ours = cpu(lambda: join_as_of(con, "spine", [view]))
    return Cost("join 1 M rows as of their time, in order", ours, "the bare DuckDB ASOF statement", theirs)


def drift_of_a_day() -> Cost:
    from ml_assets.monitoring.evidently_report import html

    rng = np.random.default_rng(7)
    columns = {f"c{i}": "numeric" for i in range(20)}
    reference = pa.table({name: rng.normal(size=100_000) for name in columns})
    current = pa.table({name: rng.normal(size=2_000) for name in columns})
    with connect() as con:
        stored = profile.reference(con, reference, columns)  # pyright: ignore[reportArgumentType]
        ours = cpu(lambda: drift.drift(con, current, stored))
    html(reference.slice(0, 2000), current, columns)  # pyright: ignore[reportArgumentType]
    theirs = cpu(lambda: html(reference.slice(0, 2000), current, columns), 2)  # pyright: ignore[reportArgumentType]
    return Cost("drift of 2,000 rows x 20 columns", ours, "Evidently's drift preset on the same rows", theirs)


def _rows_by_day(days: int, rows: int) -> tuple[pa.Table, list[str]]:
    rng = np.random.default_rng(7)
    keys = [(date(2013, 1, 1) + n * DAY).isoformat() for n in range(days)]
    columns = {f"c{i}": rng.normal(size=days * rows) for i in range(10)}
    return pa.table({"partition_key": [key for key in keys for _ in range(rows)], **columns}), keys
