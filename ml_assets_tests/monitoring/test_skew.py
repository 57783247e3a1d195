"""Skew: what counts as a difference, and what does not."""

import math
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.features.encode import Input
from ml_assets.monitoring.skew import SCORE, compare, compare_scores, rows_that_differ, worst

X, KIND = Input("x", "numeric"), Input("kind", "categorical", ("a", "b"))
NUMBERS = st.floats(allow_nan=True) | st.none() | st.integers(-(2**53), 2**53).map(float)


def bits(value: float | None) -> bytes:
    """One number as it is stored; null and every NaN are the same."""
    return b"null" if value is None or math.isnan(value) else struct.pack("<d", value)


@given(st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_numbers_differ_exactly_when_their_bits_do(pairs):
    offline, online = [left for left, _ in pairs], [right for _, right in pairs]
    (skew,) = compare([X], {"x": offline}, {"x": online})
    assert skew.differs.tolist() == [bits(left) != bits(right) for left, right in pairs]


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.text())))
def test_texts_differ_exactly_when_they_are_not_equal(pairs):
    offline, online = [left for left, _ in pairs], [right for _, right in pairs]
    (skew,) = compare([KIND], {"kind": offline}, {"kind": online})
    assert skew.differs.tolist() == [left != right for left, right in pairs]


def test_the_first_row_that_differs_is_given_with_both_values():
    (skew,) = compare([X], {"x": np.array([1.0, math.nan, 3.0])}, {"x": [1.0, 0.0, 4.0]})
    assert (skew.first, skew.offline, skew.online, skew.different, skew.rate) == (1, None, 0.0, 2, 2 / 3)


def test_zero_and_its_negative_differ_as_training_may_tell_them_apart():
    (skew,) = compare([X], {"x": [0.0]}, {"x": [-0.0]})
    assert skew.different == 1


def test_the_worst_come_first_and_the_score_last():
    inputs = compare([X, KIND], {"x": [1.0, 2.0], "kind": ["a", None]}, {"x": [1.0, 3.0], "kind": ["b", "a"]})
    skews = (*inputs, compare_scores(np.array([0.5, 0.25]), [0.1, 0.2]))
    assert [skew.feature for skew in worst(skews)] == ["kind", "x", SCORE]
    assert rows_that_differ(skews[:1]).tolist() == [False, True]


def test_without_a_difference_nothing_is_named():
    skews = compare([X, KIND], {"x": [], "kind": []}, {"x": [], "kind": []})
    assert (worst(skews), [skew.rate for skew in skews]) == ([], [0.0, 0.0])
