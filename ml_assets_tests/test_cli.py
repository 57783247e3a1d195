import subprocess
import sys

import pytest

from ml_assets_tests import command


@pytest.fixture
def run(tmp_path):
    """Runs the real command in a folder and home of its own, on a wide terminal without colours."""

    def in_folder(*arguments, **environment):
        wide = {"ML_ASSETS_HOME": str(tmp_path / "var"), "COLUMNS": "160", "NO_COLOR": "1"}
        return command.run(tmp_path, *arguments, **(wide | environment))

    return in_folder


def test_help_teaches_the_first_steps_and_every_command(run):
    ran = run("--help")
    assert ran.returncode == 0
    steps = ("ml-assets feed flights --until", "ml-assets materialize", "ML_ASSETS_HOME")
    for word in ("demo", "dev", "feed", "endpoint", "check", *steps):
        assert word in ran.stdout


def test_help_loads_no_library_that_takes_long():
    heavy = ["dagster", "deltalake", "duckdb", "mlflow", "numpy", "pandas", "pyarrow", "sqlalchemy"]
    code = "import sys, typer.testing\nfrom ml_assets.cli import app\n"
    code += "said = typer.testing.CliRunner().invoke(app, ['--help'])\n"
    code += f"print('quarantine' in said.output, [name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True []\n"


def test_the_version_is_that_of_the_package(run):
    from importlib.metadata import version

    assert run("--version").stdout == f"ml_assets {version('ml_assets')}\n"


def test_a_feed_says_what_landed_and_a_repeated_one_that_nothing_is_new(run, tmp_path):
    first = run("feed", "flights", "--until", "2013-01-02")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Landed 9 files")
    assert "flight_outcomes 2, flight_schedules 3, weather 2" in first.stdout
    landed = {path: path.stat().st_mtime_ns for path in (tmp_path / "var" / "landing").rglob("*.parquet")}
    assert len(landed) == 9
    assert run("feed", "flights", "--until", "2013-01-02").stdout.startswith("Nothing new")
    assert {path: path.stat().st_mtime_ns for path in landed} == landed


def test_a_feed_of_hours_lands_in_the_folder_that_it_is_told(run, tmp_path):
    ran = run(
        "feed", "flights", "--from", "2013-01-05", "--until", "2013-01-05", "--grain", "hour", "--to", "elsewhere"
    )
    assert ran.returncode == 0, ran.stderr
    names = {path.name for path in (tmp_path / "elsewhere" / "flight_outcomes").iterdir()}
    assert "2013-01-05T14.parquet" in names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--until", "2012-01-01"), "choose days from 2013-01-01"),
        (("--until", "2013-01-02", "--to", "s3://bucket/place"), "is not on this machine"),
    ],
)
def test_what_a_user_can_correct_is_said_without_a_traceback(run, arguments, said):
    ran = run("feed", "flights", *arguments)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_a_date_that_is_none_is_refused_with_its_format(run):
    ran = run("feed", "flights", "--until", "yesterday")
    assert ran.returncode == 2
    assert "%Y-%m-%d" in ran.stderr


def test_without_endpoints_status_says_so_and_an_unknown_name_is_an_error(run):
    assert "No endpoint has been started here yet." in run("endpoint", "status").stdout
    ran = run("endpoint", "stop", "delay")
    assert (ran.returncode, ran.stderr) == (1, "There is no endpoint 'delay' here, but: none.\n")


class TestCheck:
    """`ml-assets check` on a small project of a user."""

    @pytest.fixture
    def write(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "shop"\n')
        folder = tmp_path / "shop" / "defs" / "orders"
        folder.mkdir(parents=True)
        for place in (folder, folder.parent, folder.parent.parent):
            (place / "__init__.py").touch()
        (tmp_path / "shop" / "definitions.py").write_text(DEFINITIONS)
        (folder / "contracts.py").write_text(CONTRACTS)
        return (folder / "defs.yaml").write_text

    def test_definitions_that_load_are_counted(self, run, write):
        write(ORDERS)
        ran = run("check")
        assert (ran.returncode, ran.stdout) == (0, "shop.definitions loads: 2 assets, 11 checks, 3 sensors.\n"), (
            ran.stderr
        )

    @pytest.mark.parametrize(
        ("wrong", "line", "said"),
        [
            ("keys: [order]", 6, "the contract has no column 'order'"),
            ("keyz: [order_id]", 6, "Extra inputs are not permitted"),
            ("keys: [order_id", 7, "expected ',' or ']'"),
        ],
    )
    def test_a_mistake_is_told_with_file_and_line(self, run, write, tmp_path, wrong, line, said):
        write(ORDERS.replace("keys: [order_id]", wrong))
        ran = run("check")
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        found = [each for each in ran.stderr.splitlines() if said in each]
        assert found, ran.stderr
        place = f"{tmp_path}/shop/defs/orders/defs.yaml:"
        assert found[0].startswith(place)
        assert abs(int(found[0].removeprefix(place).partition(":")[0]) - line) <= 1

    def test_a_module_that_does_not_import_is_told_with_its_line(self, run, write, tmp_path):
        write(ORDERS)
        (tmp_path / "shop" / "definitions.py").write_text("import dagster as dg\nimport no_such_module\n")
        ran = run("check")
        assert ran.returncode == 1
        assert f"{tmp_path}/shop/definitions.py:2: ModuleNotFoundError" in ran.stderr

    def test_a_project_that_is_not_installed_is_told_how_to_be(self, run, write, tmp_path):
        write(ORDERS)
        (tmp_path / "shop").rename(tmp_path / "elsewhere")
        for words in (["check"], ["explain", "tables/orders"]):
            ran = run(*words)
            assert ran.returncode == 1
            assert f"{tmp_path}/pyproject.toml:2: [tool.dg.project] asks for the module shop.de" in ran.stderr
            assert (
                "there is no 'shop' that Python finds. Install the project into this environment: `pip install -e"
                in ran.stderr
            )

    def test_a_project_without_definitions_is_told_to_write_them(self, run, write, tmp_path):
        write(ORDERS)
        (tmp_path / "shop" / "definitions.py").unlink()
        assert "there is no 'shop.definitions' that Python finds. Write shop/definitions.py," in run("check").stderr

    def test_declarations_below_others_are_an_error_and_not_left_out(self, run, write, tmp_path):
        write(ORDERS)
        below = tmp_path / "shop" / "defs" / "orders" / "late"
        below.mkdir()
        (below / "defs.yaml").write_text(ORDERS.replace("name: orders", "name: late"))
        ran = run("check")
        assert ran.returncode == 1
        assert (
            f"{below}/defs.yaml:1: nothing of this is read, since {below.parent}/defs.yaml is above it." in ran.stderr
        )


DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
CONTRACTS = """\
import pandera.pandas as pa


class Orders(pa.DataFrameModel):
    order_id: str
    amount: float
"""
ORDERS = """\
type: ml_assets.components.Table
attributes:
  name: orders
  source: {files: "orders/*.csv"}
  contract: shop.defs.orders.contracts.Orders
  keys: [order_id]
  known_at: "TIMESTAMPTZ '2020-01-01 00:00:00+00'"
"""
