"""What every online store promises. A subclass supplies the `store` fixture, an empty store."""

import math
import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ml_assets.errors import FeatureError, TableNotFoundError

START = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
START_US = 1_356_998_400_000_000
LONG = timedelta(days=365)


def rows(*values: tuple, entity: tuple[str, ...] = ("carrier",), features: tuple[str, ...] = ("delay",)) -> pa.Table:
    """Each value: key parts, hours after START, features."""
    names = [*entity, "feature_timestamp", *features]
    columns = {name: [value[place] for value in values] for place, name in enumerate(names)}
    times = [START + timedelta(hours=hours) for hours in columns["feature_timestamp"]]
    return pa.table(columns | {"feature_timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})


class OnlineStoreContract:
    """What every online store promises."""

    def write(self, store, *values, keep=LONG, entity=("carrier",), features=("delay",)):
        return store.write("v", entity, features, rows(*values, entity=entity, features=features), keep=keep)

    def replace(self, store, first: int, last: int, *values, keep=LONG):
        span = {"first": START + timedelta(hours=first), "last": START + timedelta(hours=last)}
        return store.replace("v", ["carrier"], ["delay"], rows(*values), keep=keep, **span)

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

    def test_rows_older_than_the_newest_by_more_than_keep_expire(self, store):
        self.write(store, ("UA", 0, 1.0), ("UA", 1, 2.0), ("AA", 3, 3.0), keep=timedelta(hours=2))
        assert (self.at(store, 0), self.at(store, 1)) == (None, (1, 2))

    def test_without_keep_each_entity_has_its_newest_row_only(self, store):
        self.write(store, ("UA", 0, 1.0), ("UA", 1, 2.0), ("AA", 0, 3.0), keep=None)
        self.write(store, ("UA", 0, 9.0), keep=None)
        assert (self.at(store, 0.5), self.at(store, 1), self.at(store, 1, "AA")) == (None, (1, 2), (0, 3))

    def test_old_history_written_late_removes_nothing_newer(self, store):
        self.write(store, ("UA", 48, 2.0), keep=timedelta(hours=24))
        self.replace(store, 0, 40, ("UA", 1, 1.0), ("UA", 30, 1.5), keep=timedelta(hours=24))
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
        assert store.write("v", ["carrier"], ["delay"], empty, keep=LONG) == 0
        assert (store.views(), self.at(store, 9)) == (["v"], None)
