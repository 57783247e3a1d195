"""No row of the training set knows anything that was not known at its time: asked of the tables with other SQL."""

import numpy as np
import pandas as pd
import pytest

from ml_assets.engine import connect
from ml_assets.steps import training_set
from ml_assets_tests.flights import DAYS, WATERMARK, World

AT = """ "at" """
KNOWN_15M = f"{AT} - INTERVAL 15 MINUTE"
# The grid of the views of delays: the newest full hour that was servable.
HOUR = f"date_trunc('hour', {KNOWN_15M})"
QUARTER = f"time_bucket(INTERVAL 15 MINUTE, {AT})"


def window(value: str, entity: str, hours: int) -> str:
    """An aggregate over the outcomes that were known at the grid time, and had happened within the window."""
    return f"""(SELECT {value} FROM outcomes o WHERE o.{entity} = t.{entity} AND o.known_at <= {HOUR}
        AND coalesce(o.arrived_at, o.known_at) <= {HOUR}
        AND coalesce(o.arrived_at, o.known_at) > {HOUR} - INTERVAL {hours} HOUR)"""


def newest(column: str, table: str, entity: str, event: str, hours: int) -> str:
    """The value of the newest row that was known by the grid, and is not too old."""
    grid = "time_bucket(INTERVAL 15 MINUTE, r.known_at + INTERVAL 15 MINUTE - INTERVAL 1 MICROSECOND)"
    return f"""(SELECT first(r.{column} ORDER BY {grid} DESC, {event} DESC, r.known_at DESC)
        FROM {table} r WHERE r.{entity} = t.{entity} AND {grid} <= {AT} AND {grid} = (
            SELECT max({grid}) FROM {table} r WHERE r.{entity} = t.{entity} AND {grid} <= {AT})
        AND {grid} >= {AT} - INTERVAL {hours} HOUR)"""


INDEPENDENT = {
    "carrier_delays__arrival_delay_minutes_mean_6h": window("avg(arrival_delay_minutes)", "carrier", 6),
    "carrier_delays__arrival_delay_minutes_count_7d": window("nullif(count(arrival_delay_minutes), 0)", "carrier", 168),
    "carrier_delays__late_rate_1d": window("avg(CAST(arrival_delay_minutes > 15 AS DOUBLE))", "carrier", 24),
    "origin_delays__departure_delay_minutes_p90_3h": window("quantile_cont(departure_delay_minutes, .9)", "origin", 3),
    "origin_delays__cancelled_rate_6h": window("avg(CAST(cancelled AS DOUBLE))", "origin", 6),
    "weather_at_origin__temperature_f": newest("temperature_f", "weather", "origin", "r.observed_at", 6),
    "weather_at_origin__visibility_miles": newest("visibility_miles", "weather", "origin", "r.observed_at", 6),
    "inbound_aircraft__last_departure_delay_minutes": newest(
        "departure_delay_minutes", "aircraft_flown", "tailnum", "r.event_timestamp", 48
    ),
    "aircraft_attributes__seats": "(SELECT seats FROM aircraft a WHERE a.tailnum = t.tailnum)",
}


@pytest.fixture(scope="module")
def sample(grown):
    """Every ninetieth row of the training set, and the tables that its features are made from."""
    lake = grown.step().lake
    with connect() as con:
        for view, name in {
            "outcomes": "tables/flight_outcomes",
            "weather": "tables/weather",
            "aircraft": "tables/aircraft",
        }.items():
            lake.register(con, view, name)
        con.execute("""CREATE TEMP VIEW aircraft_flown AS
            SELECT *, coalesce(arrived_at, scheduled_departure_at) AS event_timestamp FROM outcomes""")
        rows = grown.rows(grown.spec.training_set).sort_by([("at", "ascending"), ("flight_id", "ascending")])
        con.register("sampled", rows.take(list(range(0, rows.num_rows, 90))))
        con.execute("CREATE TEMP TABLE t AS SELECT * FROM sampled")
        yield con


@pytest.mark.parametrize("feature", INDEPENDENT)
def test_a_feature_is_what_could_be_known_at_the_time_and_nothing_else(sample, feature):
    rows = sample.sql(f'SELECT "{feature}", {INDEPENDENT[feature]} FROM t').fetchall()
    sides = zip(*rows, strict=True)
    stored, independent = (np.array([np.nan if v is None else float(v) for v in side]) for side in sides)
    np.testing.assert_allclose(stored, independent, rtol=1e-6, atol=1e-5)
    assert np.isfinite(stored).sum() > 0.5 * len(stored)
    assert len(np.unique(stored)) > 3


