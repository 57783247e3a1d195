import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.engine import connect
from ml_assets.tables.corrections import Rows, judge, lines
from ml_assets.tables.format import Format
from ml_assets.tables.formats import read
from ml_assets.tables.schema import Column, Contract

CONTRACT = Contract(
    "shop.Orders",
    (
        Column("id", "VARCHAR", nullable=True),
        Column("n", "BIGINT", nullable=True),
        Column("price", "DOUBLE", nullable=True),
        Column("paid", "BOOLEAN", nullable=True),
        Column("known_at", "TIMESTAMPTZ", nullable=False),
        Column("day", "DATE", nullable=True),
    ),
    (),
    (),
)
GOOD = {"id": "a", "n": 1, "price": 1.5, "paid": True, "known_at": "2013-01-05T10:00:00Z", "day": "2013-01-05"}


def judged(records, corrections=None, contract=CONTRACT):
    with connect() as con:
        rows = [
            {"partition_key": "", "file": "f", "row": i, "record": json.dumps(record)}
            for i, record in enumerate(records)
        ]
        con.register("chosen", pa.Table.from_pylist(rows))
        found = judge(con, "chosen", Rows(contract, None, None, None), corrections or {})
        return found, lines(con, found.good, contract)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n", "12.5"),
        ("n", "many"),
        ("n", 1e30),
        ("price", "1,5"),
        ("paid", "perhaps"),
        ("known_at", "2013-01-05 10:00:00"),
        ("known_at", "2013-01-05"),
        ("day", "2013-02-30"),
        ("day", "2013-01-05T10:00:00Z"),
    ],
)
def test_a_value_of_another_type_is_never_lost_on_the_way(column, value):
    found, _ = judged([GOOD | {column: value}])
    assert found.good.num_rows == 0
    assert list(found.breaking) == [f"{column} is no {CONTRACT.column(column).type}"]


def test_text_of_the_right_type_and_the_words_for_null_are_read():
    text = {"id": "NA", "n": "7", "price": "NaN", "paid": "", "known_at": "2013-01-05 11:00:00+01", "day": "NULL"}
    found, _ = judged([text])
    (row,) = found.good.drop_columns(["partition_key", "_file", "_row"]).to_pylist()
    assert row == {
        "id": "NA",
        "n": 7,
        "price": None,
        "paid": None,
        "known_at": datetime(2013, 1, 5, 10, tzinfo=UTC),
        "day": None,
    }


def test_a_correction_sees_the_text_as_it_was_delivered():
    found, _ = judged([GOOD | {"price": "1,5"}], {"price": "replace(_record->>'price', ',', '.')::DOUBLE"})
    assert found.good["price"].to_pylist() == [1.5]
    assert found.breaking == {}


values = st.fixed_dictionaries(
    {
        "id": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "price": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "paid": st.none() | st.booleans(),
        "known_at": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda t: f"{t.isoformat()}Z"),  # noqa: DTZ001
        "day": st.none() | st.dates(datetime(1900, 1, 1).date()).map(str),  # noqa: DTZ001
    }
)


@settings(max_examples=25)
@given(st.lists(values, min_size=1, max_size=5))
def test_what_is_released_reads_as_what_was_refused(records):
    found, contents = judged(records)
    assert found.good.num_rows == len(records)
    cells = read(contents[""], "released.jsonl", Format())
    for column in CONTRACT.columns:
        wanted = found.good[column.name].to_pylist()
        if column.name in cells.names:
            typed = cells.typed(column)
            assert typed.bad is None or not any(typed.bad.to_pylist())
            assert typed.values.to_pylist() == wanted
        else:
            assert set(wanted) == {None}


def test_columns_named_like_those_of_the_quarantine_are_released_as_they_are():
    names = ("file", "row", "rule", "rules", "record", "number", "untyped", "arrived_at", "order", 'a "b" é', "A\\b")
    contract = Contract("shop.Odd", tuple(Column(name, "VARCHAR", nullable=True) for name in names), (), ())
    record = {name: f"this is {name}" for name in names}
    found, contents = judged([record, record | {"row": "x"}], {"number": "upper(row)"}, contract)
    assert found.good.num_rows == 2
    assert [json.loads(line) for line in contents[""].splitlines()] == [
        record | {"number": "THIS IS ROW"},
        record | {"row": "x", "number": "X"},
    ]
