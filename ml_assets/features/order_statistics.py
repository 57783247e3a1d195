"""Which row is first, last, smallest or largest in a window at each moment, and quantiles: exact, with numpy.

Rows are intervals of positions: the moments, numbered in order, at which any window of an entity changes. The cost
grows with their number, not with the length of windows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

QUANTILES = {"p50": (1, 2), "p90": (9, 10)}

# Cells of one matrix: 2 MB of int64, so that it stays in the processor's cache.
_CELLS = 1 << 18


@dataclass(frozen=True)
class Intervals:
    """Rows of one entity: each has its value in the window from position `enter` to before position `leave`."""

    enter: np.ndarray
    leave: np.ndarray
    value: np.ndarray

    def within(self, low: int, high: int) -> "Intervals":
        """Those that overlap the positions from `low` to before `high`."""
        overlap = (self.enter < high) & (self.leave > low)
        return Intervals(self.enter[overlap], self.leave[overlap], self.value[overlap])


def covering(enter: np.ndarray, leave: np.ndarray, n_positions: int) -> np.ndarray:
    """At each position the number of the last interval [enter, leave) that holds it, -1 where none does.

    A segment tree: an interval marks at most two nodes of each level, and then marks go down from level to level.
    """
    size = 1 << max(n_positions - 1, 0).bit_length()
    marked = np.full(2 * size, -1, np.int64)
    low, high, row = enter + size, leave + size, np.arange(len(enter))
    while (open_ := low < high).any():
        low, high, row = low[open_], high[open_], row[open_]
        for node, odd in ((low, low & 1 == 1), (high - 1, high & 1 == 1)):
            np.maximum.at(marked, node[odd], row[odd])
        low, high = (low + 1) >> 1, high >> 1
    width = 1
    while width < size:
        below = marked[2 * width : 4 * width]
        np.maximum(below, np.repeat(marked[width : 2 * width], 2), out=below)
        width *= 2
    return marked[size : size + n_positions]


def quantiles(rows: Intervals, names: Sequence[str], low: int, high: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Give blocks of (positions, one array per name) for the positions in [low, high) that have rows.

    Counts values instead of sorting each window: a matrix [position, distinct value] holds how many rows with that
    value are in the window, and running sums along both axes turn it into ranks. Ranges are halved until the matrix
    is small. Quantiles interpolate linearly between neighbours, as numpy and `quantile_cont` do. Values are finite.
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
