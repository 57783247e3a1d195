"""Profiles: numbers that agree with numpy, and that depend on the rows alone."""

import itertools
import random
from datetime import date
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.engine import connect
from ml_assets.tables.profile import PROFILE_SCHEMA, QUANTILES, profile_partitions
from ml_assets_tests.tables.conftest import NOON

ANY_FLOAT = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 5e-324, 1.7e308, -1.7e308]))
ROW = st.fixed_dictionaries(
    {
        "partition_key": st.sampled_from(["2013-01-01", "2013-01-02", "2013-01-03"]),
        "x": ANY_FLOAT,
        "i": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 3)),
        "name": st.one_of(st.none(), st.sampled_from(["UA", "B6", "é", ""]), st.text("ab", max_size=3)),
        "on": st.one_of(st.none(), st.booleans()),
        "day": st.one_of(st.none(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    }
)
SCHEMA = pa.schema(
    {
        "partition_key": pa.string(),
        "x": pa.float64(),
        "i": pa.int64(),
        "name": pa.string(),
        "on": pa.bool_(),
        "day": pa.date32(),
    }
)
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def profile(con, columns, of="x"):
    """The profile of one column of one partition."""
    return next(row for row in profile_partitions(con, pa.table(columns)).to_pylist() if row["column"] == of)


def same(some, others):
    """To the last bit: Arrow takes 0.0 and -0.0 for equal."""
    return repr(some.to_pylist()) == repr(others.to_pylist())


@few
@given(values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=50))
def test_statistics_of_numbers_equal_numpy(con, values):
    row = profile(con, {"x": pa.array(values, pa.float64())})
    known = np.array([v for v in values if v is not None and v == v])
    assert (row["n"], row["nulls"]) == (len(values), len(values) - len(known))
    if not len(known):
        assert (row["mean"], row["std"], row["quantiles"], row["histogram"]) == (None, None, [], [])
        return
    assert row["quantiles"] == pytest.approx([*np.quantile(known, QUANTILES)], rel=1e-9, abs=1e-6)
    assert row["mean"] == pytest.approx(known.mean(), rel=1e-9, abs=1e-9)
    assert [float(row["minimum"]), float(row["maximum"])] == [known.min(), known.max()]
    assert len(known) < 2 or row["std"] == pytest.approx(known.std(ddof=1), rel=1e-6, abs=1e-3)


@few
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_every_value_is_in_one_bin_and_bins_adjoin(con, values):
    bins = profile(con, {"x": pa.array(values, pa.float64())})["histogram"]
    assert sum(bin_["n"] for bin_ in bins) == len(values)
    assert len(bins) <= 14
    assert all(left["high"] == right["low"] for left, right in itertools.pairwise(bins))
    assert (bins[0]["low"], bins[-1]["high"]) == (min(values), max(values))


def test_bins_count_what_numpy_counts(con):
    values = np.random.default_rng(1).lognormal(size=5000)
    bins = profile(con, {"x": values})["histogram"]
    assert len(bins) == 14
    counts, _ = np.histogram(values, [bins[0]["low"], *(bin_["high"] for bin_ in bins)])
    assert [bin_["n"] for bin_ in bins] == counts.tolist()
    assert bins[1]["low"] == pytest.approx(np.quantile(values, 0.01))
    assert bins[-2]["high"] == pytest.approx(np.quantile(values, 0.99))


@few
@given(rows=st.lists(ROW, min_size=1, max_size=40), seed=st.integers(0, 99))
def test_the_order_of_rows_the_threads_and_the_other_partitions_change_nothing(con, rows, seed):
    together = profile_partitions(con, pa.Table.from_pylist(rows, SCHEMA))
    shuffled = random.Random(seed).sample(rows, len(rows))  # noqa: S311
    with connect(threads=4) as other:
        assert same(profile_partitions(other, pa.Table.from_pylist(shuffled, SCHEMA)), together)
    alone = [
        profile_partitions(con, pa.Table.from_pylist([row for row in rows if row["partition_key"] == key], SCHEMA))
        for key in sorted({row["partition_key"] for row in rows})
    ]
    assert same(pa.concat_tables(alone), together)


def test_zeros_of_either_sign_are_one_value(con):
    assert same(
        profile_partitions(con, pa.table({"x": [0.0, -0.0]})), profile_partitions(con, pa.table({"x": [-0.0, 0.0]}))
    )


def test_threads_change_nothing_in_a_large_table(con):
    rng = np.random.default_rng(3)
    rows = pa.table({"x": rng.lognormal(0, 9, 400_000), "name": rng.integers(0, 900, 400_000).astype(str)})
    with connect(threads=4) as other:
        found = profile_partitions(other, rows.take(rng.permutation(rows.num_rows)))
    assert found.equals(profile_partitions(con, rows))
    assert found["distinct"][2].as_py() == 900


