"""Tests of the registry on a real MLflow with a SQLite database."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ml_assets.adapters.registry import Candidate, Registry
from ml_assets.errors import RegistryError, RegistryUnavailableError
from ml_assets.training.fit import FitSpec, fit, load, model_hash, predict
from ml_assets_tests.adapters import postgres
from ml_assets_tests.training.worlds import NAMES, matrix

ROWS = matrix(1, 400)
NAME = "arrival_delay"


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """One migrated database: the migrations take seconds."""
    folder = tmp_path_factory.mktemp("template")
    Registry(f"sqlite:///{folder}/mlflow.db", "unused").require()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def fitted():
    return fit(ROWS, FitSpec(rounds=8, num_threads=1), seed=1)


@pytest.fixture
def uri(template, tmp_path):
    shutil.copy(template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def registry(uri):
    return Registry(uri, "flights")


@pytest.fixture
def candidate(fitted, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.txt").write_text(fitted.model_text)
    return Candidate(
        NAME, "fingerprint-1", "models/arrival_delay@run-1", fitted.model_text, fitted.model_hash,
        {name: ROWS.X[:3, column].tolist() for column, name in enumerate(NAMES)}, folder, params=fitted.params,
        metrics={"roc_auc": 0.71, "undefined": float("nan")}, curves=fitted.curves, tags={"training_set": "abc"},
        artifacts={"evaluation/report.html": b"<html>"},
    )  # fmt: skip


def another(candidate, number):
    return replace(candidate, fingerprint=f"fingerprint-{number}", run_key=f"run-{number}")


def run_of(uri, run_id):
    import mlflow

    return mlflow.MlflowClient(uri, uri).get_run(run_id)


def runs(uri):
    import mlflow

    client = mlflow.MlflowClient(uri, uri)
    return client.search_runs([client.get_experiment_by_name("flights").experiment_id])


def test_a_recorded_version_can_be_found_by_fingerprint_and_alias(registry, candidate):
    made = registry.record(candidate)
    assert (made.version, made.model_hash, made.tags["training_set"]) == ("1", candidate.model_hash, "abc")
    assert registry.find(NAME, "fingerprint-1") == registry.version(NAME, "candidate") == registry.version(NAME, "1")
    assert made.tags == registry.version(NAME, "1").tags


def test_the_run_has_parameters_metrics_curves_and_files(registry, candidate, uri):
    import mlflow

    run = run_of(uri, registry.record(candidate).run_id)
    client = mlflow.MlflowClient(uri, uri)
    assert run.info.status == "FINISHED"
    assert run.data.params["num_leaves"] == "31"
    assert run.data.metrics["roc_auc"] == 0.71
    assert "undefined" not in run.data.metrics
    history = client.get_metric_history(run.info.run_id, "train/auc")
    assert [(each.step, each.value) for each in history] == list(enumerate(candidate.curves["train/auc"], 1))
    assert [each.path for each in client.list_artifacts(run.info.run_id, "evaluation")] == ["evaluation/report.html"]


def test_mlflow_itself_loads_the_same_model_without_pickle(registry, candidate, uri, monkeypatch):
    import mlflow
    import pandas as pd

    registry.record(candidate)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    scores = loaded.predict(pd.DataFrame(ROWS.X, columns=list(NAMES)))
    assert (scores == predict(candidate.model_text, ROWS.X)).all()
    assert loaded.metadata.signature.inputs.input_names() == list(NAMES)
    assert loaded.metadata.saved_input_example_info is not None


def test_the_same_fingerprint_is_not_recorded_twice(registry, candidate, uri):
    made = registry.record(candidate)
    registry.record(another(candidate, 2))
    assert registry.record(replace(candidate, run_key="another attempt")) == made
    assert registry.version(NAME, "candidate") == made
    assert len(runs(uri)) == 2


def test_what_is_not_there_is_none(registry):
    assert registry.find(NAME, "unknown") is None
    assert registry.version(NAME, "champion") is None
    assert registry.version(NAME, "9") is None
    assert registry.aliases(NAME) == {}


def test_a_promotion_moves_both_aliases_and_keeps_the_reason(registry, candidate):
    for number in (1, 2):
        registry.record(another(candidate, number))
    registry.promote(NAME, "1", reason="first", expect=None)
    promoted = registry.promote(NAME, "2", reason="+0.01 ROC AUC", expect="1")
    assert registry.aliases(NAME) == {"candidate": "2", "champion": "2", "previous_champion": "1"}
    assert promoted.tags["promotion_reason"] == "+0.01 ROC AUC"


def test_promoting_the_champion_again_changes_nothing(registry, candidate):
    for number in (1, 2):
        registry.record(another(candidate, number))
    registry.promote(NAME, "1", reason="first")
    for _ in range(2):
        registry.promote(NAME, "2", reason="better", expect="1")
    assert registry.aliases(NAME)["previous_champion"] == "1"


def test_a_decision_against_another_champion_is_refused(registry, candidate):
    for number in (1, 2, 3):
        registry.record(another(candidate, number))
    registry.promote(NAME, "2", reason="meanwhile")
    with pytest.raises(RegistryError, match="champion is version 2, not version 1 any more"):
        registry.promote(NAME, "3", reason="late", expect="1")
    assert registry.version(NAME, "champion").version == "2"


def test_the_bundle_comes_back_as_it_went(registry, candidate, tmp_path):
    registry.record(candidate)
    stale = tmp_path / "into"
    stale.mkdir()
    (stale / "old").touch()
    folder = registry.bundle(NAME, "1", stale)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"model.txt": candidate.model_text.encode()}
    assert model_hash(load((folder / "model.txt").read_text()).model_to_string()) == candidate.model_hash


def test_a_bundle_can_be_built_once_the_version_is_known(registry, candidate, tmp_path):
    def build(version):
        (candidate.bundle / "manifest.json").write_text(json.dumps({"version": version}))
        return candidate.bundle

    registry.record(replace(candidate, bundle=build))
    assert json.loads((registry.bundle(NAME, "1", tmp_path / "x") / "manifest.json").read_text()) == {"version": "1"}


def test_an_error_marks_the_run_failed_and_leaves_no_version(registry, candidate, uri):
    def build(version):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        registry.record(replace(candidate, bundle=build))
    assert [run.info.status for run in runs(uri)] == ["FAILED"]
    assert registry.find(NAME, candidate.fingerprint) is None
    assert registry.version(NAME, "1") is None


def test_a_retry_of_the_same_attempt_goes_on_in_the_same_run(registry, candidate, uri):
    with pytest.raises(OSError, match="away"):
        registry.record(replace(candidate, bundle=_failing))
    made = registry.record(candidate)
    assert [run.info.run_id for run in runs(uri)] == [made.run_id]
    assert run_of(uri, made.run_id).info.status == "FINISHED"


def _failing(version):
    raise OSError("away")


KILLED = """
import pickle, sys, time
from pathlib import Path
registry, candidate = pickle.loads(Path(sys.argv[1]).read_bytes())

