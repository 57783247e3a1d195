"""Drift: PSI against the textbook, verdicts at their boundaries, and the wrong answers that Evidently gives."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.engine import connect
from ml_assets.monitoring.drift import EMPTY_SHARE, Thresholds, compare, drift, psi, worst
from ml_assets.monitoring.profile import ColumnProfile, Profile, reference

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@pytest.fixture(scope="module")
def con():
    return connect(threads=1)


@pytest.fixture
def rng():
    return np.random.default_rng(20130101)


def table(**columns) -> pa.Table:
    return pa.table({name: pa.array(list(values), from_pandas=False) for name, values in columns.items()})


def of(con, old, new, kind="numeric", **thresholds):
    """The drift of one column `x`."""
    types = pa.float64() if kind == "numeric" else pa.string()
    sides = [pa.table({"x": pa.array(list(values), types)}) for values in (old, new)]
    (found,) = drift(con, sides[1], reference(con, sides[0], {"x": kind}), Thresholds(**thresholds))
    return found


def textbook(old, new):
    p = np.maximum(np.array(new) / np.sum(new), EMPTY_SHARE)
    q = np.maximum(np.array(old) / np.sum(old), EMPTY_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))


@given(st.data())
def test_psi_is_the_textbook_value_on_fixed_bins(data):
    old = data.draw(COUNTS.filter(sum))
    new = data.draw(st.lists(st.integers(0, 500), min_size=len(old), max_size=len(old)).filter(sum))
    assert psi(old, new) == pytest.approx(textbook(old, new), rel=1e-9, abs=1e-12)
    assert psi(old, new) == pytest.approx(psi(new, old), rel=1e-9, abs=1e-12)
    assert psi(old, new) >= 0
    assert psi(old, [10 * count for count in old]) == pytest.approx(0, abs=1e-12)


def test_drift_of_rows_is_numpys_psi_on_the_deciles(con, rng):
    old, new = rng.lognormal(0, 1, 5000), rng.lognormal(0.3, 1, 3000)
    edges = np.quantile(old, np.arange(1, 10) / 10, method="inverted_cdf")
    counts = [np.bincount(np.searchsorted(edges, values), minlength=10) for values in (old, new)]
    assert of(con, old, new).psi == pytest.approx(textbook(*counts), rel=1e-9)


def test_drift_of_categories_is_numpys_psi(con, rng):
    old, new = rng.choice(list("abc"), 4000, p=[0.5, 0.3, 0.2]), rng.choice(list("abc"), 900, p=[0.3, 0.3, 0.4])
    counts = [[int((values == name).sum()) for name in "abc"] for values in (old, new)]
    assert of(con, old, new, "categorical").psi == pytest.approx(textbook(*counts), rel=1e-9)


def shifted(target):
    """Profiles of two equal bins of which the second has moved until the PSI is `target`."""
    low, high = 0.0, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * math.log((0.5 + middle) / (0.5 - middle)) < target else (low, middle)
    n = 10**9
    moved = round((0.5 + low) * n)
    columns = [ColumnProfile("x", "numeric", 0, counts, (0.0,)) for counts in ((n // 2, n // 2), (moved, n - moved))]
    return [Profile(n, (column,)) for column in columns]


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.149, "PASS"), (0.151, "WARN"), (0.199, "WARN"), (0.201, "FAIL"), (2.0, "FAIL")]
)
def test_a_verdict_changes_at_its_threshold(value, verdict):
    (found,) = compare(*shifted(value))
    assert (found.psi, found.verdict) == (pytest.approx(value, rel=1e-3), verdict)


@given(st.data())
def test_without_calibration_the_verdict_is_that_of_the_whole_psi(data):
    """Merging bins never adds to a PSI, so the structural part alone cannot raise an alarm."""
    old = data.draw(st.lists(st.integers(1, 500), min_size=2, max_size=8))
    new = data.draw(st.lists(st.integers(1, 500), min_size=len(old), max_size=len(old)))
    edges = tuple(float(i) for i in range(len(old) - 2))
    columns = [ColumnProfile("x", "numeric", counts[0], tuple(counts[1:]), edges) for counts in (old, new)]
    (found,) = compare(*(Profile(column.n, (column,)) for column in columns))
    assert found.structural_psi <= found.psi + 1e-9


def test_the_thresholds_can_be_declared():
    assert [compare(*shifted(0.3), Thresholds(warn, fail))[0].verdict for warn, fail in ((0.25, 0.4), (0.1, 0.25))] == [
        "WARN",
        "FAIL",
    ]


@pytest.mark.parametrize("n", [0, 1, 199])
def test_too_few_rows_pass_and_say_so(con, rng, n):
    found = of(con, rng.normal(size=5000), rng.normal(9, 1, n))
    assert (found.verdict, found.enough_rows) == ("PASS", False)
    assert f"too few rows to judge ({n} against 5000" in found.sentence


def test_two_hundred_rows_are_enough(con, rng):
    assert of(con, rng.normal(size=5000), rng.normal(9, 1, 200)).verdict == "FAIL"


def test_many_bins_need_more_rows(con, rng):
    names = [f"c{i:02}" for i in range(20)]
    found = of(con, rng.choice(names, 5000), rng.choice(names[:10], 230), "categorical")
    assert not found.enough_rows


def test_without_drift_the_psi_is_about_the_stated_noise(con, rng):
    found = [of(con, rng.normal(size=2000), rng.normal(size=500)) for _ in range(60)]
    assert found[0].noise == pytest.approx((1 / 2000 + 1 / 500) * 9)
    assert np.mean([each.psi for each in found]) == pytest.approx(found[0].noise, rel=0.25)


def test_quiet_columns_raise_no_alarm(con, rng):
    """A/A: 20 columns x 40 days of 500 rows, where a KS test at 5 % alarms on most days."""
    kinds = {f"f{i}": "numeric" for i in range(20)} | {"carrier": "categorical"}

    def rows(n):
        draws = {f"f{i}": rng.lognormal(size=n) if i % 2 else rng.normal(size=n) for i in range(20)}
        return table(**draws, carrier=rng.choice(list("abcdefgh"), n))

    stored = reference(con, rows(5000), kinds)
    verdicts = [found.verdict for _ in range(40) for found in drift(con, rows(500), stored)]
    assert set(verdicts) == {"PASS"}


def test_nulls_that_go_from_one_to_sixty_per_cent_are_drift(con, rng):
    """Evidently drops nulls before every test and sees nothing."""

    def with_nulls(n, rate):
        return [None if rng.random() < rate else value for value in rng.normal(size=n)]

    found = of(con, with_nulls(3000, 0.01), with_nulls(1000, 0.6))
    assert found.verdict == "FAIL"
    assert found.null_rate_change == pytest.approx(0.59, abs=0.04)
    assert "Nulls went from" in found.sentence


def test_nan_counts_as_null(con, rng):
    assert of(con, rng.normal(size=3000), [math.nan] * 500 + [0.0] * 500).null_rate == 0.5


def test_one_outlier_does_not_hide_a_shift(con, rng):
    """Evidently's equal-width bins and its Wasserstein distance over the standard deviation both collapse."""
    old, new = rng.lognormal(size=20_000), 1.5 * rng.lognormal(size=20_000)
    before = of(con, old, new).psi
    after = of(con, [*old[:-1], 1e5], new).psi
    assert before == pytest.approx(0.155, abs=0.02)
    assert after == pytest.approx(before, rel=0.01)


