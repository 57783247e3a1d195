"""Profiles: numbers that agree with numpy, and a small picture."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.tables.profile import plot, profile
from ml_assets_tests.tables.conftest import NOON


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=50))
def test_statistics_of_numbers_equal_numpy(con, values):
    column = profile(con, pa.table({"x": pa.array(values, pa.float64())}))[0]
    known = np.array([v for v in values if v is not None and v == v])
    assert (column.n, column.nulls) == (len(values), len(values) - len(known))
    if len(known):
        found = [
            column.minimum,
            column.p01,
            column.p25,
            column.p50,
            column.p75,
            column.p99,
            column.maximum,
            column.mean,
        ]
        expected = [*np.quantile(known, [0, 0.01, 0.25, 0.5, 0.75, 0.99, 1]), known.mean()]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
    else:
        assert column.p50 is None


def test_the_most_frequent_values_come_with_their_counts_and_ties_in_order(con):
    column = profile(con, pa.table({"carrier": ["UA", "B6", "B6", None, "AA", "UA", "DL", "EV", "WN", "B6"] * 2}))[0]
    assert column.top == (("B6", 6), ("UA", 4), ("AA", 2), ("DL", 2), ("EV", 2))
    assert (column.type, column.minimum, column.maximum, column.null_rate) == ("VARCHAR", "AA", "WN", 0.1)


def test_identifiers_have_no_most_frequent_values(con):
    assert profile(con, pa.table({"id": [f"f{n}" for n in range(100)]}))[0].top == ()


def test_instants_show_their_range_and_a_view_can_be_profiled_by_name(con):
    con.register("my rows", pa.table({"at": pa.array([NOON, None], pa.timestamp("us", "UTC")), "on": [True, True]}))
    at, on = profile(con, "my rows")
    assert (at.type, at.minimum, at.nulls) == ("TIMESTAMPTZ", "2013-01-05 12:00:00+00", 1)
    assert on.top == (("true", 2),)


def wide(con, n):
    rng = np.random.default_rng(1)
    names = [f"a_rather_long_column_name_{i}_$x" for i in range(n)]
    columns = {name: rng.lognormal(size=200) for name in names[: n // 2]}
    columns |= {name: [f"a long category $ \n{v}" for v in rng.integers(0, 9, 200)] for name in names[n // 2 :]}
    return profile(con, pa.table(columns))


def test_the_plot_is_a_small_png_and_the_same_bytes_every_time(con):
    image = plot(wide(con, 40))
    assert image.startswith(b"\x89PNG")
    assert len(image) < 60_000
    assert plot(wide(con, 40)) == image


@pytest.mark.parametrize(
    "rows", [pa.table({"x": pa.array([], pa.float64())}), pa.table({"x": pa.nulls(3, pa.string())})]
)
def test_empty_and_all_null_columns_are_profiled_and_drawn(con, rows):
    column = profile(con, rows)[0]
    assert (column.p50, column.minimum, column.distinct, column.top) == (None, None, 0, ())
    assert plot([column]).startswith(b"\x89PNG")
    assert plot([]).startswith(b"\x89PNG")
