"""Tests of the baseline by rates."""

import numpy as np
import pytest

from ml_assets.errors import TrainingError
from ml_assets.evaluation.baseline import fit

COLUMNS = {"carrier": ["AA"] * 100 + ["UA"] * 100, "origin": ["EWR", "JFK"] * 100}
Y = np.array([1.0] * 50 + [0.0] * 150)


def test_rates_are_those_of_the_key_drawn_to_the_overall_rate():
    baseline = fit(COLUMNS, Y, ["carrier"], prior_rows=50)
    assert baseline.rates == {("AA",): (50 + 12.5) / 150, ("UA",): 12.5 / 150}


def test_an_unseen_key_has_the_overall_rate():
    baseline = fit(COLUMNS, Y, ["carrier", "origin"])
    assert baseline.predict({"carrier": ["DL", "AA"], "origin": ["EWR", "LGA"]}).tolist() == [0.25, 0.25]


def test_null_is_a_key_like_any_other():
    baseline = fit({"carrier": [None, "AA"]}, np.array([1.0, 0.0]), ["carrier"], prior_rows=0)
    assert baseline.predict({"carrier": ["AA", None]}).tolist() == [0, 1]


def test_without_keys_all_rows_have_the_overall_rate():
    assert fit(COLUMNS, Y, []).predict({"carrier": ["AA", "UA", "B6"]}).tolist() == [0.25] * 3


def test_a_key_that_is_not_there_is_named():
    with pytest.raises(TrainingError, match="tailnum"):
        fit(COLUMNS, Y, ["tailnum"])
