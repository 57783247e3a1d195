"""What the feature step computes, reuses, proves and puts online."""

from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

import pyarrow as pa
import pytest

from ml_assets.adapters.online import microseconds
from ml_assets.adapters.online.sqlite import SqliteOnlineStore
from ml_assets.errors import TableNotFoundError
from ml_assets.records import Produced, StepResult
from ml_assets.steps import catalogue, features, ingest
from ml_assets_tests.project import Project, days, flights

FIRST, LAST = "2013-01-01", "2013-01-06"
WEEK = days(FIRST, LAST)
FAR = microseconds(datetime(2014, 1, 1, tzinfo=UTC))
DAILY = ("carrier_delays", "last_flight")


def take_in(project: Project, *landed: str) -> None:
    ingest.ingest(project.table("flights"), project.step(min(landed), max(landed)))


def compute(project: Project, view: str, first: str = FIRST, last: str = LAST) -> StepResult:
    spec = project.view(view)
    return features.materialize(spec, project.step(first, last) if spec.daily else project.step())[spec.name]


def versions(produced: dict[str, Produced]) -> dict[str, str]:
    return {partition: made.data_version for partition, made in produced.items()}


def store(project: Project) -> SqliteOnlineStore:
    return project.step().online_store


def newest_offline(project: Project, view: str) -> dict[tuple, tuple]:
    spec = project.view(view).view
    newest = {}
    for row in sorted(project.rows(f"features/{view}"), key=lambda row: row["feature_timestamp"]):
        key = tuple(row[column] for column in spec.entity)
        newest[key] = microseconds(row["feature_timestamp"]), tuple(row[f] for f in spec.features())
    return newest


@pytest.fixture
def landed(project):
    project.land_days(*WEEK)
    take_in(project, *WEEK)
    return project


@pytest.mark.parametrize("view", DAILY)
def test_a_second_run_computes_nothing_and_commits_nothing(landed, view):
    first = compute(landed, view)
    before = landed.versions()
    again = compute(landed, view)
    assert landed.versions() == before
    assert all(produced.reused for produced in again.produced.values())
    assert versions(again.produced) == versions(first.produced)
    assert set(first.produced) == set(WEEK)


@pytest.mark.parametrize("view", DAILY)
def test_day_by_day_gives_the_rows_of_all_days_at_once(landed, view):
    at_once = versions(compute(landed, view).produced)
    rmtree(landed.lake.uri)
    take_in(landed, *WEEK)
    by_day = {day: compute(landed, view, day, day).produced[day].data_version for day in reversed(WEEK)}
    assert by_day == at_once


