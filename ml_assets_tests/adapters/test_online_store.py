"""The SQLite online store: the contract, a model of it, threads, latency and killed writers."""

import pickle
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.adapters.online import microseconds
from ml_assets.adapters.online.sqlite import SqliteOnlineStore
from ml_assets_tests.adapters import processes
from ml_assets_tests.contracts.online_store import HOUR, LONG, START, START_US, OnlineStoreContract, rows

hours = st.integers(0, 12)
row = st.tuples(st.sampled_from("ab"), hours, st.floats(allow_nan=False))
span = st.tuples(hours, hours).map(sorted)
steps = st.lists(st.tuples(span, st.lists(row, max_size=6), st.sampled_from([None, 3, 6, 99])), max_size=5)


class TestSqliteOnlineStore(OnlineStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return SqliteOnlineStore(tmp_path / "online" / "features.db")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "features.db")


def expected_after(state: dict, first: int, last: int, given: list[tuple], keep: int | None) -> dict:
    kept = {key: value for key, value in state.items() if not first <= key[1] <= last}
    kept |= {(entity, hour): value for entity, hour, value in given}
    newest = max((hour for _, hour in kept), default=0)
    by_entity = {entity: max(hour for other, hour in kept if other == entity) for entity, _ in kept}
    if keep is None:
        return {key: value for key, value in kept.items() if key[1] == by_entity[key[0]]}
    return {key: value for key, value in kept.items() if key[1] >= newest - keep}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_sequence_of_replacements_leaves_what_a_dictionary_would_hold(tmp_path_factory, steps):
    store, state = SqliteOnlineStore(tmp_path_factory.mktemp("store") / "features.db"), {}
    for (first, last), drawn, keep in steps:
        written = [value for value in drawn if first <= value[1] <= last]
        state = expected_after(state, first, last, written, keep)
        moments = {"first": START + timedelta(hours=first), "last": START + timedelta(hours=last)}
        kept = None if keep is None else timedelta(hours=keep)
        table = rows(*written) if written else rows(("a", 0, 0.0)).slice(0, 0)
        store.replace("v", ["carrier"], ["delay"], table, keep=kept, **moments)
    for entity in "ab":
        for hour in range(14):
            times = [at for other, at in state if other == entity and at <= hour]
            found = store.lookup("v", (entity,), START_US + hour * HOUR)
            answer = (START_US + max(times) * HOUR, (state[entity, max(times)],)) if times else None
            assert found == answer


def test_microseconds_are_exact():
    assert microseconds(START) == START_US
    assert microseconds(START + timedelta(microseconds=1)) == START_US + 1


def test_threads_and_other_processes_read_the_same_store(path):
    store = SqliteOnlineStore(path)
    store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)), keep=LONG)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: store.lookup("v", ("UA",), START_US), range(20)))
    assert set(found) == {(START_US, (1.5,))}
    assert pickle.loads(pickle.dumps(store)).lookup("v", ("UA",), START_US) == (START_US, (1.5,))


def test_a_failed_write_changes_nothing(path):
    store = SqliteOnlineStore(path)
    store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 1.5)), keep=LONG)
    keyless = rows(("UA", 0, 2.5)).drop_columns("carrier")
    with pytest.raises(KeyError):
        store.replace("v", ["carrier"], ["delay"], keyless, keep=LONG, first=START, last=START)
    assert store.lookup("v", ("UA",), START_US) == (START_US, (1.5,))
    assert store.write("v", ["carrier"], ["delay"], rows(("UA", 0, 3.5)), keep=LONG) == 1


def test_a_lookup_among_many_rows_takes_microseconds(path):
    store = SqliteOnlineStore(path)
    many = [(f"C{entity}", hour, *[0.5] * 20) for entity in range(400) for hour in range(24)]
    features = tuple(f"f{place}" for place in range(20))
    store.write("v", ["carrier"], features, rows(*many, features=features), keep=LONG)
    took = []
    for number in range(2000):
        begin = time.perf_counter()
        assert store.lookup("v", (f"C{number % 400}",), START_US + 12 * HOUR)
        took.append(time.perf_counter() - begin)
    assert statistics.median(took) < 100e-6


def one_generation(store: SqliteOnlineStore) -> float:
    """Read the store many times over; whatever single transaction reads, its rows are of one generation."""
    con = store._connection()
    con.execute("BEGIN")
    found = [store.lookup("v", (f"C{entity}",), START_US) for entity in range(processes.ENTITIES)]
    con.execute("COMMIT")
    assert all(found)
    [generation] = {values for _, values in found}
    return generation[0]


def test_a_killed_writer_is_never_seen_half_way(path):
    store, chance = SqliteOnlineStore(path), random.Random(2)  # noqa: S311
    store.write("v", ["carrier"], ["generation"], processes.generation_of_features(0), keep=LONG)
    for _ in range(25):
        before = one_generation(store)
        writer = processes.start(processes.replace_features_forever, path, int(before) + 1)
        processes.wait_until(lambda before=before: one_generation(store) > before)
        end = time.monotonic() + chance.uniform(0, 0.03)
        while time.monotonic() < end:
            one_generation(store)
        writer.kill()
        writer.join()
        assert one_generation(store) > before
