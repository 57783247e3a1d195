"""Statistics of scores against binary outcomes, each with its interval: shared by training, evaluation and monitoring.

Labels are 0 or 1, scores any finite numbers, probabilities in [0, 1]; all one-dimensional and of one length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.errors import TrainingError

Floats = NDArray[np.float64]

# A probability of exactly 0 or 1 would cost infinitely much when wrong; the same bound as scikit-learn's for float64.
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Interval:
    """An estimate, its two-sided confidence interval and its standard error; all NaN where it is undefined."""

    value: float
    low: float
    high: float
    standard_error: float

    @property
    def is_defined(self) -> bool:
        """Whether there was anything to estimate from: rows, and both classes where ranks are compared."""
        return isfinite(self.value)

    def at(self, confidence: float) -> "Interval":
        """The same estimate at another confidence, by the normal approximation around the value."""
        return normal_interval(self.value, self.standard_error, confidence)


UNDEFINED = Interval(nan, nan, nan, nan)


def normal_interval(value: float, standard_error: float, confidence: float) -> Interval:
    """The two-sided normal interval around a value."""
    reach = z(confidence) * standard_error
    return Interval(value, value - reach, value + reach, standard_error)


def z(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches to each side: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise TrainingError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def detectable(standard_error: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that the lower end of an interval would show as above zero with this power."""
    return (z(confidence) + NormalDist().inv_cdf(power)) * standard_error


def roc_auc(y: ArrayLike, score: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The chance that a positive scores above a negative, ties counting half, with DeLong's interval.

    Undefined without both classes. The interval is cut at 0 and 1; where the classes separate perfectly DeLong's
    variance is zero, and the far end is the exact (Clopper-Pearson) bound for the smaller class instead.
    """
    labels, scores = _aligned(y, score)
    if not _has_both(labels):
        return UNDEFINED
    auc, _positive, _negative = placements = _placements(labels, scores)
    if auc in (0.0, 1.0):
        return _separated(auc, int(min(labels.sum(), (~labels).sum())), confidence)
    raw = normal_interval(auc, sqrt(_covariance(placements, placements)), confidence)
    return Interval(auc, max(raw.low, 0.0), min(raw.high, 1.0), raw.standard_error)


def delong(y: ArrayLike, challenger: ArrayLike, champion: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """ROC AUC of the challenger minus that of the champion on the same rows, with DeLong's paired interval.

    Undefined without both classes; identical rankings give exactly 0 with an interval of no width.
    """
    labels, first = _aligned(y, challenger)
    _, second = _aligned(y, champion)
    if not _has_both(labels):
        return UNDEFINED
    a, b = _placements(labels, first), _placements(labels, second)
    variance = _covariance(a, a) + _covariance(b, b) - 2 * _covariance(a, b)
    return normal_interval(a[0] - b[0], sqrt(max(variance, 0.0)), confidence)


def log_loss(y: ArrayLike, probability: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean negative log likelihood in nats; smaller is better. Undefined without rows."""
    return mean(log_losses(y, probability), confidence=confidence)


def brier(y: ArrayLike, probability: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean squared error of the probability; smaller is better. Undefined without rows."""
    return mean(squared_errors(y, probability), confidence=confidence)


def log_losses(y: ArrayLike, probability: ArrayLike) -> Floats:
    """The loss of each row in nats, finite even for a certainty that was wrong."""
    labels, scores = _probabilities(y, probability)
    return -np.log(np.clip(np.where(labels, scores, 1 - scores), _SMALLEST_PROBABILITY, 1))


def squared_errors(y: ArrayLike, probability: ArrayLike) -> Floats:
    """The squared error of each row."""
    labels, scores = _probabilities(y, probability)
    return (scores - labels) ** 2


def mean(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The mean with the interval of the central limit theorem: a bootstrap of a mean without its cost."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return UNDEFINED
    spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    return normal_interval(float(numbers.mean()), spread / sqrt(len(numbers)), confidence)


def proportion(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A share with Wilson's interval, which stays within [0, 1] and has a width even at 0 of n."""
    if not n:
        return UNDEFINED
    share, squared = successes / n, z(confidence) ** 2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    reach = sqrt(squared * (share * (1 - share) / n + squared / (4 * n * n))) / (1 + squared / n)
    low, high = max(middle - reach, 0.0), min(middle + reach, 1.0)
    # At none or all of n the bound is the share, which arithmetic misses by a hair.
    return Interval(share, min(low, share), max(high, share), reach / sqrt(squared))


def poisson_bootstrap(
    statistic: Callable[[Floats], Floats], n: int, *, seed: int, confidence: float = 0.95, most_draws: int = 500
) -> Interval:
    """The percentile interval of a statistic of weighted rows, each resample giving every row a Poisson(1) weight.

    `statistic` takes weights [n_draws, n] and returns one value each. Fewer draws are made where `n` is large
    (about 10 million weights in all, at least 100 draws): the interval is narrow there anyway.
    """
    generator = np.random.default_rng(seed)
    draws = max(100, min(most_draws, 10_000_000 // max(n, 1)))
    sizes = _chunks(draws, max(1, 1_000_000 // max(n, 1)))
    weights = (generator.poisson(1.0, (size, n)).astype(np.float64) for size in sizes)
    sample = np.concatenate([statistic(each) for each in weights])
    low, high = np.nanquantile(sample, [(1 - confidence) / 2, (1 + confidence) / 2])
    point = float(statistic(np.ones((1, n)))[0])
    return Interval(point, float(low), float(high), float(np.nanstd(sample)))


def _chunks(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _aligned(y: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    labels, scores = np.asarray(y, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise TrainingError(f"Labels {labels.shape} and scores {scores.shape} must be two lists of the same length.")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise TrainingError("Labels must be 0 or 1 without nulls; drop the rows whose label is not known yet.")
    if not np.isfinite(scores).all():
        raise TrainingError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite numbers.")
    return labels == 1.0, scores


def _probabilities(y: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    labels, scores = _aligned(y, probability)
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise TrainingError(f"Probabilities lie between 0 and 1; found {scores.min():.6g} to {scores.max():.6g}.")
    return labels, scores


def _has_both(labels: NDArray[np.bool_]) -> bool:
    return bool(labels.any() and not labels.all())


_Placements = tuple[float, Floats, Floats]


def _placements(labels: NDArray[np.bool_], scores: Floats) -> _Placements:
    """AUC, the share of negatives below each positive, and the share of positives above each negative.

    Midranks make it n log n (Sun and Xu 2014) instead of a comparison of every pair.
    """
    positive, negative = scores[labels], scores[~labels]
    below = _midrank(negative, positive) / len(negative)
    above = 1 - _midrank(positive, negative) / len(positive)
    return float(below.mean()), below, above


def _midrank(reference: Floats, values: Floats) -> Floats:
    """How many of the reference lie below each value, ties counting half."""
    search = partial(np.searchsorted, np.sort(reference), values)
    return (search(side="left") + search(side="right")) / 2


def _covariance(a: _Placements, b: _Placements) -> float:
    return sum(_cross(x, y) / len(x) for x, y in zip(a[1:], b[1:], strict=True))


def _cross(x: Floats, y: Floats) -> float:
    return float((x - x.mean()) @ (y - y.mean())) / max(len(x) - 1, 1)


def _separated(auc: float, n: int, confidence: float) -> Interval:
    bound = ((1 - confidence) / 2) ** (1 / n)
    low, high = (bound, 1.0) if auc == 1.0 else (0.0, 1 - bound)
    return Interval(auc, low, high, (high - low) / (2 * z(confidence)))
