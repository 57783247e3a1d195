"""Steps: what changes by more than usual is named, what is quiet is not; on a table of eight weeks."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ml_assets.engine import connect
from ml_assets.tables.profile import PROFILE_SCHEMA, profile_partitions
from ml_assets.tables.trend import steps_out_of_line, together

FIRST = date(2013, 1, 7)
EMPTY = PROFILE_SCHEMA().empty_table()


def day(n):
    return (FIRST + timedelta(days=n)).isoformat()


def a_day(n, seed=0):
    """About 300 flights, half of them at the weekend."""
    rng = np.random.default_rng([seed, n])
    rows = int((150 if n % 7 > 4 else 300) * rng.uniform(0.95, 1.05))
    delays = np.where(rng.random(rows) < 0.05, np.nan, rng.gumbel(rng.normal(5, 4), 20, rows))
    columns = {"delay": pa.array(delays, from_pandas=True), "carrier": rng.choice(["UA", "B6", "DL", "AA"], rows)}
    columns |= {"year": [2013] * rows, "late": delays > 15, "id": [f"{n}-{i}" for i in range(rows)]}
    return pa.table({"partition_key": [day(n)] * rows, **columns})


def profiled(*days):
    with connect(threads=1) as con:
        return profile_partitions(con, pa.concat_tables(days))


@pytest.fixture(scope="module")
def quiet():
    return profiled(*(a_day(n) for n in range(56)))


def changed(rows, **columns):
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows


def seconds(rows):
    return changed(rows, delay=pa.array(np.asarray(rows["delay"]) * 60, from_pandas=True))


def found(history, *days):
    return {(step.column, step.statistic) for step in steps_out_of_line(history, profiled(*days))}


def test_a_quiet_table_has_less_than_a_step_a_month(quiet):
    assert len(steps_out_of_line(EMPTY, quiet)) < 2


def test_minutes_that_become_seconds_are_a_step(quiet):
    (step,) = steps_out_of_line(quiet, profiled(seconds(a_day(56))))
    assert (step.partition, step.column) == (day(56), "delay")
    assert not step.usual_low <= step.value <= step.usual_high
    assert step.sentence.startswith(f"The {step.statistic} of 'delay' of {day(56)} is {step.value:.4g}; usual is ")


@pytest.mark.parametrize("n", range(56, 63))
def test_twice_and_half_the_rows_are_a_step_on_every_weekday_and_one_only(quiet, n):
    rows = a_day(n)
    twice = changed(rows, id=pa.array([f"again {id_}" for id_ in rows["id"].to_pylist()]))
    assert found(quiet, rows, twice) == ({("", "rows")} if n % 7 < 5 else set())  # a Sunday may be as busy as a Monday
    assert found(quiet, rows.slice(0, rows.num_rows // 4)) == {("", "rows")}


def test_the_sentence_about_rows_names_the_partition_the_number_and_the_usual_range(quiet):
    (step,) = steps_out_of_line(quiet, profiled(a_day(56), a_day(56, seed=1)))
    assert (
        step.sentence
        == f"{day(56)} has {step.value:,.0f} rows; usual is {step.usual_low:,.0f} to {step.usual_high:,.0f}."
    )
    assert (round(step.value), step.usual_high < 560) == (step.value, True)


@pytest.mark.parametrize(("column", "value"), [("delay", 5.0), ("carrier", "UA"), ("id", "same")])
def test_a_column_that_has_become_constant_is_a_step(quiet, column, value):
    rows = a_day(56)
    assert found(quiet, changed(rows, **{column: pa.array([value] * rows.num_rows)})) == {(column, "distinct")}


def test_a_column_that_was_constant_is_a_step_when_it_changes_and_not_by_rounding(quiet):
    rows = a_day(56)
    assert {column for column, _ in found(quiet, changed(rows, year=pa.array([9999] * rows.num_rows)))} == {"year"}
    assert found(quiet, changed(rows, year=pa.array([2013 + 1e-9] * rows.num_rows))) == set()


def test_a_share_of_nulls_and_of_true_is_a_step(quiet):
    rows = a_day(56)
    half = np.arange(rows.num_rows) % 2 == 0
    nulls = pa.array(np.where(half, None, rows["carrier"].to_pylist()), pa.string())
    assert found(quiet, changed(rows, carrier=nulls)) == {("carrier", "null share")}
    assert found(quiet, changed(rows, late=pa.array([True] * rows.num_rows))) == {("late", "mean")}


def test_a_new_level_is_a_step_twice_and_then_the_usual_one(quiet):
    days = profiled(*(seconds(a_day(n)) for n in range(56, 62)))
    assert [step.partition for step in steps_out_of_line(quiet, days) if step.column == "delay"] == [day(56), day(57)]


def test_eight_earlier_partitions_are_needed_and_later_ones_do_not_count():
    planted = seconds(a_day(8))
    assert found(profiled(*(a_day(n) for n in range(1, 8))), planted) == set()
    before = [a_day(n) for n in range(8)]
    assert {column for column, _ in found(profiled(*before), planted)} == {"delay"}
    assert found(profiled(*(a_day(n) for n in range(9, 40))), planted) == set()


def test_a_partition_that_came_before_is_compared_with_its_new_rows_only(quiet):
    wrong = together(quiet, profiled(seconds(a_day(55))))
    assert wrong.num_rows == quiet.num_rows
    assert {step.partition for step in steps_out_of_line(EMPTY, wrong)} == {day(55)}
    assert found(wrong, a_day(55)) == set()


def test_partitions_that_are_no_days_and_columns_that_come_and_go_are_compared(quiet):
    keys = {day(n): f"batch {n:03}" for n in range(57)}

    def renamed(profiles):
        names = pa.array([keys[key] for key in profiles["partition_key"].to_pylist()])
        return profiles.set_column(0, "partition_key", names)

    planted = profiled(seconds(a_day(56)).rename_columns(["partition_key", "delay", "carrier", "year", "new", "id"]))
    assert [step.column for step in steps_out_of_line(renamed(quiet), renamed(planted))] == ["delay"]


def test_nothing_compares_with_nothing():
    assert steps_out_of_line(EMPTY, EMPTY) == []
