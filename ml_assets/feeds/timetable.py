"""Turns the published clock times of 2013 into UTC instants, and says when each row could first be known.

**Scheduled departure** is the published UTC hour (`time_hour`) plus the published minute.

**Scheduled arrival** is published as a clock time at the destination, without a date. It is the instant nearest to the
one that the distance makes plausible (40 min on the ground and 8 miles a minute in the air) at which a clock in the
destination's time zone shows that time. Distance decides, never `air_time`: a schedule holds nothing from after
departure. The nearest instant settles midnight and both changes of daylight saving by itself: of 336,776 flights none
is further than 114 min from plausible, where 720 would be doubtful, and none is due in a doubled or a skipped hour.
Destinations without a record in `airports` (BQN, PSE, SJU: Puerto Rico; STT: Virgin Islands) keep the time of
`America/Puerto_Rico`.

**Actual** times are scheduled times plus the published delays, which count through midnight and clock changes.
Proof, in the tests: `air_time` fits into each flight with 5 to 235 min left for taxiing, and clocks show the published
`dep_time` and `arr_time` (one arrival is published at 02:03 of the night whose clocks skip from 02:00 to 03:00).

**Known** (`known_at`) is never earlier than the row's last fact:

- A schedule lands at 12:00 UTC of the day before departure. The tail number is the one that flew, since planned ones
  are not published; it is null for 2,512 flights, all of them cancelled later: that it is null must not be a feature.
- The outcome of a flight that arrived is final 15 min after arrival.
- Cancelled: no moment is published, so 4 h after the scheduled departure; of the flights that left, 99.5 % had left by
  then. Real announcements come earlier, so features lose a little and leak nothing.
- Diverted (departed, without an arrival delay): 15 min after the late arrival where one is published, read as the
  first such clock time after departure; else 6 h after it should have landed (95 % of the others take up to 5 h). Some
  of these returned to the gate and were cancelled: the package does not tell them apart. `arrived_at` stays null.
- Weather of an hour is the first report from its minutes 0 to 51, with the precipitation until minute 51, labelled
  with the full hour (`data-raw/weather.R` of tidyverse/nycflights13). It is known 55 min after its label, which allows
  4 min for the transmission; anything less would look into the future.
"""

from typing import TYPE_CHECKING

from ml_assets import engine
from ml_assets.feeds import source

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import pyarrow as pa

_CLOCKS = """
CREATE MACRO minute_of(hhmm) AS (hhmm // 100) * 60 + hhmm % 100;
CREATE MACRO minutes_to(hhmm, wall) AS
    (minute_of(hhmm) - date_part('hour', wall) * 60 - date_part('minute', wall) + 2160) % 1440 - 720;
CREATE MACRO moved(near, wall, zone, minutes) AS
    -- The offset of the zone may change between the two: take back what the clock jumped.
    near + to_minutes(2 * minutes) - (timezone(zone, near + to_minutes(minutes)) - wall);
CREATE MACRO instant_near(hhmm, near, zone) AS
    moved(near, timezone(zone, near), zone, minutes_to(hhmm, timezone(zone, near)));
"""

