"""Whether rows arrive when they are said to be known: real deliveries, taken in at set times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ml_assets import clock
from ml_assets.records import Finding
from ml_assets.steps import arrival_lag, catalogue, features, ingest
from ml_assets_tests.project import DOCUMENTS, Project, days, flights

MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
WEEK = days("2013-01-01", "2013-01-04")


def deliver(project: Project, name: str, at: datetime, *, day: str, hours: tuple[int, ...]) -> None:
    """A file lands and is taken in at a moment."""
    project.land(name, flights(day, hours=hours))
    with clock.frozen(at):
        ingest.ingest(project.table("flights"), project.step(day, outputs=frozenset({"raw/flights"})))


def hourly(project: Project, *, behind: timedelta, on: tuple[str, ...] = WEEK) -> None:
    """Each flight comes so long after its hour; it is known half an hour after it."""
    for day in on:
        for hour in (3, 9, 15):
            at = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour) + behind
            deliver(project, f"{day}T{hour:02}.parquet", at, day=day, hours=(hour,))


def arrives(project: Project, view: str = "carrier_delays") -> Finding:
    return arrival_lag.arrives(project.view(view), project.step())


def with_delay(project: Project, delay: str) -> None:
    path = project.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("every: 1h\n", f"every: 1h\n  delay: {delay}\n", 1))


def test_rows_that_come_before_the_next_grid_time_are_in_time(project):
    hourly(project, behind=timedelta(minutes=55))
    found = arrives(project)
    assert found.passed
    assert "0.0% of 24 live rows of flights came later than declared" in found.sentence
    assert found.numbers["flights"] == {"rows": 24, "late": 0.0, "p50": -5.0, "p95": -5.0}


def test_rows_that_come_later_than_declared_are_counted_with_the_delay_to_declare(project):
    hourly(project, behind=timedelta(hours=2, minutes=40))
    found = arrives(project)
    assert not found.passed
    assert not found.warn
    assert (
        "100.0% of 24 live rows of flights came later than declared (half of them within 100 minutes" in found.sentence
    )
    assert "Declare `delay: 2h` in place of 0s" in found.sentence


def test_the_delay_that_is_advised_is_enough(project):
    hourly(project, behind=timedelta(hours=2, minutes=40))
    with_delay(project, "2h")
    found = arrives(project)
    assert found.passed
    assert found.numbers["flights"]["p95"] == -20.0


def test_files_that_come_once_a_day_are_a_day_late_for_a_grid_of_hours(project):
    for day in WEEK:
        at = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1, minutes=10)
        deliver(project, f"{day}.parquet", at, day=day, hours=tuple(range(24)))
    found = arrives(project)
    assert not found.passed
    assert "`delay: 1d`" in found.sentence


def test_a_load_of_history_tells_nothing_and_says_so(project):
    project.land_days(*WEEK)
    ingest.ingest(project.table("flights"), project.step(WEEK[0], WEEK[-1]))
    found = arrives(project)
    assert found.passed
    assert found.sentence.startswith("No live rows of flights: nothing was judged.")
    assert "It is judged as soon as a day comes by itself within 3 days" in found.sentence
    assert found.numbers == {"compared": 0}


def test_days_that_came_together_tell_nothing_though_they_are_recent(project):
    project.land_days(*WEEK)
    with clock.frozen(MIDNIGHT + timedelta(days=4, minutes=10)):
        ingest.ingest(project.table("flights"), project.step(WEEK[0], WEEK[-1]))
    assert "nothing was judged" in arrives(project).sentence


def test_live_days_are_judged_though_history_was_loaded_before_them(project):
    project.land_days(*WEEK[:2])
    with clock.frozen(MIDNIGHT + timedelta(days=2, minutes=10)):
        ingest.ingest(project.table("flights"), project.step(*WEEK[:2]))
    hourly(project, behind=timedelta(hours=2, minutes=40), on=WEEK[2:])
    assert "100.0% of 12 live rows" in arrives(project).sentence


def whole_days(project: Project, *deliveries: tuple[str, ...], after: timedelta) -> None:
    """Each delivery of days comes so long after the end of the last of them."""
    for together in deliveries:
        at = datetime.fromisoformat(together[-1]).replace(tzinfo=UTC) + timedelta(days=1) + after
        project.land_days(*together)
        with clock.frozen(at):
            ingest.ingest(project.table("flights"), project.step(together[0], together[-1]))


FORTNIGHT = days("2013-01-01", "2013-01-14")


def test_a_feed_that_is_always_days_late_is_judged(project):
    whole_days(project, *((day,) for day in FORTNIGHT), after=timedelta(days=5))
    found = arrives(project)
    assert not found.passed
    assert "100.0% of 208 live rows of flights came later than declared" in found.sentence
    assert "Declare `delay: 6d`" in found.sentence
    assert found.numbers["compared"] == 208


def test_a_feed_that_brings_two_days_at_once_is_judged(project):
    whole_days(project, *zip(FORTNIGHT[::2], FORTNIGHT[1::2], strict=True), after=timedelta(hours=2))
    found = arrives(project)
    assert not found.passed
    assert "of 192 live rows of flights came later than declared" in found.sentence


def test_a_feed_that_brings_twenty_days_at_once_is_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    endless = {**DOCUMENTS, "flights": DOCUMENTS["flights"].replace(', end: "2013-01-31"', "")}
    project = Project(tmp_path / "code", endless)
    spec, stored = replace(project.table("flights"), last_day=None), days("2013-01-01", "2013-03-21")
    for first in range(0, 80, 20):
        together = stored[first : first + 20]
        for day in together:
            project.land(f"{day}.parquet", flights(day, hours=(9,)))
        with clock.frozen(datetime.fromisoformat(together[-1]).replace(tzinfo=UTC) + timedelta(days=1, hours=2)):
            run = project.step(together[0], together[-1], outputs=frozenset({"raw/flights"}))
            ingest.ingest(spec, run)
    found = arrives(project)
    assert not found.passed
    assert "of 56 live rows of flights came later than declared" in found.sentence  # two of each of 28 days


def test_a_load_in_parts_and_a_project_that_was_left_alone_for_weeks_are_history(project):
    whole_days(project, FORTNIGHT[:5], after=timedelta(days=30))
    whole_days(project, FORTNIGHT[5:9], after=timedelta(days=28))
    whole_days(project, FORTNIGHT[9:], after=timedelta(days=60))
    assert arrives(project).numbers == {"compared": 0}


def test_a_few_late_rows_are_no_reason_to_refuse(project):
    """One of twenty-four."""
    hourly(project, behind=timedelta(minutes=55))
    late = datetime(2013, 1, 4, 23, tzinfo=UTC)
    project.land("2013-01-04-late.parquet", flights("2013-01-04", hours=(20,), carriers=("UA",)))
    with clock.frozen(late):
        ingest.ingest(project.table("flights"), project.step("2013-01-04", outputs=frozenset({"raw/flights"})))
    found = arrives(project)
    assert found.passed
    assert found.numbers["flights"]["late"] == 0.04


def test_a_row_that_comes_again_counts_by_its_first_arrival(project):
    hourly(project, behind=timedelta(minutes=55))
    for number, day in enumerate(WEEK, 1):
        at = MIDNIGHT + timedelta(days=number, hours=2)
        deliver(project, f"{day}-again.parquet", at, day=day, hours=(3, 9, 15))
    found = arrives(project)
    assert found.passed
    assert found.numbers["flights"]["rows"] == 24


def test_without_known_at_a_row_is_known_when_it_arrives(project):
    path = project.defs_folder / "defs.yaml"
    contract = project.defs_folder.parents[1] / "contracts.py"
    contract.write_text(contract.read_text().replace("    known_at: datetime\n", "", 1))
    path.write_text(
        path.read_text()
        .replace("  event_timestamp: arrived_at\n  known_at: known_at\n", "")
        .replace("column: known_at", "column: arrived_at")
    )
    for day in WEEK:
        project.land(f"{day}.parquet", flights(day).drop_columns(["known_at"]))
        with clock.frozen(datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1, hours=5)):
            ingest.ingest(project.view("last_flight").tables[0], project.step(day))
    found = arrives(project, "last_flight")
    assert found.passed
    assert found.numbers["flights"]["late"] == 0.0


def test_a_static_view_waits_for_nothing(project):
    said = "No input comes by day: nothing was judged."
    assert arrives(project, "carrier_attributes") == Finding(
        catalogue.ARRIVES.name, True, said, numbers={"compared": 0}
    )


TREND = """\
type: ml_assets.components.FeatureView
attributes:
  name: trend
  entity: [carrier]
  every: 1h
  max_age: 1d
  sql: |
    SELECT carrier, known_at, event_timestamp, delay_mean_6h - delay_mean_1d AS against_the_day FROM carrier_delays
