SELECT
    tailnum,
    known_at,
    2013 - built_year AS age_years,
    seats,
    engines,
    manufacturer
FROM aircraft
