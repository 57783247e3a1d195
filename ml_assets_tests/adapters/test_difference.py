"""What differs between two versions of a table, where rows are hard to tell apart."""

import pyarrow as pa
import pytest

from ml_assets.adapters.difference import difference
from ml_assets.adapters.lake import Lake

NAME = "tables/t"


@pytest.fixture
def compare(tmp_path):
    """Write two tables, and compare them."""
    lake = Lake(str(tmp_path))

    def compared(old, new, **options):
        for rows in (old, new):
            lake.write(NAME, pa.table(rows))
        newest, before = lake.history(NAME)[:2]
        return difference(lake, NAME, before, newest, **options)

    return compared


def test_rows_without_a_key_value_meet(compare):
    found = compare({"k": [None, "b"], "n": [1, 2]}, {"k": [None, "b"], "n": [9, 2]}, keys=["k"])
    assert [(each.change, each.key, each.columns) for each in found.changes] == [
        ("changed", {"k": None}, {"n": (1, 9)})
    ]


def test_without_keys_equal_rows_are_counted(compare):
    found = compare({"n": [1, 1, 1, 2]}, {"n": [1, 2, 2]})
    assert (found.total("added"), found.total("removed")) == (1, 2)
    assert [(each.change, each.row) for each in found.changes] == [
        ("added", {"n": 2}),
        ("removed", {"n": 1}),
        ("removed", {"n": 1}),
    ]


def test_a_column_of_another_type_differs_by_what_it_shows(compare):
    found = compare({"k": ["a", "b"], "n": [1, 2]}, {"k": ["a", "b"], "n": ["1", "two"]}, keys=["k"])
    assert [(each.key, each.columns) for each in found.changes] == [({"k": "b"}, {"n": ("2", "two")})]


def test_numbers_that_json_does_not_know_are_shown(compare):
    found = compare({"k": ["a"], "x": [1.5]}, {"k": ["a"], "x": [float("inf")]}, keys=["k"])
    assert found.changes[0].columns == {"x": (1.5, float("inf"))}
