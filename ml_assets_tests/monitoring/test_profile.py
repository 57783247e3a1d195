"""Profiles: counts on fixed bins, against numpy."""

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.engine import connect
from ml_assets.errors import DeclarationError
from ml_assets.monitoring.profile import Profile, add, observe, reference

VALUES = st.one_of(
    st.none(), st.floats(width=64), st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 5e-324])
)


@pytest.fixture(scope="module")
def con():
    return connect(threads=1)


def numbers(values) -> pa.Table:
    return pa.table({"x": pa.array(list(values), pa.float64())})


def words(values) -> pa.Table:
    return pa.table({"x": pa.array(list(values), pa.string())})


def numpy_counts(values, edges):
    present = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
    # bin i is (edges[i-1], edges[i]]
    return tuple(np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1).tolist())


@settings(max_examples=60)
@given(old=st.lists(VALUES, max_size=40), new=st.lists(VALUES, max_size=40))
def test_every_value_is_counted_in_the_bin_that_numpy_finds(con, old, new):
    bins = reference(con, numbers(old), {"x": "numeric"})
    for profile, values in ((bins, old), (observe(con, numbers(new), bins), new)):
        (column,) = profile.columns
        assert column.counts == numpy_counts(values, column.edges)
        assert column.nulls == sum(v is None or math.isnan(v) for v in values)
        assert profile.n == column.n == len(values)


@settings(max_examples=60)
@given(st.lists(VALUES, max_size=40))
def test_edges_are_finite_and_strictly_rising(con, values):
    (column,) = reference(con, numbers(values), {"x": "numeric"}).columns
    assert all(math.isfinite(edge) for edge in column.edges)
    assert all(low < high for low, high in zip(column.edges, column.edges[1:], strict=False))


@settings(max_examples=40)
@given(old=st.lists(VALUES, max_size=30), parts=st.lists(st.lists(VALUES, max_size=15), min_size=1, max_size=4))
def test_adding_the_profiles_of_days_gives_the_profile_of_the_week(con, old, parts):
    bins = reference(con, numbers(old), {"x": "numeric"})
    together = observe(con, numbers(list(itertools.chain(*parts))), bins)
    assert add([observe(con, numbers(part), bins) for part in parts]) == together


def test_adding_profiles_joins_their_categories(con):
    bins = reference(con, words(["a", "b"]), {"x": "categorical"})
    days = [observe(con, words(day), bins) for day in (["a", None, "c"], ["c", "b"])]
    (column,) = add(days).columns
    assert (column.categories, column.counts, column.nulls) == (("a", "b", "c"), (1, 1, 2), 1)


def test_profiles_of_two_references_cannot_be_added(con):
    one, two = (reference(con, numbers(values), {"x": "numeric"}) for values in ([1.0, 2.0], [3.0, 4.0]))
    with pytest.raises(DeclarationError, match="different bins"):
        add([one, two])


def test_deciles_cut_a_smooth_column_into_ten_equal_bins(con):
    (column,) = reference(con, numbers(np.random.default_rng(1).lognormal(size=10_000)), {"x": "numeric"}).columns
    assert column.counts == (1000,) * 10


def test_a_value_that_fills_several_deciles_has_a_bin_of_its_own(con):
    (column,) = reference(con, numbers([-1.0] * 5 + [0.0] * 80 + [1.0] * 15), {"x": "numeric"}).columns
    assert column.counts[column.edges.index(0.0)] == 80


@settings(max_examples=30)
@given(st.lists(VALUES, max_size=30))
def test_a_profile_survives_json_bit_by_bit(con, values):
    profile = reference(con, numbers(values), {"x": "numeric"})
    assert Profile.from_json(profile.to_json()) == profile
    assert "NaN" not in json.dumps(json.loads(profile.to_json()))


def test_the_order_of_rows_does_not_change_a_profile(con):
    values = np.random.default_rng(2).normal(size=500)
    profiles = {reference(con, numbers(order), {"x": "numeric"}).to_json() for order in (values, values[::-1])}
    assert len(profiles) == 1


def test_a_view_is_profiled_like_a_table(con):
    con.execute('CREATE OR REPLACE VIEW "features/seen" AS SELECT i / 10 AS x, i % 3 = 0 AS late FROM range(50) t(i)')
    profile = reference(con, "features/seen", {"x": "numeric", "late": "categorical"})
    assert profile.n == 50
    assert profile.columns[1].categories == ("false", "true")


def test_a_missing_column_is_named(con):
    bins = reference(con, numbers([1.0]), {"x": "numeric"})
    with pytest.raises(DeclarationError, match=r"Cannot watch x: .* it has y"):
        observe(con, numbers([1.0]).rename_columns(["y"]), bins)
