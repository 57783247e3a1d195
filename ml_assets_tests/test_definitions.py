"""The shipped graph: cheap to load, complete, and reviewed when it changes."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import dagster as dg
import pytest

from ml_assets import definitions
from ml_assets.orchestration import library
from ml_assets.records import LAYERS

HEAVY = ("mlflow", "lightgbm", "evidently", "sklearn", "scipy", "matplotlib", "pandas", "pandera", "optuna", "pyarrow")
OURS = "import ml_assets.definitions as d; d.defs()"
ROOT = Path(__file__).parents[1]


def in_empty_environment(code: str) -> str:
    """What a fresh process prints that knows no environment variable."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def graph() -> dg.Definitions:
    return definitions.defs()


def nodes() -> list:
    asset_graph = graph().resolve_asset_graph()
    return [asset_graph.get(key) for key in sorted(asset_graph.materializable_asset_keys)]


def test_the_definitions_load_in_an_empty_environment_without_heavy_libraries():
    code = f"import sys\n{OURS}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    assert in_empty_environment(code).strip() == "[]"


def test_loading_the_definitions_opens_nothing(tmp_path):
    code = f"import os\nos.chdir({str(tmp_path)!r})\n{OURS}\nprint(os.listdir())"
    assert in_empty_environment(code).strip() == "[]"


def test_definitions_that_were_loaded_before_need_no_query_engine():
    """What it costs is measured by `make bench`; this holds the reason: answers about SQL are kept."""
    code = f"import sys\n{OURS}\nprint([name for name in ('duckdb', 'numpy') if name in sys.modules])"
    in_empty_environment(OURS)
    assert in_empty_environment(code).strip() == "[]"


@pytest.mark.parametrize("node", nodes(), ids=lambda node: node.key.to_user_string())
class TestEveryAsset:
    def test_its_key_is_a_known_layer_and_a_snake_case_noun(self, node):
        layer, name = node.key.path
        assert layer in LAYERS
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)

    def test_it_says_what_it_is_and_whose(self, node):
        assert node.description
        assert node.group_name == "flights"
        assert node.owners
        assert node.key.path[0] in node.kinds
        assert 1 <= len(node.kinds - {node.key.path[0]}) <= 3

    def test_it_is_checked_by_sentences_with_a_meaning(self, node):
        checks = [graph().resolve_asset_graph().get(key) for key in node.check_keys]
        assert checks
        assert all(check.description and check.description.endswith(".") for check in checks)

    def test_its_code_has_a_version(self, node):
        assert node.code_version


def test_everything_that_the_graph_depends_on_is_in_it():
    asset_graph = graph().resolve_asset_graph()
    assert asset_graph.external_asset_keys == set()


def test_no_two_layers_share_a_run_of_a_backfill():
    """A run over a range has no output for what comes after it in the same run (docs/adr/0002)."""
    partitioned = {node.key: node for node in nodes() if node.partitions_def}
    pairs = [
        (node, partitioned[parent]) for node in partitioned.values() for parent in node.parent_keys & set(partitioned)
    ]
    across = [(a, b) for a, b in pairs if (a.key.path[0], b.key.path[0]) != ("tables", "raw")]
    assert across
    assert all(a.backfill_policy != b.backfill_policy for a, b in across)


def test_every_sensor_and_schedule_is_on():
    found = graph().get_repository_def()
    instigators = [*found.sensor_defs, *found.schedule_defs]
    assert instigators
    assert {definition.default_status.value for definition in instigators} == {"RUNNING"}
    assert all(sensor.description for sensor in found.sensor_defs)


def test_every_daily_asset_runs_a_range_in_one_run():
    partitioned = [node for node in nodes() if node.partitions_def]
    assert partitioned
    assert all(node.backfill_policy.max_partitions_per_run >= 100_000 for node in partitioned)


def test_the_stored_documentation_of_the_components_is_that_of_their_classes():
    assert library.FILE.read_text() == library.derive()


def test_the_graph(snapshot):
    """Review the difference, then accept it with `pytest --snapshot-update`."""
    assert snapshot == {
        node.key.to_user_string(): {
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "checks": sorted(key.name for key in node.check_keys),
            "partitioned": node.is_partitioned,
        }
        for node in nodes()
    }


def test_the_contract_is_the_documentation_of_the_columns():
    table = graph().resolve_asset_graph().get(dg.AssetKey(["tables", "weather"]))
    columns = {column.name: column for column in table.metadata["dagster/column_schema"].schema.columns}
    assert columns["origin"].constraints.other == ["in (EWR, JFK, LGA)"]
    assert not columns["origin"].constraints.nullable
    wind = columns["wind_speed_mph"]
    assert (wind.description, wind.constraints.other) == (
        "One row of 2013 says 1,048.",
        ["is finite", ">= 0", "<= 200"],
    )
