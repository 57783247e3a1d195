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

import msgspec
import numpy as np

from ml_assets.errors import ArtefactError, EndpointError, StoreUnavailableError, TableNotFoundError, shorten
from ml_assets.features import meaning
from ml_assets.features.encode import encode
from ml_assets.serving.bundle import Bundle, ServingSchema, ViewRef
from ml_assets.serving.request import RequestContract, Row, request_columns
from ml_assets.serving.trees import Trees

RequestFeatures = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# Why no row of a view counted. An entity that the store never had and one whose rows expired there look the same.
NULL_KEY, NOTHING_STORED, UNKNOWN_ENTITY, TOO_OLD = "null key", "nothing stored", "unknown entity", "too old"
_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "min": 60_000_000, "s": 1_000_000, "us": 1}
_Found = tuple[int | None, Sequence[float | str | None], str | None]


class FeatureLookup(Protocol):
    """What serving needs of an online store."""

    def lookup_many(self, view: str, keys: Sequence[tuple], at: Sequence[int], /) -> Sequence[tuple[int, tuple] | None]:
        """Give of each key the newest row with grid time <= its `at` (microseconds), and its features as stored."""
        ...

    def schema(self, view: str, /) -> tuple[Sequence[str], Sequence[str]] | None:
        """Give entity and feature columns as stored; None or TableNotFoundError when nothing is stored yet."""
        ...

    def newest(self, view: str, /) -> int | None:
        """Give the time of the view's newest row."""
        ...


class ViewState(msgspec.Struct, frozen=True):
    """What the online store held of a view when it was last looked at: the time of its newest row in microseconds.

    `newest` null: nothing is stored. `unreachable` says why the store could not be asked; `newest` is older then.
    """

    stored: str
    newest: int | None = None
    unreachable: str | None = None


@dataclass(frozen=True)
class Scored:
    """Scores `[n_rows]`; inputs by name as they were before encoding; the age of each view's row in microseconds.

    `missing` says for each view without a row that counts (its age is null) why: see `NULL_KEY` and those beside it.
    """

    scores: list[float]
    features: list[dict[str, float | str | None]]
    ages_us: list[dict[str, int | None]]
    missing: list[dict[str, str]]


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
        columns, ages, missing = self._looked_up(rows, at)
        columns |= request_features(self.schema, self._function, rows, at)
        scores = self.score(encode(columns, self.schema.inputs))
        return Scored(scores.tolist(), self._by_name(columns), ages, missing)

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

    def stores(self) -> dict[str, ViewState]:
        """What the online store held of each view when it was last looked at."""
        return {view.name: view.state for view in self._views}

    def _looked_up(
        self, rows: Sequence[Row], at: Sequence[int]
    ) -> tuple[dict[str, Any], list[dict[str, int | None]], list[dict[str, str]]]:
        columns, ages, missing = {}, [{} for _ in rows], [{} for _ in rows]
        for view in self._views:
            found = view.look_up(self._store, rows, at)
            for number, (age_us, _, reason) in enumerate(found):
                ages[number][view.name] = age_us
                if reason:
                    missing[number][view.name] = reason
            columns |= view.columns([values for _, values, _ in found])
        return columns, ages, missing

    def _by_name(self, columns: Mapping[str, Any]) -> list[dict[str, float | str | None]]:
        listed = [_listed(columns[name]) for name in self._names]
        return [dict(zip(self._names, values, strict=True)) for values in zip(*listed, strict=True)]


