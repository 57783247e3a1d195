"""From named columns to the matrix that a model reads; training and serving call the same functions.

Nothing here depends on how many rows there are, so one request row gets the same bits as a whole training set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ml_assets.errors import FeatureError, shorten

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Input:
    """One input of a model: its column and, for a categorical one, the categories in the order of their codes."""

    name: str
    kind: Literal["numeric", "categorical"]
    categories: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> dict[str, float]:
        """The code of each category, as it stands in the matrix."""
        return {category: float(code) for code, category in enumerate(self.categories)}


def encode(columns: Mapping[str, np.ndarray | Sequence], inputs: Sequence[Input]) -> np.ndarray:
    """Give a float64 matrix `[n_rows, n_inputs]`, in the order of `inputs`; columns that no input names are ignored.

    Null, NaN and categories that training never saw become NaN, always with the same bits. Raises FeatureError for
    a missing column, columns of unequal length, text in a numeric input and anything but text in a categorical one.
    """
    _require_columns(columns, inputs)
    n_rows = len(columns[inputs[0].name]) if inputs else len(next(iter(columns.values()), ()))
    matrix = np.empty((n_rows, len(inputs)), dtype=np.float64)
    for position, wanted in enumerate(inputs):
        values = columns[wanted.name]
        if len(values) != n_rows:
            raise FeatureError(f"Input '{wanted.name}' has {len(values)} values, '{inputs[0].name}' has {n_rows}.")
        matrix[:, position] = _coded(wanted, values) if wanted.kind == "categorical" else _numbers(wanted, values)
    matrix[np.isnan(matrix)] = np.nan
    return matrix


def fit_inputs(table: "pa.Table", names: Sequence[str]) -> tuple[Input, ...]:
    """Learn kind and categories (sorted) of each input from its column; give it the training split only.

    Text is categorical, numbers and truth values are numeric. Raises FeatureError for a column that is missing or
    of another type, such as a time.
    """
    absent = [name for name in names if name not in table.column_names]
    if absent:
        raise FeatureError(f"The training set has no column {shorten(absent)}. It has: {shorten(table.column_names)}.")
    return tuple(_fit(name, table.column(name)) for name in names)


def _require_columns(columns: Mapping[str, np.ndarray | Sequence], inputs: Sequence[Input]) -> None:
    absent = [wanted.name for wanted in inputs if wanted.name not in columns]
    if absent:
        raise FeatureError(f"The model needs the inputs {shorten(absent)}, which are not among the columns given.")


def _numbers(wanted: Input, values: np.ndarray | Sequence) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biufO":
        raise FeatureError(f"Input '{wanted.name}' must be numeric, found {array.dtype}.")
    if array.dtype.kind == "O" and any(isinstance(value, (str, bytes)) for value in array):
        raise FeatureError(f"Input '{wanted.name}' must be numeric, found text.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise FeatureError(f"Input '{wanted.name}' must be numeric: {type(error).__name__}.") from error


def _coded(wanted: Input, values: np.ndarray | Sequence) -> list[float]:
    listed = values if isinstance(values, list) else np.asarray(values, dtype=object).tolist()
    for kind in set(map(type, listed)) - {str, np.str_, type(None)}:
        if not issubclass(kind, float) or any(value == value for value in listed if type(value) is kind):  # noqa: PLR0124  NaN
            raise FeatureError(f"Input '{wanted.name}' is categorical and must be text, found {kind.__name__}.")
    codes = wanted.codes
    return [codes.get(value, np.nan) for value in listed]


def _fit(name: str, column: "pa.ChunkedArray") -> Input:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        found = column.cast(pa.string()).unique().to_pylist()
        return Input(name, "categorical", tuple(sorted(value for value in found if value is not None)))
    if pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return Input(name, "numeric")
    raise FeatureError(f"Input '{name}' has type {column.type}; a model reads numbers, truth values or text.")
