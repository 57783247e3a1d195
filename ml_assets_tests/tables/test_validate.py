"""Validation loses no row: every delivered one is valid, in quarantine with its reasons, or a duplicate."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets import engine
from ml_assets.errors import DeclarationError
from ml_assets.tables import contract
from ml_assets.tables.contract import Column, Contract, Rule
from ml_assets.tables.validate import Counts, validate
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        assert counts.delivered == counts.valid + counts.quarantined + counts.duplicates
    order = list(range(len(rows)))
    seed.shuffle(order)
    again = validate(con, stamped(rows).take(pa.array(order, pa.int64())), READINGS)
    assert (again.valid, again.quarantine, again.counts) == (found.valid, found.quarantine, found.counts)


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=25))
def test_a_partition_comes_out_the_same_alone_and_among_others(rows):
    con = engine.connect(threads=1)
    together = validate(con, stamped(rows), READINGS)
    for day in together.counts:
        numbered = stamped(rows).filter(pa.compute.equal(stamped(rows).column("partition_key"), day))
        alone = validate(con, numbered, READINGS)
        assert alone.counts[day] == together.counts[day]
        assert alone.valid.to_pylist() == [row for row in together.valid.to_pylist() if row["partition_key"] == day]
