"""Calibration on the reference's own days: an ordinary day is no drift, a real move still is."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ml_assets.engine import connect
from ml_assets.monitoring.calibrate import calibrated
from ml_assets.monitoring.drift import drift, psi
from ml_assets.monitoring.profile import Profile, observe, observe_blocks, reference

KINDS = {"wind": "numeric", "carrier": "categorical"}


@pytest.fixture(scope="module")
def con():
    return connect(threads=1)


def days(n_days: int, *, seed: int, shift: float = 0.0, rows: int = 400) -> pa.Table:
    """Days with weather of their own: the day's mean varies by one standard deviation."""
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.normal(shift, 1, n_days), rows)
    return pa.table(
        {
            "day": np.repeat([f"2013-01-{day + 1:02}" for day in range(n_days)], rows),
            "wind": rng.normal(means, 1),
            "carrier": rng.choice(list("abc"), n_days * rows),
        }
    )


@pytest.fixture(scope="module")
def stored(con):
    rows = days(28, seed=1)
    plain = reference(con, rows, KINDS)
    return plain, calibrated(con, rows, plain, block="day")


def alarms(con, bins: Profile, shift: float = 0.0) -> int:
    found = [drift(con, days(1, seed=seed, shift=shift), bins)[0] for seed in range(100, 130)]
    return sum(each.verdict != "PASS" for each in found)


def test_an_ordinary_day_alarms_without_calibration_and_not_with_it(con, stored):
    plain, usual = stored
    assert alarms(con, plain) > 15
    assert alarms(con, usual) <= 1


def test_a_real_move_still_alarms(con, stored):
    assert alarms(con, stored[1], shift=9.0) == 30


def test_missing_values_alarm_on_an_ordinary_day(con, stored):
    """Whatever the weather: a feed that lost half of its values is broken."""
    day = days(1, seed=110)
    broken = day.set_column(1, "wind", pa.array([None if i % 2 else x for i, x in enumerate(day["wind"].to_pylist())]))
    assert drift(con, day, stored[1])[0].verdict == "PASS"
    found = drift(con, broken, stored[1])[0]
    assert found.verdict == "FAIL"
    assert "Nulls went from 0.0% to 50.0%" in found.sentence


def test_nulls_that_disappear_on_an_ordinary_day_are_no_alarm(con):
    nulls = [None if i % 10 == 0 else value for i, value in enumerate(days(28, seed=1)["wind"].to_pylist())]
    rows = days(28, seed=1).set_column(1, "wind", pa.array(nulls))
    bins = calibrated(con, rows, reference(con, rows, KINDS), block="day")
    assert drift(con, days(1, seed=110), bins)[0].verdict == "PASS"


def test_a_new_category_alarms_however_much_is_usual(con, stored):
    carrier = replace(stored[1].columns[1], usual=99.0)
    bins = replace(stored[1], columns=(stored[1].columns[0], carrier))
    moved = days(1, seed=5).set_column(2, "carrier", pa.array(["a", "b", "c", "x"] * 100))
    assert drift(con, moved, bins)[1].verdict == "FAIL"


def test_a_column_that_is_the_same_every_day_keeps_the_fixed_thresholds(con, stored):
    _, carrier = stored[1].columns
    assert carrier.usual < 0.15
    moved = days(1, seed=5).set_column(2, "carrier", pa.array(["a"] * 240 + ["b"] * 80 + ["c"] * 80))
    assert drift(con, moved, stored[1])[1].verdict == "FAIL"


def test_usual_is_the_log_normal_reach_of_the_days(con, stored):
    plain, usual = stored
    rows = days(28, seed=1)
    column = plain.columns[0]
    found = [psi(column.counts, observe(con, rows.slice(400 * day, 400), plain).columns[0].counts) for day in range(28)]
    logs = np.log(found)
    assert usual.columns[0].usual == pytest.approx(np.exp(logs.mean() + 2.8 * logs.std(ddof=1)))


def test_few_days_leave_the_reference_as_it_is(con):
    rows = days(9, seed=1)
    plain = reference(con, rows, KINDS)
    assert calibrated(con, rows, plain, block="day") == plain


def test_blocks_are_the_profiles_of_their_rows(con, stored):
    rows = days(3, seed=4)
    blocks = observe_blocks(con, rows, stored[0], "day")
    assert list(blocks) == ["2013-01-01", "2013-01-02", "2013-01-03"]
    assert blocks["2013-01-02"] == observe(con, rows.slice(400, 400), stored[0])


def test_a_calibrated_reference_survives_json_and_observing(con, stored):
    assert Profile.from_json(stored[1].to_json()) == stored[1]
    assert observe(con, days(1, seed=3), stored[1]) == observe(con, days(1, seed=3), stored[0])