def test_many_rows_are_shared_out_among_threads_and_come_out_as_few_do_in_one(landed, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_THREADS", "3")
    asked, spec = "SELECT current_setting('threads')", landed.view(DAILY[0])
    with features.opened(spec, landed.lake, FIRST, LAST) as con:
        assert con.execute(asked).fetchall() == [(1,)]
    in_one = versions(compute(landed, DAILY[0]).produced)
    monkeypatch.setattr(features, "_FEW", 0)
    with features.opened(spec, landed.lake, FIRST, LAST) as con:
        assert con.execute(asked).fetchall() == [(3,)]
    rmtree(landed.lake.uri)
    take_in(landed, *WEEK)
    assert versions(compute(landed, DAILY[0]).produced) == in_one


def test_late_data_changes_only_the_days_after_it_was_known(landed):
    before = compute(landed, "carrier_delays")
    landed.land("2013-01-03-late.parquet", flights("2013-01-03", hours=(20,), carriers=("UA",)))
    take_in(landed, "2013-01-03")
    after = compute(landed, "carrier_delays")
    recomputed = [day for day, produced in after.produced.items() if not produced.reused]
    assert recomputed == ["2013-01-03", "2013-01-04", "2013-01-05"]
    differing = [day for day in WEEK if versions(after.produced)[day] != versions(before.produced)[day]]
    assert differing == ["2013-01-03", "2013-01-04"]


def test_no_row_from_before_late_data_was_known_changes(landed):
    compute(landed, "carrier_delays")
    before = landed.rows("features/carrier_delays")
    late = flights("2013-01-03", hours=(20,), carriers=("UA",))
    landed.land("2013-01-03-late.parquet", late)
    take_in(landed, "2013-01-03")
    compute(landed, "carrier_delays")
    changed = [row for row in landed.rows("features/carrier_delays") if row not in before]
    assert min(row["feature_timestamp"] for row in changed) == datetime(2013, 1, 3, 21, tzinfo=UTC)
    assert {row["carrier"] for row in changed} == {"UA"}


def test_days_that_were_not_delivered_are_left_out(project):
    project.land_days("2013-01-01", "2013-01-03")
    take_in(project, *WEEK)
    assert set(compute(project, "carrier_delays").produced) == {"2013-01-01", "2013-01-03"}
    assert project.lake.partitions("features/carrier_delays") == ["2013-01-01", "2013-01-03"]


def test_without_its_table_a_daily_view_produces_nothing_yet(project):
    assert compute(project, "last_flight").produced == {}


def test_without_its_table_a_static_view_says_what_to_do(project):
    with pytest.raises(TableNotFoundError, match=r"made from tables/carriers\. Materialize"):
        compute(project, "carrier_attributes")


def test_a_view_that_selects_no_row_can_run_again(landed):
    landed.write("last_flight.sql", LEAK + " WHERE carrier = 'none'")
    assert set(compute(landed, "last_flight").produced) == set(WEEK)
    assert all(produced.reused for produced in compute(landed, "last_flight").produced.values())


@pytest.mark.parametrize("view", [*DAILY, "carrier_attributes"])
def test_the_online_store_holds_the_newest_offline_row_of_every_key(landed, view):
    landed.land_carriers()
    ingest.ingest(landed.table("carriers"), landed.step())
    compute(landed, view)
    newest = newest_offline(landed, view)
    assert set(newest) == {("UA",), ("B6",)}
    assert {key: store(landed).lookup(f"{view}@1", key, FAR) for key in newest} == newest


def test_online_rows_follow_late_data(landed):
    compute(landed, "last_flight")
    landed.land(f"{LAST}-late.parquet", flights(LAST, hours=(22,), carriers=("B6",), delay=-5.0))
    take_in(landed, LAST)
    compute(landed, "last_flight")
    assert store(landed).lookup("last_flight@1", ("B6",), FAR) == newest_offline(landed, "last_flight")["B6",]
    assert store(landed).lookup("last_flight@1", ("B6",), FAR)[1] == (-5.0,)


def test_an_online_store_that_was_lost_is_filled_again_without_computing(landed):
    compute(landed, "last_flight")
    newest, before = newest_offline(landed, "last_flight"), landed.versions()
    Path(landed.step().settings.online_store).unlink()
    assert all(produced.reused for produced in compute(landed, "last_flight").produced.values())
    assert {key: store(landed).lookup("last_flight@1", key, FAR) for key in newest} == newest
    assert landed.versions() == before


LEAK = "SELECT carrier, known_at - INTERVAL 3 HOUR AS known_at, delay AS last_delay FROM flights"


def test_sql_that_lies_about_when_it_was_known_fails_the_hindsight_check(landed):
    landed.write("last_flight.sql", LEAK)
    result = compute(landed, "last_flight")
    finding = next(f for f in result.findings if f.check == catalogue.HINDSIGHT.name)
    assert not finding.passed
    assert "carrier=" in finding.sentence


def test_leaking_rows_reach_neither_lake_nor_online_store_and_fail_again(landed):
    good = versions(compute(landed, "last_flight").produced)
    newest, before = newest_offline(landed, "last_flight"), landed.versions()
    landed.write("last_flight.sql", LEAK)
    for _ in range(2):
        result = compute(landed, "last_flight")
        assert result.produced == {}
        assert not all(finding.passed for finding in result.findings)
    assert landed.versions() == before
    assert {key: store(landed).lookup("last_flight@1", key, FAR) for key in newest} == newest
    assert {day: content.hash for day, content in landed.lake.content("features/last_flight").items()} == good


def test_every_run_of_days_is_proven_not_only_the_last(project):
    project.land_days(FIRST, "2013-01-05")
    take_in(project, FIRST, "2013-01-05")
    project.write("last_flight.sql", LEAK + " WHERE known_at < '2013-01-03'")
    assert not all(finding.passed for finding in compute(project, "last_flight").findings)


def test_a_change_of_the_view_computes_all_days_again(landed):
    first = compute(landed, "last_flight")
    sql = (landed.defs_folder / "last_flight.sql").read_text()
    landed.write("last_flight.sql", sql.replace("delay AS", "delay + 1 AS"))
    changed = compute(landed, "last_flight")
    assert not any(produced.reused for produced in changed.produced.values())
    assert set(versions(changed.produced).values()).isdisjoint(versions(first.produced).values())


def test_a_static_view_follows_its_table(project):
    project.land_carriers(fleet=100)
    ingest.ingest(project.table("carriers"), project.step())
    first = compute(project, "carrier_attributes")
    assert compute(project, "carrier_attributes").produced[""].reused
    project.land_carriers(fleet=200)
    ingest.ingest(project.table("carriers"), project.step())
    second = compute(project, "carrier_attributes")
    assert versions(second.produced) != versions(first.produced)
    assert store(project).lookup("carrier_attributes@1", ("UA",), FAR)[1] == (200.0,)


def test_an_empty_static_view_writes_no_rows(project):
    sql = "SELECT carrier, known_at, fleet FROM carriers WHERE fleet > 1000"
    project.land_carriers()
    ingest.ingest(project.table("carriers"), project.step())
    path = project.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("SELECT carrier, known_at, fleet FROM carriers", sql))
    assert compute(project, "carrier_attributes").produced[""].metadata["n_rows"] == 0


def test_a_static_view_that_knows_the_future_fails_the_hindsight_check(landed):
    sql = "SELECT carrier, min(known_at) AS known_at, avg(delay) AS fleet FROM flights GROUP BY carrier"
    path = landed.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("SELECT carrier, known_at, fleet FROM carriers", sql))
    result = compute(landed, "carrier_attributes")
    assert result.produced == {}
    assert not next(f for f in result.findings if f.check == catalogue.HINDSIGHT.name).passed


def test_an_entity_that_leaves_the_table_leaves_the_online_store(project):
    project.land_carriers()
    ingest.ingest(project.table("carriers"), project.step())
    compute(project, "carrier_attributes")
    assert store(project).lookup("carrier_attributes@1", ("B6",), FAR)
    project.land("carriers.parquet", pa.table({"carrier": ["UA"], "fleet": [100]}), table="carriers")
    ingest.ingest(project.table("carriers"), project.step())
    compute(project, "carrier_attributes")
    assert store(project).lookup("carrier_attributes@1", ("B6",), FAR) is None
    assert store(project).lookup("carrier_attributes@1", ("UA",), FAR)
