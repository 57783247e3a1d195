-- The last flight of the same aircraft whose outcome is known: a late aircraft departs late again.
SELECT
    tailnum,
    known_at,
    coalesce(arrived_at, scheduled_departure_at) AS event_timestamp,
    arrival_delay_minutes AS last_arrival_delay_minutes,
    departure_delay_minutes AS last_departure_delay_minutes,
    air_time_minutes AS last_air_time_minutes,
    CAST(cancelled OR diverted AS DOUBLE) AS last_was_broken_off
FROM flight_outcomes
WHERE tailnum IS NOT NULL
-- 2013 knows an aircraft in two places at once; the later of two flights counts
QUALIFY row_number() OVER (PARTITION BY tailnum, known_at ORDER BY event_timestamp DESC, flight_id DESC) = 1
