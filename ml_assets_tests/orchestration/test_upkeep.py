"""The sensors of a running endpoint, and the schedule that finds what the conditions missed."""

import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime

import dagster as dg
import pyarrow.parquet as pq
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.orchestration import upkeep
from ml_assets.orchestration.resources import PLATFORM
from ml_assets.orchestration.upkeep import health_sensor, log_sensor, reconciliation
from ml_assets.steps import catalogue, evaluation, features, ingest, labels
from ml_assets_tests.flights import AHEAD, DAYS, NAME, World, copied, ended, release_copy

FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.fixture
def here(world, monkeypatch):
    """The copy of the grown world, found by the sensors through the environment."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(world.home))
    return world


@pytest.fixture(scope="module")
def running(grown, tmp_path_factory):
    """A server that the tests leave running."""
    world = World(copied(grown.home, tmp_path_factory.mktemp("running") / "home"), grown.spec)
    with ended(world), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_ASSETS_HOME", str(world.home))
        world.serve()
        yield world


def health(world: World) -> dg.RunRequest | dg.SkipReason:
    with dg.build_sensor_context(resources={"platform": PLATFORM}) as context:
        return health_sensor(world.endpoint)(context)


def test_a_healthy_endpoint_is_left_alone_and_says_what_it_serves(running):
    assert health(running).skip_message == f"Serves {{'1': 1.0}} at {running.server().status().url}."


def test_an_endpoint_that_was_never_started_is_not_asked_for(here):
    assert health(here).skip_message == "It was never started."


def test_without_a_release_nothing_is_asked_for(here):
    (here.home / "lake" / "objects" / "releases" / f"{NAME}.json").unlink()
    assert health(here).skip_message == "Nothing is released yet."


def test_a_server_that_died_is_asked_for_once_and_again_when_it_dies_again(here):
    keys = []
    for looks in (100, 2):
        here.serve()
        assert isinstance(health(here), dg.SkipReason)
        os.kill(here.server().status().pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while here.server().status().alive and time.monotonic() < until:
            time.sleep(0.02)
        requests = [health(here) for _ in range(looks)]
        assert {request.asset_selection[0].to_user_string() for request in requests} == {f"endpoints/{NAME}"}
        keys.append({request.run_key for request in requests})  # Dagster runs a key once
    assert [len(found) for found in keys] == [1, 1]
    assert keys[0] != keys[1]


class LogSensor:
    """The sensor as the daemon runs it."""

    def __init__(self, world: World) -> None:
        self.definition, self.cursor = log_sensor(world.endpoint), None

    def tick(self) -> list[tuple[str, str]]:
        with dg.build_sensor_context(cursor=self.cursor, resources={"platform": PLATFORM}) as context:
            result = self.definition(context)
        self.cursor = result.cursor
        return [(request.tags[FIRST], request.tags[LAST]) for request in result.run_requests or []]


def ask(world: World, *days: str, **arguments) -> None:
    request = evaluation.fetch(world.spec, world.step(), "1").golden.requests[0]
    sent = [request | {"at": f"{day}T12:00:00Z"} for day in days]
    predict(world.server().status().url, sent, **arguments)


def test_exactly_the_days_that_clients_asked_about_since_are_requested(running):
    sensor = LogSensor(running)
    sensor.tick()
    ask(running, "2013-01-03", "2013-01-04", "2013-01-09")
    assert sensor.tick() == [("2013-01-03", "2013-01-04"), ("2013-01-09", "2013-01-09")]
    ask(running, "2013-01-12")
    assert sensor.tick() == [("2013-01-12", "2013-01-12")]
    assert [days for _ in range(100) if (days := sensor.tick())] == []


def test_a_question_about_a_day_that_the_table_does_not_have_requests_nothing(running):
    sensor = LogSensor(running)
    sensor.tick()
    ask(running, "2026-11-20")  # as whoever leaves `at` out asks about today
    assert sensor.tick() == []
    ask(running, "2026-11-20", "2013-01-05")
    assert sensor.tick() == [("2013-01-05", "2013-01-05")]


def test_our_own_questions_request_nothing(running):
    sensor = LogSensor(running)
    sensor.tick()
    ask(running, "2013-01-05", check=True)
    ask(running, "2013-01-06", request_id="ml_assets")
    assert sensor.tick() == []


def test_a_line_that_is_being_written_counts_once_it_is_whole(here, tmp_path):
    folder = here.server().folder / "predictions"
    (segment,) = [path for path in folder.glob("*.jsonl*") if path.stat().st_size]
    sensor = LogSensor(here)
    sensor.tick()
    record = json.loads(segment.read_bytes().splitlines()[0])
    line = json.dumps(record | {"purpose": "serve", "request_id": "r", "at": "2013-01-02T00:00:00Z"}).encode() + b"\n"
    with segment.open("ab") as file:
        file.write(line[:100])
        file.flush()
        assert sensor.tick() == []
        file.write(line[100:])
    assert sensor.tick() == [("2013-01-02", "2013-01-02")]
    segment.rename(segment.with_name(segment.name.removesuffix(".open") + ".open"))
    assert sensor.tick() == []


def test_before_anybody_asked_nothing_is_requested(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "empty"))
    assert LogSensor(world).tick() == []


class Reconciliation:
    """The schedule over all levels of the flights, as their components give them."""

    def __init__(self, world: World, instance: dg.DagsterInstance) -> None:
        key = dg.AssetKey.from_user_string
        levels = [([key(t.raw), key(t.table)], catalogue.step("pending.of_table", t)) for t in world.tables.values()]
        levels += [([key(v.name)], catalogue.step("pending.of_view", v)) for v in world.spec.views]
        levels += [([key(world.spec.labels)], catalogue.step("pending.of_labels", world.spec))]
        self.definition = reconciliation("flights", levels)
        self.instance = instance
        self.now = datetime(2013, 2, 1, 12, 10, tzinfo=UTC)

    def look(self) -> list[dg.RunRequest] | dg.SkipReason:
        with dg.build_schedule_context(self.instance, self.now, resources={"platform": PLATFORM}) as context:
            return self.definition(context)

    def tick(self) -> dict[str, list[tuple[str, str]]]:
        """What is requested at the second of two looks."""
        self.look()
        found = self.look()
        if isinstance(found, dg.SkipReason):
            assert found.skip_message == "Everything is computed from the inputs that stand."
            return {}
        spans: dict[str, list[tuple[str, str]]] = {}
        for request in found:
            name = request.asset_selection[-1].to_user_string()
            spans.setdefault(name, []).append((request.tags.get(FIRST, ""), request.tags.get(LAST, "")))
        return spans


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """An instance on disk: a schedule asks it for the runs under way."""
    return dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance")))


@pytest.fixture
def schedule(here, instance):
    """The schedule of the flights."""
    return Reconciliation(here, instance)


def test_nothing_is_requested_while_everything_is_computed_from_what_stands(here, schedule):
    assert schedule.tick() == {}


def test_what_a_condition_may_be_about_to_run_is_not_requested_at_first_sight(here, schedule):
    schedule.tick()
    shutil.rmtree(here.home / "lake" / "objects" / "memo" / "labels")
    first = schedule.look()
    assert isinstance(first, dg.SkipReason)
    assert "wait to be computed" in first.skip_message
    assert here.spec.labels in schedule.tick()


def test_a_lost_edge_is_found_until_it_is_computed(here, schedule):
    """A corrected day was taken in, and no condition saw it: what is made from it is requested, and nothing else."""
    before = schedule.tick()
    day = DAYS[-2]
    landed = here.home / "landing" / "weather"
    rows = pq.read_table(landed / f"{day}.parquet")
    colder = rows.set_column(
        rows.column_names.index("temperature_f"),
        "temperature_f",
        [[t and t - 1 for t in rows["temperature_f"].to_pylist()]],
    )
    pq.write_table(colder, landed / f"{day}.parquet")
    assert schedule.tick().get("tables/weather", []) in ([], [(day, day)])
    ingest.ingest(here.tables["weather"], here.step(day))
    found = schedule.tick()
    (view,) = [v for v in here.spec.views if v.view.name == "weather_at_origin"]
    assert found.keys() - before.keys() == {view.name}
    assert found[view.name] == [(day, DAYS[-1])]
    features.materialize(view, here.step(*DAYS))
    assert schedule.tick() == before


def test_days_that_landed_and_were_never_taken_in_are_requested(here, schedule):
    before = schedule.tick()
    here.land(AHEAD, AHEAD)
    found = schedule.tick()
    new = {name: spans for name, spans in found.items() if before.get(name) != spans}
    assert new == {
        "tables/flight_schedules": [("2013-01-17", "2013-01-17")],
        "tables/flight_outcomes": [(AHEAD, AHEAD)],
        "tables/weather": [(AHEAD, AHEAD)],
    }


def test_labels_whose_record_was_lost_are_requested(here, schedule):
    (here.home / "lake" / "objects" / "memo" / "labels" / NAME / f"{DAYS[3]}.json").unlink()
    before = schedule.tick()
    assert before[here.spec.labels] == [(DAYS[3], DAYS[3])]
    labels.materialize(here.spec, here.step(DAYS[3]))
    assert here.spec.labels not in schedule.tick()
    assert upkeep.RECONCILE_CRON == "*/10 * * * *"


def test_a_release_that_nothing_serves_is_requested_until_it_is_served(here):
    asked = catalogue.step("pending.of_endpoint", here.endpoint)
    assert asked(here.step()) == {"": "1"}  # its first start was killed
    here.serve()
    assert asked(here.step()) == {}
    release_copy(here)
    assert asked(here.step()) == {"": "2"}
    here.serve()
    assert asked(here.step()) == {}


@pytest.mark.parametrize("layer", ["outcomes", "consistency", "drift", "performance"])
def test_reports_whose_record_was_lost_are_found(here, layer):
    missing = catalogue.step(f"pending.of_{layer}", here.endpoint)
    assert missing(here.step()) == {}
    shutil.rmtree(here.home / "lake" / "objects" / "memo" / layer)
    assert set(missing(here.step())) == set(here.step().lake.partitions(f"{layer}/{here.endpoint.name}"))
