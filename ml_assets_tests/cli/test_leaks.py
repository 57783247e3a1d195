"""`ml-assets leaks`: the proofs of a project on what its lake holds."""

import importlib
import json
import re
import shutil
from dataclasses import replace

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.cli import project as projects
from ml_assets.cli.leaks import GOOD, LEAK, NOTHING, WARNING
from ml_assets.components import Model
from ml_assets.components.declared import Declared
from ml_assets.components.project import Project as Components
from ml_assets.steps import catalogue, features, labels, leaks, training_set
from ml_assets.steps.run import Run
from ml_assets_tests.cli.airline import Airline, begun
from ml_assets_tests.leaks.planted import asked, with_column
from ml_assets_tests.project import CONTRACTS, DOCUMENTS, days, flights, parquet

MODEL = """\
type: ml_assets.components.Model
attributes:
  name: late
  spine: {table: flights, time: arrived_at - INTERVAL 1 HOUR}
  label: {table: flights, expression: delay % 2 = 0, horizon: 1d}
  features: [carrier_delays, last_flight]
  train: {validation: 3d, test: 3d, gap: 1h, min_rows: 50}
"""
TWO_WEEKS = days("2013-01-01", "2013-01-14")


def model_of(project):
    tree = dg.ComponentTree.from_module(
        defs_module=importlib.import_module(f"{project.package}.defs"), project_root=project.folder
    )
    components = Components(tree.get_all_components(of_type=Declared))
    return components.named(Model)["late"].spec(components)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Two weeks of the airline, up to the training set of a model."""
    with begun(tmp_path_factory.mktemp("taught"), DOCUMENTS | {"late": MODEL}) as (project, taught):
        project.land_days(*TWO_WEEKS)
        taught.take_in(*TWO_WEEKS)
        model, run = model_of(project), project.step(TWO_WEEKS[0], TWO_WEEKS[-1])
        for view in model.views:
            features.materialize(view, run)
        labels.materialize(model, run)
        training_set.materialize(model, project.step())
        yield taught


def proofs(airline, *arguments):
    ran = airline.run("leaks", *arguments, "--json")
    return ran.returncode, {(p["asset"], p["proof"]): p for p in json.loads(ran.stdout)}


def test_the_proofs_are_listed_with_verdict_and_evidence(taught):
    ran = taught.run("leaks", "airline")
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stdout
    assert lines[0].split() == ["verdict", "asset", "proof", "evidence"]
    assert next(line for line in lines if "rows_come_out_the_same_without_later_data" in line).startswith("holds ")
    assert "No live rows of flights: nothing was judged." in ran.stdout
    assert "hold; 4 had nothing to prove yet." in ran.stderr


def test_the_same_for_programs_with_numbers(taught):
    code, found = proofs(taught, "late")
    echo = found["training_sets/late", "no_feature_echoes_the_label"]
    assert code == 0
    assert echo["verdict"] == GOOD
    by_type = found["models/late", "columns_known_after_the_event_are_refused"]
    assert (by_type["verdict"], by_type["numbers"]["compared"]) == (NOTHING, 0)
    assert '`metadata={"available": "after_event"}`' in by_type["evidence"]
    assert echo["numbers"]["best features"]
    assert {asset for asset, _ in found} == {
        "features/carrier_delays", "features/last_flight", "models/late", "training_sets/late",
    }  # fmt: skip


@pytest.fixture
def own(taught, tmp_path):
    return taught.copied(tmp_path)


def test_a_leak_in_the_lake_is_named_and_the_command_fails(own):
    rows = own.lake.dataset("training_sets/late").to_table()
    own.lake.write("training_sets/late", with_column(rows, "last_flight__last_delay", rows["label"].to_pylist()))
    code, found = proofs(own, "airline/late")
    assert code == 1
    leaks = {proof for (_, proof), each in found.items() if each["verdict"] == LEAK}
    assert leaks == {"rows_come_out_the_same_without_later_data", "no_feature_echoes_the_label"}


def test_a_view_that_was_filled_by_hand_is_named(own):
    rows = own.lake.dataset("features/last_flight").to_table()
    filled = with_column(rows, "last_delay", [7.0] * rows.num_rows)
    own.lake.write("features/last_flight", filled, partitions=list(TWO_WEEKS))
    ran = own.run("leaks", "late")
    assert ran.returncode == 1
    assert "has other values in last_delay" in ran.stdout
    assert "1 found a leak" in ran.stderr
    table = ran.stdout.partition("features/last_flight, recomputed_without_later_data_it_is_the_same: the first")[2]
    header, *lines = table.splitlines()[1:]
    assert header.split() == ["row", "feature", "as", "stored", "without", "later", "data"]
    assert len(lines) == 10
    (moment, stored, honest) = next(
        re.fullmatch(r"carrier=UA at (\S+) +last_delay +(\S+) +(\S+)", line).groups() for line in lines if "=UA" in line
    )
    computed = {(row["carrier"], row["feature_timestamp"].isoformat()): row["last_delay"] for row in rows.to_pylist()}
    assert (stored, float(honest)) == ("7.0", computed["UA", moment])


def test_training_values_that_differ_are_shown_with_both_values(own):
    rows = own.lake.dataset("training_sets/late").to_table()
    own.lake.write("training_sets/late", with_column(rows, "last_flight__last_delay", [7.0] * rows.num_rows))
    _, found = proofs(own, "late")
    values = found["training_sets/late", "rows_come_out_the_same_without_later_data"]["numbers"]["values"]
    assert 0 < len(values) <= 10
    assert {(value["feature"], value["stored"]) for value in values} == {("last_flight__last_delay", "7.0")}
    honest = {row["flight_id"]: row["last_flight__last_delay"] for row in rows.to_pylist()}
    for value in values:
        flight = value["row"].partition("flight_id=")[2].partition(" at")[0]
        wanted = honest[flight]
        assert value["without_later_data"] == (None if wanted is None else str(wanted))


def test_a_training_set_of_another_declaration_is_a_warning(own, tmp_path):
    edited = Airline(tmp_path / "code", own.home, own.spec)
    shutil.copytree(own.code, edited.code)
    (path,) = edited.code.glob("*/defs/airline/defs.yaml")
    path.write_text(path.read_text().replace("windows: [6h, 1d]", "windows: [6h, 2d]"))
    ran = edited.process("leaks", "late", "--json")
    found = {(p["asset"], p["proof"]): p for p in json.loads(ran.stdout)}
    assert ran.returncode == 0, ran.stderr
    assert found["training_sets/late", ""]["verdict"] == WARNING
    assert "has no carrier_delays__delay_mean_2d" in found["training_sets/late", ""]["evidence"]
    view = found["features/carrier_delays", "recomputed_without_later_data_it_is_the_same"]
    assert (view["verdict"], "before your edit of" in view["evidence"]) == (WARNING, True)


def test_training_rows_of_before_an_edit_are_no_leak_but_cannot_be_judged(own, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(own.home))
    own.said("leaks", "late")
    known = projects.loaded(own.code)
    spec, run = known.named(Model)["late"].spec(known), Run(Settings.from_environment(), TWO_WEEKS)
    edited = [edit(view) if view.view.name == "last_flight" else view for view in spec.views]
    spec = replace(spec, views=tuple(edited))

    def repeated():
        return next(each for each in leaks.prove(spec, run) if each.check == catalogue.REPEATED.name)

    for finding in (repeated(), features.materialize(edited[1], run) and repeated()):
        assert (finding.passed, finding.warn) == (False, True)
        assert "those of features/last_flight cannot be judged: their declarations were edited" in finding.sentence
    training_set.materialize(spec, Run(Settings.from_environment()))
    assert repeated().passed


def edit(spec):
    return replace(spec, view=replace(spec.view, sql=spec.view.sql.replace("delay AS", "delay + 1 AS")))


@pytest.fixture
def restated(own, monkeypatch):
    """A day of the table came again with other delays, and the views were made again; the training set was not."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(own.home))
    again = own.home / "landing" / "flights" / f"{TWO_WEEKS[9]}.parquet"
    again.write_bytes(parquet(flights(TWO_WEEKS[9], delay=77.0)))
    own.take_in(TWO_WEEKS[9])
    known = projects.loaded(own.code)
    for view in known.named(Model)["late"].spec(known).views:
        features.materialize(view, Run(Settings.from_environment(), TWO_WEEKS))
    return own


