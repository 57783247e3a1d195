"""The point-in-time join against trying every feature row, and what it refuses."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import FeatureError
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FeatureView
from ml_assets_tests.features.oracles import HOUR, MINUTE, ORIGIN, UTC_TIME, as_of, connection

SPINE = pa.schema([("n", pa.int64()), ("carrier", pa.string()), ("at", UTC_TIME)])
FEATURES = pa.schema(
    [
        ("carrier", pa.string()),
        ("feature_timestamp", UTC_TIME),
        ("partition_key", pa.string()),
        ("delay", pa.float64()),
        ("sky", pa.string()),
    ]
)


def view(name: str = "delays", **others) -> FeatureView:
    return FeatureView(
        name, others.pop("entity", ("carrier",)), HOUR, ("tables/outcomes",), sql="SELECT 1 AS delay", **others
    )


def joined(spine: list[dict], features: dict[str, list[dict]], views: list[FeatureView]) -> pa.Table:
    con = connection([])
    con.register("spine", pa.Table.from_pylist(spine, SPINE))
    for name, rows in features.items():
        con.register(f"features/{name}", pa.Table.from_pylist(rows, FEATURES))
    return join_as_of(con, "spine", views)


def feature(hours: float, delay: float | None = 1.0, *, carrier="AA", sky="clear") -> dict:
    return {"carrier": carrier, "feature_timestamp": ORIGIN + hours * HOUR, "delay": delay, "sky": sky}


def spine_row(hours: float | None, carrier: str | None = "AA", n: int = 0) -> dict:
    return {"n": n, "carrier": carrier, "at": None if hours is None else ORIGIN + hours * HOUR}


CARRIERS = st.sampled_from(["AA", "UA", "ZZ", None])
FEATURE_ROWS = st.lists(
    st.builds(
        feature,
        st.integers(0, 12),
        st.none() | st.floats(-5, 5),
        carrier=st.sampled_from(["AA", "UA"]),
        sky=st.none() | st.text(max_size=3),
    ),
    max_size=12,
    unique_by=lambda row: (row["carrier"], row["feature_timestamp"]),
)
SPINE_ROWS = st.lists(st.builds(spine_row, st.none() | st.integers(-2, 30).map(lambda q: q / 2), CARRIERS), max_size=12)
AGES = st.none() | st.integers(0, 6).map(lambda n: n * HOUR)


DELAYS = st.sampled_from([timedelta(0), 30 * MINUTE, 3 * HOUR])
DEFAULTS = st.sampled_from([{}, {"delay": -1.5}, {"delay": 0.0, "sky": "it's unknown"}])


@settings(max_examples=40)
@given(SPINE_ROWS, FEATURE_ROWS, FEATURE_ROWS, DELAYS, AGES, DEFAULTS)
def test_each_spine_row_gets_what_the_oracle_finds_by_trying_every_feature_row(
    spine, one, two, delay, max_age, defaults
):
    spine = [row | {"n": n} for n, row in enumerate(spine)]
    views = [view("one", delay=delay, max_age=max_age, defaults=defaults), view("two")]
    expected = []
    for row in spine:
        found = {
            v.name: as_of(v, rows, row["carrier"], row["at"]) or v.defaults
            for v, rows in zip(views, [one, two], strict=True)
        }
        features = {f"{name}__{f}": match.get(f) for name, match in found.items() for f in ("delay", "sky")}
        expected.append(row | features)
    assert joined(spine, {"one": one, "two": two}, views).to_pylist() == expected


LATE = pa.schema([*FEATURES, ("known_at", UTC_TIME)])


def since(row: dict) -> datetime:
    return max(row["known_at"], row["feature_timestamp"])


LATE_ROWS = st.lists(
    st.builds(
        lambda row, late: row | {"known_at": row["feature_timestamp"] + late * HOUR},
        st.builds(feature, st.integers(0, 8), st.none() | st.floats(-5, 5), carrier=st.sampled_from(["AA", "UA"])),
        st.integers(-1, 6),
    ),
    max_size=12,
    unique_by=lambda row: (row["carrier"], row["feature_timestamp"], since(row)),
)


@settings(max_examples=60)
@given(SPINE_ROWS, LATE_ROWS, DELAYS, AGES)
def test_rows_that_arrive_late_or_again_count_from_when_they_were_known(spine, rows, delay, max_age):
    late = view(delay=delay, max_age=max_age, defaults={"delay": -9.0})
    con = connection([])
    con.register("spine", pa.Table.from_pylist(spine, SPINE))
    unknown = feature(9, 7.0) | {"known_at": None}
    con.register("anywhere", pa.Table.from_pylist([*rows, unknown, unknown], LATE))
    found = join_as_of(con, "spine", [late], {"delays": "anywhere"})
    assert found["delays__delay"].to_pylist() == [known_delay(late, rows, row) for row in spine]


def known_delay(late: FeatureView, rows: list[dict], spine: dict) -> float | None:
    known = [row for row in rows if spine["at"] and since(row) + late.delay <= spine["at"]]
    mine = [row for row in known if row["carrier"] == spine["carrier"]]
    newest = max(mine, key=lambda row: (row["feature_timestamp"], row["known_at"]), default=None)
    fresh = newest and (late.max_age is None or spine["at"] - newest["feature_timestamp"] <= late.max_age)
    return newest["delay"] if newest and fresh else -9.0


def test_a_restated_row_counts_from_the_microsecond_it_was_known():
    first, again = feature(0, 1.0) | {"known_at": ORIGIN}, feature(0, 2.0) | {"known_at": ORIGIN + HOUR}
    con = connection([])
    con.register("features/delays", pa.Table.from_pylist([again, first], LATE))
    moments = [ORIGIN + HOUR - timedelta(microseconds=1), ORIGIN + HOUR]
    con.register("spine", pa.Table.from_pylist([spine_row(0) | {"at": at} for at in moments], SPINE))
    assert join_as_of(con, "spine", [view()])["delays__delay"].to_pylist() == [1.0, 2.0]


def test_rows_of_one_entity_and_time_that_were_known_at_once_are_refused():
    early = [feature(1, n) | {"known_at": ORIGIN - n * HOUR} for n in (1, 2)]
    con = connection([])
    con.register("spine", pa.Table.from_pylist([spine_row(1)], SPINE))
    con.register("forecasts", pa.Table.from_pylist(early, LATE))
    with pytest.raises(FeatureError, match="forecasts has several rows for one entity and time: AA, 2013-03-01"):
        join_as_of(con, "spine", [view()], {"delays": "forecasts"})


def test_a_feature_row_counts_exactly_from_its_delay_to_its_age():
    limits = view(delay=15 * MINUTE, max_age=2 * HOUR)
    microsecond = timedelta(microseconds=1)
    moments = [15 * MINUTE - microsecond, 15 * MINUTE, 2 * HOUR, 2 * HOUR + microsecond]
    spine = [spine_row(0) | {"at": ORIGIN + moment} for moment in moments]
    assert joined(spine, {"delays": [feature(0)]}, [limits])["delays__delay"].to_pylist() == [None, 1.0, 1.0, None]


def test_a_spine_of_many_rows_keeps_its_order_and_its_duplicates():
    n = 300_000
    random = np.random.default_rng(7)
    at = pa.array(random.integers(0, 10**11, n), UTC_TIME)
    spine = pa.table({"n": np.arange(n), "carrier": random.choice(["AA", "UA", "ZZ"], n), "at": at})
    con = connection([])
    con.register("spine", spine)
    con.register("features/delays", pa.Table.from_pylist([feature(0)], FEATURES))
    found = join_as_of(con, "spine", [view()])
    assert found.select(["n", "carrier", "at"]).equals(spine)


def test_without_views_the_spine_comes_back():
    assert joined([spine_row(1)], {}, []).to_pylist() == [spine_row(1)]


def test_views_of_other_entities_join_by_their_own_columns():
    con = connection([])
    con.execute(
        "CREATE OR REPLACE TEMP TABLE pairs AS SELECT 'AA' AS carrier, 'JFK' AS origin, TIMESTAMPTZ '2013-03-02' AS at"
    )
    con.execute("""CREATE OR REPLACE TEMP TABLE "features/both" AS SELECT 'AA' AS carrier,
        unnest(['LGA', 'JFK']) AS origin, TIMESTAMPTZ '2013-03-01' AS feature_timestamp, unnest([1.0, 2.0]) AS delay""")
    found = join_as_of(con, "pairs", [view("both", entity=("carrier", "origin"))])
    assert found["both__delay"].to_pylist() == [2.0]


def test_two_feature_rows_of_one_entity_and_time_are_refused_and_named():
    with pytest.raises(FeatureError, match=r"features/delays has several rows.*AA, 2013-03-01"):
        joined([spine_row(1)], {"delays": [feature(0, 1.0), feature(0, 2.0)]}, [view()])


def test_a_spine_without_the_entity_is_refused_by_name():
    con = connection([])
    con.register("spine", pa.Table.from_pylist([spine_row(1)], SPINE))
    con.register("features/delays", pa.Table.from_pylist([], FEATURES))
    with pytest.raises(FeatureError, match="lacks tailnum, which the feature view 'delays' needs"):
        join_as_of(con, "spine", [view(entity=("tailnum",))])


def test_entities_of_different_types_are_refused_instead_of_cast():
    con = connection([])
    con.execute("CREATE OR REPLACE TEMP TABLE numbered AS SELECT 7 AS carrier, TIMESTAMPTZ '2013-03-02' AS at")
    con.register("features/delays", pa.Table.from_pylist([], FEATURES))
    with pytest.raises(FeatureError, match="'carrier' is INTEGER in the spine 'numbered' and VARCHAR"):
        join_as_of(con, "numbered", [view()])


def test_a_view_that_was_never_materialized_is_named():
    with pytest.raises(FeatureError, match="features/unknown"):
        joined([spine_row(1)], {}, [view("unknown")])
