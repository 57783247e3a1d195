"""Cron schedules, against the croniter that Dagster carries."""

from datetime import UTC, datetime, timedelta

import pytest
from dagster._vendored.croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import DeclarationError
from ml_assets.monitoring.cron import parse


def field(low, high):
    number = st.integers(low, high).map(str)
    # a range of one, as in 1-1, is left out: croniter takes it for every value
    pair = (
        st.tuples(st.integers(low, high), st.integers(low, high))
        .filter(lambda p: p[0] < p[1])
        .map("{0[0]}-{0[1]}".format)
    )
    step = st.integers(1, 7).map(lambda n: f"{low}-{high}/{n}")
    return st.one_of(st.just("*"), st.lists(st.one_of(number, pair, step), min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
INSTANTS = st.integers(0, 14 * 365 * 86_400).map(
    lambda seconds: datetime(2012, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@settings(max_examples=150)
@given(EXPRESSIONS, INSTANTS)
def test_the_latest_time_is_the_one_that_croniter_finds(expression, until):
    # croniter gives the times strictly before, and only whole seconds
    strictly = until.replace(second=0, microsecond=0) + timedelta(minutes=1)
    assert parse(expression).latest(until) == croniter(expression, strictly).get_prev(datetime)


def test_the_instant_itself_has_passed():
    monday = datetime(2013, 1, 7, 4, tzinfo=UTC)
    assert parse("0 4 * * 1").latest(monday) == monday
    assert parse("0 4 * * 1").latest(monday - timedelta(seconds=1)) == monday - timedelta(days=7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 4 * * mon-fri", "0 4 * * 1-5"),
        ("0 0 1 JAN *", "@yearly"),
        ("5 0 * * 7", "5 0 * * 0"),
        ("*/15 * * * *", "0,15,30,45 * * * *"),
    ],
)
def test_names_aliases_and_steps_mean_what_they_say(one, other):
    until = datetime(2013, 5, 7, 13, 7, tzinfo=UTC)
    assert parse(one).latest(until) == parse(other).latest(until)


def test_a_leap_day_is_found_across_years():
    assert parse("0 0 29 2 *").latest(datetime(2015, 6, 1, tzinfo=UTC)) == datetime(2012, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("0 4 * *", "has 4 fields"),
        ("0 24 * * *", "wrong hour: '24'"),
        ("x 4 * * *", "wrong minute: 'x'"),
        ("0 4 * * 5-1", "wrong day of week: '5-1'"),
        ("*/0 4 * * *", "wrong minute"),
        ("0 4 0 * *", "wrong day: '0'"),
        ("0 4 * * mo", "wrong day of week: 'mo'"),
    ],
)
def test_a_wrong_field_is_named(expression, problem):
    with pytest.raises(DeclarationError, match=problem):
        parse(expression)


def test_a_day_that_never_comes_is_an_error():
    with pytest.raises(DeclarationError, match="never falls due"):
        parse("0 0 30 2 *").latest(datetime(2015, 6, 1, tzinfo=UTC))


def test_a_range_of_one_is_that_one():
    until = datetime(2012, 1, 1, tzinfo=UTC)
    assert parse("0 4 * * 1-1").latest(until) == parse("0 4 * * 1").latest(until)
