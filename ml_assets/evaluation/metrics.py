"""Metrics and curves of probabilities of a binary label. Those with a plain formula are in `training.statistics`."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ml_assets.training.statistics import (
    UNDEFINED,
    Floats,
    Interval,
    brier,
    log_loss,
    poisson_bootstrap,
    proportion,
    roc_auc,
)

# Of these, larger values are better; of log loss and Brier score, smaller ones.
LARGER_IS_BETTER = frozenset({"roc_auc", "pr_auc"})
_POINTS_OF_A_CURVE = 101


@dataclass(frozen=True)
class Bin:
    """Rows with scores of one tenth of the rows: what was predicted on average, and what came."""

    n_rows: int
    mean_score: float
    rate: Interval


@dataclass(frozen=True)
class Curve:
    """The points of a ROC curve (false against true positive rate) or of another curve, thinned to about 100."""

    x: list[float]
    y: list[float]


def all_metrics(y: Floats, score: Floats, *, confidence: float, seed: int = 0) -> dict[str, Interval]:
    """ROC AUC, PR AUC, log loss and Brier score with their intervals."""
    return {
        "roc_auc": roc_auc(y, score, confidence=confidence),
        "pr_auc": pr_auc(y, score, confidence=confidence, seed=seed),
        "log_loss": log_loss(y, score, confidence=confidence),
        "brier": brier(y, score, confidence=confidence),
    }


def pr_auc(y: Floats, score: Floats, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Average precision, ties taken together, with a seeded bootstrap interval; compare it with the share of positives.

    Undefined without positives.
    """
    if not np.any(y):
        return UNDEFINED
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_ties(score[order])
    statistic = partial(_average_precision, y=np.asarray(y, dtype=np.float64)[order], ends=ends)
    return poisson_bootstrap(statistic, len(y), seed=seed, confidence=confidence)


def _average_precision(weights: Floats, y: Floats, ends: NDArray[np.intp]) -> Floats:
    found = np.cumsum(weights * y, axis=1)[:, ends]
    taken = np.cumsum(weights, axis=1)[:, ends]
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    gained = np.diff(found, axis=1, prepend=0.0)
    total = found[:, -1]
    return np.divide((precision * gained).sum(axis=1), total, out=np.full_like(total, np.nan), where=total > 0)


def _ends_of_ties(ordered: Floats) -> NDArray[np.intp]:
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def calibration(y: Floats, score: Floats, *, n_bins: int = 10, confidence: float = 0.95) -> list[Bin]:
    """Bins of about equally many rows by score, equal scores never in two of them, so there may be fewer bins."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, n_bins + 1)[1:-1]))
    which = np.searchsorted(edges, score, side="left")
    return [_bin(y[which == each], score[which == each], confidence) for each in np.unique(which)]


def _bin(y: Floats, score: Floats, confidence: float) -> Bin:
    return Bin(len(y), float(score.mean()), proportion(int(y.sum()), len(y), confidence=confidence))


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean distance of prediction and outcome over the rows of all bins."""
    n_rows = sum(each.n_rows for each in bins)
    return sum(each.n_rows * abs(each.mean_score - each.rate.value) for each in bins) / n_rows


def roc_curve(y: Floats, score: Floats) -> Curve:
    """True against false positive rate, from (0, 0) to (1, 1); needs both classes."""
    found, taken = _counts(y, score)
    wrong = taken - found
    return _thinned(np.append(0.0, wrong / wrong[-1]), np.append(0.0, found / found[-1]))


def pr_curve(y: Floats, score: Floats) -> Curve:
    """Precision (y) by recall (x), from the highest score on; needs a positive."""
    found, taken = _counts(y, score)
    return _thinned(found / found[-1], found / taken)


def _counts(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_ties(score[order])
    return np.cumsum(np.asarray(y, dtype=np.float64)[order])[ends], (ends + 1).astype(np.float64)


def _thinned(x: Floats, y: Floats) -> Curve:
    """Points at equal steps along the curve, so that steep parts keep theirs."""
    way = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _POINTS_OF_A_CURVE)).clip(0, len(x) - 1))
    return Curve(_rounded(x[kept]), _rounded(y[kept]))


def _rounded(values: Floats) -> list[float]:
    return [float(value) for value in np.round(values, 5)]
