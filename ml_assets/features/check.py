"""Whether the SQL of a view fits its tables, found before any data exist: milliseconds, no rows."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Protocol

import duckdb

from ml_assets.engine import quote
from ml_assets.errors import DeclarationError, shorten
from ml_assets.features.statements import complaint, require_one_select, scratch
from ml_assets.features.view import FEATURE_TIMESTAMP, FeatureView

TIMESTAMP = "TIMESTAMP WITH TIME ZONE"
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "BOOLEAN", "DECIMAL")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")


class ColumnLike(Protocol):
    """A column of a table: its name and DuckDB type."""

    @property
    def name(self) -> str:
        """The name."""
        ...

    @property
    def type(self) -> str:
        """The DuckDB type."""
        ...


def stored_type(duckdb_type: str) -> str | None:
    """The type that a feature of this DuckDB type is stored with: DOUBLE, VARCHAR, or None where it cannot be one."""
    if duckdb_type.startswith((*_NUMBERS, *_UNSIGNED)) and not duckdb_type.endswith("]"):
        return "DOUBLE"
    return "VARCHAR" if duckdb_type == "VARCHAR" or duckdb_type.startswith("ENUM(") else None


def output_columns(view: FeatureView, tables: Mapping[str, Iterable[ColumnLike]]) -> list[tuple[str, str]]:
    """Names and DuckDB types of the view's feature rows: entity, `feature_timestamp`, features.

    `tables` gives the columns of each table by its name in `view.tables` (`known_at` is implied). Binds against
    empty tables; raises DeclarationError naming the view, the line of its SQL (also as `.line`) and the candidates.
    """
    con = scratch()
    for table in view.tables:
        if table not in tables:
            raise _wrong(view, f"reads '{table}', which is not a table. Known: {shorten(sorted(tables))}.")
        _create_empty(con, table, tables[table])
    selected = dict(_aggregated(con, view) if view.aggregations else _selected(con, view))
    entity = [(column, selected.pop(column)) for column in view.entity]
    return [
        *entity,
        (FEATURE_TIMESTAMP, TIMESTAMP),
        *((name, _stored(view, name, selected[name])) for name in selected),
    ]


def _wrong(view: FeatureView, problem: str, line: int | None = None) -> DeclarationError:
    return DeclarationError(f"Feature view '{view.name}' {problem}", line=line)


def _create_empty(con: duckdb.DuckDBPyConnection, table: str, columns: Iterable[ColumnLike]) -> None:
    types = {"known_at": TIMESTAMP} | {column.name: column.type for column in columns}
    body = ", ".join(f"{quote(name)} {kind}" for name, kind in types.items())
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote(table)} ({body})")


def _describe(con: duckdb.DuckDBPyConnection, view: FeatureView, sql: str, where: str) -> list[tuple[str, str]]:
    try:
        return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {sql}").fetchall()]
    except duckdb.Error as error:
        what, line = complaint(error)
        place = f" (line {line} of the SQL)" if line and view.sql else ""
        raise _wrong(view, f"has a fault in {where}{place}: {what}", line if view.sql else None) from error


def _selected(con: duckdb.DuckDBPyConnection, view: FeatureView) -> list[tuple[str, str]]:
    statement = _named(view)
    found = _describe(con, view, statement, "its SQL")
    types = dict(found)
    if len(types) < len(found):
        names = [name for name, _ in found]
        raise _wrong(view, f"selects {shorten(sorted({n for n in names if names.count(n) > 1}))} twice.")
    for column in (*view.entity, "known_at"):
        if column not in types:
            raise _wrong(view, f"does not select '{column}'{_near(column, types)}. Add it to the SELECT of its SQL.")
    for column in ("known_at", "event_timestamp"):
        if types.get(column, TIMESTAMP) != TIMESTAMP:
            raise _wrong(view, f"selects '{column}' as {types[column]}; it must be TIMESTAMPTZ, a moment in UTC.")
    around = {"known_at", "event_timestamp"}
    if not set(types) - around - set(view.entity):
        raise _wrong(view, "selects no feature beside its entity and times.")
    return [(name, kind) for name, kind in found if name not in around]


def _named(view: FeatureView) -> str:
    """The statement of an SQL view, with the view named in what is wrong about its syntax."""
    try:
        return require_one_select(view.sql or "")
    except DeclarationError as error:
        raise _wrong(view, f"has a fault in its SQL: {error.problem}", error.line) from error


def _aggregated(con: duckdb.DuckDBPyConnection, view: FeatureView) -> list[tuple[str, str]]:
    main = view.tables[0]
    types = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {quote(main)}").fetchall()}
    for role, columns in (("entity", view.entity), ("keys", view.keys), ("time", (view.event_timestamp, "known_at"))):
        for column in columns:
            if column not in types:
                raise _wrong(view, f"has the {role} column '{column}', which '{main}' lacks{_near(column, types)}.")
    for column in (view.event_timestamp, "known_at"):
        if types[column] != TIMESTAMP:
            raise _wrong(view, f"has the time column '{column}' of type {types[column]}; it must be TIMESTAMPTZ.")
    for name in view.aggregations or {}:
        _check_aggregation(con, view, name)
    return [(column, types[column]) for column in view.entity] + [(name, "DOUBLE") for name in view.features()]


def _check_aggregation(con: duckdb.DuckDBPyConnection, view: FeatureView, name: str) -> None:
    part = (view.aggregations or {})[name]
    where = f"aggregation '{name}'"
    source = quote(view.tables[0])
    # `known_at` beside it makes the binder refuse expressions that aggregate by themselves.
    sql = f"SELECT known_at, {part.condition} AS value FROM {source}"
    kind = _describe(con, view, sql, where)[1][1]
    if stored_type(kind) != "DOUBLE" and set(part.functions) != {"count"}:
        raise _wrong(view, f"has {where} over {part.expression}, a {kind}; only `count` can take it.")


def _stored(view: FeatureView, name: str, kind: str) -> str:
    stored = stored_type(kind)
    if stored is None:
        raise _wrong(view, f"has the feature '{name}' of type {kind}. A feature is a number, a truth value or text.")
    return stored


def _near(column: str, types: Mapping[str, str]) -> str:
    close = get_close_matches(column, list(types), n=3)
    return f" (did you mean {shorten(close)}?)" if close else f" (it has {shorten(types)})"
