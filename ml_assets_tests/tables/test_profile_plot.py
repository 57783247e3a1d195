"""Pictures of profiles: what they draw, and that they are small and always the same bytes."""

import io
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ml_assets.tables.panels import LARGEST, number, span, ticks
from ml_assets.tables.profile import profile_partitions
from ml_assets.tables.profile_plot import plot_portrait
from ml_assets.tables.trend import Step
from ml_assets.tables.trend_plot import plot_trends


def wide(con, partitions=1, columns=22):
    rng = np.random.default_rng(1)
    rows = 50 * partitions
    names = [f"a_rather_long_column_name_{i}_$x" for i in range(columns)]
    named = {name: rng.lognormal(size=rows) for name in names[: columns // 2]}
    named |= {name: [f"a long category $ \n{v}" for v in rng.integers(0, 9, rows)] for name in names[columns // 2 :]}
    keys = [f"2013-{1 + n // 50 // 28:02}-{1 + n // 50 % 28:02}" for n in range(rows)]
    return profile_partitions(con, pa.table({"partition_key": keys, **named}))


def image_of(png):
    return Image.open(io.BytesIO(png))


def red_pixels(png):
    red, green, _ = np.moveaxis(np.asarray(image_of(png).convert("RGB")).astype(int), 2, 0)
    return int((red - green > 50).sum())


@pytest.mark.parametrize("plot", [plot_portrait, plot_trends])
def test_a_plot_is_a_small_png_as_wide_as_the_dialog_and_the_same_bytes_every_time(con, plot):
    profiles = wide(con, partitions=65 if plot is plot_trends else 1)
    png = plot(profiles)
    assert png == plot(profiles)
    assert (image_of(png).width, image_of(png).height <= 700) == (900, True)
    assert len(png) < 80_000


def test_the_order_of_the_stored_rows_does_not_matter_for_a_column(con):
    profiles = wide(con, partitions=5, columns=2)
    newest_last = profiles.sort_by("partition_key")
    assert plot_trends(newest_last) == plot_trends(profiles)


def test_flagged_partitions_are_marked(con):
    profiles = wide(con, partitions=20, columns=4)
    step = Step("2013-01-15", "a_rather_long_column_name_0_$x", "mean", 1.0, 2.0, 3.0, "")
    assert red_pixels(plot_trends(profiles)) == 0
    assert red_pixels(plot_trends(profiles, [step])) > 50


def test_nulls_are_drawn(con):
    keys = [f"2013-01-{1 + n // 10:02}" for n in range(100)]
    some = pa.table({"partition_key": keys, "x": [None if n % 3 else 1.5 for n in range(100)]})
    assert red_pixels(plot_trends(profile_partitions(con, some))) > 50


@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(3, pa.string()),
        pa.nulls(3, pa.float64()),
        pa.array([1.7e308, -1.7e308, 0]),
        pa.array([float("nan"), None, 5e-324]),
        pa.array([True, None, False]),
        pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        pa.array([b"x", b"y", None]),
    ],
    ids=str,
)
def test_columns_of_every_kind_are_drawn(con, values):
    assert image_of(plot_portrait(profile_partitions(con, pa.table({"x": values})))).width > 300
    for keys in (["2013-01-01", "2013-01-02", "2013-01-02"], ["a", "b", "c"]):
        assert (
            image_of(plot_trends(profile_partitions(con, pa.table({"partition_key": keys, "x": values})))).width > 300
        )


def test_nothing_is_drawn_of_nothing(con):
    nothing = profile_partitions(con, pa.table({"x": pa.array([], pa.float64())}))
    assert image_of(plot_portrait(nothing)).width > 300
    assert image_of(plot_trends(nothing)).width > 300


def test_the_scale_of_a_panel_has_round_numbers_within_its_range():
    assert ticks(-8.0, 205.0) == [0.0, 100.0, 200.0]
    assert ticks(0.98, 1.021) == pytest.approx([0.98, 1.0, 1.02])
    assert ticks(*span([math.nan, 7.0])) == pytest.approx([6.8, 7.0, 7.2])
    assert [number(value) for value in (0.0, 20_000.0, 2.5e-7, 1e100)] == ["0", "20,000", "2.5e-7", "1e100"]


@given(st.lists(st.floats(-LARGEST, LARGEST) | st.just(math.nan)))
def test_every_range_has_a_few_ticks_inside(values):
    low, high = span(values)
    found = ticks(low, high)
    assert low < high
    assert 1 <= len(found) <= 5
    assert found == sorted(set(found))