def test_a_column_that_is_too_large_for_one_statement_changes_nothing(con, monkeypatch):
    rng = np.random.default_rng(3)
    rows = pa.table({f"c{i}": rng.normal(size=100) for i in range(7)})
    whole = profile_partitions(con, rows)
    monkeypatch.setattr("ml_assets.tables.profile._AT_ONCE", 200)
    assert profile_partitions(con, rows).equals(whole)


def test_the_number_of_statements_does_not_grow(con, monkeypatch):
    class Counting:
        def __init__(self):
            self.statements = 0

        def execute(self, sql):
            self.statements += 1
            return con.execute(sql)

        def __getattr__(self, name):
            return getattr(con, name)

    def statements(partitions, columns):
        counting, rows = Counting(), partitions * 3
        keys = [f"{n // 3:04}" for n in range(rows)]
        named = {f"x{i}": np.arange(rows) * 1.5 for i in range(columns)}
        labels = {f"s{i}": ["a", "b", "b"] * partitions for i in range(columns)}
        profile_partitions(cast("Any", counting), pa.table({"partition_key": keys, **named, **labels}))
        return counting.statements

    assert statements(1, 1) == statements(300, 9)


def test_the_most_frequent_values_come_with_their_counts_and_ties_in_order(con):
    row = profile(con, {"x": ["UA", "B6", "B6", None, "AA", "UA", "DL", "EV", "WN", "B6"] * 2})
    assert [(one["value"], one["n"]) for one in row["top"]] == [("B6", 6), ("UA", 4), ("AA", 2), ("DL", 2), ("EV", 2)]
    assert (row["type"], row["minimum"], row["maximum"], row["nulls"], row["distinct"]) == ("VARCHAR", "AA", "WN", 2, 6)


def test_identifiers_have_no_most_frequent_values_and_few_numbers_have(con):
    assert profile(con, {"x": [f"f{n}" for n in range(100)]})["top"] == []
    assert profile(con, {"x": list(range(100))})["top"] == []
    assert profile(con, {"x": [2, 2, 4, 2]})["top"] == [{"value": "2", "n": 3}, {"value": "4", "n": 1}]


def test_booleans_have_a_share_and_instants_are_seconds(con):
    on = profile(con, {"x": [True, True, False, None]})
    assert (on["mean"], on["quantiles"], on["top"][0]) == (pytest.approx(2 / 3), [], {"value": "true", "n": 2})
    at = profile(con, {"x": pa.array([NOON, None], pa.timestamp("us", "UTC"))})
    assert (at["type"], at["minimum"], at["nulls"], at["mean"]) == ("TIMESTAMPTZ", "2013-01-05 12:00:00+00", 1, None)
    assert at["quantiles"] == [NOON.timestamp()] * 7
    assert at["histogram"] == [{"low": NOON.timestamp(), "high": NOON.timestamp(), "n": 1}]


@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(3),
        pa.array([[1], [2], None]),
        pa.array([{"a": 1}, {"a": 2}, None]),
        pa.array([b"x", None, b"y"]),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([1, 2, None], pa.uint8()),
        pa.array([1, 2, None], pa.decimal128(38, 3)),
        pa.array([1, 2, None], pa.timestamp("ns")),
        pa.array([1, 2, None], pa.time64("us")),
        pa.array([1, 2, None], pa.duration("us")),
    ],
    ids=lambda values: str(values.type),
)
def test_columns_of_every_type_are_counted(con, values):
    row = profile(con, {"x": values, 'a "quoted" column': values})
    assert (row["n"], row["nulls"], row["distinct"]) == (3, values.null_count, 3 - values.null_count)


def test_a_partition_has_a_row_for_its_count_and_one_for_each_column_in_order(con):
    rows = pa.table({"b": [1, 2, 3], "partition_key": ["2", "1", "2"], "a": ["x", "y", "z"]})
    found = profile_partitions(con, rows)
    assert found.schema == PROFILE_SCHEMA()
    named = [(row["partition_key"], row["column"], row["n"]) for row in found.to_pylist()]
    assert named == [("1", "", 1), ("1", "b", 1), ("1", "a", 1), ("2", "", 2), ("2", "b", 2), ("2", "a", 2)]
    assert {row["partition_key"] for row in profile_partitions(con, rows.select(["a"])).to_pylist()} == {""}
    assert profile_partitions(con, rows.slice(0, 0)).num_rows == 0
