"""A local endpoint: real server processes, killed, updated and damaged while clients ask."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from ml_assets.adapters import deployment, prediction_log
from ml_assets.adapters.deployment import LocalEndpoint
from ml_assets.errors import ArtefactError, EndpointError
from ml_assets.serving import bundle
from ml_assets_tests.serving import world

SENT = world.INSTANCE | world.AT


@pytest.fixture(scope="module", autouse=True)
def importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(world.ROOT))
        yield


def running(folder: Path):
    world.fill_store(folder / "online.db")
    endpoint = LocalEndpoint(folder / "endpoint", name="arrival_delay", online_store=folder / "online.db")
    yield endpoint
    endpoint.stop()


@pytest.fixture
def endpoint(tmp_path: Path):
    """An endpoint that never ran."""
    yield from running(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """An endpoint for tests that leave its server alone; each applies what it needs first."""
    yield from running(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {str(n): world.write_bundle(folder / str(n), world.train(n)) for n in (1, 2)}


def expected(bundles: dict[str, Path], endpoint: LocalEndpoint) -> dict[str, float]:
    from ml_assets.adapters.online.sqlite import SqliteOnlineStore
    from ml_assets.serving.predictor import Predictor

    store, scores = SqliteOnlineStore(endpoint.config.online_store), {}
    for version, folder in bundles.items():
        predictor = Predictor(bundle.read(folder), store)
        rows, at = predictor.contract.convert([SENT], now_us=0, path="$")
        scores[version] = predictor.predict(rows, at).scores[0]
    return scores


def score(endpoint: LocalEndpoint) -> float:
    return deployment.predict(endpoint.status().url, [SENT])[0]["score"]


def test_apply_starts_a_server_that_gives_the_offline_score(endpoint, bundles):
    status = endpoint.apply({"1": 1.0}, bundles)
    assert (status.alive, status.generation, status.weights, status.refused) == (True, 1, {"1": 1.0}, None)
    (answer,) = deployment.predict(status.url, [SENT], check=True)
    assert answer["score"] == expected(bundles, endpoint)["1"]
    logged = prediction_log.read(endpoint.folder / "predictions").to_pylist()
    assert [(one["prediction_id"], one["purpose"]) for one in logged] == [(answer["prediction_id"], "check")]


def test_apply_of_what_serves_already_changes_nothing(shared, bundles):
    first = shared.apply({"1": 1.0}, bundles)
    assert shared.apply({"1": 1.0}, bundles) == first


def test_versions_change_under_load_without_a_failed_or_wrong_answer(shared, bundles):
    status, wanted = shared.apply({"1": 1.0, "2": 0.0}, bundles), expected(bundles, shared)
    seen, problems, stop = Counter(), [], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=status.url) as client:
            while not stop.is_set():
                answer = client.post("/predict", json=SENT)
                body = answer.json()
                seen[body.get("version")] += 1
                if answer.status_code != 200 or body["predictions"][0]["score"] != wanted[body["version"]]:
                    problems.append(answer.text)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    for swap in range(20):
        shared.apply({"1": float(swap % 2), "2": float(1 - swap % 2)})
    stop.set()
    for client in clients:
        client.join()
    assert problems == []
    assert min(seen["1"], seen["2"]) > 20
    assert shared.status().generation == status.generation + 20


def test_after_kill_9_apply_brings_the_server_back_on_its_port_with_the_same_answers(endpoint, bundles):
    before = endpoint.apply({"1": 1.0}, bundles)
    wanted = score(endpoint)
    os.kill(before.pid, signal.SIGKILL)
    assert wait_for(lambda: not endpoint.status().alive)
    after = endpoint.apply({"1": 1.0})
    assert (after.url, score(endpoint)) == (before.url, wanted)
    assert after.pid != before.pid
    assert len(prediction_log.read(endpoint.folder / "predictions")) == 2


def test_a_port_that_was_taken_meanwhile_is_replaced_by_a_free_one(endpoint, bundles):
    before = endpoint.apply({"1": 1.0}, bundles)
    endpoint.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(before.url.rsplit(":", 1)[1])))
        other.listen()
        after = endpoint.apply({"1": 1.0})
    assert after.url != before.url
    assert score(endpoint)


def wait_for(condition, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def damaged(folder: Path, source: Path, change) -> Path:
    """A bundle whose digests hold but whose model does not: what a faulty writer would leave."""
    found = bundle.read(source)
    bundle.write(folder, model_text=change(found.model_text), schema=found.schema, golden=found.golden)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("leaf_value=", "leaf_value=9", 1),
        lambda text: "tree\n",
    ],
    ids=["half of it", "another leaf", "no model"],
)
def test_a_model_that_is_damaged_is_refused_while_the_old_one_serves_on(shared, bundles, tmp_path, change):
    shared.apply({"1": 1.0}, bundles)
    wanted, pid = score(shared), shared.status().pid
    with pytest.raises(EndpointError, match="versions 1 serve on"):
        shared.apply({tmp_path.name: 1.0}, {tmp_path.name: damaged(tmp_path / "damaged", bundles["2"], change)})
    status = shared.status()
    assert (score(shared), status.pid, status.weights) == (wanted, pid, {"1": 1.0})
    assert "failed its trial" in status.refused
    assert shared.apply({"2": 1.0}, bundles).refused is None


def test_a_restart_beside_a_refused_table_serves_the_last_good_one(endpoint, bundles, tmp_path):
    endpoint.apply({"1": 1.0}, bundles)
    with pytest.raises(EndpointError):
        endpoint.apply({"3": 1.0}, {"3": damaged(tmp_path / "damaged", bundles["2"], lambda text: text[:400])})
    endpoint.stop()
    with pytest.raises(EndpointError, match="versions 1 serve on"):
        endpoint.apply({"3": 1.0})
    assert endpoint.status().weights == {"1": 1.0}


def test_a_bundle_whose_digest_does_not_hold_is_not_even_installed(endpoint, bundles, tmp_path):
    import shutil

    broken = Path(shutil.copytree(bundles["1"], tmp_path / "broken"))
    (broken / "model.txt").write_text("x")
    with pytest.raises(ArtefactError, match="altered"):
        endpoint.apply({"1": 1.0}, {"1": broken})
    assert not endpoint.status().alive


def test_a_version_never_changes_its_content(shared, bundles):
    shared.apply({"1": 1.0}, bundles)
    with pytest.raises(EndpointError, match="versions never change"):
        shared.apply({"1": 1.0}, {"1": bundles["2"]})


def test_a_version_without_a_bundle_is_named(shared, bundles):
    shared.apply({"1": 1.0}, bundles)
    with pytest.raises(EndpointError, match="Version 9 is not installed"):
        shared.apply({"9": 1.0})


APPLY = """
import sys
from ml_assets.adapters.deployment import LocalEndpoint
folder, online, *pairs = sys.argv[1:]
bundles = dict(pair.split("=") for pair in pairs)
endpoint = LocalEndpoint(folder, name="arrival_delay", online_store=online)
endpoint.apply(dict.fromkeys(bundles, 1.0), bundles)
"""


def start_apply(endpoint: LocalEndpoint, bundles: dict[str, Path]) -> subprocess.Popen:
    pairs = [f"{version}={folder}" for version, folder in bundles.items()]
    command = [sys.executable, "-c", APPLY, str(endpoint.folder), endpoint.config.online_store, *pairs]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(world.ROOT)})


def test_kill_9_in_the_middle_of_apply_leaves_the_old_version_serving(endpoint, bundles):
    endpoint.apply({"1": 1.0}, bundles)
    before = endpoint.status()
    for pause in (0.3, 0.45, 0.6):
        process = start_apply(endpoint, {"2": bundles["2"]})
        time.sleep(pause)
        process.kill()
        process.wait()
        assert score(endpoint)
        assert (endpoint.status().pid, endpoint.status().url) == (before.pid, before.url)
    assert endpoint.apply({"2": 1.0}, bundles).weights == {"2": 1.0}


def test_two_reconcilers_at_once_take_turns(endpoint, bundles):
    both = [start_apply(endpoint, {version: bundles[version]}) for version in ("1", "2")]
    assert [process.wait(60) for process in both] == [0, 0]
    status = endpoint.status()
    assert (status.generation, len(status.weights)) == (2, 1)


def test_the_log_lies_where_it_was_declared_and_a_change_of_it_restarts_the_server(endpoint, bundles, tmp_path):
    before = endpoint.apply({"1": 1.0}, bundles)
    moved = LocalEndpoint(
        endpoint.folder, name="arrival_delay", online_store=tmp_path / "online.db", log=tmp_path / "elsewhere"
    )
    after = moved.apply({"1": 1.0})
    score(moved)
    assert (after.url, after.pid != before.pid) == (before.url, True)
    assert len(prediction_log.read(tmp_path / "elsewhere")) == 1


def test_a_server_that_cannot_start_is_an_error_with_the_end_of_its_log(tmp_path, bundles):
    (tmp_path / "online.db").mkdir()
    endpoint = LocalEndpoint(tmp_path / "endpoint", name="arrival_delay", online_store=tmp_path / "online.db")
    with pytest.raises(EndpointError, match="unable to open database file"):
        endpoint.apply({"1": 1.0}, bundles)
    assert not endpoint.status().alive


def test_a_first_version_without_weight_is_asked_by_its_name_and_takes_traffic_later(endpoint, bundles):
    url = endpoint.apply({"1": 0.0}, bundles).url
    with pytest.raises(EndpointError, match=r"503.*takes no traffic until its parity is proven"):
        deployment.predict(url, [SENT])
    (answer,) = deployment.predict(url, [SENT], version="1", check=True)
    assert answer["features"]["carrier"] == SENT["carrier"]
    assert endpoint.served() == {}
    endpoint.apply({"1": 2.0, "2": 0.0}, bundles)
    assert endpoint.served() == {"1": 1.0}
    endpoint.stop()
    assert endpoint.served() == {"1": 1.0}


def test_stop_ends_the_server_and_says_whether_one_ran(endpoint, bundles):
    endpoint.apply({"1": 1.0}, bundles)
    assert (endpoint.stop(), endpoint.stop(), endpoint.status().alive) == (True, False, False)
    assert list((endpoint.folder / "predictions").glob("*.open")) == []


def test_a_client_of_an_endpoint_that_is_down_is_told_so(endpoint, bundles):
    url = endpoint.apply({"1": 1.0}, bundles).url
    endpoint.stop()
    with pytest.raises(EndpointError, match="does not answer"):
        deployment.predict(url, [SENT])


def test_a_client_sees_which_field_is_wrong(shared, bundles):
    url = shared.apply({"1": 1.0}, bundles).url
    with pytest.raises(EndpointError, match=r"instances\[1\]\.carrier"):
        deployment.predict(url, [SENT, SENT | {"carrier": 1}])


def test_many_rows_come_back_in_order_over_several_calls(shared, bundles):
    url = shared.apply({"1": 1.0}, bundles).url
    rows = [SENT | {"distance_miles": float(100 * n)} for n in range(10)]
    by_threes = [one["score"] for one in deployment.predict(url, rows, rows_per_call=3)]
    assert by_threes == [deployment.predict(url, [row])[0]["score"] for row in rows]
    assert len(set(by_threes)) > 1


def test_versions_that_left_long_ago_are_removed(shared, bundles):
    for number in range(8):
        shared.apply({f"old-{number}": 1.0}, {f"old-{number}": bundles["1"]})
    shared.apply({"1": 1.0}, bundles)
    kept = {path.name for path in (shared.folder / "versions").iterdir()}
    assert "1" in kept
    assert len(kept) == 6
    assert "old-0" not in kept
