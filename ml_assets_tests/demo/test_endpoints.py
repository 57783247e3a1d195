import pytest

from ml_assets.adapters.deployment import LocalEndpoint
from ml_assets.adapters.online.sqlite import SqliteOnlineStore
from ml_assets.demo.endpoints import deployed, request_fields, resume
from ml_assets_tests.serving.world import SCHEMA, train, write_bundle


@pytest.fixture
def endpoint(tmp_path):
    SqliteOnlineStore(tmp_path / "features.db")
    found = LocalEndpoint(tmp_path / "endpoints" / "delay", name="delay", online_store=tmp_path / "features.db")
    yield found
    found.stop()


def test_an_endpoint_that_was_stopped_serves_again_what_it_served(endpoint, tmp_path):
    endpoint.apply({"7": 1.0}, {"7": write_bundle(tmp_path / "bundle", train())})
    assert resume(tmp_path / "endpoints") == [], "what serves is left alone"
    endpoint.stop()
    (resumed,) = resume(tmp_path / "endpoints")
    assert (resumed.alive, resumed.weights) == (True, {"7": 1.0})
    assert list(deployed(tmp_path / "endpoints")) == ["delay"]
    assert request_fields(endpoint.folder) == [field.name for field in SCHEMA.request_fields]
