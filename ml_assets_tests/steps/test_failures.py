"""What breaks in the middle: killed steps, a registry that is away, late files, tampered rows, gates that fail."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.errors import RegistryError, RegistryUnavailableError
from ml_assets.evaluation.policy import Gates
from ml_assets.orchestration.events import advice
from ml_assets.steps import (
    catalogue,
    endpoint,
    evaluation,
    labels,
    model,
    predictions,
    release,
    retrain,
    training_set,
)
from ml_assets.steps.run import Run
from ml_assets_tests.flights import AHEAD, DAYS, NAME, World, copied, ended, finding, release_copy

ROOT = Path(__file__).parents[2]
STEP = """
import sys, time
from dataclasses import replace
from pathlib import Path
from ml_assets.adapters.registry import Registry
from ml_assets.steps import endpoint, model
from ml_assets_tests.flights import World, quick
world = World(Path(sys.argv[1]), quick())
said = lambda text: print(text, flush=True)

def hold(version):
    (world.home / "held").write_text(version)
    time.sleep(300)

if sys.argv[2] == "train and hold":
    record = Registry.record
    Registry.record = lambda self, candidate: record(self, replace(candidate, bundle=hold))
if sys.argv[2].startswith("train"):
    model.train(world.spec, world.step(log=said, run_id=sys.argv[3]))
else:
    endpoint.materialize(world.endpoint, world.step(log=said))
"""


def killed(world: World, step: str, when: Callable[[], bool], run_id: str = "by hand") -> bool:
    """Run a step in a process of its own and kill it as soon as something is true; False if it came to its end."""
    command = [sys.executable, "-c", STEP, str(world.home), step, run_id]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not when():
            time.sleep(0.002)
        ended_before = process.poll() is not None
        process.kill()
    return not ended_before


@pytest.fixture
def untrained(grown, tmp_path):
    """Everything up to the training set, and an MLflow that knows no run."""
    objects = [f"lake/objects/{name}" for name in ("memo/models", "releases", "references", "importance")]
    home = copied(grown.home, tmp_path / "home", leave=["mlflow", "search", "bundles", *objects])
    world = World(home, grown.spec)
    world.step().registry.require()
    return world


def test_a_training_that_is_killed_anywhere_leaves_no_version_and_the_next_gives_the_same_model(grown, untrained):
    def counted(table: str) -> Callable[[], bool]:
        return lambda: untrained.mlflow(f"SELECT count(*) FROM {table}")[0][0] > 0

    journal = untrained.home / "search" / f"{NAME}.journal"
    held = untrained.home / "held"  # the version has its number, and not yet its bundle and its fingerprint
    moments = [
        ("train", lambda: journal.exists() and journal.stat().st_size > 2000),
        ("train", counted("params")),
        ("train", counted("logged_models")),
        ("train and hold", lambda: held.exists() and held.read_text() != ""),
    ]
    for number, (step, moment) in enumerate(moments):
        assert killed(untrained, step, moment, run_id=f"run {number}")
        assert untrained.mlflow("SELECT * FROM model_version_tags WHERE key = 'fingerprint'") == []
        assert untrained.step().registry.aliases(NAME) == {}
    assert (int(held.read_text()),) in untrained.mlflow("SELECT version FROM model_versions")
    made = model.train(untrained.spec, untrained.step(run_id="the next"))[untrained.spec.model].produced[""]
    assert made.data_version == model_hash(grown)
    whole = untrained.mlflow("SELECT version FROM model_version_tags WHERE key = 'fingerprint'")
    assert whole == [(int(made.metadata["version"]),)]
    assert untrained.step().registry.bundle(NAME, made.metadata["version"], untrained.home / "fetched").exists()
    assert untrained.step().registry.version(NAME, "candidate").model_hash == made.data_version
    assert untrained.mlflow("SELECT status, count(*) FROM runs WHERE status = 'RUNNING' GROUP BY 1") == []
    again = model.train(untrained.spec, untrained.step())[untrained.spec.model].produced[""]
    assert (again.reused, again.data_version) == (True, made.data_version)


def model_hash(world: World) -> str:
    ((found,),) = world.mlflow("SELECT value FROM model_version_tags WHERE key = 'model_hash'")
    return found


@pytest.fixture(scope="module")
def online(grown, tmp_path_factory):
    """A running server of version 1, and version 2 released."""
    world = World(copied(grown.home, tmp_path_factory.mktemp("online") / "home"), grown.spec)
    with ended(world):
        world.serve()
        release_copy(world)
        yield world


def shares(world: World) -> dict[str, float]:
    return {version: share for version, share in world.server().status().weights.items() if share > 0}


def answered_by(world: World) -> str:
    request = evaluation.fetch(world.spec, world.step(), "1").golden.requests[0]
    return predict(world.server().status().url, [request], check=True)[0]["version"]


@pytest.fixture
def old(online):
    """Version 1 has the traffic, and the server has never seen version 2."""
    online.server().apply({"1": 1.0})
    shutil.rmtree(online.server().folder / "versions" / "2", ignore_errors=True)
    return online


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_an_endpoint_step_that_is_killed_leaves_the_old_version_serving_and_the_next_repairs(old):
    pid = old.server().status().pid
    installed, log = old.server().folder / "versions" / "2", old.server().folder / "predictions"
    assert killed(old, "serve", installed.exists)  # the bundle is being installed
    assert (answered_by(old), shares(old), old.server().status().pid) == ("1", {"1": 1.0}, pid)
    before = written(log)
    assert killed(old, "serve", lambda: written(log) > before)  # the proof is under way
    assert shares(old) in ({"1": 1.0}, {"2": 1.0})
    assert {answered_by(old): 1.0} == shares(old)
    assert finding(old.serve(), catalogue.SERVES.name).passed
    assert (shares(old), old.server().status().pid) == ({"2": 1.0}, pid)


@pytest.fixture
def away(world, monkeypatch):
    """The same installation, whose MLflow does not answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return replace(world, mlflow_uri="http://127.0.0.1:9")


