"""Which days came live, told from when each first arrived."""

from datetime import timedelta

import pytest

from ml_assets.steps.days import shift, start_of
from ml_assets.steps.live import live_days
from ml_assets_tests.project import days

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTH = days("2013-01-01", "2013-01-28")


def arrivals(*deliveries: tuple[str, ...], after: timedelta = 2 * HOUR):
    """Each delivery comes so long after the end of its last day."""
    return {day: start_of(together[-1]) + DAY + after for together in deliveries for day in together}


def each(listed):
    return [(day,) for day in listed]


def parts(listed, size):
    return [tuple(listed[n : n + size]) for n in range(0, len(listed), size)]


@pytest.mark.parametrize("after", [-DAY, 2 * HOUR, 3 * DAY])
def test_days_that_come_one_by_one_within_three_days_are_live(after):
    assert live_days(arrivals(*each(MONTH), after=after)) == set(MONTH)


def test_days_that_always_come_later_are_live_by_their_rhythm_from_the_second_on():
    assert live_days(arrivals(*each(MONTH), after=9 * DAY)) == set(MONTH[1:])


@pytest.mark.parametrize("size", [2, 7])
def test_days_that_always_come_together_are_live_by_their_rhythm(size):
    assert live_days(arrivals(*parts(MONTH, size))) == set(MONTH[size:])


def test_a_feed_that_rests_at_the_weekend_is_live_on_mondays():
    weeks = [part for week in parts(MONTH, 7) for part in [(week[0],), (week[1],), (week[2],), (week[3],), week[4:]]]
    assert live_days(arrivals(*weeks)) == set(MONTH)


def test_the_end_of_an_outage_is_history_and_what_is_around_it_is_live():
    listed = [*each(MONTH[:10]), MONTH[10:13], *each(MONTH[13:])]
    assert live_days(arrivals(*listed)) == set(MONTH) - set(MONTH[10:13])


def test_a_load_is_history_at_once_in_parts_or_day_by_day():
    at = start_of("2013-06-01")
    assert live_days(dict.fromkeys(MONTH, at)) == set()
    assert live_days({day: at + n // 7 * 2 * HOUR for n, day in enumerate(MONTH)}) == set()
    assert live_days({day: at + n * 5 * HOUR for n, day in enumerate(MONTH)}) == set()


def test_a_load_from_the_newest_day_back_is_history():
    at = start_of("2013-06-01")
    assert live_days({day: at + n * DAY for n, day in enumerate(reversed(MONTH))}) == set()


def test_two_loads_weeks_apart_are_no_rhythm():
    assert live_days(arrivals(MONTH[:7], MONTH[7:14], MONTH[14:21])) == set()
    assert live_days(arrivals(*parts(MONTH, 7))) == set(MONTH[7:])


def test_after_a_load_a_late_feed_is_live():
    loaded = dict.fromkeys(MONTH[:20], start_of(MONTH[20]) + 5 * DAY)
    late = arrivals(*each(MONTH[20:]), after=5 * DAY)
    assert live_days(loaded | late) == set(MONTH[20:])


def test_a_day_that_comes_after_newer_ones_is_live_only_while_it_is_new():
    soon = arrivals(*each(MONTH)) | {MONTH[9]: start_of(shift(MONTH[9], 3)) + 5 * HOUR}
    later = arrivals(*each(MONTH)) | {MONTH[9]: start_of(shift(MONTH[9], 9)) + 5 * HOUR}
    assert live_days(soon) == set(MONTH)
    assert live_days(later) == set(MONTH) - {MONTH[9]}
