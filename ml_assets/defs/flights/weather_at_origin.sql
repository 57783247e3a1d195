SELECT
    origin,
    known_at,
    observed_at AS event_timestamp,
    temperature_f,
    temperature_f - dew_point_f AS dew_point_spread_f,
    humidity_pct,
    wind_speed_mph,
    coalesce(wind_gust_mph, wind_speed_mph) AS wind_gust_mph,
    wind_direction_deg,
    precipitation_in,
    pressure_mb,
    visibility_miles
FROM weather
