"""Skew: inputs that a server used against those that the lake gives for the same rows, bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.features.encode import Input

SCORE = "score"


@dataclass(frozen=True)
class Skew:
    """How one input, or the score, compares; `differs` marks its rows `[n_rows]`, values are those of the first."""

    feature: str
    differs: np.ndarray
    offline: float | str | None = None
    online: float | str | None = None

    @property
    def different(self) -> int:
        """How many rows differ."""
        return int(self.differs.sum())

    @property
    def rate(self) -> float:
        """The share of rows that differ."""
        return self.different / len(self.differs) if len(self.differs) else 0.0

    @property
    def first(self) -> int | None:
        """The first row that differs."""
        return int(self.differs.argmax()) if self.different else None


def compare(inputs: Sequence[Input], offline: Mapping[str, Any], online: Mapping[str, Any]) -> tuple[Skew, ...]:
    """Compare columns of equal length, input by input; null and NaN are the same, 0.0 and -0.0 are not."""
    return tuple(_compared(wanted.name, wanted.kind, offline[wanted.name], online[wanted.name]) for wanted in inputs)


def compare_scores(offline: np.ndarray, online: Sequence[float]) -> Skew:
    """Compare scores."""
    return _compared(SCORE, "numeric", offline, online)


def worst(skews: Sequence[Skew]) -> list[Skew]:
    """Those that differ, most rows first; the score, which only follows from inputs, comes after them."""
    found = [skew for skew in skews if skew.different]
    return sorted(found, key=lambda skew: (skew.feature == SCORE, -skew.different, skew.feature))


def rows_that_differ(skews: Sequence[Skew]) -> np.ndarray:
    """Mark the rows `[n_rows]` that differ in anything."""
    return np.logical_or.reduce([skew.differs for skew in skews])


def _compared(name: str, kind: str, offline: Any, online: Any) -> Skew:
    differs = _texts(offline, online) if kind == "categorical" else _bits(offline) != _bits(online)
    if not differs.any():
        return Skew(name, differs)
    first = int(differs.argmax())
    return Skew(name, differs, plain(offline[first]), plain(online[first]))


def _bits(values: Any) -> np.ndarray:
    numbers = np.array(values, dtype=np.float64)
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(np.int64)


def _texts(offline: Any, online: Any) -> np.ndarray:
    pairs = zip(offline, online, strict=True)
    return np.array([plain(left) != plain(right) for left, right in pairs], dtype=bool)


def plain(value: Any) -> float | str | None:
    """A value of a column, of numpy or Python, as Python has it; NaN is null."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or value != value else value  # noqa: PLR0124  NaN