def test_without_mlflow_a_training_fails_clearly_soon_and_is_tried_again(away):
    began = time.monotonic()
    with pytest.raises(dg.Failure) as caught, advice():
        model.train(away.spec, away.step())
    assert time.monotonic() - began < 30
    assert caught.value.allow_retries
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in caught.value.description
    assert "what serves goes on serving" in caught.value.description


def test_without_mlflow_the_champion_is_started_and_answers_new_days(away):
    result = away.serve()
    proven = finding(result, catalogue.EQUAL_BITS.name)
    assert (set(result.produced), proven.warn) == ({""}, True)
    assert proven.sentence.endswith("not compared: the rows that the model was trained with.")
    away.land(AHEAD, AHEAD)
    away.take_in(AHEAD, "2013-01-17")
    away.compute(AHEAD)
    result = predictions.materialize(away.endpoint, away.step(AHEAD))[away.endpoint.predictions]
    assert set(result.produced) == {AHEAD}
    assert finding(result, catalogue.ANSWERED.name).passed
    with pytest.raises(RegistryUnavailableError):
        evaluation.materialize(away.spec, away.step())


def test_a_correction_of_a_day_already_trained_on_changes_the_training_set_and_the_policy_says_what_it_sees(world):
    def manifest(run: Run) -> tuple[str, str]:
        produced = training_set.materialize(world.spec, run)[world.spec.training_set].produced[""]
        return produced.data_version, produced.metadata["watermark"]

    before = manifest(world.step())
    day = "2013-01-08"
    landed = world.home / "landing" / "flight_outcomes"
    rows = pq.read_table(landed / f"{day}.parquet").slice(0, 60)
    later = pc.add(rows["arrival_delay_minutes"], 60.0)
    corrected = rows.set_column(rows.column_names.index("arrival_delay_minutes"), "arrival_delay_minutes", later)
    pq.write_table(corrected, landed / f"{day}-corrected.parquet")
    world.take_in(day)
    result = labels.materialize(world.spec, world.step(*DAYS))[world.spec.labels]
    changed = [p for p, made in result.produced.items() if not made.reused]
    assert set(changed) <= {"2013-01-07", day}
    assert day in changed
    after = manifest(world.step())
    assert (after[0] != before[0], after[1]) == (True, before[1])
    decision, watermark = retrain.consider(world.spec, [world.endpoint], world.step(), last_requested=None)
    assert not decision.retrain
    assert watermark.isoformat() == before[1]
    assert "0 rows were labelled since version 1 (limit 3,000)" in decision.summary


def test_a_candidate_whose_gates_fail_is_not_released_and_the_endpoint_keeps_what_it_has(world):
    strict = world.having(gates=Gates(roc_auc_at_least=0.99))
    before = release.latest(world.spec, world.step().lake)
    judged = evaluation.materialize(strict.spec, strict.step())[strict.spec.evaluation]
    assert not finding(judged, "roc_auc_at_least").passed
    with pytest.raises(RegistryError, match="is not released: roc_auc_at_least: ROC AUC is 0"):
        release.materialize(strict.spec, strict.step())
    assert release.latest(world.spec, world.step().lake) == before
    assert world.step().registry.aliases(NAME)["champion"] == "1"


def test_a_champion_is_compared_though_a_view_of_it_was_taken_out_of_the_declaration(world):
    fewer = world.having(
        views=tuple(v for v in world.spec.views if v.view.name != "aircraft_attributes"),
        budget=replace(world.spec.budget, trials=1, rounds=5),
    )
    training_set.materialize(fewer.spec, fewer.step())
    model.train(fewer.spec, fewer.step())
    evaluation.materialize(fewer.spec, fewer.step())
    judged = evaluation.read(fewer.spec, fewer.step(), "2")
    assert judged.champion == "1"
    assert judged.evaluation.champion is not None
    assert world.step().registry.aliases(NAME) == {"candidate": "2", "champion": "1"}


def test_an_endpoint_without_a_release_says_what_to_do(untrained):
    with pytest.raises(Exception, match=r"has no release yet\. Materialize releases/arrival_delay first"):
        endpoint.materialize(untrained.endpoint, untrained.step())
    assert isinstance(untrained.rows(untrained.spec.training_set), pa.Table)