class _View:
    """A feature view bound to the request row and to the stored order of its features."""

    def __init__(self, view: ViewRef, schema: ServingSchema) -> None:
        fields = [field.name for field in schema.request_fields]
        kinds = {wanted.name: wanted.kind for wanted in schema.inputs}
        used = [(f"{view.name}__{feature}", feature) for feature in view.features]
        self.name, self._stored, self._delay, self._entity = view.name, view.stored, view.delay_us, view.entity
        self._max_age = math.inf if view.max_age_us is None else view.max_age_us
        self._numbers = [pair for pair in used if kinds.get(pair[0]) == "numeric"]
        self._texts = [pair for pair in used if kinds.get(pair[0]) == "categorical"]
        self._defaults = [view.defaults.get(feature) for _, feature in self._numbers + self._texts]
        self._in_row = dict(zip(view.entity, map(fields.index, view.entity), strict=True))
        self._bound: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.state = ViewState(view.stored)

    def bind(self, store: FeatureLookup) -> None:
        """Read the stored order of the features; a store that cannot be reached leaves what was read before."""
        try:
            stored, newest = _stored_schema(store, self._stored), store.newest(self._stored)
        except StoreUnavailableError as error:
            self.state = msgspec.structs.replace(self.state, unreachable=str(error))
            return
        self.state = ViewState(self._stored, newest)
        self._bound = None if stored is None else self._order(*stored)

    def _order(self, entity: Sequence[str], features: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        wanted = [feature for _, feature in self._numbers + self._texts]
        missing = [feature for feature in wanted if feature not in features]
        if missing or sorted(entity) != sorted(self._entity):
            problem = f"has no {shorten(missing)}" if missing else f"is stored by {shorten(entity)}"
            fix = f"materialize features/{self.name} again"
            raise EndpointError(f"View '{self._stored}' in the online store {problem}: {fix}.")
        return tuple(self._in_row[name] for name in entity), tuple(map(list(features).index, wanted))

    def look_up(self, store: FeatureLookup, rows: Sequence[Row], at: Sequence[int]) -> list[_Found]:
        """Give of each request row the age of the feature row that counts and its features, numbers first.

        Without one: no age, the view's defaults (else nulls), and the reason. Raises StoreUnavailableError.
        """
        if self._bound is None:
            if self.state.unreachable:
                raise StoreUnavailableError(self.state.unreachable)
            return [(None, self._defaults, NOTHING_STORED) for _ in rows]
        positions, order = self._bound
        keys = [tuple([row[position] for position in positions]) for row in rows]
        asked = [number for number, key in enumerate(keys) if None not in key]
        times = [at[number] - self._delay for number in asked]
        answers = dict(zip(asked, store.lookup_many(self._stored, [keys[n] for n in asked], times), strict=True))
        return [
            self._counted(answers[number], instant, order) if number in answers else self._without_key(row)
            for number, (row, instant) in enumerate(zip(rows, at, strict=True))
        ]

    def _without_key(self, row: Row) -> _Found:
        null = ", ".join(name for name, position in self._in_row.items() if row[position] is None)
        return None, self._defaults, f"{NULL_KEY}: {null} is null in the request"

    def _counted(self, found: tuple[int, tuple] | None, at: int, order: tuple[int, ...]) -> _Found:
        if found is None:
            return None, self._defaults, NOTHING_STORED if self.state.newest is None else UNKNOWN_ENTITY
        age, values = at - found[0], found[1]
        if age > self._max_age:
            return None, self._defaults, f"{TOO_OLD}: {duration(age)} > {duration(int(self._max_age))}"
        return age, [values[position] for position in order], None

    def columns(self, rows: Sequence[Sequence]) -> dict[str, Any]:
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


def duration(microseconds: int) -> str:
    """Write a span of time in its three greatest units: `2d 3h 5min`."""
    parts = []
    for unit, size in _UNITS.items():
        count, microseconds = divmod(microseconds, size)
        parts += [f"{count}{unit}"] if count else []
    return " ".join(parts[:3]) or "0s"


def _stored_schema(store: FeatureLookup, view: str) -> tuple[Sequence[str], Sequence[str]] | None:
    # An endpoint may be up before the first row of a view is: its features are null until then.
    try:
        return store.schema(view)
    except TableNotFoundError:
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
