"""A real endpoint process whose online store is a real Redis server, which is killed and comes back."""

import httpx
import pytest

from ml_assets.adapters.deployment import LocalEndpoint
from ml_assets_tests.adapters import processes
from ml_assets_tests.adapters.redis_server import running
from ml_assets_tests.serving import world

SENT = world.INSTANCE | world.AT


@pytest.fixture
def server(tmp_path):
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def endpoint(tmp_path, server, monkeypatch):
    monkeypatch.syspath_prepend(str(world.ROOT))
    made = LocalEndpoint(tmp_path / "endpoint", name="arrival_delay", online_store=server.url)
    yield made
    made.stop()


def test_an_endpoint_answers_503_while_its_store_is_down_and_right_again_once_it_is_back(endpoint, server, tmp_path):
    folder = world.write_bundle(tmp_path / "bundle", world.train())
    wanted = world.predictor(world.fill_store(server.url)).predict
    url = endpoint.apply({"1": 1.0}, {"1": folder}).url
    with httpx.Client(base_url=url, trust_env=False) as client:

        def ready() -> httpx.Response:
            return client.get("/v2/health/ready")

        def state() -> set[str]:
            return {view["state"] for view in ready().json()["online_store"].values()}

        before = client.post("/predict", json=SENT).json()["predictions"][0]
        assert before["missing_views"] == {}
        assert before["score"] == wanted([_row()], [world.NOON_US]).scores[0]

        server.kill()
        refused = client.post("/predict", json=SENT)
        assert (refused.status_code, refused.json()["field"]) == (503, "online store")
        assert f"redis://127.0.0.1:{server.port}/0 cannot be used" in refused.json()["error"]
        processes.wait_until(lambda: ready().status_code == 503)
        assert client.get("/v2/health/live").status_code == 200

        server.start()
        processes.wait_until(lambda: ready().status_code == 200)
        assert state() == {"nothing stored"}
        empty = client.post("/predict", json=SENT).json()["predictions"][0]
        assert empty["missing_views"] == dict.fromkeys(("carrier_delays", "origin_congestion"), "nothing stored")

        world.fill_store(server.url)
        processes.wait_until(lambda: state() == {"ok"})
        again = client.post("/predict", json=SENT).json()["predictions"][0]
        assert (again["score"], again["feature_ages"]) == (before["score"], before["feature_ages"])


def test_an_endpoint_starts_while_its_store_is_down_and_is_not_ready(endpoint, server, tmp_path):
    server.kill()
    url = endpoint.apply({"1": 1.0}, {"1": world.write_bundle(tmp_path / "bundle", world.train())}).url
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.post("/predict", json=SENT).status_code == 503
        assert client.get("/v2/health/ready").status_code == 503


def _row() -> tuple:
    return ("UA", "EWR", 719.0, world.NOON_US + 2 * world.HOUR_US, None)
