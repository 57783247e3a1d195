"""Dead, constant and shifted features, from profiles of days alone."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.engine import connect
from ml_assets.features.expected import Moved, lifeless, moved, recent
from ml_assets.tables.profile import profile_partitions
from ml_assets_tests.project import days

LAST, DRY = 45, [0.0] * 9
DAYS = days("2013-01-01", "2013-05-30")


def profiles(by_day: Sequence[Sequence]) -> pa.Table:
    """The profiles of a feature `x`, a list of values for each day."""
    rows = {"x": [x for values in by_day for x in values]}
    keys = [day for day, values in zip(DAYS, by_day, strict=False) for _ in values]
    with connect() as con:
        return profile_partitions(con, pa.table({**rows, "partition_key": pa.array(keys, pa.string())}))


def noise(n: int, seed: int = 0) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [random.normal(size=200).round(3).tolist() for _ in range(n)]


def named(by_day: Sequence[Sequence]) -> list[tuple[str | None, int]]:
    return [(each.value, each.n_days) for each in lifeless(recent(profiles(by_day)))]


def moved_on(by_day: Sequence[Sequence]) -> Moved:
    (found,) = moved(recent(profiles(by_day)))
    return found


LIFE = {
    "values": (noise(10), []),
    "empty from the first day": ([[None, None]], [(None, 1)]),
    "constant for 13 days": ([[1.0, 1.0]] * 13, []),
    "constant for 14 days": ([[1.0, 1.0]] * 14, [("1.0", 14)]),
    "another constant each day": ([[float(n)] * 2 for n in range(20)], []),
    "constant but for a few nulls": ([[1.0] * 19 + [None]] * 14, [("1.0", 14)]),
    "a flag that is 1 or null": ([[1.0] * 5 + [None] * 5] * 14, []),
    "dies after six days": ([*noise(6), [None] * 3], []),
    "dies after seven days": ([*noise(7), [None] * 3], [(None, 1)]),
    "constant for a day": ([*noise(20), [5.0] * 9], []),
    "constant for two days": ([*noise(20), [5.0] * 9, [5.0] * 9], [("5.0", 2)]),
    "a dry week like the ones before": ([*noise(9), *[[0.0] * 9] * 6, *noise(9, 1), *[[0.0] * 9] * 8], []),
    "a dry month unlike the ones before": (
        [*noise(9), *[[0.0] * 9] * 6, *noise(9, 1), *[[0.0] * 9] * 14],
        [("0.0", 14)],
    ),
    "text of one word": ([["a", "a"]] * 14, [("a", 14)]),
    "it came back": ([[None] * 5, *noise(3)], []),
}


@pytest.mark.parametrize(("by_day", "expected"), LIFE.values(), ids=LIFE)
def test_what_tells_rows_apart_no_longer_is_named(by_day, expected):
    assert named(by_day) == expected


def test_usual_noise_is_not_called_shifted():
    found = [moved_on(noise(LAST, seed)) for seed in range(25)]
    assert not any(each.out_of_line for each in found)


SHIFTS: dict[str, Callable[[list[float]], list]] = {
    "by two spreads": lambda day: [x + 2 for x in day],
    "in scale": lambda day: [x * 60 for x in day],
    "to one side": lambda day: [abs(x) for x in day],
    "to missing": lambda day: [x if n % 2 else None for n, x in enumerate(day)],
    "to two towers": lambda day: [1.5 if x > 0 else -1.5 for x in day],
}


@pytest.mark.parametrize("change", SHIFTS.values(), ids=SHIFTS)
def test_a_shift_is_found_and_told_with_both_missing_shares(change):
    *before, last = noise(LAST)
    found = moved_on([*before, change(last)])
    assert found.out_of_line
    assert found.psi > found.usual >= 0.25
    assert (found.missing, found.missing_before) == (change(last).count(None) / len(last), 0.0)


def test_a_feature_that_always_jumps_is_not_called_shifted_when_it_jumps():
    """The weather of a day is never that of a month."""
    random = np.random.default_rng(4)
    by_day = [(random.normal() + 0.1 * random.normal(size=200)).tolist() for _ in range(LAST)]
    found = moved_on(by_day)
    assert found.psi > 1
    assert not found.out_of_line


def test_words_that_change_places_are_a_shift():
    random = np.random.default_rng(1)
    by_day = [random.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1]).tolist() for _ in range(LAST)]
    assert not moved_on(by_day).out_of_line
    swapped = [{"a": "c", "c": "a"}.get(word, word) for word in by_day[-1]]
    assert moved_on([*by_day[:-1], swapped]).out_of_line


def test_too_few_days_are_not_judged():
    assert list(moved(recent(profiles(noise(24))))) == []
    assert len(list(moved(recent(profiles(noise(25)))))) == 1


def test_a_day_is_judged_by_the_84_before_it_alone():
    long = noise(120)
    assert moved_on(long) == moved_on([*long[:20], *[[9.0] * 5] * 10, *long[30:]]) != moved_on([*long[:-1], long[0]])


values = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0])), min_size=1, max_size=8)


@settings(max_examples=40)
@given(st.lists(values, min_size=25, max_size=32))
def test_whatever_the_values_a_psi_is_a_number_that_is_not_negative(by_day):
    for found in moved(recent(profiles(by_day))):
        assert 0 <= found.psi < np.inf
        assert 0.25 <= found.usual < np.inf
    assert len(list(lifeless(recent(profiles(by_day))))) <= 1
