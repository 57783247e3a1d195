"""Answers of DuckDB about declarations are kept, and only right ones."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from ml_assets.components import binding
from ml_assets.errors import DeclarationError
from ml_assets.features.view import FeatureView
from ml_assets.tables.schema import Column

COLUMNS = (Column("arrived_at", "TIMESTAMPTZ", True), Column("delay", "DOUBLE", True))


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binding._known.cache_clear()
    yield tmp_path / "ml_assets" / "bindings.json"
    binding._known.cache_clear()


def test_an_answer_is_kept_and_read_by_the_next_process(fresh_cache):
    assert binding.tables_read("SELECT a FROM x JOIN y USING (a)") == ["x", "y"]
    binding._known.cache_clear()
    (key,) = json.loads(fresh_cache.read_text())
    fresh_cache.write_text(json.dumps({key: ["from the file"]}))
    assert binding.tables_read("SELECT a FROM x JOIN y USING (a)") == ["from the file"]


def test_another_column_is_another_question(fresh_cache):
    binding.check_expression(COLUMNS, "label", "delay > 15", "BOOLEAN")
    with pytest.raises(DeclarationError, match="delay"):
        binding.check_expression(COLUMNS[:1], "label", "delay > 15", "BOOLEAN")


def test_a_wrong_declaration_is_asked_about_each_time(fresh_cache):
    for _ in range(2):
        with pytest.raises(DeclarationError):
            binding.check_expression(COLUMNS, "label", "dely > 15", "BOOLEAN")
    assert not fresh_cache.exists()


def test_a_damaged_or_unwritable_cache_costs_nothing_but_time(fresh_cache):
    fresh_cache.parent.mkdir()
    fresh_cache.write_text("{torn")
    assert binding.tables_read("SELECT a FROM x") == ["x"]
    fresh_cache.unlink()
    fresh_cache.parent.rmdir()
    fresh_cache.parent.write_text("a file where the folder should be")
    assert binding.tables_read("SELECT b FROM y") == ["y"]


def test_a_table_that_the_statement_defines_itself_is_not_read():
    assert binding.tables_read("WITH z AS (SELECT a FROM x) SELECT z.a FROM z JOIN y USING (a)") == ["x", "y"]


def test_the_lineage_of_a_view_is_kept_as_it_was_found(fresh_cache):
    hour = timedelta(hours=1)
    view = FeatureView("v", ("delay",), hour, ("x",), sql="SELECT delay, known_at, arrived_at AS a FROM x")
    found = binding.view_lineage(view, {"x": COLUMNS})
    assert found["a"] == (("x", "arrived_at"),)
    binding._known.cache_clear()
    assert binding.view_lineage(view, {"x": COLUMNS}) == found
    assert binding.expression_lineage("x", {"label": "delay > 15"}, {"x": COLUMNS}) == {"label": (("x", "delay"),)}
    assert len(json.loads(fresh_cache.read_text())) == 2


def test_definitions_that_were_loaded_before_need_neither_duckdb_nor_sqlglot(tmp_path):
    code = "import sys, ml_assets.definitions as m; m.defs(); print(sorted({'duckdb', 'sqlglot'} & {*sys.modules}))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    loaded = [
        subprocess.run(command, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert [process.stdout.strip() for process in loaded] == ["['duckdb', 'sqlglot']", "[]"]