def test_the_feature_row_that_counts_is_the_newest_that_was_servable(grown, sample):
    for view in grown.spec.views:
        grown.step().lake.register(sample, "feature_rows", view.name)
        delay, age = view.view.delay.total_seconds(), view.view.max_age
        features, entity = view.view.features(), view.view.entity
        limit = f"AND g >= {AT} - to_seconds({age.total_seconds()})" if age else ""
        equal = " AND ".join(f"f.{column} = t.{column}" for column in entity)
        latest = f"""SELECT t.flight_id, arg_max({{}}, feature_timestamp) AS value, max(feature_timestamp) AS g
            FROM t JOIN feature_rows f ON {equal} AND feature_timestamp <= {AT} - to_seconds({delay}) GROUP BY 1"""
        for feature in features[:2]:
            stored = f't."{view.view.name}__{feature}"'
            ((n_other,),) = sample.execute(f"""
                SELECT count(*) FROM t LEFT JOIN ({latest.format(f'{{"v": f."{feature}"}}')}) l USING (flight_id)
                WHERE {stored} IS DISTINCT FROM CASE WHEN true {limit} THEN l.value.v END""").fetchall()
            assert n_other == 0, f"{view.name} {feature}"


def test_no_label_was_known_when_its_row_was_asked_about(grown):
    rows = grown.rows(grown.spec.training_set)
    early = [a for a, k in zip(rows["at"].to_pylist(), rows["label_known_at"].to_pylist(), strict=True) if k <= a]
    assert early == []
    assert rows.num_rows > 10_000


def test_no_row_of_the_training_set_is_younger_than_the_watermark(grown):
    assert training_set.watermark(grown.spec, grown.step().lake).isoformat() == WATERMARK
    assert max(grown.rows(grown.spec.training_set)["at"].to_pylist()).isoformat() < WATERMARK


def test_nothing_but_names_of_the_schedule_and_features_is_given_to_the_model(grown):
    """What is known only afterwards is in the training set as the label alone."""
    lake = grown.step().lake
    later = set(lake.dataset("tables/flight_outcomes").schema.names)
    before = set(lake.dataset("tables/flight_schedules").schema.names)
    assert not (later - before) & set(grown.rows(grown.spec.training_set).column_names)


def test_labels_are_those_that_pandas_finds_in_the_landed_files(grown):
    def landed(table: str) -> pd.DataFrame:
        return pd.concat(pd.read_parquet(path) for path in sorted((grown.home / "landing" / table).glob("*.parquet")))

    planned, ended = landed("flight_schedules"), landed("flight_outcomes")
    both = planned[["flight_id", "scheduled_departure_at"]].merge(
        ended[["flight_id", "arrival_delay_minutes", "known_at"]], on="flight_id"
    )
    both = both[both["arrival_delay_minutes"].notna()]
    in_time = both["known_at"].dt.floor("D") <= both["scheduled_departure_at"].dt.floor("D") + pd.Timedelta("1D")
    # a day is labelled once its own outcomes have been delivered
    reached = both["scheduled_departure_at"].dt.strftime("%Y-%m-%d") <= DAYS[-1]
    both = both[in_time & reached]
    expected = dict(zip(both["flight_id"], (both["arrival_delay_minutes"] > 15).astype(float), strict=True))
    rows = grown.rows(grown.spec.labels)
    assert dict(zip(rows["flight_id"].to_pylist(), rows["label"].to_pylist(), strict=True)) == expected
    assert rows.num_rows == len(expected) > 12_000


def test_each_labelled_row_until_the_watermark_is_in_the_training_set_once(grown):
    rows, labels = grown.rows(grown.spec.training_set), grown.rows(grown.spec.labels)
    due = [f for f, at in zip(labels["flight_id"].to_pylist(), labels["at"].to_pylist(), strict=True)
           if at.isoformat() < WATERMARK]  # fmt: skip
    assert sorted(rows["flight_id"].to_pylist()) == sorted(due)


def test_training_comes_before_validation_and_that_before_test_with_a_gap_for_the_labels(grown):
    times: dict[str, list] = {}
    rows = grown.rows(grown.spec.training_set)
    for split, at in zip(rows["split"].to_pylist(), rows["at"].to_pylist(), strict=True):
        times.setdefault(split, []).append(at)
    spans = {split: (min(found), max(found)) for split, found in times.items()}
    for earlier, later in (("train", "validation"), ("validation", "test")):
        assert spans[later][0] - spans[earlier][1] >= grown.spec.gap
    assert set(spans) == {"train", "gap", "validation", "test"}


def test_categories_are_learnt_from_training_rows_alone(grown):
    from ml_assets.steps.model import Frame

    lake = grown.step().lake
    frame = Frame.load(grown.spec, lake, version=lake.version(grown.spec.training_set))
    train = frame.rows.filter(frame.part("train"))
    (carrier,) = [i for i in frame.inputs if i.name == "carrier"]
    assert carrier.categories == tuple(sorted(set(train["carrier"].to_pylist())))
    assert World(grown.home, grown.spec) == grown
