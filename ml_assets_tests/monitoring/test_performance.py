"""Performance by day and version, against scikit-learn, and only once labels are mature."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ml_assets.monitoring.performance import Maturity, Scored, performance, recent

DAYS = [f"2013-01-{day:02}" for day in range(1, 11)]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def maturity(as_of: str = "2013-02-01", **rest) -> Maturity:
    return Maturity(at(as_of), timedelta(days=1), **rest)


@pytest.fixture
def scored() -> Scored:
    """Ten days of 400 predictions, the second version from the sixth day on, some without a label."""
    rng = np.random.default_rng(7)
    score = rng.uniform(0.05, 0.95, 4000)
    y = (rng.random(4000) < score).astype(float)
    y[rng.random(4000) < 0.03] = np.nan
    day = np.repeat(DAYS, 400)
    return Scored.of(y, score, day, np.where(day >= DAYS[5], "2", "1"))


def test_each_day_has_scikit_learns_numbers(scored):
    from sklearn.metrics import log_loss, roc_auc_score

    for found in performance(scored, maturity()):
        rows = (scored.day == found.first_day) & ~np.isnan(scored.y)
        y, score = scored.y[rows], scored.score[rows]
        assert found.roc_auc == pytest.approx(roc_auc_score(y, score))
        assert found.log_loss == pytest.approx(log_loss(y, score))
        assert (found.n, found.n_labelled, found.positive_rate) == (400, rows.sum(), pytest.approx(y.mean()))
        assert found.mean_score == pytest.approx(scored.score[scored.day == found.first_day].mean())
        assert found.roc_auc_low < found.roc_auc < found.roc_auc_high


def test_days_and_versions_are_told_apart_in_order(scored):
    assert [(found.first_day, found.version) for found in performance(scored, maturity())] == [
        (day, "2" if day >= DAYS[5] else "1") for day in DAYS
    ]


def test_two_versions_on_one_day_are_judged_apart():
    found = performance(Scored.of([0, 1, 0, 1], [0.1, 0.9, 0.9, 0.1], [DAYS[0]] * 4, ["1", "1", "2", "2"]), maturity())
    assert [(each.version, each.roc_auc) for each in found] == [("1", 1.0), ("2", 0.0)]


def test_the_order_of_rows_does_not_change_a_bit(scored):
    order = np.random.default_rng(1).permutation(len(scored.y))
    assert performance(scored.where(order), maturity()) == performance(scored, maturity())


@pytest.mark.parametrize(("as_of", "mature"), [("2013-01-02T23:59:59", False), ("2013-01-03T00:00:00", True)])
def test_a_day_is_mature_when_the_wait_after_its_end_is_over(as_of, mature):
    (found,) = performance(Scored.of([0, 1], [0.1, 0.9], [DAYS[0]] * 2, ["1"] * 2), maturity(as_of))
    assert found.mature is mature


@pytest.mark.parametrize(("unknown", "mature"), [(1, True), (2, False)])
def test_a_day_that_misses_labels_is_not_mature(unknown, mature):
    y = [None] * unknown + [0, 1] * 5
    y = y[:10]
    (found,) = performance(Scored.of(y, [0.5] * 10, [DAYS[0]] * 10, ["1"] * 10), maturity())
    assert (found.coverage, found.mature) == (1 - unknown / 10, mature)


def test_one_class_has_no_auc_but_a_log_loss():
    (found,) = performance(Scored.of([1, 1], [0.5, 0.5], [DAYS[0]] * 2, ["1"] * 2), maturity())
    assert (found.roc_auc, found.roc_auc_low, found.roc_auc_high) == (None, None, None)
    assert found.log_loss == pytest.approx(np.log(2))


def test_no_labels_are_no_numbers():
    (found,) = performance(Scored.of([None], [0.5], [DAYS[0]], ["1"]), maturity())
    assert (found.n_labelled, found.roc_auc, found.log_loss, found.positive_rate) == (0, None, None, None)
    assert not found.mature


def test_no_predictions_are_no_days():
    assert performance(Scored.of([], [], [], []), maturity()) == []


def test_recent_judges_the_newest_mature_days_together(scored):
    found = recent(scored, maturity("2013-01-10"), version="2", days=2)
    rows = np.isin(scored.day, ["2013-01-07", "2013-01-08"])
    (together,) = performance(
        Scored.of(scored.y[rows], scored.score[rows], ["2013-01-08"] * rows.sum(), scored.version[rows]), maturity()
    )
    assert (found.first_day, found.last_day, found.mature) == ("2013-01-07", "2013-01-08", True)
    assert (found.n, found.roc_auc) == (800, together.roc_auc)


def test_recent_of_a_version_without_mature_days_is_none(scored):
    assert recent(scored, maturity("2013-01-07"), version="2") is None
    assert recent(scored, maturity(), version="3") is None
