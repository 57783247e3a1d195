"""The evaluation of one model version on rows it has not seen: numbers with intervals, and against its rivals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_assets.errors import TrainingError
from ml_assets.evaluation import metrics
from ml_assets.evaluation.metrics import Bin, Curve
from ml_assets.evaluation.policy import FEWEST_PER_CLASS as FEWEST_PER_CLASS
from ml_assets.training.statistics import (
    Floats,
    Interval,
    delong,
    detectable,
    log_losses,
    mean,
    roc_auc,
    squared_errors,
)

# Below this, an interval by normal approximation says more than the rows do.
_MOST_SLICES_OF_A_COLUMN = 50
_BINS_OF_SCORES = 40


@dataclass(frozen=True)
class EvaluationData:
    """Test rows as columns of one length: labels 0 or 1, probabilities, prediction times (datetime64, UTC).

    `slices` maps a column to its values (anything; null is a value of its own). Rivals scored the same rows.
    """

    y: Floats
    score: Floats
    at: NDArray[np.datetime64]
    slices: Mapping[str, Sequence[Any] | NDArray[Any]] = field(default_factory=dict)
    champion_score: Floats | None = None
    baseline_score: Floats | None = None

    def __post_init__(self) -> None:
        columns = {"score": self.score, "at": self.at, **{f"slice {name}": of for name, of in self.slices.items()}}
        rivals = {"champion_score": self.champion_score, "baseline_score": self.baseline_score}
        columns.update({name: of for name, of in rivals.items() if of is not None})
        wrong = [f"{name} ({len(of)})" for name, of in columns.items() if len(of) != len(self.y)]
        if wrong or not len(self.y):
            raise TrainingError(
                f"Cannot evaluate {len(self.y)} test rows; of another length: {', '.join(wrong) or '-'}."
            )


@dataclass(frozen=True)
class Rival:
    """A rival's own metrics, and the model's minus the rival's on the same rows with paired intervals.

    `detectable` is the smallest true gain in ROC AUC that these rows would show with a power of 0.8.
    """

    metrics: dict[str, Interval | None]
    difference: dict[str, Interval | None]
    detectable: float | None


@dataclass(frozen=True)
class Slice:
    """The rows with one value in one column; `underpowered` when a class has too few rows to say anything."""

    column: str
    value: str
    n_rows: int
    n_positives: int
    roc_auc: Interval | None
    vs_champion: Interval | None
    underpowered: bool


@dataclass(frozen=True)
class Week:
    """The rows of one week that begins on a Monday (UTC, YYYY-MM-DD)."""

    begin: str
    n_rows: int
    n_positives: int
    roc_auc: Interval | None
    champion: float | None


@dataclass(frozen=True)
class Distribution:
    """How many scores of each class lie between neighbouring edges."""

    edges: list[float]
    negatives: list[int]
    positives: list[int]


@dataclass(frozen=True)
class Evaluation:
    """Everything the gates and the report say; undefined numbers are None, times RFC 3339 in UTC."""

    n_rows: int
    n_positives: int
    first_at: str
    last_at: str
    confidence: float
    metrics: dict[str, Interval | None]
    calibration: list[Bin]
    calibration_error: float
    champion: Rival | None
    baseline: Rival | None
    slices: list[Slice]
    weeks: list[Week]
    scores: Distribution
    roc: dict[str, Curve]
    pr: dict[str, Curve]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: finite numbers, strings, null, lists and objects only."""
        import msgspec

        return msgspec.to_builtins(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Evaluation":
        """The inverse of `as_dict`, also after a way through JSON."""
        import msgspec

        return msgspec.convert(stored, cls)


def evaluate(data: EvaluationData, *, confidence: float = 0.95, seed: int = 0) -> Evaluation:
    """Evaluate; the same rows give the same numbers. Rows without both classes leave rank metrics undefined."""
    y, score = np.asarray(data.y, dtype=np.float64), np.asarray(data.score, dtype=np.float64)
    bins = metrics.calibration(y, score, confidence=confidence)
    rivals = {"model": score, "champion": data.champion_score, "baseline": data.baseline_score}
    scored = {name: np.asarray(of, dtype=np.float64) for name, of in rivals.items() if of is not None}
    both = 0 < y.sum() < len(y)
    return Evaluation(
        n_rows=len(y),
        n_positives=int(y.sum()),
        first_at=_text(np.min(data.at)),
        last_at=_text(np.max(data.at)),
        confidence=confidence,
        metrics=_defined(metrics.all_metrics(y, score, confidence=confidence, seed=seed)),
        calibration=bins,
        calibration_error=metrics.calibration_error(bins),
        champion=_rival(y, score, scored.get("champion"), confidence),
        baseline=_rival(y, score, scored.get("baseline"), confidence),
        slices=list(_slices(data, y, scored, confidence)),
        weeks=list(_weeks(data, y, scored, confidence)),
        scores=_distribution(y, score),
        roc={name: metrics.roc_curve(y, of) for name, of in scored.items()} if both else {},
        pr={name: metrics.pr_curve(y, of) for name, of in scored.items()} if both else {},
    )


def _defined(found: Mapping[str, Interval]) -> dict[str, Interval | None]:
    return {name: _or_none(interval) for name, interval in found.items()}


def _or_none(interval: Interval) -> Interval | None:
    return interval if interval.is_defined else None


def _rival(y: Floats, score: Floats, other: Floats | None, confidence: float) -> Rival | None:
    if other is None:
        return None
    own = metrics.all_metrics(y, other, confidence=confidence)
    ranks = delong(y, score, other, confidence=confidence)
    losses = mean(log_losses(y, score) - log_losses(y, other), confidence=confidence)
    errors = mean(squared_errors(y, score) - squared_errors(y, other), confidence=confidence)
    least = detectable(ranks.standard_error, confidence=confidence) if ranks.is_defined else None
    return Rival(_defined(own), _defined({"roc_auc": ranks, "log_loss": losses, "brier": errors}), least)


def _slices(data: EvaluationData, y: Floats, scored: Mapping[str, Floats], confidence: float) -> Iterator[Slice]:
    """By column, the largest first; the smallest of a column with very many values are left out."""
    for column, given in data.slices.items():
        texts = np.array(["null" if _is_null(value) else str(value) for value in given])
        values, n_rows = np.unique(texts, return_counts=True)
        for value in values[np.argsort(-n_rows, kind="stable")][:_MOST_SLICES_OF_A_COLUMN]:
            yield _slice((column, str(value)), texts == value, y, scored, confidence)


def _slice(
    of: tuple[str, str], rows: NDArray[np.bool_], y: Floats, scored: Mapping[str, Floats], confidence: float
) -> Slice:
    labels, score = y[rows], scored["model"][rows]
    n_positives = int(labels.sum())
    underpowered = min(n_positives, len(labels) - n_positives) < FEWEST_PER_CLASS
    paired = delong(labels, score, scored["champion"][rows], confidence=confidence) if "champion" in scored else None
    auc = _or_none(roc_auc(labels, score, confidence=confidence))
    return Slice(*of, len(labels), n_positives, auc, paired and _or_none(paired), underpowered)


def _is_null(value: Any) -> bool:
    return value is None or value != value  # NaN and NaT differ from themselves  # noqa: PLR0124


def _weeks(data: EvaluationData, y: Floats, scored: Mapping[str, Floats], confidence: float) -> Iterator[Week]:
    # datetime64 weeks begin on Thursdays, as 1970 did.
    days = np.asarray(data.at).astype("datetime64[D]").astype(np.int64)
    mondays = days - (days + 3) % 7
    for monday in np.unique(mondays):
        rows = mondays == monday
        auc = _or_none(roc_auc(y[rows], scored["model"][rows], confidence=confidence))
        champion = roc_auc(y[rows], scored["champion"][rows]).value if "champion" in scored and auc else None
        begin = str(np.datetime64(int(monday), "D"))
        yield Week(begin, int(rows.sum()), int(y[rows].sum()), auc, champion)


def _distribution(y: Floats, score: Floats) -> Distribution:
    edges = np.linspace(0, max(float(np.quantile(score, 0.999)), 1e-6), _BINS_OF_SCORES + 1)
    kept = np.minimum(score, edges[-1])
    negatives, positives = (np.histogram(kept[y == label], edges)[0].tolist() for label in (0.0, 1.0))
    return Distribution([round(float(edge), 6) for edge in edges], negatives, positives)


def _text(instant: np.datetime64) -> str:
    return datetime.fromisoformat(f"{np.datetime_as_string(instant, 's')}+00:00").isoformat()
