"""Columns that have a value only after the event: refused by their class where a prediction could not know them yet."""

from collections.abc import Iterable, Mapping, Sequence

from ml_assets.components import binding
from ml_assets.errors import DeclarationError, shorten
from ml_assets.features.view import FeatureView
from ml_assets.tables.schema import Column

_KNOWN_AT = "known_at"


def late(columns: Iterable[Column]) -> list[str]:
    """The columns that have a value only after the event."""
    return [column.name for column in columns if getattr(column, "available", "") == "after_event"]  # a view has none


def read_too_early(columns: Sequence[Column], what: str, sql: str, kind: str) -> list[str]:
    """The columns that an expression over a row reads although they exist only after the event."""
    before = [column for column in columns if column.available != "after_event"]
    if len(before) == len(columns) or _binds(before, what, sql, kind):
        return []
    return [name for name in late(columns) if not _binds([c for c in columns if c.name != name], what, sql, kind)]


def _binds(columns: Sequence[Column], what: str, sql: str, kind: str) -> bool:
    try:
        binding.check_expression(columns, what, sql, kind)
    except DeclarationError:
        return False
    return True


def require_timely(view: FeatureView, tables: Mapping[str, Iterable[Column]]) -> None:
    """Refuse an SQL view that says of outcomes that they were known before their table says so.

    Features from a column that exists only after the event need a `known_at` that is made from the `known_at` of that
    column's table and of no other column: `scheduled_departure_at AS known_at` would hand out an outcome before it was
    one. Raises DeclarationError with the line of the SQL that names the column.
    """
    outcomes = {(name, column) for name, columns in tables.items() for column in late(columns)}
    if not view.sql or not outcomes:
        return
    lineage = binding.view_lineage(view, {name: tuple(columns) for name, columns in tables.items()})
    known, around = lineage.get(_KNOWN_AT), {*view.entity, _KNOWN_AT}
    for feature in lineage:  # not `view.features()`: to read them from SQL takes DuckDB in every process
        used = sorted(outcomes & set(lineage[feature]))
        if used and feature not in around and known is not None and (fault := _fault(used, known)):
            problem = f"makes '{feature}' of {_said(used)}, known only after the event, {fault}"
            raise DeclarationError(problem, line=_line(view.sql, used[0][1]))


def _line(sql: str, column: str) -> int | None:
    lines = enumerate(sql.lower().splitlines(), 1)
    return next((n for n, line in lines if column.lower() in line.partition("--")[0]), None)


def _fault(used: Sequence[tuple[str, str]], known: Sequence[tuple[str, str]]) -> str | None:
    other = [pair for pair in known if pair[1] != _KNOWN_AT]
    absent = sorted({table for table, _ in used} - {table for table, column in known if column == _KNOWN_AT})
    if not (other or absent):
        return None
    made = f"made from {_said(other or known)}" if known else "a constant"
    wanted = " and ".join(f"{table}.{_KNOWN_AT}" for table in sorted({table for table, _ in used}))
    return f"but its known_at is {made}. Select {wanted} AS known_at, the moment that the row could be used."


def _said(pairs: Sequence[tuple[str, str]]) -> str:
    return shorten(f"{table}.{column}" for table, column in pairs)
