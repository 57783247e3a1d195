from datetime import UTC, date, datetime, timedelta

import pytest

from ml_assets.demo.questions import flights

DAY = date(2013, 5, 1)


@pytest.fixture(scope="module")
def asked():
    return flights(DAY)


def test_the_same_ten_flights_of_the_day_are_asked_about_each_time(asked):
    assert len(asked) == 10
    assert len({flight.request["flight_id"] for flight in asked}) == 10
    assert [flight.request["flight_id"] for flight in flights(DAY)] == [f.request["flight_id"] for f in asked]
    first, last = datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 5, 1, 14, tzinfo=UTC)
    assert all(first <= flight.scheduled_departure_at < last for flight in asked)
    assert asked == sorted(asked, key=lambda flight: flight.scheduled_departure_at)


def test_each_is_asked_two_hours_before_its_scheduled_departure(asked):
    for flight in asked:
        assert datetime.fromisoformat(flight.request["at"]) == flight.scheduled_departure_at - timedelta(hours=2)


def test_each_comes_with_what_happened(asked):
    for flight in asked:
        assert flight.fate
        assert (flight.delay_minutes is None) == (flight.fate in {"cancelled", "diverted"})
    assert any(flight.delay_minutes is not None for flight in asked)


def test_past_the_last_day_the_last_flights_of_the_year_are_asked_about():
    assert all(flight.scheduled_departure_at.date() == date(2013, 12, 31) for flight in flights(date(2014, 2, 1), n=3))
