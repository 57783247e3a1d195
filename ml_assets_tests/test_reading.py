from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import reading
from ml_assets.adapters.difference import difference
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.versions import version_at
from ml_assets.errors import LakeError, TableNotFoundError


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """Orders by day in three versions, customers as a whole in one, and a refused row."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    place = Lake(str(tmp_path / "lake"))
    write(place, "tables/orders", {"a": 1, "b": 2}, "2013-01-01")
    write(place, "tables/orders", {"c": 3}, "2013-01-02")
    write(place, "tables/orders", {"a": 1, "b": 5, "d": 9}, "2013-01-01")
    write(place, "quarantine/orders", {"x": -1}, "2013-01-02")
    place.write("tables/customers", pa.table({"name": ["ada"]}))
    place.put_object("objects/in/a/folder", b"no table")
    return place


def write(lake, name, amounts, day):
    rows = pa.table(
        {
            "id": pa.array(list(amounts), pa.string()),
            "amount": pa.array(list(amounts.values()), pa.int64()),
            "partition_key": pa.array([day] * len(amounts), pa.string()),
        }
    )
    return lake.write(name, rows, partitions=[day])


def amounts(con, table="orders"):
    return dict(con.sql(f"SELECT id, amount FROM {table} ORDER BY id").fetchall())


def test_every_table_is_a_view_by_layer_and_a_declared_one_by_its_plain_name(lake):
    con = reading.connect()
    assert reading.tables() == ["quarantine/orders", "tables/customers", "tables/orders"]
    assert amounts(con) == amounts(con, "tables.orders") == {"a": 1, "b": 5, "c": 3, "d": 9}
    assert amounts(con, "quarantine.orders") == {"x": -1}
    assert con.sql("SELECT name FROM customers").fetchall() == [("ada",)]


def test_a_moment_gives_what_was_committed_by_then(lake):
    committed = [each.committed_at for each in reversed(lake.history("tables/orders"))]
    assert amounts(reading.connect(as_of=committed[1])) == {"a": 1, "b": 2, "c": 3}
    just_before = committed[1] - timedelta(milliseconds=1)
    assert amounts(reading.connect(as_of=just_before)) == {"a": 1, "b": 2}
    text = committed[1].replace(tzinfo=None).isoformat()  # without zone it is UTC
    assert amounts(reading.connect(as_of=text)) == {"a": 1, "b": 2, "c": 3}


def test_a_version_is_pinned_by_plain_or_full_name_before_a_moment(lake):
    assert amounts(reading.connect(version={"orders": 0})) == {"a": 1, "b": 2}
    assert amounts(reading.connect(version={"tables/orders": 0}, as_of="2100-01-01")) == {"a": 1, "b": 2}


def test_a_table_that_did_not_exist_then_says_so_when_it_is_asked(lake):
    con = reading.connect(as_of=lake.history("tables/orders")[0].committed_at)
    assert "d" in amounts(con)
    first = lake.history("quarantine/orders")[0]
    with pytest.raises(duckdb.Error, match=r"quarantine/orders did not exist at .* The first, version 0, is of 20"):
        con.sql("SELECT count(*) FROM quarantine.orders").fetchall()
    assert first.version == 0


@pytest.mark.parametrize(
    ("version", "said"),
    [({"orders": 7}, "has no version 7; it has versions 0 to 2"), ({"order": 0}, "There is no tables/order in")],
)
def test_a_version_that_is_not_there_is_an_error_at_once(lake, version, said):
    with pytest.raises(TableNotFoundError, match=said):
        reading.connect(version=version)


def test_views_are_lazy_and_do_not_move_with_later_writes(lake):
    con = reading.connect()
    write(lake, "tables/orders", {"z": 0}, "2013-01-02")
    assert "z" not in amounts(con)
    assert "z" in amounts(reading.connect())


def test_history_names_the_partitions_of_each_version(lake):
    found = [(each.version, each.partitions) for each in reading.history("orders")]
    assert found == [(2, ("2013-01-01",)), (1, ("2013-01-02",)), (0, ("2013-01-01",))]


def test_a_difference_reads_only_partitions_whose_files_differ(lake):
    found = reading.diff("orders", 1, keys=["id"])
    assert found.partitions_read == ("2013-01-01",)
    assert found.counts == {"2013-01-01": {"added": 1, "removed": 0, "changed": 1}}
    assert [(each.change, each.key, each.columns) for each in found.changes] == [
        ("changed", {"id": "b"}, {"amount": (2, 5)}),
        ("added", {"id": "d"}, {}),
    ]


def test_without_keys_a_changed_row_is_one_removed_and_one_added(lake):
    found = reading.diff("orders", 1)
    assert found.counts == {"2013-01-01": {"added": 2, "removed": 1, "changed": 0}}


def test_a_new_column_is_told_and_changes_the_rows_that_hold_it(lake):
    rows = pa.table({"id": ["c"], "amount": [3], "note": ["late"], "partition_key": ["2013-01-02"]})
    lake.write("tables/orders", rows, partitions=["2013-01-02"])
    found = reading.diff("orders", 2, keys=["id"])
    assert found.new_columns == ("note",)
    assert [each.columns for each in found.changes] == [{"note": (None, "late")}]


def test_a_table_that_is_whole_is_compared_too(lake):
    lake.write("tables/customers", pa.table({"name": ["ada", "bob"]}))
    found = reading.diff("customers", 0, keys=["name"])
    assert found.counts == {"": {"added": 1, "removed": 0, "changed": 0}}


def test_keys_that_are_no_columns_are_refused(lake):
    with pytest.raises(LakeError, match="tables/orders has no column nr"):
        reading.diff("orders", 0, keys=["nr"])


days = st.dictionaries(
    st.sampled_from(["2013-01-01", "2013-01-02"]),
    st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 2)),
    min_size=1,
)


@settings(max_examples=15)
@given(before=days, after=days)
def test_a_difference_is_what_a_comparison_row_by_row_finds(tmp_path_factory, before, after):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for state in (before, after):
        for day, rows in state.items():
            write(lake, "tables/t", rows, day)
    after = before | after
    for day in before:
        if day not in after:
            after[day] = before[day]
    first = len(before) - 1
    wanted = {}
    old, new = (
        {(day, key): value for day, rows in state.items() for key, value in rows.items()} for state in (before, after)
    )
    for key in {*old, *new}:
        if key not in old or key not in new or old[key] != new[key]:
            wanted[key] = "removed" if key not in new else "added" if key not in old else "changed"
    versions = [version_at(lake, "tables/t", at) for at in (first_version(lake, old, first), None)]
    found = difference(lake, "tables/t", *versions, keys=["id"])
    assert {(each.partition, each.key["id"]): each.change for each in found.changes} == wanted


def first_version(lake, rows, upper):
    """The version that holds the first state; a write of the same content makes no commit."""
    for version in range(min(upper, lake.version("tables/t")), -1, -1):
        held = lake.dataset("tables/t", version=version).to_table().to_pylist()
        if {(row["partition_key"], row["id"]): row["amount"] for row in held} == rows:
            return version
    raise AssertionError(rows)
