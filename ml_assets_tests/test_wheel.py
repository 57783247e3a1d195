"""The built wheel as a component library: a stranger's project in an environment of its own, outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
# The files of a project as `create-dagster project` lays them out; it is written by hand, since that tool is no
# dependency of ours and would be downloaded.
PROJECT = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"

        [project]
        name = "shop"
        version = "0.1.0"
        dependencies = ["ml_assets"]

        [tool.dg]
        directory_type = "project"

        [tool.dg.project]
        root_module = "shop"
        """,
    "src/shop/__init__.py": "",
    "src/shop/defs/__init__.py": "",
    "src/shop/definitions.py": """
        from pathlib import Path

        from dagster import definitions, load_from_defs_folder


        @definitions
        def defs():
            return load_from_defs_folder(path_within_project=Path(__file__).parent)
        """,
    "src/shop/contracts.py": """
        from datetime import datetime

        import pandera.pandas as pa


        class Customers(pa.DataFrameModel):
            customer_id: int = pa.Field(gt=0, description="The number on the card.")
            name: str
            signed_up_at: datetime
            spent: float = pa.Field(nullable=True, ge=0)
        """,
    "data/customers.csv": """
        customer_id,name,signed_up_at,spent
        1,Ada,2024-01-05T10:00:00Z,12.5
        2,Grace,2024-02-01T09:30:00Z,
        3,Edsger,2024-02-03T12:00:00Z,7
        4,Mallory,2024-02-04T12:00:00Z,-1
        """,
}
TEN_LINES = """
    type: ml_assets.components.Table
    attributes:
      name: customers
      description: Who buys here.
      source: {files: "{{ context.project_root }}/data/customers.csv"}
      contract: shop.contracts.Customers
      keys: [customer_id]
      event_timestamp: signed_up_at
      invalid_rows: {fail_above: 0.5}
      owners: ["team:shop"]
    """


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: what an earlier build left in the working tree must not get into it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("ml_assets", "ml_assets_tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    run([UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", built], source)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def project(wheel, tmp_path_factory) -> Path:
    """A project with the wheel and everything locked in a fresh environment."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    run([UV, "venv", "--python", sys.executable, ".venv"], folder)
    run([UV, "pip", "install", "--require-hashes", "-r", ROOT / "requirements.lock"], folder)
    run([UV, "pip", "install", "--no-deps", "--no-build-isolation", wheel, "-e", "."], folder)
    return folder


def run(command, folder) -> str:
    """Run a command of the project's environment; what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS", "DAGSTER"))}
    environment |= {"VIRTUAL_ENV": str(folder / ".venv"), "COLUMNS": "200", "UV_LINK_MODE": "hardlink"}
    environment["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_all_that_is_no_python_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert not [name for name in held if "tests" in name]
    others = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ml_assets").rglob("*")
        if path.is_file() and path.suffix in {".yaml", ".sql", ".html", ".json"}
    }
    assert {"ml_assets/defs/flights/defs.yaml", "ml_assets/orchestration/library.json"} < others
    assert others <= held


def test_ten_lines_over_a_csv_file_become_assets_with_rows(project):
    """The whole way of a newcomer, in one test, since the environment is dear."""
    run(["dg", "scaffold", "defs", "ml_assets.components.Table", "customers"], project)
    declaration = project / "src" / "shop" / "defs" / "customers" / "defs.yaml"
    assert "type: ml_assets.components.Table" in declaration.read_text()
    declaration.write_text(textwrap.dedent(TEN_LINES).lstrip())
    assert len(declaration.read_text().splitlines()) == 10

    listed = run(["dg", "list", "components", "--package", "ml_assets"], project)
    assert all(f"ml_assets.components.{noun}" in listed for noun in ("Table", "FeatureView", "Model", "Endpoint"))
    assert "All definitions loaded successfully" in run(["dg", "check", "defs"], project)

    run(["dg", "launch", "--assets", "key:raw/customers or key:tables/customers"], project)
    lake = project / "var" / "lake"
    valid, quarantined = (
        json.loads(run(["ml-assets", "table", "read", name, "--format", "json"], project))
        for name in ("customers", "quarantine/customers")
    )
    assert [(row["customer_id"], row["name"], row["spent"]) for row in valid] == [
        (1, "Ada", 12.5),
        (2, "Grace", None),
        (3, "Edsger", 7.0),
    ]
    assert [row["rule"] for row in quarantined] == ["spent >= 0"]
    assert len(list((lake / "objects" / "raw" / "customers").rglob("*.csv"))) == 1
