"""Connections: bounded, in UTC on every machine, and apart from each other."""

import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from ml_assets.engine import connect, scratch

_ASK = """
from ml_assets.engine import connect, scratch
day = "SELECT strftime(TIMESTAMPTZ '2013-01-01 02:00:00+00', '%d %H')"
own = connect()
print(*(con.execute(day).fetchall()[0][0] for con in (own, own.cursor(), scratch(), scratch(threads=None))), sep=",")
"""


def test_times_are_utc_on_a_machine_of_another_zone_in_cursors_too() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", _ASK], env={"TZ": "America/New_York"}, check=True, capture_output=True, text=True
    )
    assert asked.stdout.strip().split(",") == ["01 02"] * 4


def test_a_name_in_sql_is_no_python_variable_in_cursors_either() -> None:
    rows = pa.table({"x": [1]})
    for con in (connect(), connect().cursor(), scratch()):
        with pytest.raises(duckdb.CatalogException):
            con.execute("FROM rows")
    assert rows.num_rows == 1


def test_what_is_registered_or_temporary_is_seen_by_nobody_else_and_gone_afterwards() -> None:
    with scratch() as con, scratch() as other:
        con.register("seen", pa.table({"x": [1]}))
        con.execute("CREATE TEMP TABLE made AS SELECT 1")
        other.register("seen", pa.table({"x": [2]}))
        assert con.execute("FROM seen").fetchall() == [(1,)]
        assert other.execute("FROM seen").fetchall() == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            other.execute("FROM made")
    with scratch() as con:
        assert con.execute("FROM duckdb_tables()").fetchall() == []


def test_memory_and_threads_are_those_of_the_environment_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = "SELECT current_setting('memory_limit'), current_setting('threads')"
    monkeypatch.setenv("ML_ASSETS_MEMORY_LIMIT", "256MB")
    monkeypatch.setenv("ML_ASSETS_THREADS", "3")
    for con in (connect(), scratch(threads=None)):
        assert con.execute(settings).fetchall() == [("244.1 MiB", 3)]
    assert scratch().execute(settings).fetchall() == [("244.1 MiB", 1)]
    monkeypatch.setenv("ML_ASSETS_MEMORY_LIMIT", "128MB")
    assert scratch(threads=None).execute(settings).fetchall() == [("122.0 MiB", 3)]
