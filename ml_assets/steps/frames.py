"""Rows as models see them: the spine joined with its features, and columns as NumPy arrays."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.adapters.lake import Lake, Partitions
from ml_assets.engine import connect, literal, quote
from ml_assets.errors import FeatureLeakError
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.serving.bundle import RequestField, ServingSchema, ViewRef
from ml_assets.serving.request import table_columns
from ml_assets.steps.specs import ModelSpec
from ml_assets.tables.bounds import bounds
from ml_assets.tables.outline import outline

if TYPE_CHECKING:
    import pyarrow as pa

MICROSECONDS = 1_000_000


def spine_with_features(
    spec: ModelSpec,
    lake: Lake,
    partitions: Partitions,
    *,
    where: str = "true",
    join: str = "",
    versions: Mapping[str, int] = MappingProxyType({}),
) -> "pa.Table":
    """Spine rows in the order of their keys, `at`, and `<view>__<feature>` of every view as of `at`.

    `join` names a lake table to join by keys and day, since a key may recur on another day; `where` filters rows by
    SQL over all of it. `versions` pins tables; the others are read as they are now.
    """
    keys = ", ".join(quote(key) for key in spec.spine.keys)
    with connect() as con:
        lake.register(con, "spine", spec.spine.table, partitions=partitions, version=versions.get(spec.spine.table))
        for view in spec.views:  # its own columns only: the table may hold nulls of a version before it
            columns = [*view.view.entity, FEATURE_TIMESTAMP, *view.view.features()]
            lake.read(view.name, con, columns=columns, version=versions.get(view.name)).create_view(view.name)
        more = ""
        if join:
            lake.register(con, "joined", join, version=versions.get(join))
            more = f'JOIN (SELECT * EXCLUDE ("at") FROM joined) USING ({keys}, partition_key)'
        con.execute(
            f"CREATE TEMP TABLE asked AS SELECT * EXCLUDE (partition_key)"
            f' FROM (SELECT *, ({spec.at}) AS "at" FROM spine)'
            f" {more}"
            f' WHERE {where} ORDER BY "at", {keys}'
        )
        return join_as_of(con, "asked", [view.view for view in spec.views])


def request_schema(
    spec: ModelSpec, names: Sequence[str] | None = None, numbers: Mapping[str, int] = MappingProxyType({})
) -> ServingSchema:
    """How a request for this model looks, with the columns of the spine that are named (default: all of them).

    `numbers` are the versions of its views.
    """
    stated = bounds(spec.spine.contract)
    columns = [
        column
        for column in outline(spec.spine.contract)
        if column.name != "known_at" and column.available == "request" and (names is None or column.name in names)
    ]
    fields = tuple(
        RequestField(
            c.name,
            c.type,  # pyright: ignore[reportArgumentType]
            c.nullable or c.name in spec.spine.keys,
            c.description,
            **stated[c.name],
        )
        for c in columns
        if c.type in ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ")
    )
    views = tuple(
        ViewRef(
            v.view.name,
            v.view.entity,
            v.view.features(),
            int(v.view.delay.total_seconds() * MICROSECONDS),
            None if v.view.max_age is None else int(v.view.max_age.total_seconds() * MICROSECONDS),
            numbers.get(v.view.name, 1),
            dict(v.view.defaults),
        )
        for v in spec.views
    )
    return ServingSchema(spec.name, "", spec.label, "", fields, views, (), spec.request_features)


def within(fields: Sequence[RequestField]) -> str:
    """SQL that is true for rows whose values keep the bounds of request fields."""
    signs = {"minimum": ">=", "maximum": "<=", "above": ">", "below": "<"}
    limits = [(f.name, sign, getattr(f, bound)) for f in fields for bound, sign in signs.items()]
    kept = [f"{quote(name)} {sign} CAST('{limit!r}' AS DOUBLE)" for name, sign, limit in limits if limit is not None]
    kept += [f"{quote(f.name)} IN ({', '.join(map(_literal, f.choices))})" for f in fields if f.choices]
    return " AND ".join(f"coalesce({condition}, true)" for condition in kept) or "true"


def admissible(fields: Sequence[RequestField], rows: "pa.Table") -> np.ndarray:
    """Which rows keep the bounds of request fields, `[n_rows]` of bool."""
    with connect() as con:
        con.register("rows", rows)
        ordered = con.sql(f"SELECT {within(fields)} AS kept FROM rows").to_arrow_table()
    return ordered["kept"].to_numpy()


def _literal(value: str | float) -> str:
    return literal(value) if isinstance(value, str) else f"CAST('{value!r}' AS DOUBLE)"


def model_columns(spec: ModelSpec, rows: "pa.Table") -> tuple[dict[str, Any], set[str]]:
    """Columns by name: what the request gives, what the request function makes of it, and the joined features.

    Also gives the columns of the request that were used: by the function, by a view's entity, or as a key.
    """
    given = _Watched(spec, rows)
    made = dict(function(spec.request_features)(given)) if spec.request_features else {}
    joined = {name: as_array(rows[name]) for view in spec.views for name in view.view.qualified_features()}
    used = given.seen | {column for view in spec.views for column in view.view.entity} | set(spec.spine.keys)
    return {**given, **made, **joined}, used - {"at"}


def input_names(spec: ModelSpec, rows: "pa.Table") -> list[str]:
    """The inputs of a model: features of its views, then what its request function gives."""
    few = rows.slice(0, 10)
    made = function(spec.request_features)(_Watched(spec, few)) if spec.request_features else {}
    return [name for view in spec.views for name in view.view.qualified_features()] + list(made)


def as_requests(rows: "pa.Table") -> list[dict[str, Any]]:
    """Rows as a client sends them: times in RFC 3339."""
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in rows.to_pylist()
    ]


def as_array(column: "pa.ChunkedArray") -> Any:
    """A column as models read it: float64, or a list of texts."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.to_pylist()
    return column.to_numpy().astype(np.float64)


def function(reference: str) -> Any:
    """What `package.module.name` names, imported."""
    module, _, name = reference.rpartition(".")
    return getattr(import_module(module), name)


class _Watched(Mapping[str, np.ndarray]):
    """The request's columns of rows, which remember what was asked for; outcomes that the spine has are refused."""

    def __init__(self, spec: ModelSpec, rows: "pa.Table") -> None:
        self._columns, self.seen = table_columns(request_schema(spec), rows), set[str]()
        self._function = spec.request_features
        self._late = {c.name for c in outline(spec.spine.contract) if c.available != "request"}

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._late:
            raise FeatureLeakError(
                f"{self._function} reads '{name}', which is known only after the event (its contract says"
                " `available: after_event`), so no client could send it. Use a feature view over its table."
            )
        self.seen.add(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
