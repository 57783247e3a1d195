"""The Redis online store, with a real server: the contract, its growth, and servers that go and come."""

import builtins

import pytest

from ml_assets.adapters.online import Expiry, open_store
from ml_assets.adapters.online.redis import RedisOnlineStore
from ml_assets.errors import StoreUnavailableError
from ml_assets_tests.adapters import processes
from ml_assets_tests.adapters.redis_server import RedisServer, running
from ml_assets_tests.contracts.online_store import HOUR, START_US, OnlineStoreContract, rows, span_of


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def place(server: RedisServer) -> str:
    server.client().flushall()
    return server.url


@pytest.fixture
def store(place) -> RedisOnlineStore:
    return open_store(place)


def keys_of(server: RedisServer, part: str = "") -> list[bytes]:
    return sorted(key for key in server.client().keys("*") if part.encode() in key)


class TestRedisOnlineStore(OnlineStoreContract):
    pass


def test_it_does_not_grow_with_the_time_that_passes(store, server):
    sizes = []
    for hour in range(30):
        values = [(f"C{entity}", hour, 0.5) for entity in range(50) if hour < 10 or entity < 40]
        expiry = Expiry(START_US + (hour - 3) * HOUR)
        store.replace("v", ["carrier"], ["delay"], rows(*values), **span_of(hour, hour), expiry=expiry)
        sizes.append(sum(map(server.client().zcard, keys_of(server, ":rows:"))))
    assert sizes[5] == 4 * 50
    assert sizes[-1] == 4 * 40
    assert server.client().scard("ml_assets:online:v:entities") == 40
    assert len(keys_of(server, ":rows:")) == 40


def test_a_view_that_is_dropped_leaves_nothing(store, server):
    store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)))
    store.drop("v")
    assert keys_of(server) == []


def test_what_a_killed_writer_had_on_its_way_goes_away_by_itself(store, server, place):
    store.write("v", ["carrier"], ["generation"], processes.generation_of_features(0))
    staged = []
    for _ in range(20):
        with processes.living(processes.replace_features_forever, place, 1):
            processes.wait_until(lambda: keys_of(server, ":staged:"))
        staged = keys_of(server, ":staged:")
        if staged:
            break
    assert staged
    assert all(server.client().ttl(key) in range(-2, 3601) and server.client().ttl(key) != -1 for key in staged)


def test_rows_lost_on_their_way_are_an_error_and_change_nothing(store, server):
    store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)))
    stage = store._stage

    def lose(view, taken):
        name, pieces = stage(view, taken)
        server.client().delete(name)
        return name, pieces

    store._stage = lose
    with pytest.raises(StoreUnavailableError, match="staged rows are gone"):
        store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 2.5)))
    assert store.lookup("v", ("UA",), START_US) == (START_US, (1.5,))


def test_a_server_that_is_gone_is_named_without_its_password_and_used_again_once_it_is_back(tmp_path):
    with running(tmp_path) as server:
        store = open_store(server.url)
        with_password = open_store(server.url.replace("redis://", "redis://me:secret@"))
        store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)))
        server.kill()
        for ask in (lambda: store.lookup("v", ("UA",), 0), lambda: store.schema("v"), store.views):
            with pytest.raises(StoreUnavailableError, match=rf"redis://127.0.0.1:{server.port}/0 cannot be used"):
                ask()
        with pytest.raises(StoreUnavailableError) as refused:
            with_password.views()
        assert "secret" not in str(refused.value)
        server.start()
        assert store.views() == []
        store.write("v", ["carrier"], ["delay"], rows(("UA", 1, 2.5)))
        assert store.lookup("v", ("UA",), START_US + HOUR) == (START_US + HOUR, (2.5,))


def test_without_the_library_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments):
        if name == "redis":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(StoreUnavailableError, match=r"pip install ml_assets\[redis\]"):
        open_store("redis://127.0.0.1:1/0")
