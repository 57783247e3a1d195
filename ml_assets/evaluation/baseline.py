"""The model to beat: the rate of the label by a few keys, with no learning beyond counting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_assets.errors import TrainingError
from ml_assets.training.statistics import Floats

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True)
class RateByKey:
    """Rates of the label by the values of `keys` together; unseen values have the overall rate."""

    keys: tuple[str, ...]
    overall: float
    rates: dict[tuple[str, ...], float]

    def predict(self, columns: Columns) -> Floats:
        """The rate of each row; without keys the overall rate, for as many rows as the first column has."""
        return np.array([self.rates.get(key, self.overall) for key in _keys(columns, self.keys)], dtype=np.float64)


def fit(columns: Columns, y: Floats, keys: Sequence[str], *, prior_rows: float = 50.0) -> RateByKey:
    """Count on training rows; each rate is drawn to the overall one as if `prior_rows` further rows had it."""
    if not len(y):
        raise TrainingError("The baseline needs training rows; there are none.")
    overall = float(np.mean(y))
    n_rows: dict[tuple[str, ...], int] = {}
    positives: dict[tuple[str, ...], float] = {}
    for key, label in zip(_keys(columns, keys), y, strict=True):
        n_rows[key] = n_rows.get(key, 0) + 1
        positives[key] = positives.get(key, 0.0) + float(label)
    rates = {key: (positives[key] + prior_rows * overall) / (n + prior_rows) for key, n in sorted(n_rows.items())}
    return RateByKey(tuple(keys), overall, rates)


def _keys(columns: Columns, keys: Sequence[str]) -> list[tuple[str, ...]]:
    missing = [key for key in keys if key not in columns]
    if missing:
        raise TrainingError(f"The baseline is declared by {', '.join(missing)}, which the training set does not have.")
    texts = [[str(value) for value in columns[key]] for key in keys]
    n_rows = len(next(iter(columns.values()), ()))
    return list(zip(*texts, strict=True)) if texts else [()] * n_rows
