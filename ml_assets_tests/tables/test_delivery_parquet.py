"""Parquet: what would change a value is a wrong type, row by row where it can be told."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets_tests.tables.conftest import parquet
from ml_assets_tests.tables.delivered import contract, gathered, refusal, values

NOON = datetime(2013, 1, 5, 12, tzinfo=UTC)


def file(**columns) -> bytes:
    return parquet(pa.table(columns))


def days(*texts: str, unit="us") -> pa.Array:
    return pa.array([datetime.fromisoformat(text) for text in texts], pa.timestamp(unit))


@pytest.mark.parametrize(
    ("column", "delivered", "expected"),
    [
        ("n", pa.array([2**63 - 1], pa.uint64()), 2**63 - 1),
        ("n", pa.array([Decimal(2**63 - 1)], pa.decimal128(38, 0)), 2**63 - 1),
        ("x", pa.array([Decimal("0.10")], pa.decimal128(5, 2)), 0.1),
        ("x", pa.array([Decimal("1234567890123.45")], pa.decimal128(38, 2)), 1234567890123.45),
        ("x", pa.array([-(2**53)]), -float(2**53)),
        ("text", pa.array(["a", None]).dictionary_encode(), "a"),
        ("n", pa.array([7, 7]).dictionary_encode(), 7),
        ("text", pa.array(["a"], pa.string_view()), "a"),
        ("day", pa.array([date(9999, 12, 31)], pa.date64()), date(9999, 12, 31)),
    ],
)
def test_what_keeps_its_value_is_taken(column, delivered, expected):
    assert values(file(**{column: delivered}), "a.parquet", column)[0] == expected


@pytest.mark.parametrize(
    ("column", "delivered", "words"),
    [
        ("n", pa.array([1, 2**63, 2**64 - 1], pa.uint64()), "row 2 holds 9223372036854775808 (and 1 more)"),
        ("n", pa.array([Decimal(2**63)], pa.decimal128(38, 0)), "row 1 holds Decimal('9223372036854775808')"),
        ("n", pa.array([Decimal("1.0")]), "found decimal128(2, 1)"),
        ("n", pa.array([1.0]), "found double"),
        ("x", pa.array([0, 2**53 + 1]), "row 2 holds 9007199254740993"),
        ("x", pa.array([-(2**53) - 1]), "row 1 holds -9007199254740993"),
        ("x", pa.array([Decimal("12345678901234567.89")]), "row 1 holds Decimal('12345678901234567.89')"),
        ("text", pa.array([[1]]), "found list<"),
        ("text", pa.array([{"a": 1}]), "found struct<"),
        ("text", pa.array([b"a"]), "found binary"),
        ("day", pa.array([date(2013, 1, 5)]).cast(pa.timestamp("us")), "found timestamp[us]"),
        ("day", pa.array([10**7], pa.date32()), "row 1 holds 10000000 in date32[day]"),
        ("at", pa.array([1], pa.timestamp("ns", "UTC")), "row 1 holds 1970-01-01 00:00:00.000000001"),
        (
            "at",
            pa.array([2**62], pa.timestamp("ms", "UTC")),
            "row 1 holds 4611686018427387904 in timestamp[ms, tz=UTC]",
        ),
        (
            "at",
            pa.array([2**60], pa.timestamp("us", "UTC")),
            "row 1 holds 1152921504606846976 in timestamp[us, tz=UTC]",
        ),
        ("at", pa.array([43200], pa.time32("ms")), "found time32[ms]"),
        ("at", days("2013-01-05"), "found timestamp[us], which has no time zone: set format.time_zone"),
    ],
)
def test_what_would_change_is_named(column, delivered, words):
    assert words in refusal(file(**{column: delivered}), "a.parquet", column)


def test_local_times_have_the_declared_zone_and_an_hour_that_comes_twice_is_refused():
    local = file(at=days("2013-07-01T08:00", "2013-11-03T01:30", "2013-03-10T02:30"))
    said = refusal(local, "a.parquet", "at", time_zone="America/New_York")
    assert "column at is not TIMESTAMPTZ: row 2 holds 2013-11-03 01:30:00 (and 1 more)" in said
    assert "row 3 holds 2013-03-10 02:30:00" in refusal(
        local, "a.parquet", "at", time_zone="America/New_York", ambiguous_time="earliest"
    )
    summer = values(file(at=days("2013-07-01T08:00", unit="ns")), "a.parquet", "at", time_zone="America/New_York")
    assert summer == [datetime(2013, 7, 1, 12, tzinfo=UTC)]


def int96(array: pa.Array) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"at": array}), buffer, use_deprecated_int96_timestamps=True)
    return buffer.getvalue()


def test_old_times_of_spark_neither_overflow_nor_lose_nanoseconds():
    far = int96(days("9999-12-31", "2013-01-05T12:00"))
    assert values(far, "a.parquet", "at", time_zone="UTC") == [datetime(9999, 12, 31, tzinfo=UTC), NOON]
    assert "which has no time zone" in refusal(far, "a.parquet", "at")
    fine = int96(pa.array([1000, 1], pa.timestamp("ns")))
    assert "row 2 holds 1970-01-01 00:00:00.000000001" in refusal(fine, "a.parquet", "at", time_zone="UTC")


def test_a_bad_footer_an_encrypted_file_and_two_columns_of_a_name_say_so():
    good = file(n=[1])
    assert "unreadable: it is encrypted; deliver it without encryption" in refusal(
        good[:-4] + b"PARE", "a.parquet", "n"
    )
    assert "unreadable: Parquet magic bytes not found" in refusal(good[:-4] + b"XXXX", "a.parquet", "n")
    assert "unreadable: " in refusal(good[:-12] + b"\xff" * 4 + good[-8:], "a.parquet", "n")
    doubled = parquet(pa.table([pa.array([1]), pa.array([2])], names=["n", "n"]))
    assert "two columns have the name n; give every column a name of its own" in refusal(doubled, "a.parquet", "n")


def test_text_that_is_no_text_is_refused():
    offsets, letters = pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")
    broken = pa.StringArray.from_buffers(1, offsets, letters)
    assert "unreadable: " in refusal(parquet(pa.table({"text": broken})), "a.parquet", "text")


def test_a_small_file_of_many_equal_values_has_the_limit_of_its_table():
    many = file(n=pa.array([7]).take(pa.array([0] * 1_000_000)))
    assert len(many) < 10_000
    said = refusal(many, "a.parquet", "n", max_bytes=1_000_000)
    assert "it holds 8,000,000 bytes, and more than 1,000,000 are not taken" in said


def test_half_a_million_bad_values_are_found_in_one_pass():
    n = 1_000_000
    odd = pa.array([2**63 if i % 2 else i for i in range(n)], pa.uint64())
    found = gathered([("a.parquet", file(n=odd))], contract("n"), data_type="discard_row")
    assert (found.rows.num_rows, found.refused.num_rows) == (n // 2, n // 2)
    assert found.refused.slice(0, 1).to_pylist()[0] | {"arrived_at": None} == {
        "partition_key": "2013-01-05",
        "file": "a.parquet",
        "row": 2,
        "rule": "n__has_type",
        "rules": ["n__has_type"],
        "record": '{"n":9223372036854775808}',
        "arrived_at": None,
    }
