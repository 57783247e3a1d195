"""Tests of the split by time."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import TrainingError
from ml_assets.training.split import assign

DAY = np.timedelta64(1, "D")
DAYS = np.datetime64("2013-01-01", "us") + np.arange(40) * DAY


def split(at=DAYS, validation=7, test=7, gap=2):
    return assign(at, validation=timedelta(validation), test=timedelta(test), gap=timedelta(gap))


def test_parts_follow_each_other_with_a_gap_at_both_borders():
    assert split().tolist() == ["train"] * 22 + ["gap"] * 2 + ["validation"] * 7 + ["gap"] * 2 + ["test"] * 7


@given(st.lists(st.integers(0, 40 * 24), min_size=1, max_size=200), st.integers(0, 5))
def test_no_part_reaches_into_the_gap_before_the_next(hours, gap):
    at = np.concatenate([DAYS, DAYS[0] + np.array(hours) * np.timedelta64(1, "h")])
    parts = split(at, gap=gap)
    for earlier, later in (("train", "validation"), ("validation", "test")):
        assert at[parts == later].min() - at[parts == earlier].max() > gap * DAY


@given(st.permutations(range(40)))
def test_the_order_of_rows_does_not_matter(order):
    assert (split(DAYS[order]) == split()[order]).all()


def test_equal_times_are_never_in_two_parts():
    parts = split(np.repeat(DAYS, 3)).reshape(40, 3)
    assert (parts == parts[:, :1]).all()


@pytest.mark.parametrize(("at", "problem"), [
    (DAYS[:16], "no rows for train"), (DAYS[[0, 39]], "no rows for validation"), (DAYS[:0], "no rows"),
    (np.append(DAYS, np.datetime64("NaT")), "1 of 41 rows"), (np.arange(40), "must be datetime64"),
])  # fmt: skip
def test_a_set_that_cannot_be_split_says_why(at, problem):
    with pytest.raises(TrainingError, match=problem):
        split(at)


def test_a_test_part_of_no_length_is_refused():
    with pytest.raises(TrainingError, match="must be > 0"):
        split(test=0)