"""


def test_of_a_view_over_a_view_it_is_said_where_the_arrivals_are_judged(project):
    project.declare(*DOCUMENTS.values(), TREND)
    said = "It reads no table that comes by day, only carrier_delays: what arrived late for it is judged there."
    assert arrives(project, "trend") == Finding(catalogue.ARRIVES.name, True, said, numbers={"compared": 0})


def test_every_run_of_a_view_says_it(project):
    project.land_days(*WEEK)
    ingest.ingest(project.table("flights"), project.step(WEEK[0], WEEK[-1]))
    spec = project.view("carrier_delays")
    for _ in range(2):
        result = features.materialize(spec, project.step(WEEK[0], WEEK[-1]))[spec.name]
        assert [found.passed for found in result.findings if found.check == catalogue.ARRIVES.name] == [True]


def test_late_rows_are_right_rows_and_go_into_the_lake_though_the_check_fails(project):
    hourly(project, behind=timedelta(hours=2, minutes=40))
    ingest.ingest(project.table("flights"), project.step(WEEK[0], WEEK[-1], outputs=frozenset({"tables/flights"})))
    spec = project.view("carrier_delays")
    result = features.materialize(spec, project.step(WEEK[0], WEEK[-1]))[spec.name]
    assert [found.passed for found in result.findings if found.check == catalogue.ARRIVES.name] == [False]
    assert set(result.produced) == set(WEEK)
