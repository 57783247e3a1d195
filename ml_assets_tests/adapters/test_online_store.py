"""The SQLite online store: the contract, its speed, and files that are lost or are none."""

import statistics
import time
from pathlib import Path

import pytest

from ml_assets.adapters.online import microseconds, open_store
from ml_assets.adapters.online.sqlite import SqliteOnlineStore
from ml_assets.errors import StoreUnavailableError, TableNotFoundError
from ml_assets_tests.contracts.online_store import HOUR, START, START_US, OnlineStoreContract, rows


@pytest.fixture
def place(tmp_path) -> str:
    return str(tmp_path / "online" / "features.db")


class TestSqliteOnlineStore(OnlineStoreContract):
    pass


def test_microseconds_are_exact():
    from datetime import timedelta

    assert microseconds(START) == START_US
    assert microseconds(START + timedelta(microseconds=1)) == START_US + 1


def test_a_path_opens_a_file(place):
    store = open_store(place)
    assert isinstance(store, SqliteOnlineStore)
    assert Path(place).exists()


def test_a_lookup_among_many_rows_takes_microseconds(place):
    store = open_store(place)
    many = [(f"C{entity}", hour, *[0.5] * 20) for entity in range(400) for hour in range(24)]
    features = tuple(f"f{place}" for place in range(20))
    store.write("v", ["carrier"], features, rows(*many, features=features))
    took = []
    for number in range(2000):
        begin = time.perf_counter()
        assert store.lookup("v", (f"C{number % 400}",), START_US + 12 * HOUR)
        took.append(time.perf_counter() - begin)
    assert statistics.median(took) < 100e-6


def test_a_server_sees_a_file_that_was_lost_and_made_again(place):
    serving, writing = open_store(place), open_store(place)
    writing.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)))
    assert serving.lookup("v", ("UA",), START_US)
    for file in Path(place).parent.iterdir():
        file.unlink()
    with pytest.raises(TableNotFoundError):
        serving.schema("v")
    open_store(place).write("v", ["carrier"], ["delay"], rows(("UA", 0, 2.5)))
    assert (serving.schema("v").features, serving.lookup("v", ("UA",), START_US)) == (("delay",), (START_US, (2.5,)))


def test_a_file_that_is_no_database_is_named(place):
    Path(place).parent.mkdir()
    Path(place).write_bytes(b"something else " * 100)
    with pytest.raises(StoreUnavailableError, match=r"features\.db cannot be used: file is not a database"):
        open_store(place)


def test_a_database_that_is_damaged_under_a_reader_is_named(place):
    store = open_store(place)
    store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)))
    store._connection().execute("DROP TABLE feature_rows")
    with pytest.raises(StoreUnavailableError, match="no such table"):
        store.lookup("v", ("UA",), START_US)