def build(version):
    Path(sys.argv[2]).touch()
    time.sleep(60)

object.__setattr__(candidate, "bundle", build)
registry.record(candidate)
"""


def test_a_kill_in_the_middle_leaves_nothing_that_counts_and_the_next_attempt_repairs(
    registry, candidate, uri, tmp_path
):
    (tmp_path / "what").write_bytes(pickle.dumps((registry, candidate)))
    reached = tmp_path / "reached"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "what"), str(reached)])
    while not reached.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert registry.find(NAME, candidate.fingerprint) is None
    assert registry.aliases(NAME) == {}
    made = registry.record(replace(candidate, run_key="the next run"))
    assert registry.version(NAME, "candidate") == made
    assert sorted(run.info.status for run in runs(uri)) == ["FAILED", "FINISHED"]


def test_what_is_known_later_is_attached(registry, candidate, uri):
    made = registry.record(candidate)
    registry.attach(made, metrics={"test/roc_auc": 0.7}, tags={"gates": "passed"}, artifacts={"report.html": b"x"})
    assert registry.version(NAME, "1").tags["gates"] == "passed"
    assert run_of(uri, made.run_id).data.metrics["test/roc_auc"] == 0.7


def test_steps_can_record_side_by_side(uri, candidate):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda number: Registry(uri, "flights").record(another(candidate, number)), range(3)))
    assert sorted(each.version for each in made) == ["1", "2", "3"]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, uri):
    """A migrated database that several clients write to at once."""
    if request.param == "sqlite":
        yield uri
        return
    with postgres.running() as address:
        yield address


def test_clients_that_make_one_alias_at_the_same_moment_all_succeed(database, candidate, tmp_path):
    registries = [Registry(database, "flights", artifacts=(tmp_path / "files").as_uri()) for _ in range(4)]
    registries[0].record(candidate)
    for registry in registries:
        registry.require()
    together = threading.Barrier(4)

    def set_all(registry: Registry) -> None:
        for number in range(25):  # without the second try 5 to 9 of these fail on either database
            together.wait(60)
            registry.set_alias(NAME, f"alias{number}", "1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(set_all, registries))
    assert registries[0].aliases(NAME) == {"candidate": "1"} | {f"alias{number}": "1" for number in range(25)}


def test_another_refusal_of_an_alias_is_said(registry, candidate):
    registry.record(candidate)
    with pytest.raises(RegistryError, match="MLflow refused"):
        registry.set_alias(NAME, "no alias: a colon", "1")


def test_a_registry_survives_pickle(registry, candidate):
    made = registry.record(candidate)
    assert pickle.loads(pickle.dumps(registry)).version(NAME, "candidate") == made


def test_a_server_that_is_away_is_said_within_seconds(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    began = time.monotonic()
    with pytest.raises(RegistryUnavailableError, match=r"127.0.0.1:9 cannot be reached.*what serves goes on serving"):
        Registry("http://127.0.0.1:9", "flights").require()
    assert time.monotonic() - began < 20


def test_a_database_that_cannot_be_opened_is_said_at_once(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(RegistryUnavailableError, match="cannot be opened"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", "flights").require()


def test_a_file_that_is_no_database_is_said_at_once(tmp_path):
    Path(tmp_path / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(RegistryUnavailableError, match="cannot be opened"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", "flights").require()


def test_a_version_that_does_not_exist_cannot_be_promoted(registry, candidate):
    registry.record(candidate)
    with pytest.raises(RegistryError, match="refused"):
        registry.promote(NAME, "7", reason="typo")
    assert registry.version(NAME, "champion") is None