def test_a_small_reference_raises_no_false_alarm_on_categories(con, rng):
    """Evidently takes the reference for the truth: 99.6 % false alarms with a current side ten times as large."""
    names = [f"c{i}" for i in range(10)]
    found = [of(con, rng.choice(names, 1000), rng.choice(names, 10_000), "categorical") for _ in range(20)]
    assert {each.verdict for each in found} == {"PASS"}


def test_two_of_twenty_columns_are_enough_to_fail(con, rng):
    """Evidently's data set drift needs half of the columns."""
    kinds = {f"f{i}": "numeric" for i in range(20)}
    old = table(**{name: rng.normal(size=3000) for name in kinds})
    new = table(**{name: rng.normal(1.0 if name in ("f3", "f7") else 0.0, 1, 3000) for name in kinds})
    found = drift(con, new, reference(con, old, kinds))
    verdict, sentence = worst(found)
    assert verdict == "FAIL"
    assert {each.column for each in found if each.verdict == "FAIL"} == {"f3", "f7"}
    assert "f3 has moved far" in sentence
    assert "f7 has moved far" in sentence


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([None] * 300, [None] * 300, "PASS"),
        ([None] * 300, [1.0] * 300, "FAIL"),
        ([1.0] * 300, [None] * 300, "FAIL"),
        ([5.0] * 300, [5.0] * 300, "PASS"),
        ([5.0] * 300, [4.0] * 300, "FAIL"),
        ([5.0] * 300, [6.0] * 300, "FAIL"),
    ],
)
def test_columns_without_values_or_with_one_value_are_judged(con, old, new, verdict):
    """One all-null column makes the whole of Evidently's report raise."""
    assert of(con, old, new).verdict == verdict


def test_new_categories_are_named_with_their_share(con):
    found = of(con, ["a", "b"] * 500, ["a"] * 470 + ["b"] * 470 + ["x"] * 40 + ["y"] * 20, "categorical")
    assert list(found.new_categories.items()) == [("x", 0.04), ("y", 0.02)]
    assert found.verdict == "FAIL"
    assert "Never seen in training: x (4.0%), y (2.0%)" in found.sentence


def test_an_identifier_with_thousands_of_values_is_no_drift(con, rng):
    names = [f"N{i:05}" for i in range(3000)]
    assert of(con, rng.choice(names, 50_000), rng.choice(names, 900), "categorical").verdict == "PASS"


def test_a_change_of_unit_fails(con, rng):
    assert of(con, rng.normal(60, 20, 3000), rng.normal(1, 1 / 3, 1000)).verdict == "FAIL"


def test_the_worst_of_nothing_is_a_pass():
    assert worst([]) == ("PASS", "Too few rows to judge any column.")
