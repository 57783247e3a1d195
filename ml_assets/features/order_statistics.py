"""Minimum, maximum and quantiles of windows on a grid, exact, by counting values instead of sorting each window.

For one entity a matrix [grid time, distinct value] holds how many rows with that value are in the window; running
sums along both axes turn it into ranks. Ranges of the grid are halved until the matrix is small.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

QUANTILES = {"min": (0, 1), "p50": (1, 2), "p90": (9, 10), "max": (1, 1)}

# Cells of one matrix: 2 MB of int64, so that it stays in the processor's cache.
_CELLS = 1 << 18


@dataclass(frozen=True)
class Intervals:
    """Rows of one entity: each has its value in the window from grid step `enter` to before step `leave`."""

    enter: np.ndarray
    leave: np.ndarray
    value: np.ndarray

    def within(self, low: int, high: int) -> "Intervals":
        """Those that overlap the steps from `low` to before `high`."""
        overlap = (self.enter < high) & (self.leave > low)
        return Intervals(self.enter[overlap], self.leave[overlap], self.value[overlap])


def by_entity(
    entity_no: np.ndarray, rows: Intervals, names: Sequence[str], low: int, high: int
) -> dict[str, np.ndarray]:
    """Columns `entity_no`, `step` and one per name; `rows` are sorted by `entity_no`, their values finite.

    A step of an entity without rows in the window is left out.
    """
    # Adding zero turns -0.0 into 0.0; which of the two stood for both would depend on the range.
    rows = Intervals(rows.enter, rows.leave, rows.value + 0.0)
    borders = [0, *(np.flatnonzero(np.diff(entity_no)) + 1), len(entity_no)]
    blocks: list[tuple[np.ndarray, ...]] = []
    for start, stop in pairwise(borders):
        own = Intervals(rows.enter[start:stop], rows.leave[start:stop], rows.value[start:stop])
        found = quantiles(own, names, low, high)
        blocks += [(np.full(len(block[0]), entity_no[start], np.int64), *block) for block in found]
    kinds = [np.int64, np.int64, *(np.float64 for _ in names)]
    return {
        name: np.concatenate([block[i] for block in blocks]) if blocks else np.empty(0, kinds[i])
        for i, name in enumerate(["entity_no", "step", *names])
    }


def quantiles(rows: Intervals, names: Sequence[str], low: int, high: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Give blocks of (steps, one array per name) for the steps in [low, high) that have rows.

    Quantiles interpolate linearly between neighbours, as numpy and `quantile_cont` do.
    """
    inside = rows.within(low, high)
    if not len(inside.value):
        return
    if high - low > 1 and (high - low) * len(inside.value) > _CELLS:
        middle = (low + high) // 2
        yield from quantiles(inside, names, low, middle)
        yield from quantiles(inside, names, middle, high)
    else:
        yield _counted(inside, names, low, high)


def _counted(rows: Intervals, names: Sequence[str], low: int, high: int) -> tuple[np.ndarray, ...]:
    values, rank = np.unique(rows.value, return_inverse=True)
    ranks = _ranks(rows, rank, len(values), low, high)
    n_rows = ranks[:, -1].copy()
    steps = np.flatnonzero(n_rows)
    # Lifted by more than any rank from step to step, the flattened ranks are sorted: one binary search finds all.
    lift = np.arange(high - low, dtype=np.int64) * (len(rows.value) + 1)
    ranks += lift[:, None]
    flat = ranks.ravel()

    def smallest(k: np.ndarray) -> np.ndarray:
        return values[np.searchsorted(flat, k + lift[steps], side="right") - steps * len(values)]

    return steps + low, *(_interpolated(smallest, n_rows[steps], *QUANTILES[name]) for name in names)


def _ranks(rows: Intervals, rank: np.ndarray, n_values: int, low: int, high: int) -> np.ndarray:
    n_cells = (high - low) * n_values
    entered = (np.maximum(rows.enter, low) - low) * n_values + rank
    gone = rows.leave < high
    left = (rows.leave[gone] - low) * n_values + rank[gone]
    cells = np.bincount(entered, minlength=n_cells) - np.bincount(left, minlength=n_cells)
    cells = cells.reshape(high - low, n_values)
    np.cumsum(cells, axis=0, out=cells)
    return np.cumsum(cells, axis=1, out=cells)


def _interpolated(
    smallest: Callable[[np.ndarray], np.ndarray], n_rows: np.ndarray, numerator: int, denominator: int
) -> np.ndarray:
    # In integers, since 0.9 * (n - 1) can fall just below a whole number.
    position, rest = np.divmod((n_rows - 1) * numerator, denominator)
    below = smallest(position)
    above = smallest(np.minimum(position + 1, n_rows - 1))
    return np.where(rest == 0, below, below + (above - below) * (rest / denominator))
