"""Features of real flights against plain SQL over the landed files, hour by hour, and against numbers kept here."""

from datetime import UTC, datetime

import numpy as np
import pytest

from ml_assets.engine import connect
from ml_assets_tests.flights import World, finding, quick
from ml_assets_tests.project import days

DAYS = days("2013-01-01", "2013-01-09")
ASKED = DAYS[-2:]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("flights"), quick())
    found.land(DAYS[0], DAYS[-1])
    found.take_in()
    found.take_in(*DAYS)
    results = found.compute(*ASKED)
    assert [f.sentence for result in results.values() for f in result.findings if not (f.passed or f.warn)] == []
    return found


@pytest.fixture(scope="module")
def con(world):
    """The landed files as tables, and `hours`: every full hour of the days that were asked for."""
    with connect() as con:
        for table in ("flight_outcomes", "aircraft", "weather"):
            con.execute(f"CREATE VIEW {table} AS FROM read_parquet('{world.home}/landing/{table}/*.parquet')")
        con.execute(f"""CREATE TABLE hours AS SELECT unnest(range(TIMESTAMPTZ '{ASKED[0]} 00:00:00+00',
            TIMESTAMPTZ '{ASKED[-1]} 00:00:00+00' + INTERVAL 1 DAY, INTERVAL 1 HOUR)) AS g""")
        for view in world.spec.views:
            con.register(view.view.name, world.rows(view.name))
        yield con


def window(value: str, hours: int) -> str:
    """One value for each hour and entity: a join of every hour with every flight, then GROUP BY."""
    return f"""SELECT g, {{entity}} AS entity, {value} AS value FROM hours JOIN flight_outcomes ON known_at <= g
        AND coalesce(arrived_at, known_at) <= g AND coalesce(arrived_at, known_at) > g - INTERVAL {hours} HOUR
        GROUP BY ALL"""


WINDOWS = {
    ("carrier_delays", "late_rate_6h"): window("avg((arrival_delay_minutes > 15)::INT)", 6),
    ("carrier_delays", "arrival_delay_minutes_mean_1d"): window("avg(arrival_delay_minutes)", 24),
    ("carrier_delays", "arrival_delay_minutes_count_7d"): window("count(arrival_delay_minutes)", 168),
    ("origin_delays", "departure_delay_minutes_p90_6h"): window("quantile_cont(departure_delay_minutes, 0.9)", 6),
    ("origin_delays", "cancelled_rate_1d"): window("avg(cancelled::INT)", 24),
    ("destination_delays", "arrival_delay_minutes_mean_7d"): window("avg(arrival_delay_minutes)", 168),
}


@pytest.mark.parametrize(("view", "feature"), WINDOWS)
def test_every_hour_has_what_plain_sql_finds_in_the_landed_files(world, con, view, feature):
    spec = next(each.view for each in world.spec.views if each.view.name == view)
    (entity,) = spec.entity
    plain = WINDOWS[view, feature].format(entity=entity)
    pairs = con.sql(f"""
        SELECT f."{feature}", p.value FROM {view} f
        LEFT JOIN ({plain}) p ON p.entity = f.{entity} AND p.g = f.feature_timestamp""").fetchall()
    ours, theirs = (np.array([np.nan if v is None else float(v) for v in side]) for side in zip(*pairs, strict=True))
    if "count" in feature:
        theirs = np.nan_to_num(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert np.isfinite(ours).mean() > 0.7
    assert len(np.unique(ours)) > 20


def test_no_hour_with_flights_in_the_longest_window_is_left_out(con):
    ((n_missing, n_all),) = con.sql(f"""
        SELECT count(*) FILTER (f.carrier IS NULL), count(*) FROM ({window("1", 28 * 24).format(entity="carrier")}) p
        LEFT JOIN carrier_delays f ON f.carrier = p.entity AND f.feature_timestamp = p.g""").fetchall()
    assert n_missing == 0
    assert n_all > 700


# By pandas from the landed files, with `Series.mean` and `Series.quantile`, on 21 November 2026.
GOLDEN = {
    ("carrier_delays", "UA", 20, "late_rate_6h"): 8 / 54,
    ("carrier_delays", "UA", 13, "late_rate_6h"): 0.0,
    ("carrier_delays", "B6", 13, "arrival_delay_minutes_mean_1d"): -2.6791044776119404,
    ("carrier_delays", "B6", 20, "arrival_delay_minutes_mean_1d"): -3.8518518518518516,
    ("origin_delays", "EWR", 20, "departure_delay_minutes_p90_6h"): 8.200000000000003,
    ("origin_delays", "JFK", 20, "cancelled_rate_1d"): 0.0,
    ("destination_delays", "ORD", 20, "arrival_delay_minutes_mean_7d"): -1.5704225352112675,
}


@pytest.mark.parametrize(("view", "entity", "hour", "feature"), GOLDEN)
def test_numbers_that_were_found_once_by_other_means_still_stand(con, view, entity, hour, feature):
    at = datetime(2013, 1, 9, hour, tzinfo=UTC)
    column = con.sql(f"DESCRIBE {view}").fetchall()[0][0]
    ((value,),) = con.execute(
        f'SELECT "{feature}" FROM {view} WHERE "{column}" = ? AND feature_timestamp = ?', [entity, at]
    ).fetchall()
    assert value == pytest.approx(GOLDEN[view, entity, hour, feature], rel=1e-9)


def test_aircraft_are_looked_up_as_the_register_has_them(con):
    ((n_other, n_all),) = con.sql("""
        SELECT count(*) FILTER (row(2013 - a.built_year, a.seats, a.engines, a.manufacturer) IS DISTINCT FROM
            row(f.age_years, f.seats, f.engines, f.manufacturer)), count(*)
        FROM aircraft a LEFT JOIN aircraft_attributes f USING (tailnum)""").fetchall()
    assert n_other == 0
    assert n_all == 3322


def test_the_last_flight_of_an_aircraft_is_the_newest_that_was_known(con):
    ((n_other, n_all),) = con.sql("""
        SELECT count(*) FILTER (f.last_arrival_delay_minutes IS DISTINCT FROM p.delay), count(*)
        FROM inbound_aircraft f JOIN (
            SELECT f.tailnum, f.feature_timestamp, arg_max({'d': arrival_delay_minutes},
                (coalesce(arrived_at, scheduled_departure_at), o.known_at, flight_id)).d AS delay
            FROM inbound_aircraft f JOIN flight_outcomes o ON o.tailnum = f.tailnum
            AND o.known_at > f.feature_timestamp - INTERVAL 15 MINUTE AND o.known_at <= f.feature_timestamp
            GROUP BY ALL) p USING (tailnum, feature_timestamp)""").fetchall()
    assert n_other == 0
    assert n_all > 1000


def test_a_grid_of_a_minute_is_named_as_finer_than_hourly_weather(world):
    """Reports become known five minutes before each hour: at multiples of five minutes."""
    from dataclasses import replace
    from datetime import timedelta

    spec = next(each for each in world.spec.views if each.view.name == "weather_at_origin")
    fine = replace(spec, view=replace(spec.view, name="weather_by_minute", every=timedelta(minutes=1)))
    result = world.compute(*ASKED, views=[fine])["features/weather_by_minute"]
    said = finding(result, "grid_is_no_finer_than_the_data")
    assert (said.passed, result.produced) == (False, {})
    assert "at 48 moments, all at multiples of 5m: `every: 1m` is finer. Use `every: 5m`." in said.sentence
