"""Validation loses no row: every delivered one is valid, in quarantine with its reasons, or a duplicate."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets import engine
from ml_assets.errors import DeclarationError
from ml_assets.tables import contract
from ml_assets.tables.contract import Column, Contract, Rule
from ml_assets.tables.expectations import Outliers
from ml_assets.tables.validate import Counts, rules_of, validate
from ml_assets_tests.tables.conftest import FLIGHT, NOON, deliver

HOUR = timedelta(hours=1)
DAYS = ("2013-01-05", "2013-01-06")


def test_quarantined_rows_carry_every_broken_rule_and_the_record(flights, con):
    bad = {**FLIGHT, "carrier": "XX", "seats": 0, "delay": None}
    found = validate(con, deliver(flights, [FLIGHT, bad]), flights, known_at="arrived_at")
    row = found.quarantine.to_pylist()[0]
    record = json.loads(row.pop("record"))
    assert row == {
        "partition_key": "2013-01-05",
        "file": "a.parquet",
        "row": 2,
        "rule": "carrier in (B6, UA)",
        "rules": ["carrier in (B6, UA)", "seats > 0"],
        "arrived_at": NOON,
    }
    assert (record["flight_id"], record["delay"], record["arrived_at"]) == ("f1", None, "2013-01-05 12:00:00+00")
    assert found.counts == {"2013-01-05": Counts(2, 1, 1, 0, {"carrier in (B6, UA)": 1, "seats > 0": 1})}


def test_valid_rows_have_the_columns_of_the_contract_then_known_at_and_the_partition(flights, con):
    found = validate(con, deliver(flights, [FLIGHT]), flights, known_at="arrived_at + INTERVAL 15 MINUTE")
    assert found.valid.to_pylist() == [
        {**FLIGHT, "known_at": NOON + timedelta(minutes=15), "partition_key": "2013-01-05"}
    ]
    assert found.valid.schema.field("known_at").type == pa.timestamp("us", "UTC")


def test_the_newest_delivery_of_a_key_wins_then_the_last_row(flights, con):
    first = deliver(flights, [FLIGHT, {**FLIGHT, "seats": 2}], at=NOON)
    later = deliver(flights, [{**FLIGHT, "seats": 3}, {**FLIGHT, "seats": 4}], name="b.parquet", at=NOON + HOUR)
    found = validate(con, pa.concat_tables([later, first]), flights)
    assert found.valid.column("seats").to_pylist() == [4]
    assert found.counts["2013-01-05"] == Counts(delivered=4, valid=1, quarantined=0, duplicates=3)


def test_a_broken_restatement_does_not_replace_the_good_row(flights, con):
    rows = [deliver(flights, [FLIGHT]), deliver(flights, [{**FLIGHT, "seats": -1}], name="b.parquet", at=NOON + HOUR)]
    found = validate(con, pa.concat_tables(rows), flights)
    assert found.valid.column("seats").to_pylist() == [100]
    assert found.counts["2013-01-05"] == Counts(2, 1, 1, 0, {"seats > 0": 1})


def test_the_same_key_in_two_partitions_is_no_duplicate(flights, con):
    rows = [deliver(flights, [FLIGHT]), deliver(flights, [FLIGHT], partition=DAYS[1])]
    found = validate(con, pa.concat_tables(rows), flights)
    assert [count.duplicates for count in found.counts.values()] == [0, 0]


def test_without_keys_identical_rows_are_all_kept(flights, con):
    loose = Contract(flights.reference, flights.columns, flights.rules, ())
    assert validate(con, deliver(flights, [FLIGHT, FLIGHT]), loose).valid.num_rows == 2


def test_an_exact_copy_that_arrives_again_was_known_from_the_first_arrival(flights, con):
    again = deliver(flights, [FLIGHT], name="b.parquet", at=NOON + HOUR)
    restated = deliver(flights, [{**FLIGHT, "seats": 2}], name="c.parquet", at=NOON + 2 * HOUR)
    first = deliver(flights, [FLIGHT])
    assert validate(con, pa.concat_tables([first, again]), flights).valid.column("known_at").to_pylist() == [NOON]
    found = validate(con, pa.concat_tables([first, again, restated]), flights)
    assert found.valid.column("known_at").to_pylist() == [NOON + 2 * HOUR]


def test_a_row_that_is_never_known_is_quarantined(flights, con):
    late = {**FLIGHT, "flight_id": "f2", "departed_at": None}
    found = validate(con, deliver(flights, [FLIGHT, late]), flights, known_at="departed_at + INTERVAL 1 HOUR")
    assert found.quarantine.select(["row", "rule"]).to_pylist() == [{"row": 2, "rule": "known_at is not null"}]


@pytest.mark.parametrize("stated", [None, "known_at"])
def test_a_column_known_at_of_the_contract_is_used_once(declare, con, stated):
    body = "class T(pa.DataFrameModel):\n    x: int\n    known_at: datetime = pa.Field(nullable=True)\n"
    of = contract.load(declare(body, "T"))
    found = validate(con, deliver(of, [{"x": 1, "known_at": NOON}, {"x": 2, "known_at": None}]), of, known_at=stated)
    assert found.valid.to_pylist() == [{"x": 1, "known_at": NOON, "partition_key": "2013-01-05"}]
    assert found.quarantine.column("rule").to_pylist() == ["known_at is not null"]
    with pytest.raises(DeclarationError, match="has a column known_at"):
        validate(con, deliver(of, [{"x": 1, "known_at": NOON}]), of, known_at="known_at + INTERVAL 1 DAY")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_row_outside_the_utc_day_of_its_partition_is_quarantined(flights, con, zone):
    con.execute(f"SET TimeZone = '{zone}'")
    start = datetime(2013, 1, 5, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    times = [start - tick, start, start + timedelta(days=1) - tick, start + timedelta(days=1), None]
    rows = [
        {**FLIGHT, "flight_id": str(n), "departed_at": at, "arrived_at": NOON + 24 * HOUR} for n, at in enumerate(times)
    ]
    found = validate(con, deliver(flights, rows), flights, partition_column="departed_at")
    assert found.quarantine.column("row").to_pylist() == [1, 4, 5]
    assert found.counts["2013-01-05"].by_rule == {"departed_at_in_partition": 3}


@pytest.mark.parametrize("column", ["seats", "nothing"])
def test_a_partition_column_that_has_no_day_is_a_declaration_error(flights, con, column):
    with pytest.raises(DeclarationError, match=f"no datetime or date column {column}"):
        validate(con, deliver(flights, [FLIGHT]), flights, partition_column=column)


def test_rows_without_partition_give_no_partition_column_and_are_counted_under_the_empty_name(flights, con):
    found = validate(con, deliver(flights, [FLIGHT, {**FLIGHT, "seats": 0}], partition=None), flights)
    assert found.valid.column_names == [*flights.names(), "known_at"]
    assert found.quarantine.column("partition_key").to_pylist() == [""]
    assert found.counts == {"": Counts(2, 1, 1, 0, {"seats > 0": 1})}


@pytest.mark.parametrize(
    ("known_at", "words"),
    [
        ("arrives_at", 'known_at: Binder Error: Referenced column "arrives_at" not found'),
        ("seats", "`seats` gives a BIGINT, it must give a TIMESTAMPTZ"),
        ("max(arrived_at)", "aggregates"),
    ],
)
def test_a_wrong_known_at_is_a_declaration_error(flights, con, known_at, words):
    with pytest.raises(DeclarationError, match=words):
        validate(con, deliver(flights, [FLIGHT]), flights, known_at=known_at)


def test_a_rule_that_fails_to_run_is_not_taken_for_a_kept_rule_and_leaves_the_connection_usable(flights, con):
    cast = Rule("number", None, "CAST(flight_id AS INTEGER) > 0")
    broken = Contract("project.T", flights.columns, (*flights.rules, cast), flights.keys)
    with pytest.raises(
        DeclarationError, match=r"project.T: a rule or known_at fails on the delivered rows; use TRY_CAST"
    ):
        validate(con, deliver(flights, [FLIGHT]), broken)
    assert validate(con, deliver(flights, [FLIGHT]), flights).valid.num_rows == 1


def test_no_rows_give_empty_tables_of_the_same_schema(flights, con):
    full = validate(con, deliver(flights, [FLIGHT, {**FLIGHT, "seats": 0}]), flights)
    empty = validate(con, deliver(flights, [FLIGHT]).slice(0, 0), flights)
    assert (empty.valid.schema, empty.quarantine.schema) == (full.valid.schema, full.quarantine.schema)
    assert (empty.valid.num_rows, empty.quarantine.num_rows, empty.counts) == (0, 0, {})


READINGS = Contract(
    "project.Readings",
    (Column("sensor", "VARCHAR", False), Column("value", "DOUBLE", True), Column("serial", "BIGINT", True)),
    (
        Rule("sensor is not null", "sensor", "sensor IS NOT NULL"),
        Rule("value is finite", "value", "isfinite(value)"),
        Rule("value >= 0", "value", "value >= 0"),
        Rule(
            "serial is unique",
            "serial",
            "serial IS NULL OR count(*) OVER (PARTITION BY partition_key, serial) = 1",
            ("serial",),
        ),
    ),
    ("sensor",),
)
ROW = st.tuples(
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from([1.0, 2.0, -1.0, float("nan"), float("inf"), None]),
    st.sampled_from([1, 2, None]),
    st.sampled_from(DAYS),
    st.integers(0, 3),
)


def stamped(rows):
    names = ("sensor", "value", "serial", "partition_key", "_file", "_row", "_arrived_at")
    records = [(s, v, n, day, f"{hour}.csv", i, NOON + hour * HOUR) for i, (s, v, n, day, hour) in enumerate(rows, 1)]
    kinds = [pa.string(), pa.float64(), pa.int64(), pa.string(), pa.string(), pa.int64(), pa.timestamp("us", "UTC")]
    return pa.table({n: pa.array([r[i] for r in records], kinds[i]) for i, n in enumerate(names)})


def expected_of(rows):
    """What validation means, written the slow way: {partition: (valid sensors and values, n quarantined)}."""
    out = {}
    for day in sorted({row[3] for row in rows}):
        mine = [(i, row) for i, row in enumerate(rows) if row[3] == day]
        good = [
            (i, r)
            for i, r in mine
            if r[0] is not None and not (r[1] is not None and (r[1] < 0 or r[1] == float("inf")))
        ]
        winners = {}
        for _, r in sorted(good, key=lambda item: (item[1][4], item[0])):
            winners[r[0]] = r
        serials = [r[2] for r in winners.values() if r[2] is not None]
        valid = [r for _, r in sorted(winners.items()) if r[2] is None or serials.count(r[2]) == 1]
        values = [(r[0], None if r[1] is None or r[1] != r[1] else r[1], r[2]) for r in valid]
        out[day] = (values, len(mine) - len(good) + len(winners) - len(valid), len(mine))
    return out


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=25), seed=st.randoms(use_true_random=False))
def test_delivered_is_valid_plus_quarantined_plus_duplicates_whatever_the_order(con, rows, seed):
    found = validate(con, stamped(rows), READINGS)
    expected = expected_of(rows)
    assert list(found.counts) == list(expected)
    for day, (values, quarantined, delivered) in expected.items():
        counts = found.counts[day]
        mine = [row for row in found.valid.to_pylist() if row["partition_key"] == day]
        assert [(r["sensor"], r["value"], r["serial"]) for r in mine] == values
        assert (counts.delivered, counts.valid, counts.quarantined) == (delivered, len(values), quarantined)
        assert counts.reconciles()
    order = list(range(len(rows)))
    seed.shuffle(order)
    again = validate(con, stamped(rows).take(pa.array(order, pa.int64())), READINGS)
    assert (again.valid, again.quarantine, again.counts) == (found.valid, found.quarantine, found.counts)


@settings(max_examples=10)
@given(rows=st.lists(ROW, min_size=1, max_size=25))
def test_a_partition_comes_out_the_same_alone_and_among_others(rows):
    con = engine.connect(threads=1)
    together = validate(con, stamped(rows), READINGS)
    for day in together.counts:
        numbered = stamped(rows).filter(pa.compute.equal(stamped(rows).column("partition_key"), day))
        alone = validate(con, numbered, READINGS)
        assert alone.counts[day] == together.counts[day]
        assert alone.valid.to_pylist() == [row for row in together.valid.to_pylist() if row["partition_key"] == day]


def test_every_rule_that_validation_adds_has_the_promised_name(flights):
    found = rules_of(flights, known_at="arrived_at", partition_column="arrived_at")
    promised = contract.promises(
        flights.reference, keys=["flight_id"], partition_column="arrived_at", has_known_at=True
    )
    assert [rule.check for rule in found] == [promise.check for promise in promised][:-1]  # the keys are no row's rule


def test_a_known_at_that_the_contract_forbids_to_be_null_is_one_rule(declare, con):
    of = contract.load(declare("class T(pa.DataFrameModel):\n    x: int\n    known_at: datetime\n", "T"))
    found = validate(con, deliver(of, [{"x": 1, "known_at": None}]), of)
    assert found.counts["2013-01-05"].by_rule == {"known_at is not null": 1}


def refused(rows):
    text = pa.string()
    kinds = [text, text, pa.int64(), text, pa.list_(text), text, pa.timestamp("us", "UTC")]
    names = ["partition_key", "file", "row", "rule", "rules", "record", "arrived_at"]
    fields = [pa.field(name, kind) for name, kind in zip(names, kinds, strict=True)]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], pa.schema(fields))


def test_rows_that_were_refused_before_are_in_quarantine_and_count_as_delivered(flights, con):
    before = refused([(DAYS[0], "b.csv", 7, "gate is new", ["gate is new"], "{}", NOON)])
    bad = {**FLIGHT, "flight_id": "f2", "seats": 0}
    found = validate(con, deliver(flights, [FLIGHT, bad]), flights, refused=before)
    assert found.quarantine.select(["file", "row"]).to_pylist() == [
        {"file": "a.parquet", "row": 2},
        {"file": "b.csv", "row": 7},
    ]
    assert found.counts == {DAYS[0]: Counts(3, 1, 2, 0, {"gate is new": 1, "seats > 0": 1})}
    alone = validate(con, deliver(flights, [FLIGHT]).slice(0, 0), flights, refused=before)
    assert alone.counts == {DAYS[0]: Counts(1, 0, 1, 0, {"gate is new": 1})}
    assert alone.quarantine.schema == found.quarantine.schema


def test_new_columns_are_carried_along_and_recorded(flights, con):
    rows = deliver(flights, [FLIGHT, {**FLIGHT, "seats": 0}])
    rows = rows.append_column("gate", pa.array(["A1", None]))
    found = validate(con, rows, flights, evolved=[Column("gate", "VARCHAR", nullable=True)])
    assert found.valid.column_names == [*flights.names(), "gate", "known_at", "partition_key"]
    assert found.valid.column("gate").to_pylist() == ["A1"]
    assert json.loads(found.quarantine.column("record")[0].as_py())["gate"] is None
    with pytest.raises(DeclarationError, match="new column known_at: declare it"):
        validate(con, rows, flights, evolved=[Column("Known_at", "VARCHAR", nullable=True)])


def numbers(con, values, outliers, kind="DOUBLE"):
    """Validate one column of numbers, all in one partition."""
    of = Contract("project.T", (Column("x", kind, nullable=True),), (), ())
    return validate(con, deliver(of, [{"x": value} for value in values]), of, outliers=[outliers])


VALUES = [1.0, 2.0, 3.0, 4.0, 100.0, None, -50.0]  # numpy's quartiles are 1.25 and 3.75


def test_an_outlier_goes_to_the_quarantine_under_its_rule(con):
    found = numbers(con, VALUES, Outliers("x", action="quarantine"))
    assert found.valid.column("x").to_pylist() == [1.0, 2.0, 3.0, 4.0, None]
    assert found.quarantine.column("rules").to_pylist() == [["x within 1.5 IQR"]] * 2
    fence = found.fences[0]
    assert (fence.partition, fence.n, fence.beyond) == ("2013-01-05", 6, 2)
    assert (fence.q1, fence.q3, fence.low, fence.high) == (1.25, 3.75, -2.5, 7.5)


def test_an_outlier_is_clipped_to_its_fence_or_only_counted(con):
    clipped = numbers(con, VALUES, Outliers("x", action="clip"))
    assert clipped.valid.column("x").to_pylist() == [1.0, 2.0, 3.0, 4.0, 7.5, None, -2.5]
    flagged = numbers(con, VALUES, Outliers("x", action="flag"))
    assert flagged.valid.column("x").to_pylist() == VALUES
    assert [found.fences[0].beyond for found in (clipped, flagged)] == [2, 2]
    assert [found.quarantine.num_rows for found in (clipped, flagged)] == [0, 0]


def test_a_whole_number_is_clipped_to_the_last_one_within(con):
    found = numbers(con, [1, 2, 3, 4, 100, None, -50], Outliers("x", action="clip"), "BIGINT")
    assert found.valid.column("x").to_pylist() == [1, 2, 3, 4, 7, None, -2]


def test_an_outlier_that_a_person_released_stays_as_it_is(con):
    of = Contract("project.T", (Column("x", "DOUBLE", nullable=True),), (), ())
    delivered = deliver(of, [{"x": float(n)} for n in range(9)])
    rows = pa.concat_tables([delivered, deliver(of, [{"x": 100.0}], name="released-0.parquet")])
    for action in ("clip", "quarantine"):
        found = validate(con, rows, of, outliers=[Outliers("x", action=action)])
        assert (found.valid.column("x").to_pylist()[-1], found.fences[0].beyond) == (100.0, 1)


def test_columns_named_like_fences_change_nothing(con):
    of = Contract("project.T", tuple(Column(name, "DOUBLE", nullable=True) for name in ("x", "low0", "high0")), (), ())
    rows = deliver(of, [{"x": x, "low0": 2.5, "high0": 2.75} for x in VALUES])
    clipped = validate(con, rows, of, outliers=[Outliers("x", action="clip")])
    assert clipped.valid.column("x").to_pylist() == [1.0, 2.0, 3.0, 4.0, 7.5, None, -2.5]
    assert set(clipped.valid.column("low0").to_pylist()) == {2.5}


@pytest.mark.parametrize("values", [[None, None], [5.0] * 9 + [6.0], [1.0], [0.0] * 30 + [1.0, 2.0]])
def test_a_column_without_spread_has_no_outliers(con, values):
    found = numbers(con, values, Outliers("x", action="quarantine"))
    assert found.valid.column("x").to_pylist() == values
    assert [(f.low, f.high, f.beyond) for f in found.fences] == [(None, None, 0)]


def test_fences_are_made_of_good_rows_without_duplicates_of_one_partition(flights, con):
    good = [{**FLIGHT, "flight_id": str(i), "delay": float(i)} for i in range(9)]
    rows = [*good, {**FLIGHT, "flight_id": "8", "delay": 8.0}, {**FLIGHT, "seats": 0, "delay": 1000.0}]
    other = deliver(flights, [{**FLIGHT, "delay": 1500.0}], partition=DAYS[1])
    found = validate(con, pa.concat_tables([deliver(flights, rows), other]), flights, outliers=[Outliers("delay")])
    assert [(f.partition, f.n, f.q1, f.q3) for f in found.fences] == [(DAYS[0], 9, 2.0, 6.0), (DAYS[1], 1, 1500, 1500)]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, max_size=25),
    values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=25, max_size=25),
    action=st.sampled_from(["flag", "clip", "quarantine"]),
    held=st.integers(0, 3),
)
def test_delivered_is_valid_plus_quarantined_plus_duplicates_with_outliers_and_refused_rows(
    con, rows, values, action, held
):
    delivered = stamped(rows).append_column("extra", pa.array(values[: len(rows)], pa.float64()))
    before = refused([(day, "z.csv", i, "r", ["r"], "{}", NOON) for i in range(held) for day in DAYS])
    evolved = [Column("extra", "DOUBLE", nullable=True)]
    asked = {"evolved": evolved, "refused": before, "outliers": [Outliers("extra", action=action)]}
    found = validate(con, delivered, READINGS, **asked)
    assert sum(counts.delivered for counts in found.counts.values()) == len(rows) + len(DAYS) * held
    for day, counts in found.counts.items():
        valid = [row for row in found.valid.to_pylist() if row["partition_key"] == day]
        quarantined = [row for row in found.quarantine.to_pylist() if row["partition_key"] == day]
        assert (counts.valid, counts.quarantined) == (len(valid), len(quarantined))
        assert counts.reconciles()
    plain = validate(con, delivered, READINGS, evolved=evolved)
    taken_out = action == "quarantine" and any(fence.beyond for fence in found.fences)
    assert (found.valid.num_rows < plain.valid.num_rows) <= taken_out


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9), st.sampled_from([1.0, 2.0])), min_size=1))
def test_fences_and_what_lies_beyond_are_those_of_numpy(con, values):
    found = numbers(con, values, Outliers("x", action="quarantine"))
    present = np.array([value for value in values if value is not None])
    expected = present
    if len(present):
        q1, q3 = np.quantile(present, [0.25, 0.75])
        assert (found.fences[0].q1, found.fences[0].q3) == pytest.approx((q1, q3), rel=1e-12, abs=1e-300)
        low, high = found.fences[0].low, found.fences[0].high
        if low is not None:
            assert (low, high) == pytest.approx((q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)), rel=1e-9, abs=1e-6)
            expected = present[(present >= low) & (present <= high)]
    kept = [value for value in found.valid.column("x").to_pylist() if value is not None]
    assert kept == expected.tolist()
    assert found.fences[0].beyond == len(present) - len(kept)
