"""The whole chain on real flights: once, again, and from the beginning."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ml_assets.adapters.prediction_log import read
from ml_assets.errors import TrainingError
from ml_assets.steps import catalogue, evaluation, model, release, training_set
from ml_assets_tests.flights import AHEAD, DAYS, World, copied, finding, reused

CHAIN = ("training_sets", "models", "evaluations", "releases")


def stored(world: World) -> dict[str, dict[str, str]]:
    lake = world.step().lake
    return {name: {p: c.hash for p, c in lake.content(name).items()} for name in world.versions()}


@pytest.fixture(scope="module")
def again(grown, tmp_path_factory):
    """Everything after the tables once more, in an installation of its own, and features in two parts."""
    derived = ("features", "labels", "training_sets", "models", "evaluations", "releases", "predictions")
    places = [*(f"lake/{name}" for name in derived), *(f"lake/objects/memo/{name}" for name in derived)]
    more = [*(f"lake/objects/{name}" for name in derived), "bundles", "search", "endpoints", "online", "mlflow"]
    home = copied(grown.home, tmp_path_factory.mktemp("again") / "home", leave=[*places, *more])
    world = World(home, grown.spec)
    world.compute(*DAYS[8:])
    world.compute(*DAYS)
    return world, world.learn(*DAYS, AHEAD)


def test_the_same_files_give_the_same_rows_labels_and_model(grown, again):
    world, results = again
    same = ["features", "labels", "training_sets", "evaluations"]
    there, here = stored(grown), stored(world)
    names = [name for name in there if name.split("/")[0] in same]
    assert len(names) == 9
    assert {name: here[name] for name in names} == {name: there[name] for name in names}
    assert results["models/arrival_delay"].produced[""].data_version == grown_hash(grown)


def grown_hash(world: World) -> str:
    ((found,),) = world.mlflow("SELECT value FROM model_version_tags WHERE key = 'model_hash'")
    return found


def test_a_second_run_of_the_whole_chain_computes_nothing_commits_nothing_and_asks_nothing(world):
    world.serve()
    world.watch()
    before, answers, runs = world.versions(), asked(world), world.mlflow("SELECT count(*) FROM runs")
    results = world.compute(*DAYS) | world.learn(*DAYS, AHEAD) | world.watch()
    assert reused(results)
    assert {name.split("/")[0] for name in results} == {
        "features", "labels", *CHAIN, "predictions", "outcomes", "consistency", "drift", "performance",
    }  # fmt: skip
    assert world.serve().produced[""].reused
    assert (world.versions(), asked(world), world.mlflow("SELECT count(*) FROM runs")) == (before, answers, runs)


def asked(world: World) -> int:
    """Answers that were given to clients; the proof of parity is ours."""
    return read(world.server().folder / "predictions")["purpose"].to_pylist().count("serve")


def test_a_second_run_says_what_the_first_said(grown):
    spec = grown.spec
    first = evaluation.materialize(spec, grown.step())[spec.evaluation]
    assert {f.check for f in first.findings} >= {"roc_auc_at_least", "beats_champion"}
    assert all(f.passed for f in first.findings)
    released = release.materialize(spec, grown.step())[spec.release]
    assert finding(released, catalogue.IN_FORCE.name).passed


def test_rows_that_were_joined_by_other_settings_are_not_trained_on(world):
    """The bundle would hold the settings of now, and look features up otherwise than the training rows were made."""
    shorter = tuple(replace(v, view=replace(v.view, max_age=timedelta(minutes=1))) for v in world.spec.views)
    edited = world.having(views=shorter)
    with pytest.raises(TrainingError, match=r"was made by another declaration: .*max_age"):
        model.train(edited.spec, edited.step())


def test_other_code_of_the_request_function_trains_again_and_a_comment_does_not(world, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from ml_assets.defs.flights.features import request_features as theirs\n"
    source += "def request_features(flights):\n    return theirs(flights)\n"
    (tmp_path / "own_function.py").write_text(source)
    own = world.having(request_features="own_function.request_features")
    first = model.train(own.spec, own.step())[own.spec.model].produced[""]
    assert not first.reused
    assert model.train(own.spec, own.step())[own.spec.model].produced[""].reused
    (tmp_path / "own_function.py").write_text(source.replace("    return", "    # edited\n    return"))
    assert model.train(own.spec, own.step())[own.spec.model].produced[""].reused
    (tmp_path / "own_function.py").write_text(source.replace("theirs(flights)", "dict(theirs(flights))"))
    again = model.train(own.spec, own.step())[own.spec.model].produced[""]
    assert not again.reused
    assert again.metadata["why"].startswith("configuration changed: code of request_features ")


def test_a_version_is_judged_on_the_rows_that_it_was_trained_with(world):
    """Another training set that was made meanwhile would hold rows that it learnt from among its test rows."""
    spec = world.having(test=world.spec.test * 2).spec
    training_set.materialize(spec, world.step())
    judged = world.having(slices=("carrier",)).spec
    before = evaluation.read(world.spec, world.step(), "1").evaluation
    evaluation.materialize(judged, world.step())
    after = evaluation.read(world.spec, world.step(), "1").evaluation
    assert (after.n_rows, after.metrics["roc_auc"]) == (before.n_rows, before.metrics["roc_auc"])
    assert {each.column for each in after.slices} == {"carrier"}
