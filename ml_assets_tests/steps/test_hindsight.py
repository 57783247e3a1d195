"""What the checks on feature rows looked at, and what they say where that was nothing."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ml_assets.records import Finding
from ml_assets.steps import catalogue, features, ingest, leaks
from ml_assets_tests.project import CARRIERS, CONTRACTS, FLIGHTS, LAST_FLIGHT, Project, days, flights

WEEK = days("2013-01-01", "2013-01-06")
LATE = ', metadata={"available": "after_event"})'


def take_in(project: Project, *landed: str) -> None:
    ingest.ingest(project.table("flights"), project.step(min(landed), max(landed)))


def said(project: Project, view: str, *span: str) -> dict[str, Finding]:
    """What the checks say of a run of a view."""
    spec = project.view(view)
    run = project.step(*span) if spec.daily else project.step()
    return {found.check: found for found in features.materialize(spec, run)[spec.name].findings}


@pytest.fixture
def landed(project):
    project.land_days(*WEEK)
    take_in(project, *WEEK)
    return project


@pytest.fixture
def outcomes(project):
    """Delays that exist only after the event, in the lake with a `known_at` from before they arrived."""
    project.write("../../contracts.py", CONTRACTS.replace("ge=-60, le=600)", f"ge=-60, le=600{LATE}"))
    project.land_days(*WEEK)
    take_in(project, *WEEK)
    rows = project.lake.dataset("tables/flights").to_table()
    early = [known - timedelta(minutes=40) for known in rows["known_at"].to_pylist()]
    place = rows.column_names.index("known_at")
    planted = rows.set_column(place, "known_at", pa.array(early, rows.schema.field("known_at").type))
    project.lake.write("tables/flights", planted, partitions=list(WEEK))
    return project


def test_outcomes_that_came_into_the_lake_as_known_before_their_event_fail_every_view_of_them(outcomes):
    for view in ("carrier_delays", "last_flight"):
        found = said(outcomes, view, WEEK[0], WEEK[-1])[catalogue.HINDSIGHT.name]
        assert not found.passed
        assert found.sentence.startswith("96 rows of flights are known before their event, such as one with known_at ")
        assert "Correct `known_at` of flights" in found.sentence
    assert not outcomes.lake.exists("features/carrier_delays")


def test_the_same_is_said_of_feature_rows_that_stand(landed):
    said(landed, "last_flight", WEEK[0], WEEK[-1])
    assert leaks.of_view(landed.view("last_flight"), landed.step()).passed
    rows = landed.lake.dataset("tables/flights").to_table()
    place = rows.column_names.index("arrived_at")
    ahead = [at + timedelta(hours=1) for at in rows["arrived_at"].to_pylist()]
    moved = rows.set_column(place, "arrived_at", pa.array(ahead, rows.schema.field("arrived_at").type))
    landed.lake.write("tables/flights", moved, partitions=list(WEEK))
    landed.write("../../contracts.py", CONTRACTS.replace("ge=-60, le=600)", f"ge=-60, le=600{LATE}"))
    found = leaks.of_view(landed.view("last_flight"), landed.step())
    assert not found.passed
    assert "are known before their event" in found.sentence


def test_deliveries_of_outcomes_that_are_known_before_their_event_are_refused(project):
    project.write("../../contracts.py", CONTRACTS.replace("ge=-60, le=600)", f"ge=-60, le=600{LATE}"))
    early = flights(WEEK[0])
    known = pa.array([at - timedelta(minutes=1) for at in early["arrived_at"].to_pylist()][1:], early.schema[4].type)
    project.land(f"{WEEK[0]}.parquet", early.slice(1).set_column(4, "known_at", known))
    spec = project.table("flights", invalid_rows={"fail_above": 0.0})
    result = ingest.ingest(spec, project.step(WEEK[0]))["tables/flights"]
    found = {finding.check: finding for finding in result.findings}
    assert not found["known_at__is_not_before_the_event"].passed
    assert not found[catalogue.FEW_INVALID.name].passed
    assert result.produced == {}


@pytest.mark.parametrize("hours", [3, 30])  # thirty leave the newest day without rows
def test_a_known_at_of_the_sql_that_is_earlier_than_the_tables_is_named(landed, hours):
    landed.write("last_flight.sql", f"SELECT carrier, known_at - INTERVAL {hours} HOUR AS known_at, delay FROM flights")
    found = said(landed, "last_flight", WEEK[0], WEEK[-1])[catalogue.HINDSIGHT.name]
    assert "Its `known_at` is earlier than that of flights: " in found.sentence
    assert "Select `known_at` of the table as it is, or later." in found.sentence


def test_values_from_the_future_with_the_right_known_at_are_not_blamed_on_it(landed):
    sql = "SELECT carrier, known_at, lead(delay) OVER (PARTITION BY carrier ORDER BY known_at) AS delay FROM flights"
    landed.write("last_flight.sql", sql)
    found = said(landed, "last_flight", WEEK[0], WEEK[-1])[catalogue.HINDSIGHT.name]
    assert not found.passed
    assert "earlier than that of" not in found.sentence


AHEAD = LAST_FLIGHT.replace("  every: 1h\n", "").replace("name: last_flight", "name: ahead")
SHIFTED = """
SELECT carrier, known_at + INTERVAL 30 DAY AS known_at, {value} AS delay, known_at AS event_timestamp FROM flights"""


def test_rows_of_a_static_view_from_after_the_last_row_of_its_table_are_compared_as_well(landed):
    landed.declare(FLIGHTS, CARRIERS, AHEAD.replace("last_flight.sql", "ahead.sql"))
    landed.write("ahead.sql", SHIFTED.format(value="delay"))
    found = said(landed, "ahead")[catalogue.HINDSIGHT.name]
    assert found.passed
    assert found.numbers["compared"] == landed.lake.dataset("features/ahead").count_rows() == 96
    altered = landed.lake.dataset("features/ahead").to_table()
    place = altered.column_names.index("delay")
    landed.lake.write("features/ahead", altered.set_column(place, "delay", pa.array([7.0] * 96)))
    assert not leaks.of_view(landed.view("ahead"), landed.step()).passed


def test_a_day_without_rows_says_that_nothing_was_compared(landed):
    landed.write("last_flight.sql", "SELECT carrier, known_at, delay FROM flights WHERE carrier = 'none'")
    found = said(landed, "last_flight", WEEK[0], WEEK[-1])
    assert found[catalogue.HINDSIGHT.name].sentence == f"There are no rows of {WEEK[-1]}: nothing was compared."
    assert found[catalogue.HINDSIGHT.name].numbers == {"compared": 0}
    assert found[catalogue.UNIQUE.name].numbers == {"compared": 0}


def test_every_check_on_rows_says_how_much_it_compared(landed):
    found = said(landed, "carrier_delays", WEEK[0], WEEK[-1])
    assert found[catalogue.UNIQUE.name].sentence == "Of 286 rows: None has the time of another."
    assert found[catalogue.HINDSIGHT.name].sentence == f"48 rows of {WEEK[-1]} came out the same."
    assert found[catalogue.GRID_FITS.name].numbers == {"compared": 48}


def once_a_day(project: Project, *on: str) -> None:
    """Flights of a day are known at midnight."""
    for day in on:
        rows = flights(day)
        midnight = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1, microseconds=-1)
        known = pa.array(
            [midnight + timedelta(microseconds=1) - timedelta(days=1)] * rows.num_rows, rows.schema[4].type
        )
        early = pa.array([at - timedelta(days=1) for at in rows["arrived_at"].to_pylist()], rows.schema[2].type)
        project.land(f"{day}.parquet", rows.set_column(4, "known_at", known).set_column(2, "arrived_at", early))
    take_in(project, *on)


def test_a_grid_over_few_moments_is_too_few_to_tell(project):
    once_a_day(project, *WEEK)
    found = said(project, "last_flight", WEEK[-1])[catalogue.GRID_FITS.name]
    assert found.passed
    assert "Rows became known at 6 moments in 101 days: too few to tell" in found.sentence


def test_a_grid_is_told_from_the_days_before_when_one_day_has_few_moments(project):
    month = days("2013-01-01", "2013-01-25")
    once_a_day(project, *month)
    found = said(project, "last_flight", month[-1])[catalogue.GRID_FITS.name]
    assert not found.passed
    assert "at 25 moments, all at multiples of 1d: `every: 1h` is finer. Use `every: 1d`." in found.sentence


def test_windows_by_the_time_of_events_change_between_nightly_batches(project):
    """Flights land at multiples of three hours: so do they leave the windows."""
    month = days("2013-01-01", "2013-01-25")
    once_a_day(project, *month)
    found = said(project, "carrier_delays", month[-1])[catalogue.GRID_FITS.name]
    assert "at 25 moments and left the windows, all at multiples of 3h: `every: 1h` is finer." in found.sentence
    path = project.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("every: 1h", "every: 3h", 1))
    assert said(project, "carrier_delays", month[-1])[catalogue.GRID_FITS.name].passed
