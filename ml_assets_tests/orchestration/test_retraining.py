"""The sensor that asks for trainings says why or why not, and asks once for the same data."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ml_assets import clock
from ml_assets.monitoring.retrain import RetrainPolicy
from ml_assets.orchestration.resources import PLATFORM
from ml_assets.orchestration.retraining import retrain_sensor
from ml_assets_tests.flights import DAYS, NAME, WATERMARK, World

OBJECTS = "lake/objects"


class Sensor:
    """The sensor as the daemon runs it: the cursor of one tick is given to the next."""

    def __init__(self, world: World) -> None:
        self.definition, self.cursor = retrain_sensor(world.spec, [world.endpoint]), None
        self.instance = dg.DagsterInstance.ephemeral()

    def tick(self) -> dg.SensorResult:
        resources = {"platform": PLATFORM}
        # left open, a context leaves its instance behind for whatever loads definitions later in the process
        with dg.build_sensor_context(self.instance, cursor=self.cursor, resources=resources) as context:
            result = self.definition(context)
        self.cursor = result.cursor
        return result

    def said(self) -> str:
        return self.tick().skip_reason.skip_message


@pytest.fixture
def here(world, monkeypatch):
    """The copy of the grown world, found by the sensors through the environment."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(world.home))
    return world


@pytest.fixture
def aged(here):
    """The model was trained when the data was five days shorter."""
    memo = here.home / OBJECTS / "memo" / "models" / NAME / "whole.json"
    entry = json.loads(memo.read_text())
    entry["metadata"]["watermark"] = "2013-01-10T00:00:00+00:00"
    memo.write_text(json.dumps(entry))
    return here


def labelled(world: World, since: str) -> int:
    rows = world.rows(world.spec.labels)["at"].to_pylist()
    return sum(since <= at.isoformat() < WATERMARK for at in rows)


def test_without_a_reason_every_rule_is_said_with_its_numbers(here):
    said = Sensor(here).said()
    assert said.startswith("Does not train: The schedule '0 4 * * 1' has not come again since the data of version 1")
    assert "0 rows were labelled since version 1 (limit 3,000)." in said


def test_a_reason_requests_the_chain_once_and_is_in_the_tags(aged):
    sensor = Sensor(aged)
    (request,) = sensor.tick().run_requests
    assert [key.to_user_string().split("/")[0] for key in request.asset_selection] == [
        "training_sets", "models", "evaluations", "releases",
    ]  # fmt: skip
    assert request.run_key == f"{NAME}:{WATERMARK}"
    n_new = labelled(aged, "2013-01-10")
    assert n_new > 3000
    assert request.tags["ml_assets/retrain"] == "schedule,new_rows"
    assert f"{n_new:,} rows were labelled since version 1 (limit 3,000)." in request.tags["ml_assets/why"]


def test_a_hundred_further_looks_at_the_same_data_request_nothing(aged):
    sensor = Sensor(aged)
    sensor.tick()
    ticks = [sensor.tick() for _ in range(100)]
    assert [tick.run_requests for tick in ticks if tick.run_requests] == []
    said = {tick.skip_reason.skip_message for tick in ticks}
    assert len(said) == 1
    assert said.pop().startswith("Waits (asked_already): A training was asked for with the same data")


def test_a_cursor_that_was_lost_asks_with_the_same_key(aged):
    keys = [Sensor(aged).tick().run_requests[0].run_key for _ in range(2)]
    assert len(set(keys)) == 1


def test_while_a_training_is_under_way_none_is_requested(aged):
    sensor = Sensor(aged)
    run = dg.DagsterRun(job_name="training", status=dg.DagsterRunStatus.STARTED, tags={"ml_assets/model": NAME})
    sensor.instance.add_run(run)
    assert sensor.said() == "A training is under way."
    sensor.instance.report_run_failed(run)
    assert sensor.tick().run_requests


def test_delivered_days_that_are_not_computed_yet_hold_a_training_back(aged):
    lake = aged.step().lake
    rows = lake.dataset("features/carrier_delays").to_table()
    lake.write("features/carrier_delays", rows.slice(0, 0), partitions=[DAYS[-1]])
    said = Sensor(aged).said()
    assert said.startswith("Waits (backlog): 1 delivered partitions are still to be computed. Reasons to train: ")


def test_the_cooldown_holds_a_training_back(aged):
    policy = RetrainPolicy(new_rows=1000, cooldown=aged.spec.test * 2)
    said = Sensor(aged.having(retrain=policy)).said()
    assert said.startswith("Waits (cooldown): Only 5.0 days of new data since the last training (cooldown 6.0 days).")


def test_drift_and_performance_of_the_endpoint_are_weighed(here):
    said = Sensor(here.having(retrain=RetrainPolicy(drift_psi=100.0, performance_drop=0.2))).said()
    drifted = here.rows(f"drift/{NAME}", [DAYS[-1]]).to_pylist()
    assert "No input that matters has drifted: the largest PSI is" in said
    assert any(f"{row['psi']:.3f} ({row['column']}), limit 100." in said for row in drifted)
    n = sum(row["n_labelled"] for row in here.rows(f"performance/{NAME}").to_pylist() if row["mature"])
    assert f"over {n:,} predictions from 2013-01-12 to 2013-01-14; limit is a drop of 0.2." in said


@pytest.fixture
def untrained(here):
    """Labels, and no model."""
    for place in (f"memo/models/{NAME}/whole.json", f"releases/{NAME}.json"):
        (here.home / OBJECTS / place).unlink()
    return here


def test_a_first_training_needs_enough_rows(untrained):
    n_rows = labelled(untrained, "2012")
    (request,) = Sensor(untrained).tick().run_requests
    assert f"There is no model yet; {n_rows:,} rows have mature labels" in request.tags["ml_assets/why"]
    many = RetrainPolicy(min_rows=n_rows + 1)
    assert Sensor(untrained.having(retrain=many)).said().startswith("Does not train: There is no model yet; ")


def test_before_anything_has_landed_it_says_that_there_are_no_labels(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "empty"))
    assert "0 rows have mature labels" in Sensor(world).said()


def test_a_training_that_failed_without_a_model_is_asked_for_again_after_an_hour(aged):
    sensor = Sensor(aged)
    (first,) = sensor.tick().run_requests

    @dg.op
    def registry_is_away() -> None:
        raise dg.Failure("MLflow is away", allow_retries=False)

    @dg.job
    def training() -> None:
        registry_is_away()

    training.execute_in_process(instance=sensor.instance, tags=first.tags, raise_on_error=False)
    assert "tried again an hour later" in sensor.said()
    with clock.frozen(datetime.now(UTC) + timedelta(minutes=61)):
        (again,) = sensor.tick().run_requests
    assert again.run_key.startswith(f"{first.run_key}:")
    assert again.asset_selection == first.asset_selection
