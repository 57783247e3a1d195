"""Tests of the shared statistics: against pairs counted one by one, scikit-learn, and coverage by simulation."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import TrainingError
from ml_assets.training import statistics as s

labelled = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=40)


def world(seed, n=400, skill=1.0, noise=0.5):
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    y = (random.random(n) < 1 / (1 + np.exp(1 - skill * x))).astype(float)
    return y, x + noise * random.normal(size=n), x + noise * random.normal(size=n)


@given(labelled)
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(rows):
    y, score = np.array([r[0] for r in rows], dtype=float), np.array([r[1] for r in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]]
    found = s.roc_auc(y, score)
    if not pairs:
        assert not found.is_defined
    else:
        assert found.value == pytest.approx(np.mean(pairs))
        assert 0 <= found.low <= found.value <= found.high <= 1


@given(labelled, st.randoms())
def test_the_order_of_rows_does_not_change_the_auc(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (s.roc_auc([r[0] for r in each], [r[1] for r in each]) for each in (rows, shuffled))
    assert (one.value, one.low) == pytest.approx((other.value, other.low), nan_ok=True)


def test_delongs_variance_is_that_of_the_structural_components():
    y, a, b = world(1, n=60)
    below = lambda p, q: (p[:, None] > q[None, :]) + 0.5 * (p[:, None] == q[None, :])  # noqa: E731
    pairs = [below(x[y == 1], x[y == 0]) for x in (a, b)]
    positives = np.cov([each.mean(axis=1) for each in pairs])
    negatives = np.cov([each.mean(axis=0) for each in pairs])
    covariance = positives / (y == 1).sum() + negatives / (y == 0).sum()
    assert s.roc_auc(y, a).standard_error == pytest.approx(sqrt(covariance[0, 0]))
    expected = sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert s.delong(y, a, b).standard_error == pytest.approx(expected)


def test_the_interval_of_the_auc_covers_the_truth_as_often_as_it_says():
    truth = s.roc_auc(*world(0, n=200_000)[:2]).value
    hits = [each.low <= truth <= each.high for each in (s.roc_auc(*world(seed)[:2]) for seed in range(1, 501))]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_two_equal_rivals_differ_significantly_as_seldom_as_it_says():
    alarms = [each.low > 0 for each in (s.delong(*world(seed)) for seed in range(600))]
    assert np.mean(alarms) <= 0.05


def test_the_paired_interval_is_narrower_than_the_two_alone():
    y, a, b = world(3, n=2000)
    alone = sqrt(s.roc_auc(y, a).standard_error ** 2 + s.roc_auc(y, b).standard_error ** 2)
    assert s.delong(y, a, b).standard_error < 0.8 * alone


def test_a_model_against_itself_differs_by_exactly_nothing():
    y, a, _ = world(4)
    assert s.delong(y, a, a) == s.Interval(0, 0, 0, 0)


@pytest.mark.parametrize(("score", "value"), [([0, 0, 1, 1], 1.0), ([1, 1, 0, 0], 0.0)])
def test_perfect_separation_still_has_an_interval_of_some_width(score, value):
    found = s.roc_auc([0, 0, 1, 1], score)
    assert found.value == value
    assert found.high - found.low > 0.5


def test_log_loss_and_brier_are_those_of_scikit_learn():
    from sklearn.metrics import brier_score_loss, log_loss

    y, score, _ = world(5)
    probability = 1 / (1 + np.exp(-score))
    assert s.log_loss(y, probability).value == pytest.approx(log_loss(y, probability))
    assert s.brier(y, probability).value == pytest.approx(brier_score_loss(y, probability))


def test_a_certainty_that_was_wrong_costs_much_but_not_infinitely():
    assert 30 < s.log_loss([1.0, 0.0], [0.0, 0.0]).value * 2 < 40


def test_a_share_has_wilsons_interval():
    found = s.proportion(0, 10)
    assert (found.low, found.high) == pytest.approx((0, 0.2775), abs=1e-4)
    assert s.proportion(50, 100).low == pytest.approx(0.4038, abs=1e-4)


def test_the_bootstrap_of_a_mean_agrees_with_the_formula_and_repeats():
    values = np.random.default_rng(0).normal(size=500)
    statistic = lambda weights: weights @ values / weights.sum(axis=1)  # noqa: E731
    drawn, formula = s.poisson_bootstrap(statistic, 500, seed=1), s.mean(values)
    assert drawn == s.poisson_bootstrap(statistic, 500, seed=1)
    assert drawn.value == pytest.approx(formula.value)
    assert drawn.high - drawn.low == pytest.approx(formula.high - formula.low, rel=0.15)


@pytest.mark.parametrize(("y", "score", "problem"), [
    ([0, 1], [0.5], "same length"), ([0, 2], [0.1, 0.2], "0 or 1"), ([0, np.nan], [0.1, 0.2], "0 or 1"),
    ([0, 1], [np.nan, 0.2], "1 of 2 scores"), ([0, 1], [0.1, np.inf], "1 of 2 scores"),
])  # fmt: skip
def test_values_that_have_no_auc_are_refused(y, score, problem):
    with pytest.raises(TrainingError, match=problem):
        s.roc_auc(y, score)


def test_log_loss_refuses_what_is_no_probability():
    with pytest.raises(TrainingError, match="between 0 and 1"):
        s.log_loss([0, 1], [0.2, 1.2])


def test_nothing_is_undefined_and_one_class_has_no_ranks():
    assert not s.log_loss([], []).is_defined
    assert not s.roc_auc([1, 1], [0.2, 0.3]).is_defined
    assert not s.delong([0, 0], [0.2, 0.3], [0.2, 0.3]).is_defined


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(TrainingError, match=r"such as 0\.95"):
        s.mean([1.0, 2.0], confidence=confidence)


def test_the_interval_of_a_share_holds_the_share_where_all_rows_or_none_are_positive():
    missed = [
        (successes, n)
        for n in range(1, 2000)
        for successes in (0, n)
        if not (found := s.proportion(successes, n)).low <= found.value <= found.high
    ]
    assert not missed
