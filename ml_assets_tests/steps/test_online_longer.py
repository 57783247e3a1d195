"""Rows that expired are online again once a version lets them count for longer; nobody has to do anything."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.steps import catalogue, features, online, view_versions
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec
from ml_assets_tests.adapters.redis_server import running
from ml_assets_tests.flights import DAYS, World, copied, ended, finding
from ml_assets_tests.steps.test_online_kept import (
    EVENT,
    EVENTS,
    FARE,
    FARES,
    answers,
    assert_same,
    at,
    compute,
    events,
    fares,
    serve,
    spec_of,
    to_us,
)

SHORT, WIDE, WITHOUT = (spec_of(replace(EVENT, max_age=age), EVENTS) for age in (2 * DAY, 60 * DAY, None))
EARLY = (("A", 1, 1), ("A", 2, 40), ("B", 3, 5), ("B", 4, 80))


@pytest.fixture(params=["sqlite", "redis"])
def run(request, tmp_path, monkeypatch) -> Iterator[Run]:
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    if request.param == "sqlite":
        yield Run(Settings.from_environment())
        return
    with running(tmp_path) as server:
        monkeypatch.setenv("ML_ASSETS_ONLINE_STORE", server.url)
        yield Run(Settings.from_environment())


def is_kept(run: Run, carrier: str, day: float) -> bool:
    return bool(run.online_store.lookup("event@1", (carrier,), to_us(at(day))))


def test_a_version_with_a_longer_max_age_that_begins_to_be_served_finds_its_rows(run):
    compute(SHORT, run, *events(run, *EARLY))
    assert not is_kept(run, "A", 80.5)
    serve(run, "event", 60 * DAY)
    found = compute(SHORT, run, *events(run, ("B", 5, 81)))
    assert found.passed
    assert answers(WIDE, run, "A", 81.5) == ((2.0, at(40)), (2.0, at(40)))
    assert_same(WIDE, run, 80, 81, 90)


def test_they_are_back_though_no_day_is_due_and_the_check_says_so_once(run):
    days = events(run, *EARLY)
    compute(SHORT, run, *days)
    serve(run, "event", 60 * DAY)
    found = compute(SHORT, run, days[-1])
    assert (found.passed, found.warn) == (True, False)
    assert found.sentence.endswith("Rows from 2012-12-16 on are online again: what had expired is kept now.")
    assert_same(WIDE, run, 80, 81, 90)
    assert "again" not in compute(SHORT, run, days[-1]).sentence


def test_where_more_is_kept_but_no_version_asks_for_it_none_is_blamed(run):
    """As after an upgrade that keeps rows for longer."""
    days = events(run, *EARLY)
    compute(SHORT, run, *days)
    longer = replace(SHORT, keep=70 * DAY)
    assert compute(longer, run, days[-1]).sentence.endswith(
        "Rows from 2013-01-10 on are online again: what had expired is kept now."
    )
    assert is_kept(run, "A", 41)


def test_a_declaration_with_a_longer_max_age_finds_its_rows_with_its_first_day(run):
    days = events(run, *EARLY)
    compute(SHORT, run, *days)
    assert compute(WIDE, run, days[-1]).passed
    assert_same(WIDE, run, 80, 81, 90)


def test_without_a_max_age_the_row_that_counts_is_back_however_old(run):
    compute(SHORT, run, *events(run, *EARLY))
    serve(run, "event", None)
    compute(SHORT, run, *events(run, ("B", 5, 120)))
    assert answers(WITHOUT, run, "A", 121) == ((2.0, at(40)), (2.0, at(40)))
    assert_same(WITHOUT, run, 90, 119, 121)


def test_what_a_lookup_had_lost_is_back(run):
    lookup = spec_of(FARE, FARES)
    fares(run, *[("A", float(day), day, None, 1) for day in (2, 50, 60, 99, 140)])
    compute(lookup, run)
    serve(run, "fare", 90 * DAY)
    compute(lookup, run)
    assert_same(lookup, run, 51, 61, 100, 141)


def test_a_store_that_forgot_what_it_keeps_is_made_whole(run):
    """As every store is that was written before it kept this."""
    days = events(run, *EARLY)
    compute(WIDE, run, *days)
    rows = run.lake.dataset("features/event", partitions=[days[-1]]).to_table()
    run.online_store.drop("event@1")
    run.online_store.write("event@1", ["carrier"], ["fare"], rows)
    assert compute(WIDE, run, days[-1]).passed
    assert_same(WIDE, run, 80, 81, 90)


def test_before_a_certificate_what_its_version_needs_is_put_back_and_a_lost_store_is_left_lost(run):
    compute(SHORT, run, *events(run, *EARLY))
    serve(run, "event", 60 * DAY)
    version = view_versions.computed("event", 1, run.lake)
    assert version
    online.complete(version, run, "event@1")
    assert_same(WIDE, run, 80, 81, 90)
    run.online_store.drop("event@1")
    online.complete(version, run, "event@1")
    assert run.online_store.views() == []


@pytest.mark.parametrize("spec", [SHORT, WIDE, WITHOUT], ids=["2d", "60d", "for ever"])
def test_any_moment_of_the_last_five_weeks_is_answered_again(run, spec):
    compute(spec, run, *events(run, *EARLY, ("A", 6, 46.5)))
    assert_same(spec, run, *range(46, 82, 5))


def narrowed(view: ViewSpec) -> ViewSpec:
    return replace(view, keep=DAY, view=replace(view.view, max_age=view.view.max_age and timedelta(hours=6)))


def test_a_release_with_a_longer_max_age_than_is_declared_passes_its_certificate(grown, tmp_path):
    proofs = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]
    world = World(copied(grown.home, tmp_path / "home", leave=proofs), grown.spec)
    views = tuple(map(narrowed, grown.spec.views))
    for view in views:
        features.materialize(view, world.step(*DAYS[-1:]))
    with ended(world):
        result = world.having(views=views).serve()
        proof = finding(result, catalogue.EQUAL_BITS.name)
        assert proof.passed, proof.sentence
        assert world.server().status().weights == {"1": 1.0}


def test_a_lost_store_is_filled_in_the_order_of_features_that_servers_know(run):
    """A server looks the order up once a second; rows of another order would be read as other features meanwhile."""
    days = events(run, *EARLY)
    compute(WITHOUT, run, *days)
    edited = spec_of(replace(EVENT, sql="SELECT carrier, known_at, fare + 1 AS more, fare FROM events"), EVENTS)
    compute(edited, run, days[-1])
    before = run.online_store.schema("event@1")
    run.online_store.drop("event@1")
    compute(edited, run, days[-1])
    assert run.online_store.schema("event@1") == before
    assert_same(edited, run, 81, 90, carriers="B")


@pytest.mark.parametrize("when", ["before the write", "after it"])
def test_whoever_writes_last_to_the_lake_is_what_is_online(run, when):
    """Another run corrects a day while this one puts it online."""
    days = events(run, *EARLY)
    compute(WITHOUT, run, *days)
    rows = run.lake.dataset("features/event", partitions=days[2:3]).to_table()
    place = rows.column_names.index("fare")
    corrected = rows.set_column(place, "fare", pa.array([9.0] * len(rows)))
    written, put = [], run.online_store.replace

    def replaced(*arguments, **span):
        found = put(*arguments, **span)
        if not written and when == "after it":
            written.append(run.lake.write("features/event", corrected, partitions=days[2:3]))
        return found

    if when == "before the write":
        run.lake.write("features/event", corrected, partitions=days[2:3])
    run.online_store.replace = replaced
    assert online.findings(WITHOUT, run, days[2:3], fresh=True)[0].passed
    assert answers(WITHOUT, run, "A", 81) == ((9.0, at(40)), (9.0, at(40)))
