"""From request rows to scores: look the features up, compute those of the request, encode, run the trees.

One row and many rows take the same path over columns, which is also the offline path (`features.encode.encode`, then
the model), so a score has the same bits wherever it is computed.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ml_assets.errors import ArtefactError, EndpointError, MlAssetsError, shorten
from ml_assets.features import meaning
from ml_assets.features.encode import encode
from ml_assets.serving.bundle import Bundle, ServingSchema, ViewRef
from ml_assets.serving.request import RequestContract, Row, request_columns
from ml_assets.serving.trees import Trees

RequestFeatures = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class FeatureLookup(Protocol):
    """What serving needs of an online store."""

    def lookup(self, view: str, key: tuple, at: int, /) -> tuple[int, tuple] | None:
        """Give the newest row with grid time <= `at` (microseconds) and its feature values in stored order."""
        ...

    def schema(self, view: str, /) -> tuple[Sequence[str], Sequence[str]] | None:
        """Give entity and feature columns as stored; None or an ml_assets error when nothing is stored yet."""
        ...


@dataclass(frozen=True)
class Scored:
    """Scores `[n_rows]`; inputs by name as they were before encoding; the age of each view's row in microseconds."""

    scores: list[float]
    features: list[dict[str, float | str | None]]
    ages_us: list[dict[str, int | None]]


class Predictor:
    """One model version, ready to answer. Any thread may call `predict`."""

    def __init__(self, bundle: Bundle, store: FeatureLookup) -> None:
        self.schema, self.digest, self._golden = bundle.schema, bundle.digest, bundle.golden
        self.contract = RequestContract(bundle.schema)
        self._function = _resolve(bundle.schema)
        self._trees, self._store = Trees(bundle.model_text), store
        self._names = tuple(wanted.name for wanted in self.schema.inputs)
        self._views = tuple(_View(view, self.schema) for view in self.schema.views)
        if self._trees.n_inputs != len(self._names):
            raise ArtefactError(f"The model reads {self._trees.n_inputs} inputs, its schema lists {len(self._names)}.")
        self.rebind()

    def rebind(self) -> None:
        """Read the stored layout of the views again; call it now and then, since a view's features may change."""
        for view in self._views:
            view.bind(self._store)

    def predict(self, rows: Sequence[Row], at: Sequence[int]) -> Scored:
        """Score decoded request rows at their prediction times (microseconds)."""
        columns, ages = self._looked_up(rows, at)
        columns |= request_features(self.schema, self._function, rows, at)
        scores = self.score(encode(columns, self.schema.inputs))
        return Scored(scores.tolist(), self._by_name(columns), ages)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Score encoded rows `[n_rows, n_inputs]`."""
        return self._trees.predict(matrix)

    def check_golden(self) -> None:
        """Require the golden scores to the bit, and of the golden requests the same request features."""
        matrix = self._golden.matrix()
        wanted = np.array(self._golden.scores)
        singly = np.array([self.score(matrix[n : n + 1])[0] for n in range(len(matrix))])
        if not (_same_bits(self.score(matrix), wanted) and _same_bits(singly, wanted)):
            raise ArtefactError(f"Model '{self.schema.model}' does not give its golden scores here; it is not loaded.")
        if self._golden.requests:
            self._check_golden_requests(matrix)

    def _check_golden_requests(self, matrix: np.ndarray) -> None:
        rows, at = self.contract.convert(self._golden.requests, now_us=0, path="$.requests[{}]")
        columns = request_features(self.schema, self._function, rows, at)
        inputs = [(n, wanted) for n, wanted in enumerate(self.schema.inputs) if wanted.name in columns]
        found = encode(columns, [wanted for _, wanted in inputs])
        changed = [w.name for k, (n, w) in enumerate(inputs) if not _same_bits(found[:, k], matrix[:, n])]
        if changed:
            problem = f"computes {shorten(changed)} otherwise than when the model was trained"
            raise ArtefactError(f"`{self.schema.request_features}` {problem}: train again, or restore the function.")

    def _looked_up(self, rows: Sequence[Row], at: Sequence[int]) -> tuple[dict[str, Any], list[dict]]:
        columns, ages = {}, [{} for _ in rows]
        for view in self._views:
            found = [view.look_up(self._store, row, instant) for row, instant in zip(rows, at, strict=True)]
            for age, (age_us, _) in zip(ages, found, strict=True):
                age[view.name] = age_us
            columns |= view.columns([values for _, values in found])
        return columns, ages

    def _by_name(self, columns: Mapping[str, Any]) -> list[dict[str, float | str | None]]:
        listed = [_listed(columns[name]) for name in self._names]
        return [dict(zip(self._names, values, strict=True)) for values in zip(*listed, strict=True)]


class _View:
    """A feature view bound to the request row and to the stored order of its features."""

    def __init__(self, view: ViewRef, schema: ServingSchema) -> None:
        fields = [field.name for field in schema.request_fields]
        kinds = {wanted.name: wanted.kind for wanted in schema.inputs}
        used = [(f"{view.name}__{feature}", feature) for feature in view.features]
        self.name, self._delay, self._entity = view.name, view.delay_us, view.entity
        self._max_age = math.inf if view.max_age_us is None else view.max_age_us
        self._numbers = [pair for pair in used if kinds.get(pair[0]) == "numeric"]
        self._texts = [pair for pair in used if kinds.get(pair[0]) == "categorical"]
        self._in_row = dict(zip(view.entity, map(fields.index, view.entity), strict=True))
        self._bound: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def bind(self, store: FeatureLookup) -> None:
        stored = _stored_schema(store, self.name)
        if stored is None:
            self._bound = None
            return
        entity, features = map(list, stored)
        wanted = [feature for _, feature in self._numbers + self._texts]
        missing = [feature for feature in wanted if feature not in features]
        if missing or sorted(entity) != sorted(self._entity):
            problem = f"has no {shorten(missing)}" if missing else f"is stored by {shorten(entity)}"
            fix = f"materialize features/{self.name} again"
            raise EndpointError(f"View '{self.name}' in the online store {problem}: {fix}.")
        self._bound = tuple(self._in_row[name] for name in entity), tuple(map(features.index, wanted))

    def look_up(self, store: FeatureLookup, row: Row, at: int) -> tuple[int | None, list]:
        """Give the age of the row that counts, and its features, numbers first; nulls without one."""
        positions, order = self._bound or ((), ())
        key = tuple([row[position] for position in positions])
        found = store.lookup(self.name, key, at - self._delay) if self._bound and None not in key else None
        if found is None or at - found[0] > self._max_age:
            return None, [None] * (len(self._numbers) + len(self._texts))
        values = found[1]
        return at - found[0], [values[position] for position in order]

    def columns(self, rows: Sequence[list]) -> dict[str, Any]:
        """Name the features of looked-up rows; the numbers in one block, since an array each costs a microsecond."""
        n = len(self._numbers)
        block = np.array([row[:n] for row in rows], dtype=np.float64)
        numbers = {name: block[:, k] for k, (name, _) in enumerate(self._numbers)}
        return numbers | {name: [row[n + k] for row in rows] for k, (name, _) in enumerate(self._texts)}


def request_features(
    schema: ServingSchema, function: RequestFeatures | None, rows: Sequence[Row], at: Sequence[int]
) -> dict[str, np.ndarray]:
    """Give the columns of the request, and what the model's function makes of them; the latter win a shared name."""
    columns = request_columns(schema, rows, at)
    return columns | dict(function(columns)) if function else columns


