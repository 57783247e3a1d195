"""Delivered files: read with exact types, or refused with the file, the column and what to do."""

import gzip
import io
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ml_assets.errors import DeliveryError
from ml_assets.tables import contract
from ml_assets.tables.delivery import DeliveredFile, gather, read_delivery, stamped_schema
from ml_assets_tests.tables.conftest import FLIGHT, NOON, parquet


def refusal(content, name, of):
    with pytest.raises(DeliveryError) as caught:
        read_delivery(content, name, of)
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


def rows_of(content, name, of):
    return read_delivery(content, name, of).drop_columns(["_row"]).to_pylist()


def test_a_parquet_file_comes_back_in_the_order_and_types_of_the_contract(flights):
    content = parquet([dict(reversed(FLIGHT.items()))])
    rows = read_delivery(content, "a.parquet", flights)
    assert rows.to_pylist() == [{**FLIGHT, "_row": 1}]
    assert rows.drop_columns(["_row"]).schema == pa.schema(list(stamped_schema(flights))[:7])


def test_a_truncated_parquet_file_is_unreadable_wherever_it_was_cut(flights):
    content = parquet([FLIGHT] * 100)
    for size in (1, 4, 100, len(content) // 2, len(content) - 1):
        assert "a.parquet: unreadable:" in refusal(content[:size], "a.parquet", flights)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@example(position=1811, bit=5)  # the name of a time zone is no longer text
@example(position=1902, bit=5)
def test_a_flipped_bit_gives_rows_of_the_contract_or_a_delivery_error(flights, position, bit):
    content = bytearray(parquet([FLIGHT] * 50))
    content[position % len(content)] ^= 1 << bit
    try:
        rows = read_delivery(bytes(content), "a.parquet", flights)
    except DeliveryError:
        return
    assert rows.column_names == [*flights.names(), "_row"]
    rows.validate(full=True)


def test_an_empty_file_and_a_file_without_rows_are_refused(flights):
    assert "the file is empty; deliver it again" in refusal(b"", "a.parquet", flights)
    empty = parquet(pa.schema(list(stamped_schema(flights))[:7]).empty_table())
    assert "it holds no rows" in refusal(empty, "a.parquet", flights)
    assert "it holds no rows" in refusal(",".join(flights.names()).encode(), "a.csv", flights)
    assert "it holds no rows" in refusal(b"\n\n", "a.jsonl", flights)


def test_missing_unexpected_and_wrong_columns_are_all_named_at_once(flights):
    row = {**FLIGHT, "tail": "N1", "seats": "many"}
    del row["carrier"]
    said = refusal(parquet([row]), "a.parquet", flights)
    assert "missing column carrier, unexpected column tail, column seats is not BIGINT: found string" in said
    assert said.endswith(f"; correct the delivery, or change {flights.reference}")


WIDE = [
    ("str", pa.array(["a"]).dictionary_encode(), "a"),
    ("str", pa.array(["a"], pa.large_string()), "a"),
    ("int", pa.array([7], pa.uint8()), 7),
    ("float", pa.array([7], pa.int32()), 7.0),
    ("float", pa.array([0.5], pa.float32()), 0.5),
    ("float", pa.nulls(1), None),
    ("datetime", pa.array([0], pa.timestamp("s", "America/New_York")), datetime(1970, 1, 1, tzinfo=UTC)),
    ("datetime", pa.array([1000], pa.timestamp("ns", "UTC")), datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
    ("date", pa.array([date(2013, 1, 5)], pa.date64()), date(2013, 1, 5)),
]
LOSSY = [
    ("int", pa.array([1.0]), "found double"),
    ("int", pa.array([2**63], pa.uint64()), "row 1 holds 9223372036854775808"),
    ("float", pa.array([2**53 + 1]), "row 1 holds 9007199254740993"),
    ("float", pa.array(["1.5"]), "found string"),
    ("str", pa.array([1]), "found int64"),
    ("str", pa.array([b"a"]), "found binary"),
    ("bool", pa.array([1]), "found int64"),
    ("datetime", pa.array([0], pa.timestamp("us")), "found timestamp[us]"),
    ("datetime", pa.array([1], pa.timestamp("ns", "UTC")), "row 1 holds 1970-01-01 00:00:00.000000001"),
    ("datetime", pa.array([date(2013, 1, 5)]), "found date32[day]"),
    ("date", pa.array([0], pa.timestamp("us", "UTC")), "found timestamp[us, tz=UTC]"),
]


@pytest.mark.parametrize(("kind", "values", "expected"), WIDE)
def test_widening_keeps_the_value(one_column, kind, values, expected):
    of = contract.load(one_column(kind, "nullable=True"))
    assert read_delivery(parquet(pa.table({"x": values})), "a.parquet", of).column("x").to_pylist() == [expected]


@pytest.mark.parametrize(("kind", "values", "words"), LOSSY)
def test_a_type_that_would_lose_something_is_a_wrong_type(one_column, kind, values, words):
    of = contract.load(one_column(kind, "nullable=True"))
    assert words in refusal(parquet(pa.table({"x": values})), "a.parquet", of)


def test_two_columns_of_one_name_are_refused(one_column):
    table = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    of = contract.load(one_column("int"))
    assert "two columns have the name x" in refusal(parquet(table), "a.parquet", of)
    assert "two columns have the name x" in refusal(b"x,x\n1,2\n", "a.csv", of)


CSV = """carrier,flight_id,departed_at,arrived_at,delay,seats,cancelled
UA,f1,,2013-01-05T12:00:00Z,1.5,100,false
NA,"f
2",2013-01-05 12:00:00+00:00,2013-01-05T07:00:00-05:00,NA,3,true
"""


@pytest.mark.parametrize("name", ["a.csv", "a.CSV.GZ"])
def test_a_csv_file_is_typed_by_the_contract_and_only_text_may_say_na(flights, name):
    content = CSV.encode() if name == "a.csv" else gzip.compress(CSV.encode())
    assert rows_of(content, name, flights) == [
        {**FLIGHT, "departed_at": None},
        {**FLIGHT, "carrier": "NA", "flight_id": "f\n2", "delay": None, "seats": 3, "cancelled": True},
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",3,true", ",3.5,true", "column seats is not BIGINT: line 3 holds '3.5'"),
        (",NA,3", ",late,3", "column delay is not DOUBLE: line 3 holds 'late'"),
        ("2013-01-05T12:00:00Z", "2013-01-05T12:00:00", "line 2 holds '2013-01-05T12:00:00'; write the time zone"),
        ("seats", "places", "missing column seats, unexpected column places"),
        (",100,false", ",100", "unreadable: "),
    ],
)
def test_a_wrong_csv_file_says_where(flights, old, new, words):
    assert words in refusal(CSV.replace(old, new).encode(), "a.csv", flights)


