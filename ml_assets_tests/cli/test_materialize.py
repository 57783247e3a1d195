"""`ml-assets materialize`: the real command in the folder of a real project, with a Dagster instance of its own."""

import sys
from datetime import timedelta

import dagster as dg
import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.cli import main
from ml_assets.cli.materialize import _span
from ml_assets.demo.services import alone
from ml_assets.errors import MlAssetsError
from ml_assets.orchestration import by_hand
from ml_assets.steps import view_state
from ml_assets_tests import command
from ml_assets_tests.project import DOCUMENTS, days, flights
from ml_assets_tests.steps.test_leaks import hourly, with_delay

DAYS = days("2013-01-01", "2013-01-04")
# Rows count from the arrival, half an hour before they are known: the blocking proof of the view finds it.
PEEK = """\
type: ml_assets.components.FeatureView
attributes:
  name: peek
  sql: SELECT carrier, arrived_at AS known_at, delay FROM flights
  entity: [carrier]
  every: 1h
"""
AFTER_PEEK = """\
type: ml_assets.components.FeatureView
attributes:
  name: after_peek
  sql: SELECT carrier, known_at, delay AS later FROM peek
  entity: [carrier]
  every: 1h
"""


@pytest.fixture
def airline(project):
    project.name_package()
    (project.folder / project.package / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(project_root=Path(__file__).parents[1])\n"
    )
    project.land_days(*DAYS)
    project.land_carriers()
    return project


def materialize(airline, *arguments, code=0, **environment):
    ran = command.run(airline.folder, "materialize", *arguments, without=("DAGSTER",), timeout=200, **environment)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout


