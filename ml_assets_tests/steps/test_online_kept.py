"""What the online store keeps is enough: at any moment that it answers for, it gives what the lake gives."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import msgspec
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ml_assets import clock
from ml_assets.adapters.settings import Settings
from ml_assets.adapters.sources.base import Files
from ml_assets.features.encode import Input
from ml_assets.features.view import MICROSECOND, FeatureView, Lookup
from ml_assets.serving import bundle
from ml_assets.serving.bundle import Golden, RequestField, ServingSchema, ViewRef
from ml_assets.serving.routing import Routing
from ml_assets.steps import catalogue, feature_lookup, features, online, view_needs, view_versions
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, TableSpec, ViewSpec, keep_default

TIME = pa.timestamp("us", "UTC")


class Fares(pandera.DataFrameModel):
    carrier: str
    fare: float
    valid_from: datetime
    valid_until: datetime = pandera.Field(nullable=True)
    known_at: datetime


class Events(pandera.DataFrameModel):
    carrier: str
    fare: float
    known_at: datetime


FARES = TableSpec("fares", Files(""), f"{__name__}.Fares", ("carrier", "valid_from", "known_at"))
EVENTS = replace(
    FARES, name="events", contract=f"{__name__}.Events", first_day=date(2013, 1, 1), partition_column="known_at"
)
FARE = FeatureView(
    "fare",
    ("carrier",),
    timedelta(0),
    ("fares",),
    lookup=Lookup({"fare": "fare"}, "valid_from", "valid_until"),
    defaults={"fare": 99.0},
)
EVENT = FeatureView(
    "event",
    ("carrier",),
    timedelta(hours=1),
    ("events",),
    sql="SELECT carrier, known_at, fare FROM events",
    defaults={"fare": 99.0},
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    return Run(Settings.from_environment())


def at(day: float) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=day - 1)


def fares(run: Run, *rows: tuple) -> None:
    """Carrier, fare, from and until which day it holds, on which day that was known."""
    moments = [[None if day is None else at(day) for day in each[2:]] for each in rows]
    table = {"carrier": [r[0] for r in rows], "fare": pa.array([r[1] for r in rows], pa.float64())}
    for place, name in enumerate(("valid_from", "valid_until", "known_at")):
        table[name] = pa.array([each[place] for each in moments], TIME)
    run.lake.write("tables/fares", pa.table(table))


def events(run: Run, *rows: tuple) -> list[str]:
    """Carrier, fare, on which day it was known; gives the days."""
    known = [at(day) for *_, day in rows]
    table = {"carrier": [r[0] for r in rows], "fare": [float(r[1]) for r in rows], "known_at": pa.array(known, TIME)}
    table["partition_key"] = [moment.date().isoformat() for moment in known]
    written = sorted(set(table["partition_key"]))
    run.lake.write("tables/events", pa.table(table), partitions=written)
    return written


def serve(run: Run, view: str, max_age: timedelta | None) -> None:
    """An endpoint that answers with a version for which rows of a view count for so long."""
    ref = ViewRef(view, ("carrier",), ("fare",), 0, None if max_age is None else max_age // MICROSECOND)
    fields, inputs = (RequestField("carrier", "VARCHAR"),), (Input(f"{view}__fare", "numeric"),)
    schema = ServingSchema("m", "1", "late", "0", fields, (ref,), inputs)
    place = run.settings.endpoints / "m"
    bundle.write(place / "versions" / "1", model_text="tree", schema=schema, golden=Golden(((1.0,),), (0.5,)))
    (place / "routing.json").write_bytes(msgspec.json.encode(Routing(1, {"1": 1.0})))


def spec_of(view: FeatureView, table: TableSpec) -> ViewSpec:
    return ViewSpec(view, (table,), keep_default(view.max_age))


def compute(spec: ViewSpec, run: Run, *partitions: str):
    result = features.materialize(spec, replace(run, partitions=partitions or ("",)))[spec.name]
    return next(finding for finding in result.findings if finding.check == catalogue.ONLINE.name)


def answers(spec: ViewSpec, run: Run, carrier: str, day: float) -> tuple:
    """What lake and store give: they must be one."""
    offline = feature_lookup.offline(spec, run.lake, {"carrier": carrier}, at(day))
    found = feature_lookup.online(spec, run.online_store, run.lake, {"carrier": carrier}, at(day))
    return (offline.values["fare"], offline.row_at), (found.values["fare"], found.row_at)


def assert_same(spec: ViewSpec, run: Run, *moments: float, carriers: str = "AB") -> None:
    for day in moments:
        for carrier in carriers:
            offline, found = answers(spec, run, carrier, day)
            assert found == offline, (carrier, day)


def test_what_begins_or_ends_in_the_future_does_not_hide_what_holds_now(run):
    spec = spec_of(FARE, FARES)
    fares(run, ("A", 10.0, 1, 31, 1), ("B", 5.0, 1, None, 1), ("B", 7.0, 25, None, 2))
    with clock.frozen(at(3)):
        assert compute(spec, run).passed
    assert answers(spec, run, "A", 3)[1] == (10.0, at(1))
    assert answers(spec, run, "A", 31)[1] == (None, at(31))
    assert answers(spec, run, "B", 24.9)[1] == (5.0, at(1))
    assert answers(spec, run, "B", 25)[1] == (7.0, at(25))
    assert_same(spec, run, 0.5, *range(1, 40, 4), 25, 31, 400, carriers="ABX")


def test_of_what_held_long_ago_only_the_row_that_still_counts_is_kept(run):
    spec = spec_of(FARE, FARES)
    fares(run, *[("A", float(day), day, None, 1) for day in (2, 50, 60, 99, 140)], ("B", 1.0, 3, None, 1))
    with clock.frozen(at(100)):
        compute(spec, run)
    assert run.online_store.lookup("fare@1", ("A",), to_us(at(64))) == (to_us(at(60)), (60.0,))
    assert run.online_store.lookup("fare@1", ("A",), to_us(at(59))) is None
    assert_same(spec, run, *range(65, 150, 5))


def to_us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def test_the_check_finds_a_row_of_the_future_that_the_store_lost(run):
    spec = spec_of(FARE, FARES)
    fares(run, ("A", 10.0, 1, 31, 1), ("B", 5.0, 1, None, 1))
    with clock.frozen(at(3)):
        assert compute(spec, run).numbers["of"] == 3
        schema = run.online_store.schema("fare@1")
        early = pa.table({"carrier": ["A"], "feature_timestamp": pa.array([at(2)], TIME), "fare": [3.0]})
        run.online_store.write("fare@1", *schema, early)
        found = compute(spec, run)
        assert (found.passed, found.warn) == (False, True)
        assert "1 of 3 compared of 3 newest rows of fare@1 are others online: A." in found.sentence
        assert compute(spec, run).passed


def test_without_max_age_the_newest_row_counts_online_however_old_it_is(run):
    spec = spec_of(EVENT, EVENTS)
    compute(spec, run, *events(run, ("A", 1, 1), ("A", 2, 2), ("B", 3, 5)))
    compute(spec, run, *events(run, ("B", 4, 80)))
    assert answers(spec, run, "A", 80.5)[1] == (2.0, at(2))
    assert_same(spec, run, 46, 60, 80, 90)


def test_a_correction_of_an_old_day_brings_back_what_was_before_it(run):
    spec = spec_of(EVENT, EVENTS)
    compute(spec, run, *events(run, ("A", 1, 1), ("A", 2, 2), ("B", 4, 80)))
    days = events(run, ("B", 9, 2.5))
    assert compute(spec, run, *days).passed  # the event of A on that day is no more
    assert answers(spec, run, "A", 80.5)[1] == (1.0, at(1))
    assert_same(spec, run, 46, 60, 80, 90)


def test_a_lost_store_gets_rows_of_any_age_back_where_nothing_makes_them_too_old(run):
    spec = spec_of(EVENT, EVENTS)
    days = events(run, ("A", 1, 1), ("A", 2, 2), ("B", 3, 5), ("B", 4, 80))
    compute(spec, run, *days)
    run.online_store.drop("event@1")
    assert compute(spec, run, days[-1]).warn
    assert_same(spec, run, 46, 60, 80, 90)


def test_with_max_age_rows_that_cannot_count_any_more_expire(run):
    spec = spec_of(replace(EVENT, max_age=2 * DAY), EVENTS)
    compute(spec, run, *events(run, ("A", 1, 1), ("B", 3, 5), ("B", 4, 80)))
    assert run.online_store.lookup("event@1", ("A",), to_us(at(90))) is None
    assert_same(spec, run, 80, 81, 90)


@pytest.mark.parametrize(("served", "kept"), [(None, True), (90 * DAY, True), (40 * DAY, False)])
def test_rows_stay_for_as_long_as_a_version_that_is_served_lets_them_count(run, served, kept):
    serve(run, "event", served)
    spec = spec_of(replace(EVENT, max_age=2 * DAY), EVENTS)
    compute(spec, run, *events(run, ("A", 1, 1), ("B", 3, 5), ("B", 4, 80)))
    assert bool(run.online_store.lookup("event@1", ("A",), to_us(at(81)))) == kept


def test_a_moment_is_a_key_online_as_it_is_in_the_lake(run):
    slot = replace(
        EVENT, entity=("carrier", "hour"), sql="SELECT carrier, known_at AS hour, known_at, fare FROM events"
    )
    spec = spec_of(slot, EVENTS)
    assert compute(spec, run, *events(run, ("A", 1, 1), ("A", 2, 2))).passed
    assert run.online_store.lookup("event@1", ("A", to_us(at(2))), to_us(at(3))) == (to_us(at(2)), (2.0,))
    asked = {"carrier": "A", "hour": str(at(1))}
    offline = feature_lookup.offline(spec, run.lake, asked, at(3))
    found = feature_lookup.online(spec, run.online_store, run.lake, offline.entity, at(3))
    assert (found.values, found.row_at) == (offline.values, offline.row_at) == ({"fare": 1.0}, at(1))


def test_once_nothing_makes_rows_too_old_those_that_expired_come_back(run):
    short, without = (spec_of(replace(EVENT, max_age=age), EVENTS) for age in (2 * DAY, None))
    days = events(run, ("A", 1, 1), ("B", 3, 5), ("B", 4, 80))
    compute(short, run, *days)
    compute(without, run, *days)
    assert answers(without, run, "A", 80.5)[1] == (1.0, at(1))
    assert_same(without, run, 80, 81, 90)


half_days = st.integers(0, 120).map(lambda halves: halves / 2)
held = st.tuples(st.sampled_from("AB"), half_days, st.none() | half_days, half_days)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(held, min_size=1, max_size=6, unique_by=lambda r: (r[0], r[1], r[3])), now=half_days)
def test_whatever_holds_when_a_lookup_is_the_same_online_from_now_on(run, rows, now):
    spec = spec_of(FARE, FARES)
    fares(run, *[(carrier, float(n), *when) for n, (carrier, *when) in enumerate(rows)])
    with clock.frozen(at(now)):
        assert compute(spec, run).passed
    assume(run.lake.dataset(spec.name).count_rows())  # of a view without rows nothing is told
    assert_same(spec, run, *{now, now + 0.5, *(day for each in rows for day in each[1:] if day and day > now)})


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.sampled_from("AB"), half_days), min_size=1, max_size=4), max_size=4))
def test_whichever_days_come_and_are_corrected_a_view_without_max_age_is_the_same_online(run, batches):
    spec = spec_of(EVENT, EVENTS)
    for batch in [[("A", 0), ("A", 50)], *batches]:
        when = {(carrier, int(day)): day for carrier, day in batch}
        compute(spec, run, *events(run, *[(carrier, day, day) for (carrier, _), day in when.items()]))
    newest = max(r["feature_timestamp"] for r in run.lake.dataset(spec.name).to_table().to_pylist())
    last = (newest - at(0)) / DAY
    assert_same(spec, run, last - 35, last - 20, last, last + 9)


def test_what_is_no_number_is_null_in_the_lake_and_online(run):
    spec = spec_of(FARE, FARES)
    fares(run, ("A", float("inf"), 1, None, 1), ("B", float("nan"), 1, None, 1))
    assert compute(spec, run).passed
    for carrier in "AB":
        assert answers(spec, run, carrier, 2) == ((None, at(1)), (None, at(1)))


def test_many_rows_are_compared_by_others_each_day_and_it_is_said_how_many(run, monkeypatch):
    monkeypatch.setattr(online, "_COMPARED", 5)
    spec = spec_of(EVENT, EVENTS)
    days = events(run, *[(f"C{n}", n, 5) for n in range(40)])
    compute(spec, run, *days)
    wrong = run.lake.dataset("features/event").to_table().slice(0, 1)
    (carrier,) = wrong["carrier"].to_pylist()
    wrong = wrong.set_column(wrong.column_names.index("fare"), "fare", pa.array([-1.0]))
    found = []
    for day in range(60):
        with clock.frozen(at(10 + day)):
            run.online_store.write("event@1", ["carrier"], ["fare"], wrong)
            found.append(compute(spec, run, *days))
    assert {each.passed for each in found} == {True, False}
    assert any(
        f"1 of 5 compared of 40 newest rows of event@1 are others online: {carrier}." in f.sentence for f in found
    )


def test_a_broken_bundle_keeps_all_versions_of_a_view_and_stops_none(run):
    compute(spec_of(EVENT, EVENTS), run, *events(run, ("A", 1, 1)))
    serve(run, "event", None)
    next(run.settings.endpoints.glob("m/versions/1/model.txt")).write_text("broken")
    versions = view_versions.versions("event", run.lake)
    why = "unknown, since the bundle of a version that an endpoint serves is broken"
    assert view_needs.of_view("event", versions, run) == {1: (why,)}


def test_zero_is_one_key_whatever_its_sign(run):
    by_fare = FeatureView(
        "by_fare", ("fare",), EVENT.every, EVENT.tables, sql="SELECT fare, known_at, 5.0 AS five FROM events"
    )
    spec = spec_of(by_fare, EVENTS)
    assert compute(spec, run, *events(run, ("A", -0.0, 1), ("B", 1.0, 1.5))).passed
    for zero in (0.0, -0.0):
        found = feature_lookup.online(spec, run.online_store, run.lake, {"fare": zero}, at(3))
        offline = feature_lookup.offline(spec, run.lake, {"fare": zero}, at(3))
        assert found.values == offline.values == {"five": 5.0}
