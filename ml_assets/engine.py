"""The one way to get a DuckDB connection: in memory, times in UTC, bounded in memory and threads."""

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def connect(*, memory_limit: str | None = None, threads: int | None = None) -> "duckdb.DuckDBPyConnection":
    """Open a DuckDB of its own; `ML_ASSETS_MEMORY_LIMIT` (default 2GB) and `ML_ASSETS_THREADS` bound it."""
    return _database(memory_limit or _memory_limit(), threads or _threads())


def scratch(*, threads: int | None = 1) -> "duckdb.DuckDBPyConnection":
    """A connection to a database that the process keeps, since opening one takes 15 ms of CPU.

    What is TEMP in it, or registered, is its own; nothing else may be created in it. With `threads=None` it has as many
    as `connect`. The databases are bounded as those of `connect` are, all connections to one together.
    """
    return _kept(_memory_limit(), threads or _threads()).cursor()


@cache
def _kept(memory_limit: str, threads: int | None) -> "duckdb.DuckDBPyConnection":
    return _database(memory_limit, threads)


def _database(memory_limit: str, threads: int | None) -> "duckdb.DuckDBPyConnection":
    import duckdb

    connection = duckdb.connect(":memory:")
    # Global, or cursors would have the machine's. A name in SQL is a table, never a Python variable.
    connection.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL python_enable_replacements = false")
    connection.execute(f"SET memory_limit = '{memory_limit}'")
    if threads:
        connection.execute(f"SET threads = {threads}")
    return connection


def _memory_limit() -> str:
    return os.environ.get("ML_ASSETS_MEMORY_LIMIT") or "2GB"


def _threads() -> int | None:
    return int(os.environ.get("ML_ASSETS_THREADS") or 0) or None


def quote(identifier: str) -> str:
    """Quote a column or table name for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string value for SQL."""
    return "'" + text.replace("'", "''") + "'"
