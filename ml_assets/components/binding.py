"""Answers to questions about declarations: what SQL reads, what it gives, what that is made from, whether it binds.

An answer depends on nothing but the question, the releases of DuckDB and sqlglot and the code that asks, so it is kept
on disk by their hash: to load definitions that were loaded before needs neither, a fifth of what `import dagster` costs
in every process. A wrong declaration has no answer and is asked about each time. Where nothing can be written, nothing
is kept.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ml_assets.features.view import FeatureView
from ml_assets.tables.schema import Column

Pairs = tuple[tuple[str, str], ...]
_Columns = Sequence[Column]


def tables_read(sql: str) -> list[str]:
    """The tables that a statement reads, sorted; DeclarationError when it is not one SELECT."""

    def ask() -> list[str]:
        from ml_assets.features import statements

        return statements.tables_read(sql)

    return _answered(["tables_read", sql], ask)


def view_columns(view: FeatureView, tables: Mapping[str, _Columns]) -> list[tuple[str, str]]:
    """Names and types of a view's rows; DeclarationError when it does not fit its tables."""

    def ask() -> list[tuple[str, str]]:
        from ml_assets.features.check import output_columns

        return output_columns(view, tables)

    return [(name, kind) for name, kind in _answered(["view_columns", repr(view), _of_tables(tables)], ask)]


def view_lineage(view: FeatureView, tables: Mapping[str, _Columns]) -> dict[str, Pairs]:
    """The (table, column) pairs that each column of a view is made from; one that cannot be followed is left out."""

    def ask() -> dict[str, Pairs]:
        from ml_assets.features.lineage import column_lineage

        return column_lineage(view, tables)

    return _pairs(_answered(["view_lineage", repr(view), _of_tables(tables)], ask))


def expression_lineage(table: str, expressions: Mapping[str, str], tables: Mapping[str, _Columns]) -> dict[str, Pairs]:
    """The same for named expressions over a row of `table`."""

    def ask() -> dict[str, Pairs]:
        from ml_assets.features import lineage

        return lineage.expression_lineage(table, expressions, tables)

    return _pairs(_answered(["expression_lineage", table, dict(expressions), _of_tables(tables)], ask))


def _pairs(answer: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, Pairs]:
    return {name: tuple((table, column) for table, column in pairs) for name, pairs in answer.items()}


def check_expression(columns: _Columns, what: str, sql: str, kind: str) -> None:
    """Bind an expression over a row; DeclarationError when it does not bind or is of another type."""

    def ask() -> bool:
        from ml_assets.tables import expression

        expression.check(columns, {what: (sql, kind)})
        return True

    _answered(["check_expression", _named(columns), what, sql, kind], ask)


def _of_tables(tables: Mapping[str, _Columns]) -> dict[str, list[tuple[str, str]]]:
    return {name: _named(columns) for name, columns in tables.items()}


def _named(columns: _Columns) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in columns]


def _answered(question: list[Any], ask: Callable[[], Any]) -> Any:
    key = hashlib.sha256(json.dumps([*question, _release()]).encode()).hexdigest()[:32]
    known = _known()
    if key not in known:
        known[key] = ask()
        _keep(known)
    return known[key]


@cache
def _release() -> str:
    asking = ("check", "lineage", "statements", "view")
    checking = (*(f"features/{name}.py" for name in asking), "tables/expression.py")
    written = [(Path(__file__).parents[1] / name).stat().st_mtime_ns for name in checking]
    return f"{version('duckdb')} {version('sqlglot')} {version('ml_assets')} {written}"


@cache
def _known() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(_place().read_text())
    return {}


def _keep(known: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(known))
        fresh.replace(place)


def _place() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(root) / "ml_assets" / "bindings.json"
