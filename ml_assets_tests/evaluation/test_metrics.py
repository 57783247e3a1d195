"""Tests of metrics and curves against scikit-learn and against laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.evaluation import metrics
from ml_assets.training.statistics import roc_auc
from ml_assets_tests.evaluation.worlds import data

rows = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.9])), min_size=3, max_size=30).filter(
    lambda each: 0 < sum(label for label, _ in each) < len(each)
)


def arrays(given_rows):
    return np.array([r[0] for r in given_rows], dtype=float), np.array([r[1] for r in given_rows])


@settings(max_examples=50)
@given(rows)
def test_pr_auc_is_the_average_precision_of_scikit_learn(given_rows):
    from sklearn.metrics import average_precision_score

    y, score = arrays(given_rows)
    found = metrics.pr_auc(y, score)
    assert found.value == pytest.approx(average_precision_score(y, score))
    assert found.low <= found.high


@settings(max_examples=50)
@given(rows)
def test_the_area_under_the_roc_curve_is_the_auc(given_rows):
    y, score = arrays(given_rows)
    curve = metrics.roc_curve(y, score)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc(y, score).value, abs=1e-3)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)


def test_a_thinned_curve_keeps_its_area():
    given_data = data(n=20_000)
    curve = metrics.roc_curve(given_data.y, given_data.score)
    assert len(curve.x) <= 105
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc(given_data.y, given_data.score).value, abs=2e-3)


def test_the_interval_of_pr_auc_covers_the_truth_as_often_as_it_says():
    big = data(0, n=200_000)
    truth = metrics.pr_auc(big.y, big.score).value
    found = [metrics.pr_auc(each.y, each.score) for each in (data(seed, n=500) for seed in range(1, 61))]
    assert 0.85 <= np.mean([each.low <= truth <= each.high for each in found]) <= 1


@settings(max_examples=50)
@given(rows)
def test_every_row_is_in_one_bin_and_equal_scores_are_together(given_rows):
    y, score = arrays(given_rows)
    bins = metrics.calibration(y, score, n_bins=4)
    assert sum(each.n_rows for each in bins) == len(y)
    assert sum(each.n_rows * each.rate.value for each in bins) == pytest.approx(y.sum())
    assert len(bins) <= len(set(score))


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_does_not():
    calm = data(n=20_000, noise=0.0)
    error = metrics.calibration_error(metrics.calibration(calm.y, calm.score))
    wild = metrics.calibration_error(metrics.calibration(calm.y, calm.score**3))
    assert error < 0.015 < 0.1 < wild
