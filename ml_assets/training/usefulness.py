"""Which inputs of a model are of use: what it loses on rows that it did not learn from when one is shuffled.

Permutation importance (Breiman, 2001) in log loss, on validation rows, each input shuffled several times. An input is
of use when the lower end of the interval of its loss, over the rows, is above zero, and without benefit when it is not
and the upper end is next to nothing. Between the two there are too few rows to tell. Twins hide each other: either can
be shuffled at no loss, both cannot. So what could be dropped is told of inputs shuffled together, with each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from ml_assets.training.fit import load, predict
from ml_assets.training.matrix import Matrix
from ml_assets.training.statistics import Floats, Interval, normal_interval

_SMALLEST = 1e-15
_NOTHING = Interval(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Benefit:
    """What shuffling an input costs, in log loss per row; `in_trees` is false for one that no tree splits by."""

    name: str
    loss: Interval
    in_trees: bool

    @property
    def is_sure(self) -> bool:
        """Whether the loss is surely above zero."""
        return self.loss.low > 0


@dataclass(frozen=True)
class Usefulness:
    """The inputs by benefit, the least first; those `droppable` cost no more than `together` when all are shuffled.

    A log loss up to `tolerated` is next to nothing. Those in no tree cost nothing, however few the rows are.
    """

    n_rows: int
    repeats: int
    confidence: float
    benefits: tuple[Benefit, ...]
    droppable: tuple[str, ...]
    together: Interval
    tolerated: float

    @property
    def useless(self) -> tuple[Benefit, ...]:
        """The inputs that surely have next to no benefit."""
        return tuple(b for b in self.benefits if not b.is_sure and b.loss.high <= self.tolerated)

    @property
    def undecided(self) -> tuple[Benefit, ...]:
        """The inputs for which there are too few rows to tell."""
        return tuple(b for b in self.benefits if not b.is_sure and b.loss.high > self.tolerated)


@dataclass(frozen=True)
class Shuffling:
    """How many rows are looked at, how often each input is shuffled, and how sure an interval is.

    What has no benefit costs surely less than `tolerated`, a share of the model's log loss, and nothing for sure. Of
    less rows than `fewest` an interval says nothing.
    """

    rows: int = 4000
    fewest: int = 100
    repeats: int = 5
    confidence: float = 0.95
    tolerated: float = 0.01
    num_threads: int = 2


_USUAL = Shuffling()


def usefulness(
    model_text: str, rows: Matrix, importance: Mapping[str, float], *, seed: int, by: Shuffling = _USUAL
) -> Usefulness:
    """Shuffle each input that has a share of the gain in `importance`; the same seed gives the same answer."""
    rows = _sample(rows, by.rows, seed)
    judge = _Judge(model_text, rows, by, seed)
    benefits = [_benefit(name, judge, at, importance) for at, name in enumerate(rows.names)]
    benefits.sort(key=lambda benefit: (benefit.loss.value, benefit.name))
    found = Usefulness(len(rows), by.repeats, by.confidence, tuple(benefits), (), _NOTHING, judge.tolerated)
    unused, weak = ([b.name for b in found.useless if b.in_trees is used] for used in (False, True))
    n, together = _most_together([rows.names.index(name) for name in weak], judge)
    return replace(found, droppable=(*unused, *weak[:n]), together=together)


def _benefit(name: str, judge: "_Judge", at: int, importance: Mapping[str, float]) -> Benefit:
    used = importance.get(name, 0.0) > 0
    return Benefit(name, judge.loss([at]) if used else _NOTHING, used)


def _sample(rows: Matrix, most: int, seed: int) -> Matrix:
    if len(rows) <= most:
        return rows
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
    return Matrix(rows.X[chosen], rows.y[chosen], rows.names, rows.categorical)


class _Judge:
    """What shuffling costs a model; the same permutations for every question."""

    def __init__(self, model_text: str, rows: Matrix, by: Shuffling, seed: int) -> None:
        self._model, self._rows, self._by = load(model_text), rows, by
        random = np.random.default_rng(seed)
        self._orders = [random.permutation(len(rows)) for _ in range(by.repeats)]
        self._base = self._losses(rows.X).reshape(1, -1)
        self.tolerated = by.tolerated * float(self._base.mean())

    def loss(self, columns: Sequence[int]) -> Interval:
        """The mean rise of the log loss when these columns are shuffled along with each other."""
        shuffled = np.tile(self._rows.X, (len(self._orders), 1))
        shuffled[:, columns] = np.vstack([self._rows.X[order][:, columns] for order in self._orders])
        rises = (self._losses(shuffled).reshape(len(self._orders), -1) - self._base).mean(axis=0)
        error = float(rises.std(ddof=1) / np.sqrt(len(rises))) if len(rises) >= self._by.fewest else inf
        return normal_interval(float(rises.mean()), error, self._by.confidence)

    def _losses(self, X: Floats) -> Floats:  # noqa: N803
        score = np.clip(predict(self._model, X, num_threads=self._by.num_threads), _SMALLEST, 1 - _SMALLEST)
        y = np.resize(self._rows.y, len(score))
        return -np.where(y == 1, np.log(score), np.log1p(-score))


def _most_together(columns: Sequence[int], judge: _Judge) -> tuple[int, Interval]:
    """How many of the columns, the least useful first, can be shuffled together at no loss; found by halving."""
    kept, refused, found = 0, len(columns) + 1, _NOTHING
    n = len(columns)
    while refused - kept > 1:
        loss = judge.loss(columns[:n])
        if loss.low <= 0 and loss.high <= judge.tolerated:
            kept, found = n, loss
        else:
            refused = n
        n = (kept + refused) // 2
    return kept, found