def test_a_training_set_of_before_a_correction_waits_for_its_next_run_and_is_no_leak(restated):
    code, every = proofs(restated, "late")
    found = every["training_sets/late", catalogue.REPEATED.name]
    assert (code, found["verdict"]) == (0, WARNING)
    assert "those of training_sets/late cannot be judged" in found["evidence"]


@pytest.mark.parametrize(
    ("written", "code", "verdict", "said"),
    [
        (
            "known_at - INTERVAL 40 MINUTE AS known_at",
            1,
            LEAK,
            " rows of flights are known before their event, such as one with known_at 2013-01-1",
        ),
        ("delay + 1 AS delay", 0, WARNING, "The tables of features/last_flight have changed since 2013-01-14"),
    ],
)
def test_rows_known_before_their_event_are_a_leak_of_a_view_that_waits_as_well(
    own, tmp_path, written, code, verdict, said
):
    """Whatever the view will be computed from, it is these rows; other changes only make it wait."""
    edited = Airline(tmp_path / "code", own.home, own.spec)
    shutil.copytree(own.code, edited.code)
    (contracts,) = edited.code.glob("*/contracts.py")
    contracts.write_text(CONTRACTS.replace("ge=-60, le=600)", 'ge=-60, le=600, metadata={"available": "after_event"})'))
    rows = own.lake.dataset("tables/flights").to_table()
    own.lake.write(
        "tables/flights", asked(f"SELECT * REPLACE ({written}) FROM rows", rows=rows), partitions=list(TWO_WEEKS)
    )
    ran = edited.process("leaks", "late", "--json")
    found = {(p["asset"], p["proof"]): p for p in json.loads(ran.stdout)}
    view = found["features/last_flight", catalogue.HINDSIGHT.name]
    assert (ran.returncode, view["verdict"]) == (code, verdict), ran.stderr
    assert said in view["evidence"]