def test_a_damaged_gzip_and_an_unknown_kind_of_file_are_refused(flights):
    assert "unreadable" in refusal(gzip.compress(CSV.encode())[:-9], "a.csv.gz", flights)
    assert "unreadable" in refusal(b"no gzip", "a.csv.gz", flights)
    assert "the name ends with one of .parquet" in refusal(b"x", "a.xlsx", flights)


JSON = (
    '{"flight_id": "f1", "carrier": "UA", "departed_at": "2013-01-05T12:00:00Z", "arrived_at": "2013-01-05T12:00:00Z", '
    '"delay": 1.5, "seats": 100, "cancelled": false}\n'
)


def test_json_lines_keep_the_type_of_every_value(flights):
    short = JSON.replace('"delay": 1.5, ', "").replace("1.5", "2")
    assert rows_of((JSON + short).encode(), "a.jsonl", flights) == [FLIGHT, {**FLIGHT, "delay": None}]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("100", "100.5", "column seats is not BIGINT: line 1 holds 100.5"),
        ("100", "true", "line 1 holds true"),
        ("1.5", '"1.5"', 'column delay is not DOUBLE: line 1 holds "1.5"'),
        ('"f1"', "1", "column flight_id is not VARCHAR: line 1 holds 1"),
        ("false", "0", "column cancelled is not BOOLEAN: line 1 holds 0"),
        ("100", "100000000000000000000", "column seats is not BIGINT"),
        ("12:00:00Z", "noon", 'column departed_at is not TIMESTAMPTZ: line 1 holds "2013-01-05Tnoon"'),
        ("}", "", "unreadable: "),
        (JSON, "[1]", "line 1 is no JSON object"),
    ],
)
def test_a_wrong_json_line_says_where(flights, old, new, words):
    assert words in refusal(JSON.replace(old, new).encode(), "a.jsonl", flights)


def test_gathering_stamps_readable_files_and_reports_the_others(flights):
    good = DeliveredFile("good.parquet", parquet([FLIGHT] * 2), "2013-01-05", NOON)
    gathered = gather([good, DeliveredFile("bad.parquet", b"PAR1", "2013-01-05", NOON)], flights)
    assert [problem.file for problem in gathered.problems] == ["bad.parquet"]
    assert "unreadable" in gathered.problems[0].problem
    rows = gathered.rows
    stamps = rows.select(["partition_key", "_file", "_row", "_arrived_at"]).to_pylist()
    assert stamps[1] == {"partition_key": "2013-01-05", "_file": "good.parquet", "_row": 2, "_arrived_at": NOON}
    assert gather([], flights).rows.schema == rows.schema


def test_a_parquet_file_with_several_row_groups_is_read_whole(one_column):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": list(range(10))}), buffer, row_group_size=3)
    of = contract.load(one_column("int"))
    assert read_delivery(buffer.getvalue(), "a.parquet", of).column("x").to_pylist() == list(range(10))
