"""Whether the SQL of a view fits its tables, found before any data exist: milliseconds, no rows."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Protocol

import duckdb

from ml_assets.engine import quote
from ml_assets.errors import DeclarationError, shorten
from ml_assets.features.statements import complaint, require_one_select, scratch, unstable
from ml_assets.features.view import FEATURE_TIMESTAMP, FUNCTIONS, TEXT_FUNCTIONS, FeatureView, window_name

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


def stored_value(sql: str, duckdb_type: str) -> str:
    """SQL for a value as it is stored: a number that is NaN or infinite is null, as in aggregations."""
    if stored_type(duckdb_type) != "DOUBLE":
        return f"({sql})::VARCHAR"
    return f"CASE WHEN isfinite(({sql})::DOUBLE) THEN ({sql})::DOUBLE END"


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
    selected = dict(_selected(con, view) if view.sql else _of_table(con, view))
    entity = [(column, selected.pop(column)) for column in view.entity]
    features = [(name, _stored(view, name, selected[name])) for name in selected]
    _check_defaults(view, dict(features))
    return [*entity, (FEATURE_TIMESTAMP, TIMESTAMP), *features]


def _check_defaults(view: FeatureView, features: Mapping[str, str]) -> None:
    for name, value in view.defaults.items():
        if name not in features:
            raise _wrong(view, f"has a default for '{name}', which is no feature{_near(name, features)}.")
        if isinstance(value, str) != (features[name] == "VARCHAR"):
            kind = "text" if features[name] == "VARCHAR" else "a number"
            raise _wrong(view, f"has the default {value!r} for '{name}', which is {kind}.")
        if not isinstance(value, str) and not isfinite(value):
            raise _wrong(view, f"has the default {value!r} for '{name}', which no answer can hold. Leave it out: null.")


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
    _require_stable(view, statement, "its SQL")
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


def _require_stable(view: FeatureView, statement: str, where: str) -> None:
    if found := unstable(statement):
        what, line = found
        problem = f"uses {what} in {where}{f' (line {line})' if view.sql else ''}, which gives another result each time"
        raise _wrong(view, f"{problem}. Make it from columns: a moment is `known_at`.", line if view.sql else None)


def _named(view: FeatureView) -> str:
    """The statement of an SQL view, with the view named in what is wrong about its syntax."""
    try:
        return require_one_select(view.sql or "")
    except DeclarationError as error:
        raise _wrong(view, f"has a fault in its SQL: {error.problem}", error.line) from error


def _of_table(con: duckdb.DuckDBPyConnection, view: FeatureView) -> list[tuple[str, str]]:
    """The columns of windows or of a lookup, both over the first table."""
    main, lookup = view.tables[0], view.lookup
    types = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {quote(main)}").fetchall()}
    valid = [column for column in (lookup.valid_from, lookup.valid_until) if column] if lookup else []
    times = (*valid, "known_at") if lookup else (view.event_timestamp, "known_at")
    for role, columns in (("entity", view.entity), ("keys", view.keys), ("time", times)):
        for column in columns:
            if column not in types:
                raise _wrong(view, f"has the {role} column '{column}', which '{main}' lacks{_near(column, types)}.")
    for column in times:
        if types[column] != TIMESTAMP:
            raise _wrong(view, f"has the time column '{column}' of type {types[column]}; it must be TIMESTAMPTZ.")
    found = [(column, types[column]) for column in view.entity]
    if lookup:
        return found + [_looked_up(con, view, name, sql) for name, sql in lookup.columns.items()]
    return found + [feature for name in view.aggregations or {} for feature in _check_aggregation(con, view, name)]


def _looked_up(con: duckdb.DuckDBPyConnection, view: FeatureView, name: str, sql: str) -> tuple[str, str]:
    # `known_at` beside it makes the binder refuse expressions that aggregate.
    statement = f"SELECT known_at, ({sql}) AS value FROM {quote(view.tables[0])}"
    kind = _describe(con, view, statement, f"lookup '{name}'")[1][1]
    _require_stable(view, statement, f"lookup '{name}'")
    return name, kind


def _check_aggregation(con: duckdb.DuckDBPyConnection, view: FeatureView, name: str) -> Iterator[tuple[str, str]]:
    part = (view.aggregations or {})[name]
    where = f"aggregation '{name}'"
    source = quote(view.tables[0])
    # `known_at` beside it makes the binder refuse expressions that aggregate by themselves.
    sql = f"SELECT known_at, {part.condition} AS value FROM {source}"
    kind = _describe(con, view, sql, where)[1][1]
    _require_stable(view, sql, where)
    able = {"DOUBLE": FUNCTIONS, "VARCHAR": TEXT_FUNCTIONS}.get(stored_type(kind) or "", ("count",))
    if not set(part.functions) <= set(able):
        takes = f"only {', '.join(f'`{function}`' for function in able)} can take it"
        raise _wrong(view, f"has {where} over {part.expression}, a {kind}; {takes}.")
    if "rate" in part.functions and kind != "BOOLEAN":
        takes = "`rate` needs a truth value, such as `delay > 15`"
        raise _wrong(view, f"has {where} over {part.expression}, a {kind}; {takes}.")
    for window in part.windows:
        for function in part.functions:
            of_value = kind if function in ("first", "last") else "DOUBLE"
            yield f"{name}_{function}_{window_name(window)}", of_value


def _stored(view: FeatureView, name: str, kind: str) -> str:
    stored = stored_type(kind)
    if stored is None:
        raise _wrong(view, f"has the feature '{name}' of type {kind}. A feature is a number, a truth value or text.")
    return stored


def _near(column: str, types: Mapping[str, str]) -> str:
    close = get_close_matches(column, list(types), n=3)
    return f" (did you mean {shorten(close)}?)" if close else f" (it has {shorten(types)})"
