"""What a model would have seen: the rows of views that count at a moment, offline and online, with their age."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.online.base import OnlineStore, microseconds
from ml_assets.engine import connect, quote
from ml_assets.errors import FeatureError, TableNotFoundError, shorten
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.steps import view_state, view_versions
from ml_assets.steps.online import stored_name
from ml_assets.steps.specs import Input, ViewSpec
from ml_assets.steps.view_versions import ViewVersion

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROW_AT = "_row_at"


@dataclass(frozen=True)
class Seen:
    """What a view gives for one entity at a moment. `row_at` is the time of the row that counts, None without one."""

    view: str
    values: Mapping[str, float | str | None]
    row_at: datetime | None
    entity: Mapping[str, Any] = field(default_factory=dict)

    def gives(self, other: "Seen", feature: str) -> bool:
        """Whether both give the same value, from rows of the same time."""
        return self.row_at == other.row_at and self.values[feature] == other.values[feature]


def offline(spec: ViewSpec, lake: Lake, entity: Mapping[str, str | None], at: datetime) -> Seen:
    """What the lake gives for one entity; its values are text, and are cast to the types of the stored columns.

    Raises:
        FeatureError: an entity column has no value, or one that is not of its type.
        TableNotFoundError: the view has no rows yet.
    """
    require_entity([spec], entity)
    with connect() as con:
        _open(spec, lake, con, at)
        kinds = _kinds(spec, con)
        asked = ", ".join(f"TRY_CAST(? AS {kinds[name]}) AS {quote(name)}" for name in spec.view.entity)
        wanted = {name: entity[name] for name in spec.view.entity}
        con.execute(
            f'CREATE TEMP TABLE asked AS SELECT {asked}, CAST(? AS TIMESTAMPTZ) AS "at"', [*wanted.values(), at]
        )
        (row,) = _joined(con, spec).to_pylist()
    wrong = [name for name, value in wanted.items() if value is not None and row[name] is None]
    if wrong:
        raise FeatureError(f"'{wanted[wrong[0]]}' is no {kinds[wrong[0]]}, the type of '{wrong[0]}'.")
    return Seen(
        spec.view.name, {name: row[name] for name in spec.view.features()}, row[_ROW_AT], {n: row[n] for n in wanted}
    )


def preview(spec: ViewSpec, lake: Lake, at: datetime) -> "pa.Table":
    """The row of every entity that counts at a moment, with its time and age; entities without one are left out."""
    import pyarrow as pa

    columns = ", ".join(map(quote, spec.view.entity))
    with connect() as con:
        _open(spec, lake, con, at)
        _kinds(spec, con)
        entities = f"SELECT DISTINCT {columns} FROM {quote(spec.name)} ORDER BY ALL"
        con.execute(f'CREATE TEMP TABLE asked AS SELECT *, CAST(? AS TIMESTAMPTZ) AS "at" FROM ({entities})', [at])
        joined = _joined(con, spec)
    kinds = {field.name: field.type for field in joined.schema}
    counting = [row for row in joined.to_pylist() if row[_ROW_AT] is not None]
    found = [
        {
            **{name: row[name] for name in spec.view.entity},
            FEATURE_TIMESTAMP: row[_ROW_AT],
            "age": at - row[_ROW_AT],
            **{name: row[name] for name in spec.view.features()},
        }
        for row in counting
    ]
    shown = {FEATURE_TIMESTAMP: kinds[_ROW_AT], "age": pa.duration("us")}
    names = [*spec.view.entity, *shown, *spec.view.features()]
    return pa.Table.from_pylist(found, schema=pa.schema([(name, {**kinds, **shown}[name]) for name in names]))


def online(spec: ViewSpec, store: OnlineStore, lake: Lake, entity: Mapping[str, Any], at: datetime) -> Seen:
    """What the online store gives at the same moment, as serving reads it; nothing where it has no such view."""
    view, nothing = spec.view, {name: spec.view.defaults.get(name) for name in spec.view.features()}
    stored = stored_name(spec, lake)
    try:
        columns, features = store.schema(stored)
    except TableNotFoundError:
        return Seen(view.name, nothing, None)
    given = (entity[name] for name in columns)
    key = tuple(microseconds(value) if isinstance(value, datetime) else value for value in given)
    found = store.lookup(stored, key, microseconds(at - view.delay)) if None not in key else None
    if found is None:
        return Seen(view.name, nothing, None)
    row_at = _EPOCH + timedelta(microseconds=found[0])
    if view.max_age is not None and at - row_at > view.max_age:
        return Seen(view.name, nothing, None)
    values = dict(zip(features, found[1], strict=False))
    return Seen(view.name, {name: values.get(name) for name in view.features()}, row_at)


def frame(names: Sequence[str], lake: Lake, rows: Any) -> "pa.Table":
    """Rows with the entity columns and `at`, joined with `<view>__<feature>` of every view as of `at`.

    A name is `carrier_delays`, in the version that the lake holds, or `carrier_delays@1`. The lake is enough:
    nothing is asked of a project. They are joined by `delay`, `max_age` and `defaults` as of their last run.
    """
    with connect() as con:
        con.register("rows", rows)
        views, sources = [], {}
        for name in names:
            version = _version(name, lake)
            view = version.spec().view
            table = view_versions.table_of(view.name, version.number, lake)
            lake.register(con, table, table)
            views.append(view)
            sources[view.name] = table
        return join_as_of(con, "rows", views, sources)


def _version(name: str, lake: Lake) -> ViewVersion:
    plain, _, number = name.removeprefix("features/").partition("@")
    known = {each.number: each for each in view_versions.versions(plain, lake)}
    standing = view_versions.standing(plain, lake)
    wanted = int(number) if number.isdecimal() else standing.number if standing and not number else 0
    if wanted not in known:
        held = f"versions {shorten(known)}" if known else "no view of that name"
        raise TableNotFoundError(f"There is no feature view '{name}' in {lake.uri}; it holds {held}.")
    return known[wanted]


def require_entity(specs: Sequence[ViewSpec], entity: Mapping[str, Any]) -> None:
    """Raise FeatureError where an entity column of some views has no value; null is one."""
    columns = {column: spec.view.name for spec in reversed(specs) for column in spec.view.entity}
    if missing := sorted(column for column in columns if column not in entity):
        said = " and ".join(f"'{columns[column]}' is about {column}" for column in missing)
        example = " ".join(f"{column}=..." for column in missing)
        raise FeatureError(f"{said}. Say which: --entity {example}")


def require_rows(spec: ViewSpec, lake: Lake) -> None:
    """Raise TableNotFoundError, with what helps, where a view has no rows: never run, or refused by a check."""
    if missing := view_state.missing(spec, lake):
        raise TableNotFoundError(missing)


def outdated(spec: ViewSpec, lake: Lake, place: str, at: datetime, row_at: datetime | None = None) -> str:
    """That the row which counts at a moment, or the newest day before it, is of the definition before an edit."""
    if not spec.daily:
        return view_state.edited(spec, lake, place, [""])
    until = (row_at or at).date().isoformat()
    return view_state.edited(spec, lake, place, [day for day in lake.partitions(spec.name) if day <= until][-1:])


def of_version(spec: ViewSpec, number: int, lake: Lake) -> ViewSpec:
    """A version of a declared view that the lake holds; an older one is joined as it was declared last.

    Raises TableNotFoundError where there is none.
    """
    if number == view_versions.current(spec, lake):
        return spec
    return held(f"{spec.view.name}@{number}", lake, spec.tables)


def held(name: str, lake: Lake, declared: Sequence[Input] = ()) -> ViewSpec:
    """A version that the lake holds, as it was declared last: `carrier_delays@1`. The lake is enough.

    Raises:
        TableNotFoundError: there is none of that name.
        FeatureError: its rows, or those of a view that it reads, are not there.
    """
    found = _version(name, lake)
    spec = found.spec(declared)
    in_place = view_versions.table_of(spec.view.name, found.number, lake) == f"features/{spec.view.name}"
    return view_versions.as_it_read(replace(spec, retained=None if in_place else found.number), lake)


def _open(spec: ViewSpec, lake: Lake, con: "duckdb.DuckDBPyConnection", at: datetime) -> None:
    """Make the rows known that can count at a moment, each with its time as one more feature."""
    require_rows(spec, lake)
    days = None
    if spec.daily and spec.view.max_age is not None:
        first, last = (at - spec.view.max_age).date().isoformat(), at.date().isoformat()
        days = [day for day in lake.partitions(spec.name) if first <= day <= last]
    lake.register(con, "stored", spec.name, partitions=days)
    con.execute(f"CREATE VIEW {quote(spec.name)} AS SELECT *, {FEATURE_TIMESTAMP} AS {_ROW_AT} FROM stored")


def _kinds(spec: ViewSpec, con: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    """The types of the stored columns; a feature that is not among them was declared since."""
    kinds = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {quote(spec.name)}").fetchall()}
    if missing := [name for name in (*spec.view.entity, *spec.view.features()) if name not in kinds]:
        raise FeatureError(
            f"{spec.name} was edited and is not computed anew: its rows lack {shorten(missing)}. Materialize it:"
            f" ml-assets materialize +{spec.name}"
        )
    return kinds


def _joined(con: "duckdb.DuckDBPyConnection", spec: ViewSpec) -> "pa.Table":
    prefix = f"{spec.view.name}__"
    rows = join_as_of(con, "asked", [spec.view], {spec.view.name: spec.name})
    return rows.rename_columns([name.removeprefix(prefix) for name in rows.column_names])
