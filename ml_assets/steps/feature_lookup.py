"""What a model would have seen: the rows of views that count at a moment, offline and online, with their age."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.online.base import OnlineStore, microseconds
from ml_assets.engine import connect, quote
from ml_assets.errors import FeatureError, TableNotFoundError, shorten
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView
from ml_assets.serving.predictor import NOTHING_STORED, NULL_KEY, TOO_OLD, UNKNOWN_ENTITY, duration
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
    """What a view gives for one entity at a moment. `row_at` is the time of the row that counts, None without one.

    `missing` says why none counts, in the words of an endpoint's answer.
    """

    view: str
    values: Mapping[str, float | str | None]
    row_at: datetime | None
    entity: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None

    def gives(self, other: "Seen", feature: str) -> bool:
        """Whether both give the same value, from rows of the same time."""
        return self.row_at == other.row_at and self.values[feature] == other.values[feature]


def offline(spec: ViewSpec, lake: Lake, entity: Mapping[str, str | None], at: datetime) -> Seen:
    """What the lake gives for one entity; its values are text, and are cast to the types of the stored columns.

    Raises:
        FeatureError: an entity column has no value, or a text that is not exactly a value of its type.
        TableNotFoundError: the view has no rows yet.
    """
    with connect() as con:
        _open(spec, lake, con, at)
        kinds = _kinds(spec, lake, con)
        asked = ", ".join(f"TRY_CAST(? AS {kinds[name]}) AS {quote(name)}" for name in spec.view.entity)
        wanted = {name: entity[name] for name in spec.view.entity}
        con.execute(
            f'CREATE TEMP TABLE asked AS SELECT {asked}, CAST(? AS TIMESTAMPTZ) AS "at"', [*wanted.values(), at]
        )
        (row,) = _joined(con, spec).to_pylist()
        for name, text in wanted.items():
            if text is not None and not _is_exactly(str(text), row[name]):
                raise FeatureError(f"'{text}' is no {kinds[name]}, the type of '{name}'.")
        given = {name: row[name] for name in wanted}
        missing = _missing(spec.view, given, row[_ROW_AT] or _newest(spec, lake, con), at)
    return Seen(spec.view.name, {n: row[n] for n in spec.view.features()}, row[_ROW_AT], given, missing)


def preview(spec: ViewSpec, lake: Lake, at: datetime) -> "pa.Table":
    """The row of every entity that counts at a moment, with its time and age; entities without one are left out."""
    import pyarrow as pa

    columns = ", ".join(map(quote, spec.view.entity))
    with connect() as con:
        _open(spec, lake, con, at)
        _kinds(spec, lake, con)
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
        return Seen(view.name, nothing, None, missing=NOTHING_STORED)
    given = {name: entity[name] for name in columns}
    key = tuple(microseconds(value) if isinstance(value, datetime) else value for value in given.values())
    found = store.lookup(stored, key, microseconds(at - view.delay)) if None not in key else None
    row_at = _EPOCH + timedelta(microseconds=found[0]) if found else None
    missing = _missing(view, given, row_at, at)
    if missing == UNKNOWN_ENTITY and store.newest(stored) is None:
        missing = NOTHING_STORED
    if missing or not found:
        return Seen(view.name, nothing, None, missing=missing)
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
    """Raise FeatureError where an entity column of some views has no value (null is one), or a value has no column."""
    columns = {column: spec.view.name for spec in reversed(specs) for column in spec.view.entity}
    if unknown := next((column for column in entity if column not in columns), None):
        near = get_close_matches(unknown, columns)
        meant = f"Did you mean {shorten(near)}?" if near else f"There are: {shorten(columns)}."
        raise FeatureError(f"'{unknown}' is no entity column of these views. {meant}")
    if missing := sorted(column for column in columns if column not in entity):
        said = " and ".join(f"'{columns[column]}' is about {column}" for column in missing)
        example = " ".join(f"{column}=..." for column in missing)
        raise FeatureError(f"{said}. Say which: --entity {example}")


def require_rows(spec: ViewSpec, lake: Lake) -> None:
    """Raise TableNotFoundError, with what helps, where a view has no rows: never run, or refused by a check."""
    if missing := view_state.missing(spec, lake):
        raise TableNotFoundError(missing)


def outdated(spec: ViewSpec, lake: Lake, place: str, at: datetime, row_at: datetime | None = None) -> tuple[str, ...]:
    """What refused a view, and that its row at a moment, or its newest day by then, is of before an edit."""
    if not spec.daily:
        return view_state.of(spec, lake, place, [""]).sentences
    until = (row_at or at).date().isoformat()
    days = [day for day in lake.partitions(spec.name) if day <= until][-1:]
    return view_state.of(spec, lake, place, days).sentences


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


def _kinds(spec: ViewSpec, lake: Lake, con: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    """The types of the stored columns; a feature that is not among them was declared since."""
    kinds = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {quote(spec.name)}").fetchall()}
    if missing := [name for name in (*spec.view.entity, *spec.view.features()) if name not in kinds]:
        said = f"{spec.name} was edited and is not computed anew: its rows lack {shorten(missing)}."
        refused = view_state.refused(spec, lake)
        raise FeatureError(f"{refused} {said}" if refused else f"{said} {view_state.advice(spec)}")
    return kinds


def _joined(con: "duckdb.DuckDBPyConnection", spec: ViewSpec) -> "pa.Table":
    prefix = f"{spec.view.name}__"
    rows = join_as_of(con, "asked", [spec.view], {spec.view.name: spec.name})
    return rows.rename_columns([name.removeprefix(prefix) for name in rows.column_names])


def _newest(spec: ViewSpec, lake: Lake, con: "duckdb.DuckDBPyConnection") -> datetime | None:
    """The time of the newest row of the entity that is asked for which was served by then, however old it is."""
    lake.register(con, "kept", spec.name)
    names = {name for name, *_ in con.execute("DESCRIBE kept").fetchall()}
    times = [FEATURE_TIMESTAMP, *names.intersection({"known_at"})]
    served = f'"at" - to_microseconds({spec.view.delay // MICROSECOND})'
    ((newest,),) = con.execute(f"""
        SELECT max({FEATURE_TIMESTAMP}) FROM kept JOIN asked USING ({", ".join(map(quote, spec.view.entity))})
        WHERE {" AND ".join(f"{time} <= {served}" for time in times)}""").fetchall()
    return newest


def _missing(view: FeatureView, entity: Mapping[str, Any], newest: datetime | None, at: datetime) -> str | None:
    """Why the newest row of an entity does not count, None where it does."""
    if nulls := [name for name, value in entity.items() if value is None]:
        return f"{NULL_KEY}: {', '.join(nulls)} is null"
    if newest is None:
        return UNKNOWN_ENTITY
    if view.max_age is None or at - newest <= view.max_age:
        return None
    return f"{TOO_OLD}: {duration((at - newest) // MICROSECOND)} > {duration(view.max_age // MICROSECOND)}"


def _is_exactly(text: str, value: Any) -> bool:
    """Whether a text says the value that it was cast to; a cast rounds 3.5 to a whole number, and a time to its day."""
    try:
        if isinstance(value, float):
            return isfinite(value) == Decimal(text.strip()).is_finite()
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return Decimal(text.strip()) == value
        if isinstance(value, date) and not isinstance(value, datetime):
            return date.fromisoformat(text.strip()) == value
    except (ValueError, ArithmeticError):
        return False
    return value is not None
