"""What is explained is what a run then does, in words that name what differs."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ml_assets.errors import RegistryError
from ml_assets.records import LAYERS
from ml_assets.steps import evaluation, release
from ml_assets.steps.explain import Decision, one, upstream_due, verdicts
from ml_assets.steps.works import BY_LAYER, Asset
from ml_assets_tests import flights
from ml_assets_tests.project import flights as rows_of
from ml_assets_tests.steps.edits import DAYS, Small

TABLE = "tables/flights"


@pytest.fixture
def small(project):
    return Small(project)


@pytest.fixture
def world(world):
    """Its quick model is no better than a constant, and would go no further: here it counts as one that is."""
    keep(world, "memo/models/arrival_delay/whole.json", failed=[])
    return world


def keep(world, name: str, **changes: Any) -> None:
    """Write another record of what stands."""
    place = world.home / "lake" / "objects" / name
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def known(small: Small) -> dict[str, Asset]:
    tables = [Asset(layer, spec) for spec in small.tables.values() for layer in ("raw", "tables")]
    return {each.name: each for each in [*tables, *(Asset("features", view) for view in small.views.values())]}


def would_run(small: Small) -> dict[str, set[str]]:
    """The partitions that explain says a run would compute, given what is stored by now."""
    run = small.project.step()
    found = {name: {p for p, v in verdicts(each, run).items() if v.runs} for name, each in known(small).items()}
    return {name: partitions for name, partitions in found.items() if partitions}


def test_after_a_run_everything_stands(small):
    assert would_run(small) == {}
    verdict = one(known(small)[TABLE], small.project.step(), "2013-01-02")
    assert verdict.sentence() == "Stands: a run would compute nothing."
    assert verdict.stands
    assert verdict.stands.reason == "first time"


@pytest.mark.parametrize(
    "edit",
    [
        Small.touch, Small.comment_in_sql, Small.comment_in_contract, Small.change_sql, Small.shorter_window,
        Small.allow_more, Small.fail_sooner, Small.keep_features_longer,
    ],
)  # fmt: skip
def test_it_says_of_each_edit_of_declarations_what_a_run_then_computes(small, edit):
    edit(small)
    said = would_run(small)
    assert small.run() == said
    assert would_run(small) == {}


@pytest.mark.parametrize("edit", [Small.restate, Small.recompress, Small.larger_fleet])
def test_what_is_delivered_is_new_to_raw_first_and_each_step_names_what_changed(small, edit):
    edit(small)
    assert set(would_run(small)) in ({"raw/flights"}, {"raw/carriers"})
    small.run()
    assert would_run(small) == {}


def test_the_reason_names_the_input_and_both_hashes(small):
    before = verdicts(known(small)[TABLE], small.project.step())["2013-01-02"].inputs["raw/flights"]
    small.restate()
    small.store("flights")
    verdict = one(known(small)[TABLE], small.project.step(), "2013-01-02")
    now = verdict.inputs["raw/flights"]
    assert verdict.sentence() == f"Would run, since raw/flights changed: {before[:8]}… → {now[:8]}…."
    small.judge("flights")
    view = known(small)["features/carrier_delays"]
    assert one(view, small.project.step(), "2013-01-04").reasons[0].startswith("tables/flights 2013-01-02 changed: ")
    assert upstream_due(view, small.project.step(), known(small)) == {}


def test_what_would_run_before_is_told(small):
    small.restate()
    view = known(small)["features/carrier_delays"]
    assert upstream_due(view, small.project.step(), known(small)) == {"raw/flights": ["2013-01-02"]}


def test_a_changed_setting_is_named_with_both_values(small):
    small.fail_sooner()
    verdict = one(known(small)[TABLE], small.project.step(), "2013-01-02")
    assert verdict.sentence() == "Would run, since configuration changed: fail_above 0.2 → 0.1."


def test_a_refused_delivery_is_told_from_one_that_would_run(small):
    small.project.land("2013-01-03.parquet", rows_of("2013-01-03", delay=1048.0))
    small.run()
    verdict = one(known(small)[TABLE], small.project.step(), "2013-01-03")
    assert verdict.decision is Decision.REFUSED
    assert verdict.sentence().startswith("Refused: ")
    assert "of its rows break the contract, 20.0% may (at 20" in verdict.sentence()


def test_a_day_that_was_never_delivered_waits_and_one_that_was_is_missing(small):
    view, run = known(small)["features/carrier_delays"], small.project.step()
    assert one(view, run, "2013-01-09").sentence() == "Waits: tables/flights has nothing for 2013-01-09 yet."
    small.project.land_days("2013-01-05")
    assert one(known(small)["raw/flights"], run, "2013-01-05").decision is Decision.MISSING
    small.store("flights", "2013-01-05")
    assert one(known(small)[TABLE], run, "2013-01-05").sentence() == "Would run for the first time."


def test_nothing_landed_nothing_stands(project):
    view = Asset("features", project.view("carrier_delays"))
    assert verdicts(view, project.step()) == {}
    assert one(view, project.step(), DAYS[0]).decision is Decision.WAITS


def every(world) -> dict[str, Asset]:
    spec = world.spec
    of_model = ("labels", "training_sets", "models", "evaluations", "releases")
    of_endpoint = ("endpoints", "predictions", "outcomes", "consistency", "drift", "performance")
    found = [Asset(layer, table) for table in world.tables.values() for layer in ("raw", "tables")]
    found += [Asset("features", view) for view in spec.views] + [Asset(layer, spec) for layer in of_model]
    found += [Asset(layer, world.endpoint) for layer in of_endpoint]
    return {each.name: each for each in found}


def test_every_layer_is_explained_and_stands_after_the_whole_chain(grown):
    found = {name: verdicts(each, grown.step()) for name, each in every(grown).items()}
    assert {name.partition("/")[0] for name in found} == set(LAYERS) == {*BY_LAYER, "raw", "releases", "endpoints"}
    running = {name: p for name, verdict in found.items() for p, v in verdict.items() if v.runs}
    ahead = {"raw/flight_schedules", "tables/flight_schedules"}  # stored as far as the tests of the chain need it
    assert set(running) - ahead <= {"endpoints/arrival_delay"}  # its server was stopped


def test_a_changed_model_names_its_setting_and_what_follows_waits_for_it(world):
    own = world.having(budget=replace(world.spec.budget, rounds=20))
    models = every(own)["models/arrival_delay"]
    assert one(models, own.step(), "").sentence() == "Would run, since configuration changed: rounds 12 → 20."
    later = every(own)["evaluations/arrival_delay"]
    assert upstream_due(later, own.step(), every(own))["models/arrival_delay"] == [""]


def test_a_model_that_the_registry_lost_would_be_trained(world):
    (world.home / "mlflow" / "mlflow.db").unlink()
    verdict = one(every(world)["models/arrival_delay"], world.step(), "")
    assert verdict.sentence() == "Would run, since the registry does not have the model."


def test_a_candidate_is_released_and_a_release_is_served(world):
    flights.release_copy(world, "9")
    released = one(every(world)["releases/arrival_delay"], world.step(), "")
    assert released.sentence() == "Would run, since the candidate changed: version 9 → 1."
    served = one(every(world)["endpoints/arrival_delay"], world.step(), "")
    assert served.sentence() == "Would run, since version 9 is released and nothing is served."


def test_the_graph_that_is_explained_is_the_one_that_dagster_runs(small):
    graph = small.project.defs.resolve_asset_graph()
    explained = known(small)
    assert {name: set(each.upstream()) for name, each in explained.items()} == parents(graph)


def test_the_shipped_graph_that_is_explained_is_the_one_that_dagster_runs(grown):
    from ml_assets.definitions import defs

    graph = defs().resolve_asset_graph()
    assert {name: set(each.upstream()) for name, each in every(grown).items()} == parents(graph)


def parents(graph) -> dict[str, set[str]]:
    keys = graph.materializable_asset_keys
    return {key.to_user_string(): {up.to_user_string() for up in graph.get(key).parent_keys} for key in keys}


def test_an_edited_gate_judges_the_candidate_again_without_a_training(world):
    own = world.having(gates=replace(world.spec.gates, roc_auc_at_least=0.99))
    known, run = every(own), own.step()
    again = one(known["evaluations/arrival_delay"], run, "")
    assert again.sentence() == "Would run, since configuration changed: gates.roc_auc_at_least 0.55 → 0.99."
    refused = one(known["releases/arrival_delay"], run, "")
    assert refused.decision is Decision.REFUSED
    assert "version 1 is released and fails roc_auc_at_least: " in refused.sentence()
    assert one(known["models/arrival_delay"], run, "").decision is Decision.STANDS
    judged = evaluation.materialize(own.spec, run)[own.spec.evaluation]
    assert not flights.finding(judged, "roc_auc_at_least").passed
    assert one(known["evaluations/arrival_delay"], run, "").decision is Decision.STANDS
    with pytest.raises(RegistryError, match="not released: roc_auc_at_least"):
        release.materialize(own.spec, run)
    back = every(world)
    assert one(back["evaluations/arrival_delay"], run, "").runs
    assert one(back["releases/arrival_delay"], run, "").decision is Decision.STANDS
    assert all(each.passed for each in evaluation.materialize(world.spec, run)[own.spec.evaluation].findings)


def test_what_cannot_run_since_something_before_it_failed_waits_for_that(world):
    own = world.having(
        budget=replace(world.spec.budget, rounds=20), gates=replace(world.spec.gates, beats_baseline=True)
    )
    known, run, names = every(own), own.step(), ("models", "evaluations")
    assert [one(known[f"{name}/arrival_delay"], run, "").decision for name in names] == [Decision.WOULD_RUN] * 2
    echo = {
        "check": "no_feature_echoes_the_label",
        "passed": False,
        "warn": False,
        "sentence": "carrier alone has 0.99.",
    }
    kept = json.loads((own.home / "lake" / "objects" / "leaks" / "arrival_delay.json").read_text())
    keep(own, "leaks/arrival_delay.json", findings=[echo, *kept["findings"]])
    assert one(known["training_sets/arrival_delay"], run, "").decision is Decision.REFUSED
    for name in names:
        said = one(known[f"{name}/arrival_delay"], run, "").sentence()
        assert said.startswith(
            "Waits: training_sets/arrival_delay is refused: its rows stand, and no model may have them"
        )
        assert "no_feature_echoes_the_label: carrier alone has 0.99." in said
    assert one(every(world)["models/arrival_delay"], run, "").decision is Decision.STANDS


def test_an_evaluation_waits_for_a_model_that_learnt_nothing(world):
    learnt_nothing = {"check": "training_beat_a_constant", "sentence": "Validation log loss 0.4.", "warn": False}
    keep(world, "memo/models/arrival_delay/whole.json", failed=[learnt_nothing])
    own = every(world.having(gates=replace(world.spec.gates, roc_auc_at_least=0.6)))
    said = one(own["evaluations/arrival_delay"], world.step(), "").sentence()
    assert said.startswith(
        "Waits: models/arrival_delay is refused: it stands and goes no further: training_beat_a_cons"
    )
