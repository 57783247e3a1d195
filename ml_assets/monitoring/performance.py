"""How well past predictions turned out, by day and model version, once their labels are mature.

The labels of a day are mature when the model's maturity has passed since the day's end and nearly all of them are
there: before that, the labels that came first are not a fair sample (a flight that arrives late is known late).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike

from ml_assets.training.statistics import log_loss, roc_auc


@dataclass(frozen=True)
class Maturity:
    """When the labels of a day may be judged: `wait` after the end of the UTC day, with a share of `coverage` known.

    `as_of` is the instant up to which labels were collected.
    """

    as_of: datetime
    wait: timedelta
    coverage: float = 0.9


@dataclass(frozen=True)
class Performance:
    """Predictions of one model version from `first_day` to `last_day` (the same for one day) against their labels.

    `mature` speaks for all these days. AUC and its 95 % interval are None until both classes were seen, log loss until
    any label was.
    """

    first_day: str
    last_day: str
    version: str
    n: int
    n_labelled: int
    coverage: float
    roc_auc: float | None
    roc_auc_low: float | None
    roc_auc_high: float | None
    log_loss: float | None
    positive_rate: float | None
    mean_score: float
    mature: bool


@dataclass(frozen=True)
class Scored:
    """Predictions as four parallel arrays: `y` is 0, 1 or NaN (no label known), `day` the UTC day as YYYY-MM-DD."""

    y: np.ndarray
    score: np.ndarray
    day: np.ndarray
    version: np.ndarray

    @classmethod
    def of(cls, y: ArrayLike, score: ArrayLike, day: ArrayLike, version: ArrayLike) -> "Scored":
        """Take any sequences; None and NaN in `y` mean that no label is known."""
        return cls(
            y=np.asarray(y, dtype=np.float64),
            score=np.asarray(score, dtype=np.float64),
            day=np.asarray(day, dtype=str),
            version=np.asarray(version, dtype=str),
        )

    def where(self, rows: np.ndarray) -> "Scored":
        """The predictions that a mask or an index selects."""
        return Scored(self.y[rows], self.score[rows], self.day[rows], self.version[rows])


def performance(scored: Scored, maturity: Maturity) -> list[Performance]:
    """Judge every (day, version), in that order."""
    return [_judge(part, maturity) for part in _parts(scored)]


def recent(scored: Scored, maturity: Maturity, *, version: str, days: int = 14) -> Performance | None:
    """Judge the newest `days` mature days of one version as a whole; None while it has none.

    A day's AUC is noisy and the AUCs of days cannot be averaged, so the rows of all these days are judged together.
    """
    own = scored.where(scored.version == version)
    mature = [found.first_day for found in performance(own, maturity) if found.mature]
    chosen = own.where(np.isin(own.day, sorted(mature)[-days:]))
    return _judge(chosen, maturity) if len(chosen.y) else None


def _parts(scored: Scored) -> Iterator[Scored]:
    if not len(scored.y):
        return
    order = np.lexsort((scored.version, scored.day))
    sorted_ = scored.where(order)
    changes = (sorted_.day[1:] != sorted_.day[:-1]) | (sorted_.version[1:] != sorted_.version[:-1])
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(order)]
    for first, last in itertools.pairwise(bounds):
        yield sorted_.where(np.arange(first, last))


def _judge(rows: Scored, maturity: Maturity) -> Performance:
    """Judge rows of one version; their labels are mature when those of the last day are."""
    # sums of floats depend on the order of the rows; results must not
    rows = rows.where(np.lexsort((rows.y, rows.score)))
    known = ~np.isnan(rows.y)
    y, score = rows.y[known], rows.score[known]
    coverage = float(known.mean())
    auc = roc_auc(y, score)
    last_day = max(rows.day.tolist())
    return Performance(
        first_day=min(rows.day.tolist()),
        last_day=last_day,
        version=str(rows.version[0]),
        n=len(rows.y),
        n_labelled=len(y),
        coverage=coverage,
        roc_auc=_defined(auc.value),
        roc_auc_low=_defined(auc.low),
        roc_auc_high=_defined(auc.high),
        log_loss=_defined(log_loss(y, score).value),
        positive_rate=float(y.mean()) if len(y) else None,
        mean_score=float(rows.score.mean()),
        mature=_end_of(last_day) + maturity.wait <= maturity.as_of and coverage >= maturity.coverage,
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _end_of(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
