"""Lookups, static views and faults in rows, on a real lake and as the user sees them."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ml_assets.steps import catalogue, features, ingest
from ml_assets_tests.project import (
    CARRIER_DELAYS,
    CARRIERS,
    CONTRACTS,
    DOCUMENTS,
    FLIGHTS,
    LAST_FLIGHT,
    Project,
    days,
    flights,
)

WEEK = days("2013-01-01", "2013-01-03")
ROUTES = """\
type: ml_assets.components.Table
attributes:
  name: fares
  source: {files: "fares/*.parquet"}
  contract: PACKAGE.contracts.Fares
  keys: [carrier, valid_from, known_at]
  partitions: {column: known_at, start: "2013-01-01", end: "2013-01-31"}
  known_at: known_at
"""
FARES = """
class Fares(pa.DataFrameModel):
    carrier: str
    valid_from: datetime
    valid_until: datetime = pa.Field(nullable=True)
    fare: float
    known_at: datetime
"""
FARE = """\
type: ml_assets.components.FeatureView
attributes:
  name: fare
  table: fares
  entity: [carrier]
  lookup: {columns: {fare: fare}, valid_from: valid_from, valid_until: valid_until}
  defaults: {fare: 99}
"""


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2013, 1, day, hour, tzinfo=UTC)


def fares(*rows: tuple) -> pa.Table:
    time = pa.timestamp("us", "UTC")
    kinds = {"carrier": pa.string(), "valid_from": time, "valid_until": time, "fare": pa.float64(), "known_at": time}
    return pa.Table.from_pylist([dict(zip(kinds, row, strict=True)) for row in rows], pa.schema(list(kinds.items())))


def take_in(project: Project, table: str) -> None:
    ingest.ingest(project.table(table), project.step(WEEK[0], WEEK[-1]))


@pytest.fixture
def priced(project, monkeypatch):
    monkeypatch.setitem(DOCUMENTS, "fares", ROUTES)
    project.write("../../contracts.py", CONTRACTS + FARES)
    project.declare(ROUTES, FARE)
    project.land("2013-01-01.parquet", fares(("UA", at(1), at(9), 10.0, at(1, 6))), table="fares")
    take_in(project, "fares")
    return project


def compute(project: Project, view: str):
    spec = project.view(view)
    return features.materialize(spec, project.step(WEEK[0], WEEK[-1]) if spec.daily else project.step())[spec.name]


def holds(project: Project) -> list[tuple]:
    return [(r["carrier"], r["feature_timestamp"], r["fare"]) for r in project.rows("features/fare")]


def test_a_lookup_follows_its_table_day_by_day(priced):
    assert all(finding.passed for finding in compute(priced, "fare").findings)
    assert holds(priced) == [("UA", at(1, 6), 10.0), ("UA", at(9), None)]
    assert compute(priced, "fare").produced[""].reused
    priced.land("2013-01-02.parquet", fares(("UA", at(1), at(9), 12.0, at(2, 3))), table="fares")
    take_in(priced, "fares")
    assert not compute(priced, "fare").produced[""].reused
    assert sorted(holds(priced), key=lambda row: row[1]) == [
        ("UA", at(1, 6), 10.0), ("UA", at(2, 3), 12.0), ("UA", at(9), None),
    ]  # fmt: skip


def test_a_run_of_a_lookup_passes_every_check_of_its_asset(priced):
    result = priced.run("features/fare")
    assert result.success
    found = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert set(found) == {check.name for check in catalogue.of_view(priced.view("fare"))}
    assert all(found.values())


def unique(result) -> str:
    """What the failed check on rows of one time says."""
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not result.success
    assert not evaluations[catalogue.UNIQUE.name].passed
    return evaluations[catalogue.UNIQUE.name].description


def test_rows_of_a_lookup_that_are_equally_new_fail_the_check_and_are_named(priced):
    keys = ["carrier", "valid_from", "fare"]
    priced.declare(ROUTES.replace("[carrier, valid_from, known_at]", str(keys)), FARE)
    two = [("UA", at(1), None, fare, at(1, 6)) for fare in (10.0, 11.0)]
    priced.land("2013-01-01.parquet", fares(*two), table="fares")
    ingest.ingest(priced.table("fares", keys=keys), priced.step(WEEK[0], WEEK[-1]))
    said = unique(priced.run("features/fare"))
    assert "carrier=UA valid from 2013-01-01T00:00:00+00:00, known at 2013-01-01T06:00:00+00:00 (2 rows)" in said
    assert "A lookup needs one row per entity, `valid_from` and `known_at`." in said


@pytest.fixture
def landed(project):
    project.declare(FLIGHTS, CARRIERS, CARRIER_DELAYS, LAST_FLIGHT)
    project.land_days(*WEEK)
    take_in(project, "flights")
    return project


def test_sql_that_selects_a_time_twice_fails_the_check_names_the_rows_and_writes_nothing(landed):
    landed.write(
        "last_flight.sql",
        "SELECT carrier, date_trunc('day', known_at) + INTERVAL 1 DAY AS known_at, delay FROM flights",
    )
    said = unique(landed.run("features/last_flight", first="2013-01-02"))
    assert not landed.lake.exists("features/last_flight")
    assert "Feature view 'last_flight' has rows that differ and are equally new" in said
    assert "carrier=B6 at 2013-01-02T00:00:00+00:00 (8 rows)" in said


def test_a_static_view_over_a_table_by_day_follows_every_day(landed):
    static = LAST_FLIGHT.replace("  every: 1h\n", "").replace("name: last_flight", "name: all_flights")
    landed.declare(FLIGHTS, static)
    first = compute(landed, "all_flights")
    assert first.produced[""].metadata["n_rows"] == 2 * 8 * len(WEEK)
    landed.land("2013-01-04.parquet", flights("2013-01-04"))
    ingest.ingest(landed.table("flights"), landed.step("2013-01-04"))
    assert compute(landed, "all_flights").produced[""].metadata["n_rows"] == 2 * 8 * 4
    assert compute(landed, "all_flights").produced[""].reused


def test_a_grid_that_is_finer_than_the_data_stops_the_view_and_says_which_fits(project):
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("every: 1h", "every: 15m"), LAST_FLIGHT)
    for day in WEEK:
        project.land(f"{day}.parquet", flights(day, hours=range(24), carriers=("UA",)))
    take_in(project, "flights")
    said = next(f for f in compute(project, "carrier_delays").findings if f.check == catalogue.GRID_FITS.name)
    assert not said.passed
    assert said.sentence == (
        "Rows became known at 72 moments and left the windows, all at multiples of 30m:"
        " `every: 15m` is finer. Use `every: 30m`."
    )
    assert compute(project, "last_flight").produced.keys() == set(WEEK)


def test_few_moments_say_nothing_of_the_grid(project):
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("every: 1h", "every: 1m"))
    project.land_days(*WEEK[:2])
    take_in(project, "flights")
    result = compute(project, "carrier_delays")
    assert set(result.produced) == set(WEEK[:2])  # 16 moments


BOUNDED = """
import resource, numpy as np, pyarrow as pa
from datetime import datetime, timedelta, UTC
from ml_assets.engine import connect
from ml_assets.features.compute import compute
from ml_assets.features.view import Aggregation, FeatureView
N = 1_500_000
start = np.datetime64("2013-01-01", "us")
rng = np.random.default_rng(7)
known = start + np.sort(rng.integers(0, 40 * 86_400_000_000, N)).astype("timedelta64[us]")
rows = pa.table({
    "id": np.arange(N), "shop": rng.integers(0, 3000, N),
    "known_at": pa.array(known).cast(pa.timestamp("us", "UTC")), "price": rng.normal(size=N),
})
view = FeatureView(
    "sales", ("shop",), timedelta(days=1), ("sales",), keys=("id",), event_timestamp="known_at",
    aggregations={"price": Aggregation("price", ("last", "max", "p50", "distinct", "sum"), (timedelta(days=28),))},
)
con = connect(threads=1)
con.register("sales", rows)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = compute(con, view, first=datetime(2013, 2, 1, tzinfo=UTC), last=datetime(2013, 2, 9, tzinfo=UTC))
assert found.num_rows == 3000 * 8, found.num_rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_memory_limit_bounds_what_computing_takes(tmp_path):
    """A million and a half rows of 3,000 entities, with all that is made of them, are far more than the limit."""
    given = {**os.environ, "ML_ASSETS_MEMORY_LIMIT": "200MB"}
    command = [sys.executable, "-W", "ignore", "-c", BOUNDED]
    done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 300_000  # KiB; with a limit of 8 GB it is 350_000
