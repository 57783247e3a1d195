"""The times of the feed against the columns that the package publishes, with pandas as the independent clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import engine
from ml_assets.feeds import source, timetable

YEAR = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC)
ISLANDS = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return timetable.tables(*YEAR)


@pytest.fixture(scope="module")
def outcomes(tables: dict[str, pa.Table]) -> pd.DataFrame:
    return tables["flight_outcomes"].to_pandas().set_index("flight_id")


@pytest.fixture(scope="module")
def schedules(tables: dict[str, pa.Table]) -> pd.DataFrame:
    return tables["flight_schedules"].to_pandas().set_index("flight_id")


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """The package's own columns under our flight_id, with the time zone of the destination."""
    frame = source.read("flights").to_pandas()
    local_day = (frame.year * 10000 + frame.month * 100 + frame.day).astype(str)
    departure = frame.sched_dep_time.astype(str).str.zfill(4)
    frame.index = pd.Index(
        frame.carrier + frame.flight.astype(str) + "-" + frame.origin + "-" + local_day + "T" + departure
    )
    airports = source.read("airports").to_pandas()
    return frame.assign(zone=frame.dest.map(dict(zip(airports.faa, airports.tzone, strict=True)) | ISLANDS))


def clocks(instants: pd.Series, zone: pd.Series) -> pd.Series:
    """What clocks in each row's zone show at its instant, as HHMM."""
    local = [part.dt.tz_convert(name).dt.tz_localize(None) for name, part in instants.groupby(zone)]
    shown = pd.concat(local).reindex(instants.index)
    return shown.dt.hour * 100 + shown.dt.minute


def minutes(interval: pd.Series) -> pd.Series:
    return interval.dt.total_seconds() / 60


def test_every_flight_has_one_schedule_and_one_outcome(published, schedules, outcomes):
    assert len(published) == 336_776
    assert sorted(published.index) == sorted(schedules.index) == sorted(outcomes.index)
    assert schedules.index.is_unique


def test_clocks_in_new_york_show_the_published_departures(published, schedules, outcomes):
    new_york = pd.Series("America/New_York", index=published.index)
    scheduled = clocks(schedules.scheduled_departure_at.reindex(published.index), new_york)
    departed = clocks(outcomes.departed_at.reindex(published.index).dropna(), new_york)
    assert (scheduled == published.sched_dep_time).all()
    assert (departed == published.dep_time.dropna() % 2400).all()


def test_clocks_at_the_destination_show_the_published_scheduled_arrivals(published, schedules):
    shown = clocks(schedules.scheduled_arrival_at.reindex(published.index), published.zone)
    assert (shown == published.sched_arr_time % 2400).all()


def test_clocks_at_the_destination_show_the_published_arrivals_but_one_in_a_skipped_hour(published, outcomes):
    arrived = outcomes.arrived_at.reindex(published.index).dropna()
    shown = clocks(arrived, published.zone)
    differing = shown[shown != published.arr_time.reindex(shown.index) % 2400]
    assert len(arrived) == 327_346
    assert dict(differing) == {"B635-JFK-20130309T2145": 303}
    assert published.arr_time[differing.index[0]] == 203


def test_the_time_in_the_air_fits_between_departure_and_arrival(outcomes):
    flown = outcomes[outcomes.arrived_at.notna()]
    taxiing = minutes(flown.arrived_at - flown.departed_at) - flown.air_time_minutes
    assert taxiing.min() == 5
    assert taxiing.max() == 235
    assert 20 < taxiing.median() < 40


def test_no_scheduled_arrival_is_far_from_plausible(schedules):
    planned = minutes(schedules.scheduled_arrival_at - schedules.scheduled_departure_at)
    assert (planned - (40 + schedules.distance_miles / 8)).abs().max() < 114


@pytest.mark.parametrize(
    ("flight_id", "due", "why"),
    [
        ("UA1545-EWR-20130101T0515", "2013-01-01T14:19Z", "8:19 in Houston, an hour behind"),
        ("HA51-JFK-20130310T1000", "2013-03-11T01:30Z", "15:30 in Honolulu, which has no daylight saving"),
        ("UA1138-EWR-20130701T0658", "2013-07-01T16:15Z", "9:15 in Phoenix, which has none either"),
        ("B6709-JFK-20130131T0610", "2013-01-31T14:51Z", "10:51 in San Juan, ahead of New York in winter"),
        ("AA655-JFK-20130701T0800", "2013-07-01T16:00Z", "12:00 in St. Thomas, level with it in summer"),
        ("B635-JFK-20130309T2145", "2013-03-10T05:34Z", "after midnight, before the clocks skip an hour"),
        ("AA185-JFK-20130309T2135", "2013-03-10T08:50Z", "New York has daylight saving, Los Angeles not yet"),
        ("AA185-JFK-20131102T2140", "2013-11-03T07:40Z", "New York is back on winter time, Los Angeles not yet"),
    ],
)
def test_scheduled_arrivals_are_true_utc(schedules, flight_id, due, why):
    assert schedules.scheduled_arrival_at[flight_id] == pd.Timestamp(due), why


def instants(first: datetime, last: datetime) -> st.SearchStrategy[datetime]:
    return st.datetimes(first, last).map(lambda instant: instant.replace(tzinfo=UTC, second=0, microsecond=0))