@pytest.fixture
def refused(airline, monkeypatch, capsys):
    """The sentence of a command that does not come to run anything; in this process, where that is fast."""
    monkeypatch.chdir(airline.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def says(*arguments):
        monkeypatch.setattr(sys, "argv", ["ml-assets", "materialize", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 1
        return capsys.readouterr().err

    return says


def by_asset(said):
    """What is said of each asset."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines() if "/" in line.split()[0]}


def recorded(home, name):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return by_hand.known(instance, name, daily=True)


def test_all_days_are_run_layer_by_layer_and_a_second_time_nothing_is(airline):
    said = materialize(airline)
    lines, home = by_asset(said), Settings.from_environment().home
    layers = [name.partition("/")[0] for name in lines]
    assert layers == ["raw", "tables"] * 2 + ["features"] * 3
    assert lines["tables/flights"].startswith(f"4 days {4 * 16} rows")
    assert f"Dagster instance: {home / 'dagster'}, that of `ml-assets dev`." in said
    assert airline.lake.partitions("features/carrier_delays") == list(DAYS)
    for name in ("raw/flights", "tables/flights", "features/last_flight"):
        assert recorded(home / "dagster", name) == set(DAYS)
    held = airline.versions()
    again = materialize(airline)
    assert set(by_asset(again).values()) == {"up to date"}
    assert "Nothing to do." in again
    assert airline.versions() == held


def test_days_and_what_comes_before_can_be_chosen_and_the_instance_too(airline, tmp_path):
    mine, span = tmp_path / "mine", ("--days", "2013-01-02..2013-01-03")
    mine.mkdir()
    planned = materialize(airline, "features/carrier_delays", "--upstream", *span, "--dry-run")
    assert by_asset(planned)["tables/flights"] == "would run 2 days 2013-01-02..2013-01-03"
    assert by_asset(planned)["features/carrier_delays"] == "follows tables/flights"
    assert not airline.versions(), "nothing was run"
    said = materialize(airline, "+features/carrier_delays", *span, DAGSTER_HOME=str(mine))
    assert f"Dagster instance: {mine}, by DAGSTER_HOME." in said
    assert list(by_asset(said)) == ["raw/flights", "tables/flights", "features/carrier_delays"]
    assert airline.lake.partitions("tables/flights") == ["2013-01-02", "2013-01-03"]
    none = by_asset(materialize(airline, "raw/*", "--days", "20140101", "--dry-run"))
    assert none["raw/flights"] == "no day in --days"
    assert recorded(mine, "tables/flights") == {"2013-01-02", "2013-01-03"}
    # An instance that has not seen what stands is told of it; the rows stay.
    held = airline.versions()
    assert by_asset(materialize(airline, "raw/flights,tables/flights", *span))["tables/flights"].startswith("2 days")
    assert airline.versions()["tables/flights"] == held["tables/flights"]


def test_a_day_that_is_refused_is_told_each_time_and_the_days_around_it_go_on(airline):
    airline.land("2013-01-02.parquet", b"PAR1 no more")
    said = materialize(airline, "+features/carrier_delays", code=1)
    assert by_asset(said)["tables/flights"].startswith("3 of 4 days")
    assert "  fails  files_are_readable_and_have_the_columns: " in said
    assert "2013-01-02" in said
    assert airline.lake.partitions("tables/flights") == [DAYS[0], *DAYS[2:]]
    assert by_asset(said)["features/carrier_delays"].startswith("3 days")
    assert "Failed or not run: tables/flights." in said
    assert by_asset(materialize(airline, "tables/flights", code=1))["tables/flights"].startswith("2013-01-02 refused: ")
    airline.land("2013-01-02.parquet", flights("2013-01-02"))
    mended = materialize(airline, "+features/carrier_delays")
    assert by_asset(mended)["tables/flights"].startswith("done")
    assert airline.lake.partitions("tables/flights") == list(DAYS)


def test_nothing_is_made_from_what_a_blocking_check_stopped_now_or_before(airline):
    airline.declare(DOCUMENTS["flights"], PEEK, AFTER_PEEK)
    for _ in range(2):
        said = materialize(airline, "group:airline", code=1)
        assert by_asset(said)["features/after_peek"].startswith("not run: features/peek failed")
        assert not airline.lake.exists("features/after_peek")
    assert "recomputed_without_later_data_it_is_the_same" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tables/flihgts",), "There is no asset or selection 'tables/flihgts'. Did you mean tables/flights"),
        (("flights and",), "There is no asset or selection 'flights and'."),
        (("--days", "2013-02-30"), "--days 2013-02-30: day is out of range for month. Write 2013-01-01..2013-01-31"),
    ],
)
def test_a_selection_that_names_nothing_is_told_with_what_there_is(refused, arguments, words):
    assert words in refused(*arguments)


def test_it_does_not_run_beside_a_session_that_does_the_same(refused):
    with alone(Settings.from_environment()):
        assert "Another `ml-assets dev`, `demo` or `materialize` runs" in refused()


def test_a_dagster_home_that_is_not_there_is_told(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    assert "nowhere, which is no folder. Create it, or unset it: then it is " in refused()


@pytest.mark.parametrize(
    ("days", "span"),
    [
        (None, ("0000", "9999")),
        ("2013-01-02", ("2013-01-02", "2013-01-02")),
        ("2013-01-02..", ("2013-01-02", "9999")),
        ("..2013-01-02", ("0000", "2013-01-02")),
        ("20130101..2013-W05", ("2013-01-01", "2013-01-28")),
    ],
)
def test_days_are_a_span_whose_ends_may_be_left_out(days, span):
    assert _span(days) == span


def test_a_span_that_ends_before_it_begins_is_refused():
    with pytest.raises(MlAssetsError, match="the first day is after the last"):
        _span("2013-01-03..2013-01-01")


def test_an_edit_that_a_check_refused_and_that_is_taken_back_holds_nothing_up(airline):
    good = PEEK.replace("arrived_at AS known_at", "known_at")
    airline.declare(DOCUMENTS["flights"], good, AFTER_PEEK)
    materialize(airline, "+features/peek")
    airline.declare(DOCUMENTS["flights"], PEEK, AFTER_PEEK)
    materialize(airline, "features/peek", code=1)
    airline.declare(DOCUMENTS["flights"], good, AFTER_PEEK)
    assert not view_state.refused(airline.view("peek"), airline.lake)
    planned = by_asset(materialize(airline, "features/after_peek", "--dry-run", code=1))
    assert planned["features/after_peek"].startswith("not run: features/peek failed its blocking check recomputed")
    said = by_asset(materialize(airline))
    assert said["features/peek"].startswith("done")
    assert said["features/after_peek"].startswith("4 days")


def test_a_check_of_rows_that_stand_is_asked_again_and_passes_once_its_advice_is_followed(airline):
    for path in (airline.landing / "flights").glob("*"):
        path.unlink()
    airline.declare(
        DOCUMENTS["flights"],
        DOCUMENTS["carrier_delays"],
        AFTER_PEEK.replace("peek", "carrier_delays").replace("delay AS", "delay_mean_6h AS"),
    )
    hourly(airline, behind=timedelta(hours=2, minutes=40))
    for _ in range(2):
        said = materialize(airline, code=1)
        assert "  fails  rows_arrive_as_soon_as_declared: 100.0% of 24" in said
        assert by_asset(said)["features/after_carrier_delays"] == "not run: features/carrier_delays failed"
    with_delay(airline, "2h")
    assert by_asset(materialize(airline))["features/after_carrier_delays"].startswith("4 days")
    assert "Nothing to do." in materialize(airline)
