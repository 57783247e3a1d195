"""The one way to get a DuckDB connection: in memory, times in UTC, bounded in memory and threads."""

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def connect(*, memory_limit: str | None = None, threads: int | None = None) -> "duckdb.DuckDBPyConnection":
    """Open an in-memory DuckDB; `ML_ASSETS_MEMORY_LIMIT` (default 2GB) and `ML_ASSETS_THREADS` bound it."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")  # a name in SQL is a table, never a Python variable
    connection.execute(f"SET memory_limit = '{memory_limit or os.environ.get('ML_ASSETS_MEMORY_LIMIT', '2GB')}'")
    if threads or os.environ.get("ML_ASSETS_THREADS"):
        connection.execute(f"SET threads = {int(threads or os.environ['ML_ASSETS_THREADS'])}")
    return connection


@cache
def _shared() -> "duckdb.DuckDBPyConnection":
    return connect(threads=1)


def scratch() -> "duckdb.DuckDBPyConnection":
    """A cursor on one shared empty database, since opening one is slow; temporary tables are its own."""
    return _shared().cursor()


def quote(identifier: str) -> str:
    """Quote a column or table name for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string value for SQL."""
    return "'" + text.replace("'", "''") + "'"