# The nights of the clock changes are drawn as often as all other days.
any_instant = instants(datetime(2013, 1, 1), datetime(2013, 12, 31))  # noqa: DTZ001
clock_changes = instants(datetime(2013, 3, 10), datetime(2013, 3, 11)) | instants(  # noqa: DTZ001
    datetime(2013, 11, 3),  # noqa: DTZ001
    datetime(2013, 11, 4),  # noqa: DTZ001
)
zones = st.sampled_from(["America/New_York", "America/Los_Angeles", "America/Phoenix", "Pacific/Honolulu", "UTC"])


@settings(max_examples=200)
@given(instant=any_instant | clock_changes, hours_away=st.floats(-10, 10), zone=zones)
def test_a_clock_time_is_resolved_to_an_instant_that_shows_it_and_is_near(clock_macros, instant, hours_away, zone):
    near = (instant + timedelta(hours=hours_away)).replace(second=0, microsecond=0)
    shown = instant.astimezone(ZoneInfo(zone))
    found = clock_macros.execute(
        "SELECT instant_near(?::BIGINT, ?::TIMESTAMPTZ, ?)", [shown.hour * 100 + shown.minute, near, zone]
    ).fetchall()[0][0]
    again = found.astimezone(ZoneInfo(zone))
    assert (again.hour, again.minute) == (shown.hour, shown.minute)
    # In a doubled hour both readings show the clock; otherwise this is the very instant.
    assert found == instant or abs(found - instant) == timedelta(hours=1)
    if shown.replace(fold=0).utcoffset() == shown.replace(fold=1).utcoffset():
        assert found == instant


@pytest.fixture(scope="module")
def clock_macros():
    with engine.connect() as con:
        con.execute(timetable._CLOCKS)
        yield con


def test_schedules_hold_only_what_exists_before_departure(tables):
    assert tables["flight_schedules"].column_names == [
        "flight_id", "carrier", "carrier_name", "flight_number", "tailnum", "origin", "destination",
        "scheduled_departure_at", "scheduled_arrival_at", "distance_miles", "known_at",
    ]  # fmt: skip


def test_schedules_land_at_noon_of_the_day_before(schedules):
    ahead = schedules.scheduled_departure_at - schedules.known_at
    assert ahead.min() >= pd.Timedelta(hours=12)
    assert ahead.max() < pd.Timedelta(hours=36)
    assert (schedules.known_at.dt.hour == 12).all()


def test_an_outcome_is_known_15_minutes_after_arrival(outcomes):
    flown = outcomes[outcomes.arrived_at.notna()]
    assert (flown.known_at - flown.arrived_at == pd.Timedelta(minutes=15)).all()


def test_a_cancellation_is_known_once_nearly_all_others_had_left(outcomes):
    cancelled = outcomes[outcomes.cancelled]
    assert len(cancelled) == 8_255
    assert (cancelled.known_at - cancelled.scheduled_departure_at == pd.Timedelta(hours=4)).all()
    assert (outcomes.departure_delay_minutes.dropna() <= 240).mean() > 0.995


def test_a_diverted_flight_is_settled_within_a_day_and_never_before_it_could_land(outcomes, published):
    diverted = outcomes[outcomes.diverted]
    after = diverted.known_at - diverted.departed_at
    assert len(diverted) == 1_175
    assert diverted.arrived_at.isna().all()
    assert after.min() > pd.Timedelta(hours=2)
    assert after.max() < pd.Timedelta(hours=25)
    arrived = published.arr_time.reindex(diverted.index).dropna()
    late_arrivals = diverted.known_at[arrived.index] - pd.Timedelta(minutes=15)
    assert (clocks(late_arrivals, published.zone) == arrived % 2400).all()


def test_a_flight_is_cancelled_diverted_or_arrived(outcomes):
    states = pd.DataFrame([outcomes.cancelled, outcomes.diverted, outcomes.arrived_at.notna()])
    assert (states.sum() == 1).all()
    assert outcomes.departed_at.notna().equals(~outcomes.cancelled)


def test_weather_is_known_after_the_last_minute_it_holds_and_within_its_hour(tables):
    weather = tables["weather"].to_pandas()
    lag = weather.known_at - weather.observed_at
    assert (lag > pd.Timedelta(minutes=51)).all()
    assert (lag < pd.Timedelta(hours=1)).all()


def test_the_doubled_hour_of_weather_is_two_utc_hours(tables):
    weather = tables["weather"].to_pandas()
    doubled = weather[weather.observed_at.between("2013-11-03T05:00Z", "2013-11-03T06:00Z")]
    assert not weather.duplicated(["origin", "observed_at"]).any()
    assert len(doubled) == 6


def test_rough_edges_are_delivered_as_published(tables):
    assert pa.compute.max(tables["weather"]["wind_speed_mph"]).as_py() > 1048
    assert tables["weather"]["wind_gust_mph"].null_count == 20_778
    assert tables["aircraft"]["built_year"].null_count == 70
    assert not {"BQN", "PSE", "SJU", "STT"} & set(tables["airports"]["faa"].to_pylist())


def test_times_are_microseconds_in_utc(tables):
    for name, table in tables.items():
        for field in table.schema:
            if field.name.endswith("_at"):
                assert field.type == pa.timestamp("us", tz="UTC"), (name, field.name)