def _stored_schema(store: FeatureLookup, view: str) -> tuple[Sequence[str], Sequence[str]] | None:
    # An endpoint may be up before the first row of a view is: its features are null until then.
    try:
        return store.schema(view)
    except MlAssetsError:
        return None


def _resolve(schema: ServingSchema) -> RequestFeatures | None:
    reference = schema.request_features
    if reference is None:
        return None
    module, _, name = reference.rpartition(".")
    try:
        _require_same_code(schema, reference)
        return getattr(_own_copy(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArtefactError(f"The request features `{reference}` cannot be imported here: {error}.") from error


def _require_same_code(schema: ServingSchema, reference: str) -> None:
    """Refuse other code than the model was trained with; comments, docstrings and layout do not count."""
    found = meaning.of_function(reference) if schema.request_features_code else ""  # old bundles hold none
    if found != schema.request_features_code:
        raise ArtefactError(
            f"The code of `{reference}` is not that which model '{schema.model}' was trained with"
            f" ({schema.request_features_code[:8]}… then, {found[:8]}… here): train again, or restore the code."
        )


def _own_copy(name: str) -> ModuleType:
    """Execute a module for one version alone: a new version gets the code of today, older ones keep theirs."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no module '{name}'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _listed(column: Any) -> list:
    listed = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [None if value != value else value for value in listed]  # noqa: PLR0124  NaN


def _same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right, equal_nan=True))
