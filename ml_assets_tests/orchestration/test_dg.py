"""Dagster's own command line on this repository: it must find everything, and have nothing to complain about."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def run(tmp_path):
    """Run a command in the repository as `make check` does; what it printed, and what it complained about."""

    def runs(*command: str) -> tuple[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")}
        environment |= {
            "VIRTUAL_ENV": str(BIN.parent),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        environment["ML_ASSETS_HOME"] = str(tmp_path)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    return runs


def test_dg_lists_every_asset_check_and_sensor(run):
    listed, complaints = run("dg", "list", "defs", "--json")
    found = json.loads(listed)
    assert len(found["assets"]) == 27
    assert {"arrival_delay_retrain", "flights_automation"} < {sensor["name"] for sensor in found["sensors"]}
    assert not complaints


def test_dg_finds_the_definitions_in_order(run):
    said, complaints = run("dg", "check", "defs")
    assert "All component YAML validated successfully." in said
    assert "All definitions loaded successfully." in said
    assert not complaints


def test_dg_lists_the_four_components(run):
    listed, complaints = run("dg", "list", "components", "--package", "ml_assets", "--json")
    nouns = ("Endpoint", "FeatureView", "Model", "Table")
    found = [each["key"] for each in json.loads(listed)["items"]]
    assert sorted(found) == [f"ml_assets.components.{noun}" for noun in nouns]
    assert not complaints


def test_the_workspace_is_valid(run):
    said, complaints = run("dagster", "definitions", "validate", "-w", "workspace.yaml")
    assert "Validation successful for code location ml_assets." in said
    # Dagster says of its own command that `dg check defs` supersedes it.
    assert complaints.count("Warning") == complaints.count("SupersessionWarning: Function `definitions_validate") == 1
