"""What the feature step finds in the online store, and puts right."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_assets.adapters.online import microseconds, open_store
from ml_assets.errors import StoreUnavailableError
from ml_assets.records import Finding
from ml_assets.steps import catalogue, features, ingest, online
from ml_assets_tests.adapters.redis_server import running
from ml_assets_tests.project import Project, days

WEEK = days("2013-01-01", "2013-01-06")
FAR = microseconds(datetime(2014, 1, 1, tzinfo=UTC))
VIEWS = ("carrier_delays", "last_flight")


@pytest.fixture
def landed(project: Project) -> Project:
    project.land_days(*WEEK)
    ingest.ingest(project.table("flights"), project.step(WEEK[0], WEEK[-1]))
    return project


def compute(project: Project, view: str, first: str = WEEK[0], last: str = WEEK[-1]) -> Finding:
    spec = project.view(view)
    result = features.materialize(spec, project.step(first, last))[spec.name]
    (found,) = (finding for finding in result.findings if finding.check == catalogue.ONLINE.name)
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_fresh_rows_are_online_to_the_bit(landed, view):
    found = compute(landed, view)
    assert found.passed
    assert found.numbers == {"rows": 2, "of": 2, "differing": 0, "lag_seconds": 0.0}
    assert compute(landed, view) == found


def test_the_rows_stand_under_the_version_of_the_view(landed):
    compute(landed, "last_flight")
    assert landed.step().online_store.views() == ["last_flight@1"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_store_that_lost_the_view_is_told_and_filled(landed, view):
    compute(landed, view)
    landed.step().online_store.drop(f"{view}@1")
    found = compute(landed, view)
    assert (found.passed, found.warn) == (False, True)
    assert f"holds nothing of {view}@1" in found.sentence
    assert compute(landed, view).passed


def test_a_lost_store_gets_the_days_before_a_fresh_one_as_well(landed):
    compute(landed, "last_flight", WEEK[0], WEEK[-2])
    at = microseconds(datetime.fromisoformat(f"{WEEK[-2]}T23:59:00Z"))
    before = landed.step().online_store.lookup("last_flight@1", ("UA",), at)
    Path(landed.step().settings.online_store).unlink()
    assert compute(landed, "last_flight", WEEK[-1], WEEK[-1]).passed
    assert before
    assert landed.step().online_store.lookup("last_flight@1", ("UA",), at) == before


def test_a_store_that_lags_is_told_by_how_much_and_filled(landed):
    compute(landed, "last_flight")
    store, spec = landed.step().online_store, landed.view("last_flight")
    newest = store.newest("last_flight@1")
    span = {
        "first": datetime(2013, 1, 6, tzinfo=UTC),
        "last": datetime(2013, 1, 7, tzinfo=UTC) - timedelta(microseconds=1),
    }
    empty = spec_rows(landed).slice(0, 0)
    store.replace("last_flight@1", spec.view.entity, spec.view.features(), empty, **span)
    lag = (newest - store.newest("last_flight@1")) / 1e6
    found = compute(landed, "last_flight")
    assert (found.passed, found.warn, found.numbers["lag_seconds"]) == (False, True, lag)
    assert f"to {lag:,.0f} s before the lake's" in found.sentence
    assert store.newest("last_flight@1") == newest


def spec_rows(project: Project, view: str = "last_flight"):
    spec = project.view(view)
    return (
        project.lake.dataset(spec.name)
        .to_table()
        .select([*spec.view.entity, "feature_timestamp", *spec.view.features()])
    )


def test_values_that_differ_are_named_and_put_right(landed):
    import pyarrow.compute as pc

    compute(landed, "last_flight")
    spec, store = landed.view("last_flight"), landed.step().online_store
    right = store.lookup("last_flight@1", ("B6",), FAR)
    rows = spec_rows(landed).filter(pc.field("carrier") == "B6")
    (feature,) = spec.view.features()
    wrong = rows.set_column(rows.column_names.index(feature), feature, pc.add(rows[feature], 1e-9))
    store.write("last_flight@1", spec.view.entity, [feature], wrong)
    found = compute(landed, "last_flight")
    assert (found.passed, found.warn, found.numbers["differing"]) == (False, True, 1)
    assert "1 of 2 compared of 2 newest rows of last_flight@1 are others online: B6." in found.sentence
    assert store.lookup("last_flight@1", ("B6",), FAR) == right


def test_a_view_without_rows_has_nothing_to_miss(landed):
    landed.write("last_flight.sql", "SELECT carrier, known_at, delay AS last_delay FROM flights WHERE carrier = 'none'")
    assert compute(landed, "last_flight").passed


def test_redis_holds_the_same_and_without_it_fresh_rows_fail_and_come_later(landed, tmp_path, monkeypatch):
    with running(tmp_path) as server:
        monkeypatch.setenv("ML_ASSETS_ONLINE_STORE", server.url)
        assert landed.step().settings.online_store == server.url
        assert compute(landed, "last_flight", WEEK[0], WEEK[-2]).passed
        server.kill()
        with pytest.raises(StoreUnavailableError, match="cannot be used"):
            compute(landed, "last_flight", WEEK[-1], WEEK[-1])
        found = compute(landed, "last_flight", WEEK[0], WEEK[-2])
        assert (found.passed, found.warn) == (False, False)
        assert "cannot be used" in found.sentence
        server.start()
        assert compute(landed, "last_flight", WEEK[-1], WEEK[-1]).passed
        assert open_store(server.url).lookup("last_flight@1", ("UA",), FAR)
        assert compute(landed, "last_flight").passed


def test_days_that_would_expire_at_once_are_not_written(landed, monkeypatch):
    spec, run = landed.view("last_flight"), landed.step()
    short = replace(spec, keep=timedelta(days=2))
    written = []
    monkeypatch.setattr(run.online_store, "replace", lambda *_, first, **__: written.append(first.date().isoformat()))
    features.materialize(spec, landed.step(WEEK[0], WEEK[-1]))
    online.keep(short, run, "v", WEEK)
    assert written == [*WEEK[-3:]]


def test_a_day_that_lost_all_its_rows_leaves_none_online(landed):
    compute(landed, "last_flight")
    run, spec = landed.step(), landed.view("last_flight")
    landed.lake.write(spec.name, landed.lake.dataset(spec.name).to_table().slice(0, 0), partitions=[WEEK[-1]])
    assert run.online_store.newest("last_flight@1") > microseconds(datetime(2013, 1, 6, tzinfo=UTC))
    online.keep(spec, run, "last_flight@1", [WEEK[-1]])
    assert run.online_store.newest("last_flight@1") < microseconds(datetime(2013, 1, 6, tzinfo=UTC))


DOUBLED = "SELECT carrier, known_at, delay + n AS last_delay FROM flights, (VALUES (0), (1)) AS twice(n)"


def test_of_a_view_whose_rows_are_doubled_it_says_what_is_online(landed):
    """Its first run leaves nothing; after good rows these stay, and are what is compared."""
    right = (landed.defs_folder / "last_flight.sql").read_text()
    landed.write("last_flight.sql", DOUBLED)
    found = compute(landed, "last_flight")
    assert (found.passed, found.sentence) == (True, "The lake holds no row of an entity yet.")
    landed.write("last_flight.sql", right)
    good = compute(landed, "last_flight")
    assert good.sentence.startswith("2 compared of 2 newest rows of last_flight@1 are online")
    landed.write("last_flight.sql", DOUBLED)
    assert compute(landed, "last_flight") == good
    landed.step().online_store.drop("last_flight@1")
    assert compute(landed, "last_flight").warn
    assert compute(landed, "last_flight") == good


def test_rows_that_are_doubled_in_the_lake_are_said_to_be_that_and_not_to_differ_online(landed):
    import pyarrow as pa
    import pyarrow.compute as pc

    compute(landed, "last_flight")
    rows = landed.lake.dataset("features/last_flight", partitions=[WEEK[-1]]).to_table()
    others = rows.filter(pc.field("carrier") == "B6")
    others = others.set_column(others.column_names.index("last_delay"), "last_delay", pc.add(others["last_delay"], 1.0))
    landed.lake.write("features/last_flight", pa.concat_tables([rows, others]), partitions=[WEEK[-1]])
    for _ in range(2):
        found = compute(landed, "last_flight")
        assert not found.passed
        assert found.sentence == "The lake holds several rows of last_flight@1 of one entity and time: B6."