_FLIGHTS = """
CREATE TABLE timed AS
WITH departing AS (
    SELECT
        flights.*,
        coalesce(airports.tzone, 'America/Puerto_Rico') AS zone,
        time_hour::TIMESTAMPTZ + to_minutes(minute) AS scheduled_departure_at,
        scheduled_departure_at + to_minutes((40 + distance / 8.0)::BIGINT) AS plausible_arrival_at,
        format('{}{}-{}-{}{:02d}{:02d}T{:04d}', carrier, flight, origin, year, month, day, sched_dep_time) AS flight_id
    FROM flights LEFT JOIN airports ON airports.faa = flights.dest
    WHERE time_hour BETWEEN $first::TIMESTAMPTZ - INTERVAL 3 DAY AND $last::TIMESTAMPTZ + INTERVAL 3 DAY
), timed AS (
    SELECT
        *,
        instant_near(sched_arr_time, plausible_arrival_at, zone) AS scheduled_arrival_at,
        scheduled_departure_at + to_minutes(dep_delay) AS departed_at,
        scheduled_arrival_at + to_minutes(arr_delay) AS arrived_at,
        dep_delay IS NULL AS cancelled,
        dep_delay IS NOT NULL AND arr_delay IS NULL AS diverted
    FROM departing
)
SELECT
    *,
    CASE
        WHEN cancelled THEN scheduled_departure_at + INTERVAL 4 HOUR
        WHEN NOT diverted THEN arrived_at + INTERVAL 15 MINUTE
        -- Nearest to 12 h later is the first in the 24 h after departure.
        WHEN arr_time IS NOT NULL THEN instant_near(arr_time, departed_at + INTERVAL 12 HOUR, zone) + INTERVAL 15 MINUTE
        ELSE departed_at + (scheduled_arrival_at - scheduled_departure_at) + INTERVAL 6 HOUR
    END AS known_at
FROM timed
"""

_TABLES = {
    "flight_schedules": """
SELECT flight_id, carrier, airlines.name AS carrier_name, flight AS flight_number, tailnum, origin, dest AS destination,
    scheduled_departure_at, scheduled_arrival_at, distance::DOUBLE AS distance_miles,
    date_trunc('day', scheduled_departure_at) - INTERVAL 12 HOUR AS known_at
FROM timed LEFT JOIN airlines USING (carrier)
WHERE scheduled_departure_at >= $first AND scheduled_departure_at < $last::TIMESTAMPTZ + INTERVAL 1 DAY
ORDER BY scheduled_departure_at, flight_id
""",
    "flight_outcomes": """
SELECT flight_id, carrier, tailnum, origin, dest AS destination, scheduled_departure_at, departed_at, arrived_at,
    dep_delay::DOUBLE AS departure_delay_minutes, arr_delay::DOUBLE AS arrival_delay_minutes,
    air_time::DOUBLE AS air_time_minutes, cancelled, diverted, known_at
FROM timed
WHERE known_at >= $first AND known_at < $last
ORDER BY known_at, flight_id
""",
    "weather": """
SELECT time_hour::TIMESTAMPTZ AS observed_at, origin, temp AS temperature_f, dewp AS dew_point_f, humid AS humidity_pct,
    wind_dir::DOUBLE AS wind_direction_deg, wind_speed AS wind_speed_mph, wind_gust AS wind_gust_mph,
    precip AS precipitation_in, pressure AS pressure_mb, visib AS visibility_miles,
    observed_at + INTERVAL 55 MINUTE AS known_at
FROM weather
WHERE observed_at >= $first AND observed_at < $last
ORDER BY observed_at, origin
""",
    "aircraft": """
SELECT tailnum, year AS built_year, type, manufacturer, model, engines, seats, engine FROM planes ORDER BY tailnum
""",
    "airports": """
SELECT faa, name, lat AS latitude, lon AS longitude, alt AS altitude_ft, tzone AS timezone FROM airports ORDER BY faa
""",
}


def tables(first: "datetime", last: "datetime") -> dict[str, "pa.Table"]:
    """Give the rows that become known in first <= t < last by table name, sorted; times are `timestamp[us, tz=UTC]`.

    Schedules go a day further, since they land the day before; aircraft and airports are whole.
    """
    bounds = {"first": first, "last": last}
    with engine.connect() as con:
        for name in source.TABLES:
            con.register(name, source.read(name))
        con.execute(_CLOCKS)
        con.execute(_FLIGHTS, bounds)
        return {name: _query(con, sql, bounds) for name, sql in _TABLES.items()}


def _query(con: "duckdb.DuckDBPyConnection", sql: str, bounds: dict[str, "datetime"]) -> "pa.Table":
    used = {name: value for name, value in bounds.items() if f"${name}" in sql}
    return con.sql(sql, params=used).to_arrow_table().combine_chunks()
