"""The content hash: equal for equal rows, whatever their order, and for nothing else."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.adapters.content import EMPTY, WHOLE, content_of
from ml_assets.engine import connect

CON = connect()
values = st.sampled_from([None, 0.0, 1.0, 2.0, 1.5, float("nan"), float("inf")])
rows = st.lists(st.tuples(values, values, st.sampled_from([None, "", "a", "b"])), max_size=8)


def table(rows: list[tuple], names: str = "xyz") -> pa.Table:
    types = [pa.float64(), pa.float64(), pa.string()]
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(types)]
    return pa.table(dict(zip(names, columns, strict=True)))


def hash_of(rows: pa.Table) -> str:
    return content_of(CON, rows, by_partition=False)[WHOLE].hash


def canonical(rows: list[tuple]) -> list[str]:
    return sorted(repr(row) for row in rows)


@given(rows, st.randoms())
def test_the_order_of_rows_changes_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert hash_of(table(rows)) == hash_of(table(shuffled))


@given(rows, st.permutations(["x", "y", "z"]))
def test_the_order_of_columns_changes_nothing(rows, names):
    assert hash_of(table(rows)) == hash_of(table(rows).select(names))


@given(rows, rows)
def test_rows_of_the_same_hash_are_the_same_rows(first, second):
    assert (hash_of(table(first)) == hash_of(table(second))) == (canonical(first) == canonical(second))


def test_swapping_the_values_of_two_columns_is_another_content():
    assert hash_of(table([(1.0, 2.0, "a")])) != hash_of(table([(2.0, 1.0, "a")]))


def test_values_swapped_between_two_rows_are_another_content():
    assert hash_of(table([(1.0, 2.0, "a"), (3.0, 4.0, "a")])) != hash_of(table([(1.0, 4.0, "a"), (3.0, 2.0, "a")]))


def test_a_row_that_is_there_twice_counts_twice():
    assert len({hash_of(table([(1.0, 2.0, "a")] * times)) for times in range(4)}) == 4


def test_pairs_of_equal_rows_do_not_cancel_out():
    assert hash_of(table([(1.0, 2.0, "a")] * 2)) != hash_of(table([(3.0, 4.0, "b")] * 2))


def test_another_name_or_type_of_a_column_is_another_content():
    number = hash_of(pa.table({"x": [1]}))
    assert len({number, hash_of(pa.table({"y": [1]})), hash_of(pa.table({"x": [1.0]}))}) == 3


def test_a_further_column_without_values_is_the_same_content():
    rows = pa.table({"x": [1, 2]})
    assert hash_of(rows) == hash_of(rows.append_column("y", pa.nulls(2, pa.string())))


def test_how_strings_are_laid_out_in_memory_changes_nothing():
    plain = pa.table({"x": ["a", "b", "a"]})
    assert hash_of(plain) == hash_of(pa.table({"x": plain["x"].dictionary_encode()}))
    assert hash_of(plain) == hash_of(plain.cast(pa.schema({"x": pa.large_string()})))


def test_a_view_a_relation_and_an_arrow_table_hash_alike():
    con = connect()
    rows = pa.table({"partition_key": ["a", "b", "b"], "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 3})
    con.register("features/v", rows)
    contents = [content_of(con, given, by_partition=True) for given in ("features/v", rows, con.from_arrow(rows))]
    assert contents[0] == contents[1] == contents[2]
    assert {key: content.n_rows for key, content in contents[0].items()} == {"a": 1, "b": 2}


def test_no_rows_have_the_empty_content():
    assert content_of(CON, table([]), by_partition=False) == {WHOLE: EMPTY}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(threads):
    query = "SELECT i % 7 AS a, i / 3.0 AS b, 'x' || i AS c FROM range(200_000) t(i)"
    expected = content_of(connect(threads=1), connect(threads=1).sql(query).to_arrow_table(), by_partition=False)
    con = connect(threads=threads)
    assert content_of(con, con.sql(query), by_partition=False) == expected
