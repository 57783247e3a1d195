"""What every online store promises. A subclass supplies the `place` fixture, where an empty store is."""

import math
import pickle
import random
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.adapters.online import Expiry, OnlineStore, open_store
from ml_assets.errors import FeatureError, TableNotFoundError
from ml_assets_tests.adapters import processes

START = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
START_US = 1_356_998_400_000_000


def rows(*values: tuple, entity: tuple[str, ...] = ("carrier",), features: tuple[str, ...] = ("delay",)) -> pa.Table:
    """Each value: key parts, hours after START, features."""
    names = [*entity, "feature_timestamp", *features]
    columns = {name: [value[place] for value in values] for place, name in enumerate(names)}
    times = [START + timedelta(hours=hours) for hours in columns["feature_timestamp"]]
    return pa.table(columns | {"feature_timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})


hours = st.integers(0, 12)
row = st.tuples(st.sampled_from("ab"), hours, st.floats(allow_nan=False))
span = st.tuples(hours, hours).map(sorted)
steps = st.lists(st.tuples(span, st.lists(row, max_size=6), st.sampled_from([-9, 3, 6]), st.booleans()), max_size=5)


def expected_after(state: dict, first: int, last: int, given: list[tuple], since: int, lasting: bool) -> dict:
    """What a dictionary by entity and hour holds after a replacement."""
    kept = {key: value for key, value in state.items() if not first <= key[1] <= last}
    kept |= {(entity, hour): value for entity, hour, value in given}
    counting = {entity: max((h for e, h in kept if e == entity and h <= since), default=None) for entity, _ in kept}
    return {
        (entity, hour): value
        for (entity, hour), value in kept.items()
        if hour >= since or (lasting and hour == counting[entity])
    }


def answers(state: dict) -> dict[tuple, tuple | None]:
    """What each entity of such a dictionary has at each hour."""
    found = {}
    for entity, hour in product("ab", range(14)):
        times = [at for other, at in state if other == entity and at <= hour]
        found[entity, hour] = (max(times), state[entity, max(times)]) if times else None
    return found


def span_of(first: int, last: int) -> dict[str, datetime]:
    """The time of a replacement."""
    return {"first": START + timedelta(hours=first), "last": START + timedelta(hours=last)}


SAMPLE = [(f"C{entity}",) for entity in (0, processes.ENTITIES // 2, processes.ENTITIES - 1, 1)]


def generations(store: OnlineStore) -> list[float]:
    """What four of the entities that a process writes all the time have now, looked up at once."""
    found = store.lookup_many("v", SAMPLE, [START_US] * len(SAMPLE))
    assert all(found)
    return [values[0] for _, values in found]


def one_generation(store: OnlineStore) -> float:
    """Looked up at once, entities are of one write; one after the other, a later one is never of an earlier write."""
    [together] = set(generations(store))
    singly = [store.lookup("v", key, START_US)[1][0] for key in SAMPLE]
    assert singly == sorted(singly)
    assert singly[0] >= together
    return singly[-1]


class OnlineStoreContract:
    """What every online store promises."""

    @pytest.fixture
    def store(self, place):
        return open_store(place)

    def write(self, store, *values, entity=("carrier",), features=("delay",)):
        return store.write("v", entity, features, rows(*values, entity=entity, features=features))

    def replace(self, store, first: int, last: int, *values, since: int | None = None, lasting=False):
        expiry = None if since is None else Expiry(START_US + since * HOUR, lasting)
        return store.replace("v", ["carrier"], ["delay"], rows(*values), **span_of(first, last), expiry=expiry)

    def at(self, store, hours: float, *key) -> tuple | None:
        found = store.lookup("v", key or ("UA",), START_US + int(hours * HOUR))
        return found and ((found[0] - START_US) / HOUR, *found[1])

    def test_the_newest_row_no_later_than_the_moment_is_found(self, store):
        assert self.write(store, ("UA", 1, 10.0), ("UA", 3, 30.0), ("AA", 2, 5.0)) == 3
        assert [self.at(store, hours) for hours in (0.9, 1, 2.9, 3, 99)] == [None, (1, 10), (1, 10), (3, 30), (3, 30)]

    def test_an_unknown_entity_or_view_has_no_row(self, store):
        self.write(store, ("UA", 1, 10.0))
        assert self.at(store, 9, "XX") is None
        assert store.lookup("other", ("UA",), START_US + HOUR) is None

    def test_a_row_of_the_same_time_is_replaced(self, store):
        self.write(store, ("UA", 1, 10.0))
        self.write(store, ("UA", 1, 11.0))
        assert self.at(store, 1) == (1, 11)

    def test_rows_from_before_a_moment_expire(self, store):
        self.replace(store, 0, 3, ("UA", 0, 1.0), ("UA", 1, 2.0), ("AA", 3, 3.0), since=1)
        assert (self.at(store, 0), self.at(store, 1)) == (None, (1, 2))

    def test_where_all_rows_expire_there_is_no_newest_one(self, store):
        self.replace(store, 0, 3, ("UA", 0, 1.0), ("AA", 3, 3.0), since=9)
        assert (self.at(store, 9), store.newest("v"), store.views()) == (None, None, ["v"])

    def test_where_rows_last_each_entity_keeps_the_row_that_counts_at_the_moment_and_all_later_ones(self, store):
        ua = [("UA", hour, float(hour)) for hour in (0, 2, 6, 9)]
        self.replace(store, 0, 9, *ua, ("AA", 0, 3.0), ("DL", 8, 8.0), since=4, lasting=True)
        assert [self.at(store, hour) for hour in (1, 2, 5, 6, 9)] == [None, (2, 2), (2, 2), (6, 6), (9, 9)]
        assert (self.at(store, 4, "AA"), self.at(store, 7, "DL"), self.at(store, 8, "DL")) == ((0, 3), None, (8, 8))

    def test_where_rows_last_the_row_of_the_moment_itself_is_enough(self, store):
        self.replace(store, 0, 9, ("UA", 2, 2.0), ("UA", 4, 4.0), since=4, lasting=True)
        assert (self.at(store, 3), self.at(store, 4)) == (None, (4, 4))

    def test_what_has_expired_of_a_view_that_was_whole_is_known(self, store):
        self.replace(store, 0, 9, ("UA", 4, 1.0), since=2, lasting=True)
        assert store.expired("v") is None  # nobody said that it was whole
        store.hold("v", Expiry(START_US, lasting=True))
        found = []
        for since, lasting in ((3, True), (2, True), (5, False), (6, True), (4, False)):
            self.replace(store, 0, 9, ("UA", 4, 1.0), since=since, lasting=lasting)
            found.append(store.expired("v"))
        expected = [(3, True), (3, True), (5, False), (6, False), (6, False)]
        assert found == [Expiry(START_US + since * HOUR, lasting) for since, lasting in expected]
        assert self.replace(store, 0, 9, ("UA", 4, 1.0)) == 1
        assert store.expired("v") == found[-1]
        store.drop("v")
        assert (store.expired("v"), store.expired("other")) == (None, None)

    def test_old_history_written_late_removes_nothing_newer(self, store):
        self.write(store, ("UA", 48, 2.0))
        self.replace(store, 0, 40, ("UA", 1, 1.0), ("UA", 30, 1.5), since=24)
        assert (self.at(store, 2), self.at(store, 31), self.at(store, 99)) == (None, (30, 1.5), (48, 2))

    def test_a_replaced_time_leaves_no_ghosts(self, store):
        self.write(store, ("UA", 0, 1.0), ("UA", 1, 2.0), ("UA", 2, 3.0), ("UA", 3, 4.0), ("AA", 2, 8.0))
        self.replace(store, 1, 2, ("UA", 1, 20.0))
        assert [self.at(store, hours) for hours in range(4)] == [(0, 1), (1, 20), (1, 20), (3, 4)]
        assert self.at(store, 2, "AA") is None

    def test_rows_outside_of_the_replaced_time_are_refused_and_nothing_changes(self, store):
        self.write(store, ("UA", 1, 2.0))
        with pytest.raises(FeatureError, match="1 of 2 rows"):
            self.replace(store, 1, 2, ("UA", 1, 20.0), ("UA", 3, 20.0))
        assert self.at(store, 9) == (1, 2)

    def test_the_parts_of_a_key_do_not_run_together(self, store):
        entity = ("origin", "carrier")
        self.write(store, ("a", "b", 0, 1.0), ("ab", "", 0, 2.0), ("", "ab", 0, 3.0), entity=entity)
        assert [self.at(store, 0, *key)[1] for key in (("a", "b"), ("ab", ""), ("", "ab"))] == [1, 2, 3]

    def test_numbers_and_numpy_scalars_are_keys(self, store):
        self.write(store, (7, "UA", 0, 1.0), entity=("flight", "carrier"))
        assert self.at(store, 0, 7, "UA") == self.at(store, 0, np.int64(7), np.str_("UA")) == (0, 1)
        assert self.at(store, 0, "7", "UA") is None

    def test_rows_with_a_null_in_their_key_are_left_out(self, store):
        assert self.write(store, ("UA", 0, 1.0), (None, 0, 2.0)) == 1
        assert self.at(store, 0, None) is None

    def test_doubles_come_back_with_the_same_bits(self, store):
        values = (0.1, -0.0, 1e-308, 5e-324, math.inf, -math.inf, 2.0**60, 3.0, math.pi, 1.7976931348623157e308)
        features = tuple(f"f{place}" for place in range(len(values)))
        self.write(store, ("UA", 0, *values), features=features)
        found = self.at(store, 0)[1:]
        assert [struct.pack("d", value) for value in found] == [struct.pack("d", value) for value in values]

    def test_texts_come_back_and_not_a_number_is_null(self, store):
        self.write(store, ("UA", 0, "", "Zürich \x00", None, math.nan), features=("a", "b", "c", "d"))
        assert self.at(store, 0) == (0, "", "Zürich \x00", None, None)

    def test_a_feature_keeps_its_place_when_others_come_and_go(self, store):
        self.write(store, ("UA", 0, 1.0, 2.0), features=("a", "b"))
        self.write(store, ("UA", 1, 3.0, 4.0), features=("c", "b"))
        assert store.schema("v") == (("carrier",), ("a", "b", "c"))
        assert (self.at(store, 0), self.at(store, 1)) == ((0, 1, 2, None), (1, None, 4, 3))

    def test_other_keys_are_refused_until_the_view_is_dropped(self, store):
        self.write(store, ("UA", 0, 1.0))
        with pytest.raises(FeatureError, match="drop it"):
            self.write(store, ("JFK", 0, 1.0), entity=("origin",))
        store.drop("v")
        self.write(store, ("JFK", 0, 1.0), entity=("origin",))
        assert (self.at(store, 0), self.at(store, 0, "JFK")) == (None, (0, 1))

    def test_a_view_of_one_row_for_all_has_an_empty_key(self, store):
        self.write(store, (0, 1.0), entity=())
        assert store.lookup("v", (), START_US) == (START_US, (1.0,))

    def test_it_tells_its_views_and_their_newest_rows(self, store):
        assert store.views() == []
        self.write(store, ("UA", 0, 1.0), ("UA", 5, 1.0))
        assert (store.views(), store.newest("v"), store.newest("other")) == (["v"], START_US + 5 * HOUR, None)
        with pytest.raises(TableNotFoundError, match="other"):
            store.schema("other")

    def test_no_rows_are_no_change_but_make_the_view_known(self, store):
        empty = rows(("UA", 0, 1.0)).slice(0, 0)
        assert store.write("v", ["carrier"], ["delay"], empty) == 0
        assert (store.views(), self.at(store, 9)) == (["v"], None)

    def test_many_look_ups_in_one_turn_give_what_each_gives(self, store):
        self.write(store, ("UA", 1, 10.0), ("UA", 3, 30.0), ("AA", 2, 5.0))
        asked = [(("UA",), START_US + HOUR), (("XX",), START_US), (("AA",), START_US + 9 * HOUR), (("UA",), 0)]
        keys, times = zip(*asked, strict=True)
        assert store.lookup_many("v", keys, times) == [store.lookup("v", key, at) for key, at in asked]
        assert store.lookup_many("v", [], []) == []
        assert store.lookup_many("v", [("AA",)], [START_US + 2 * HOUR]) == [(START_US + 2 * HOUR, (5,))]

    def test_wide_rows_keep_their_bits_when_features_come(self, store):
        few, many = (tuple(f"f{place}" for place in range(n)) for n in (14, 40))
        values = [place / 3 for place in range(40)]
        self.write(store, ("UA", 0, *values[:14]), features=few)
        self.write(store, ("UA", 1, *values), features=many)
        assert self.at(store, 0) == (0, *values[:14], *[None] * 26)
        self.write(store, ("UA", 2, 0.5), features=("new",))
        assert self.at(store, 0) == (0, *values[:14], *[None] * 27)
        assert (self.at(store, 1), self.at(store, 2)) == ((1, *values, None), (2, *[None] * 40, 0.5))

    def test_any_sequence_of_replacements_leaves_what_a_dictionary_would_hold(self, store):
        @settings(max_examples=40)
        @given(steps)
        def holds(steps) -> None:
            store.drop("v")
            state: dict = {}
            for (first, last), drawn, since, lasting in steps:
                written = [value for value in drawn if first <= value[1] <= last]
                state = expected_after(state, first, last, written, since, lasting)
                table = written or [("a", first, 0.0)]
                expiry = Expiry(START_US + since * HOUR, lasting)
                part = rows(*table).slice(0, len(written))
                store.replace("v", ["carrier"], ["delay"], part, **span_of(first, last), expiry=expiry)
            assert {(entity, hour): self.at(store, hour, entity) for entity, hour in answers(state)} == answers(state)
            newest = max((START_US + hour * HOUR for _, hour in state), default=None)
            assert store.newest("v") == newest

        holds()

    def test_a_failed_write_changes_nothing(self, store):
        self.write(store, ("UA", 0, 1.5))
        keyless = rows(("UA", 0, 2.5)).drop_columns("carrier")
        with pytest.raises(KeyError):
            store.replace("v", ["carrier"], ["delay"], keyless, first=START, last=START)
        assert self.at(store, 0) == (0, 1.5)
        assert self.write(store, ("UA", 0, 3.5)) == 1

    def test_threads_and_copies_read_the_same_store(self, store):
        self.write(store, ("UA", 0, 1.5))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: self.at(store, 0), range(20)))
        assert set(found) == {(0, 1.5)}
        assert self.at(pickle.loads(pickle.dumps(store)), 0) == (0, 1.5)

    def test_whoever_reads_while_a_process_writes_sees_one_write_and_a_kill_leaves_one(self, place, store):
        chance = random.Random(2)  # noqa: S311
        store.write("v", ["carrier"], ["generation"], processes.generation_of_features(0))
        for _ in range(8):
            before = one_generation(store)
            with processes.living(processes.replace_features_forever, place, int(before) + 1):
                processes.wait_until(lambda before=before: one_generation(store) > before)
                end = time.monotonic() + chance.uniform(0, 0.3)
                while time.monotonic() < end:
                    one_generation(store)
            assert one_generation(store) > before

    def test_writers_at_once_lose_nothing_of_each_other(self, place, store):
        writers = [processes.start(processes.write_hours, place, name, range(12)) for name in ("a", "b", "c")]
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert set(store.schema("v").features) == {"a", "b", "c"}
        place_of = store.schema("v").features.index
        for name in "abc":
            for hour in range(12):
                at, *values = self.at(store, hour, name)
                assert (at, values[place_of(name)]) == (hour, float(hour))