def test_on_an_empty_lake_it_says_what_to_materialize(taught, tmp_path):
    empty = Airline(taught.code, tmp_path / "home", taught.spec)
    code, found = proofs(empty, "late")
    assert code == 0
    assert found["training_sets/late", ""]["verdict"] == NOTHING
    assert "ml-assets materialize +training_sets/late" in found["training_sets/late", ""]["evidence"]
    assert "ml-assets materialize +features/last_flight" in found["features/last_flight", ""]["evidence"]


@pytest.fixture
def copied_under_other_keys(own):
    """Test rows stand among the training rows, by the names of other flights."""
    rows = own.lake.dataset("training_sets/late").to_table()
    test = rows.filter([split == "test" for split in rows["split"].to_pylist()])
    renamed = with_column(test, "flight_id", [f"copy-{number:06}" for number in range(test.num_rows)])
    copies = with_column(renamed, "split", ["train"] * test.num_rows)
    own.lake.write("training_sets/late", pa.concat_tables([rows, copies]))
    return own


@pytest.mark.parametrize(("declared", "is_found"), [("", True), ("{twins: true}", True), ("{twins: false}", False)])
def test_a_model_says_in_yaml_whether_rows_are_compared_by_content(
    copied_under_other_keys, tmp_path, declared, is_found
):
    document = MODEL + (f"  leaks: {declared}\n" if declared else "")
    with begun(tmp_path / "declared", DOCUMENTS | {"late": document}) as (project, _):
        spec = model_of(project)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ML_ASSETS_HOME", str(copied_under_other_keys.home))
            found = {each.check: each for each in leaks.prove(spec, project.step())}[catalogue.NO_TWINS.name]
    assert found.passed is not is_found
    assert ("all inputs of training rows of another flight_id" in found.sentence) is is_found
    assert found.sentence.endswith("content not compared.") is not is_found


def test_a_wrong_name_is_answered_with_those_there_are(taught):
    assert "There is no use case and no model 'flight'. There are: airline, late." in taught.refused("leaks", "flight")


def test_help_says_what_is_proven(taught):
    said = " ".join(taught.said("leaks", "--help").split())
    assert "no_row_is_in_two_splits" in said
    assert "Exit code 1 when a leak is found" in said
