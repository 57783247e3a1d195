"""Checks an SQL expression over the columns of a table before there are rows, fast enough for loading definitions."""

from collections.abc import Sequence

import duckdb

from ml_assets import engine
from ml_assets.errors import DeclarationError
from ml_assets.tables.schema import Column


def check(columns: Sequence[Column], expressions: dict[str, tuple[str, str]]) -> None:
    """Bind each expression, {what it is: (sql, expected type)}; aggregates and windows are refused.

    DeclarationError says what it is, in DuckDB's own words with candidates.
    """
    with engine.scratch() as con:
        con.execute(f"CREATE TEMP TABLE one_row ({', '.join(f'{engine.quote(c.name)} {c.type}' for c in columns)})")
        con.execute(f"INSERT INTO one_row VALUES ({', '.join('NULL' for _ in columns)})")
        for what, (sql, expected) in expressions.items():
            found = _bind(con, what, sql)
            if found != expected:
                raise DeclarationError(f"{what}: `{sql}` gives a {found}, it must give a {expected}")


def _bind(con: duckdb.DuckDBPyConnection, what: str, sql: str) -> str:
    try:
        con.execute(
            f"SELECT 1 FROM one_row WHERE (\n{sql}\n) IS NULL"
        ).fetchall()  # WHERE allows no aggregate or window
        return str(con.sql(f"SELECT (\n{sql}\n) FROM one_row").types[0]).replace(
            "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"
        )
    except duckdb.Error as error:
        raise DeclarationError(f"{what}: {str(error).strip()}") from error
