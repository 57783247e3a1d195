"""What an estimator sees: encoded numbers, labels, and which columns are categories."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ml_assets.errors import TrainingError, shorten


@dataclass(frozen=True)
class Matrix:
    """Rows in the order they are learnt in: `X` float64 [n, k] with NaN for null, `y` 0 or 1 [n], the names of `X`.

    The order is an input of the training (bins and bags depend on it), so sort by a key before. Columns of
    `categorical` hold codes 0, 1, 2, ...; infinite values, other labels, or names that do not fit are a TrainingError.
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    names: tuple[str, ...]
    categorical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "X", np.ascontiguousarray(self.X, dtype=np.float64))
        object.__setattr__(self, "y", np.ascontiguousarray(self.y, dtype=np.float64))
        _require(self.X.shape == (len(self.y), len(self.names)), self._shape_problem())
        _require(len(set(self.names)) == len(self.names), "two features have the same name")
        unknown = set(self.categorical) - set(self.names)
        _require(not unknown, f"categorical features that are not there: {shorten(sorted(unknown))}")
        _require(bool(np.isin(self.y, (0.0, 1.0)).all()), "labels must be 0 or 1; leave out rows without a label")
        infinite = [
            name for name, bad in zip(self.names, np.any(np.isinf(self.X), axis=0).tolist(), strict=True) if bad
        ]
        _require(not infinite, f"infinite values in {shorten(infinite)}")

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of values, labels and names: the same exactly when training would see the same."""
        digest = sha256(repr((self.X.shape, self.names, self.categorical)).encode())
        digest.update(self.X.data)
        digest.update(self.y.data)
        return digest.hexdigest()

    def followed_by(self, other: "Matrix") -> "Matrix":
        """These rows and then the other's, such as training and validation rows for the last fit."""
        _require(self.names == other.names and self.categorical == other.categorical, "the features differ")
        return Matrix(np.vstack([self.X, other.X]), np.append(self.y, other.y), self.names, self.categorical)

    def require_both_classes(self, part: str) -> None:
        """Raise a TrainingError that names the part and its only label, if it has but one."""
        rates = sorted(set(self.y))
        _require(len(rates) == 2, f"all {len(self)} rows for {part} have the same label {rates}")

    def _shape_problem(self) -> str:
        return f"values {self.X.shape}, {len(self.y)} labels and {len(self.names)} names do not fit together"


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise TrainingError(f"Cannot train from this training set: {problem}.")
