"""The schema policy, in dlt's words, over columns that the contract does not name and values of another type."""

import json

import pyarrow as pa
import pytest

from ml_assets.errors import DeclarationError
from ml_assets.tables.delivery import quarantine_schema, stamped_schema
from ml_assets.tables.format import Format, SchemaPolicy
from ml_assets_tests.tables.conftest import NOON, parquet
from ml_assets_tests.tables.delivered import contract, gathered

TWO = contract("n", "x")
CSV = "n,x,tail,seat\n1,1.5,N1,\n2,late,,NA\n3,3.5,,7\nfour,five,N4,\n"
JSON = (
    '{"n": 1, "x": 1.5, "tail": "N1"}\n{"n":2,  "x": "late"}\n{"n": 3, "x": 3.5, "seat": 7}\n'
    '{"n": "four", "x": "five", "tail": "N4", "seat": null}\n'
)
FILES = [("a.csv", CSV), ("a.jsonl", JSON)]


def problem(files, of=TWO, **policy):
    found = gathered(files, of, **policy)
    assert found.rows.num_rows == found.refused.num_rows == 0
    return found.problems[0].problem


@pytest.mark.parametrize("file", FILES)
def test_freeze_refuses_the_file_and_names_everything_at_once(file):
    said = problem([file])
    assert "unexpected column tail, seat, column n is not BIGINT: line " in said
    assert "column x is not DOUBLE: line " in said
    assert "(and 1 more)" in said


@pytest.mark.parametrize("file", FILES)
def test_discard_row_keeps_the_others_and_quarantines_each_row_with_all_its_rules(file):
    found = gathered([file], TWO, columns="discard_row", data_type="discard_row")
    assert found.problems == ()
    assert found.rows.num_rows == 0
    first = 2 if file[0] == "a.csv" else 1
    rules = [
        ["no_unexpected_columns"],
        ["x__has_type"],
        ["no_unexpected_columns"],
        ["n__has_type", "x__has_type", "no_unexpected_columns"],
    ]
    assert [(row["row"], row["rule"], row["rules"]) for row in found.refused.to_pylist()] == [
        (first + i, names[0], names) for i, names in enumerate(rules)
    ]
    assert found.refused.schema == quarantine_schema()
    assert set(found.refused["partition_key"].to_pylist()) == {"2013-01-05"}
    assert set(found.refused["file"].to_pylist()) == {file[0]}
    assert set(found.refused["arrived_at"].to_pylist()) == {NOON}
    assert found.discarded == {}


def test_a_record_is_the_line_of_json_and_of_others_the_values_with_what_has_no_type_as_delivered():
    policy = {"columns": "discard_row", "data_type": "discard_row"}
    found = gathered([("a.jsonl", JSON)], TWO, **policy)
    assert found.refused["record"].to_pylist() == JSON.splitlines()
    found = gathered([("a.csv", CSV)], TWO, **policy)
    assert [json.loads(record) for record in found.refused["record"].to_pylist()] == [
        {"n": 1, "x": 1.5, "tail": "N1", "seat": None},
        {"n": 2, "x": "late", "tail": None, "seat": "NA"},
        {"n": 3, "x": 3.5, "tail": None, "seat": "7"},
        {"n": "four", "x": "five", "tail": "N4", "seat": None},
    ]


def test_a_record_of_parquet_holds_lists_decimals_and_what_json_has_no_number_for():
    table = pa.table(
        {
            "n": pa.array([1, 2**63], pa.uint64()),
            "x": [float("inf"), None],
            "list": [[1], [2]],
            "half": pa.array([1.5, None], pa.float16()),
            "bytes": [b"a", b"\xff"],
        }
    )
    found = gathered([("a.parquet", parquet(table))], TWO, columns="discard_row", data_type="discard_row")
    first, second = (json.loads(record) for record in found.refused["record"].to_pylist())
    assert first == {"n": 1, "x": "inf", "list": [1], "half": 1.5, "bytes": "a"}
    assert second == {"n": 2**63, "x": None, "list": [2], "half": None, "bytes": "\\xFF"}


def test_views_of_parquet_are_text_as_any():
    rows = {
        "n": [1, 2],
        "x": pa.array(["late", None], pa.string_view()),
        "seen": pa.array([None, b"a"], pa.binary_view()),
    }
    found = gathered([("a.parquet", parquet(pa.table(rows)))], TWO, columns="discard_row", data_type="discard_row")
    assert [json.loads(record) for record in found.refused["record"].to_pylist()] == [
        {"n": 1, "x": "late", "seen": None},
        {"n": 2, "x": None, "seen": "a"},
    ]
    said = problem([("a.parquet", parquet(pa.table(rows)))], columns="evolve", data_type="discard_row")
    assert "column seen is binary_view; deliver it flat, or discard the column" in said


@pytest.mark.parametrize("file", FILES)
def test_a_record_with_its_fault_corrected_is_a_delivery_again(file):
    found = gathered([file], TWO, columns="discard_row", data_type="discard_row")
    records = [json.loads(record) for record in found.refused["record"].to_pylist()]
    corrected = "\n".join(
        json.dumps({"n": i, "x": r["x"] if r["n"] in (1, 3) else 0}) for i, r in enumerate(records, 1)
    )
    again = gathered([("released.jsonl", corrected)], TWO)
    assert again.rows.select(["n", "x"]).to_pylist() == [
        {"n": n, "x": x} for n, x in [(1, 1.5), (2, 0.0), (3, 3.5), (4, 0.0)]
    ]


@pytest.mark.parametrize("file", FILES)
def test_discard_value_drops_and_counts(file):
    found = gathered([file], TWO, columns="discard_value", data_type="discard_value")
    assert found.rows.select(["n", "x"]).to_pylist() == [
        {"n": n, "x": x} for n, x in [(1, 1.5), (2, None), (3, 3.5), (None, None)]
    ]
    day = "2013-01-05"
    assert found.discarded == {(day, "x"): 2, (day, "n"): 1, (day, "tail"): 2, (day, "seat"): 1}
    assert (found.refused.num_rows, found.evolved) == (0, ())


def test_values_of_refused_rows_are_not_counted_as_dropped():
    found = gathered([("a.csv", CSV)], TWO, columns="discard_value", data_type="discard_row")
    assert found.discarded == {("2013-01-05", "tail"): 1, ("2013-01-05", "seat"): 1}
    assert found.rows["n"].to_pylist() == [1, 3]


def test_a_whole_column_of_another_type_is_discarded_where_it_holds_anything():
    file = ("a.parquet", parquet(pa.table({"n": ["1", None, "3"], "x": [1.0, 2.0, 3.0]})))
    found = gathered([file], TWO, data_type="discard_row")
    assert found.rows["_row"].to_pylist() == [2]
    assert json.loads(found.refused["record"][0].as_py()) == {"n": "1", "x": 1.0}
    assert "column n is not BIGINT: found string" in problem([file])


def evolved(*files, of=TWO, **policy):
    found = gathered(files, of, columns="evolve", **policy)
    assert found.problems == ()
    assert found.rows.schema == stamped_schema(of, found.evolved)
    return {column.name: column.type for column in found.evolved}, found


def test_new_columns_come_by_name_in_the_type_that_keeps_their_values():
    header = "n,x,zip,tail,seats,share,day,at,open,code,empty,mixed,big"
    lines = (
        "1,1.5,007,N1,5,0.5,2013-01-05,2013-01-05T12:00:00Z,true,1,,5,9223372036854775808",
        "2,2.5,012,NA,NA,1e3,NA,NA,FALSE,0,NA,N,1",
    )
    kinds, found = evolved(("a.csv", "\n".join((header, *lines))))
    assert kinds == {
        "at": "TIMESTAMPTZ",
        "big": "VARCHAR",
        "code": "BIGINT",
        "day": "DATE",
        "mixed": "VARCHAR",
        "open": "BOOLEAN",
        "seats": "BIGINT",
        "share": "DOUBLE",
        "tail": "VARCHAR",
        "zip": "VARCHAR",
    }
    assert all(column.nullable for column in found.evolved)
    assert found.rows["zip"].to_pylist() == ["007", "012"]
    assert found.rows["tail"].to_pylist() == ["N1", "NA"]
    assert found.rows["seats"].to_pylist() == [5, None]
    assert found.rows.column_names == ["n", "x", *kinds, "partition_key", "_file", "_row", "_arrived_at"]


def test_json_and_parquet_evolve_by_their_own_types():
    lines = '{"n": 1, "a": 1, "b": 1.0, "c": "1", "d": true, "e": "2013-01-05", "f": 1, "g": null}\n{"f": "x"}\n'
    kinds, found = evolved(("a.jsonl", lines))
    assert kinds == {"a": "BIGINT", "b": "DOUBLE", "c": "VARCHAR", "d": "BOOLEAN", "e": "DATE", "f": "VARCHAR"}
    assert found.rows["f"].to_pylist() == ["1", "x"]
    table = pa.table({"n": [1], "a": pa.array([1], pa.uint8()), "b": [NOON], "c": pa.array(["x"]).dictionary_encode()})
    assert evolved(("a.parquet", parquet(table)))[0] == {"a": "BIGINT", "b": "TIMESTAMPTZ", "c": "VARCHAR"}


def test_files_that_disagree_widen_the_column_and_it_says_so():
    one, two = ("a.csv", "n,x,new\n1,1,5\n"), ("b.csv", "n,x,new\n2,2,0.5\n3,3,\n")
    kinds, found = evolved(one, two)
    assert kinds == {"new": "DOUBLE"}
    assert found.rows["new"].to_pylist() == [5.0, 0.5, None]
    assert found.evolved[0].description == "Not in the contract; widened to DOUBLE: BIGINT in a.csv, DOUBLE in b.csv."
    kinds, found = evolved(one, two, ("c.jsonl", '{"n": 4, "x": 4, "new": "N4"}'), ("d.csv", "n,x\n5,5\n"))
    assert kinds == {"new": "VARCHAR"}
    assert found.rows["new"].to_pylist() == ["5", "0.5", None, "N4", None]
    kinds, found = evolved(("a.csv", f"n,x,new\n1,1,{2**53 + 1}\n"), two)
    assert (kinds, found.rows["new"][0].as_py()) == ({"new": "VARCHAR"}, str(2**53 + 1))


def test_new_columns_of_refused_rows_do_not_shift_the_others():
    lines = "n,x,new\n1,1,a\ntwo,2,b\n3,3,c\n"
    _, found = evolved(("a.csv", lines), data_type="discard_row")
    assert found.rows.select(["n", "new"]).to_pylist() == [{"n": 1, "new": "a"}, {"n": 3, "new": "c"}]


@pytest.mark.parametrize("name", ["partition_key", "_FILE", "known_at", "_row"])
def test_names_that_are_taken_never_evolve(name):
    said = problem([("a.csv", f"n,x,{name}\n1,1,1\n")], columns="evolve")
    assert f"unexpected column {name}, a name that ml_assets uses itself" in said


def test_names_that_differ_by_case_only_never_evolve():
    assert "unexpected column N beside n" in problem([("a.csv", "n,x,N\n1,1,1\n")], columns="evolve")
    assert "unexpected column without a name" in problem([("a.csv", "n,x,\n1,1,1\n")], columns="evolve")
    found = gathered([("a.csv", "n,x,New\n1,1,1\n"), ("b.csv", "n,x,new\n1,1,1\n")], TWO, columns="evolve")
    assert [p.problem for p in found.problems] == ["b.csv: column new came as New before; spell it in one way"]


def test_nested_columns_and_mappings_never_evolve():
    nested = '{"n": 1, "x": 1, "new": [1]}'
    assert "column new holds a list or an object; deliver it flat" in problem([("a.jsonl", nested)], columns="evolve")
    table = pa.table({"n": [1], "x": [1.0], "new": [[1]]})
    assert "column new is list<" in problem([("a.parquet", parquet(table))], columns="evolve")
    keys = json.dumps({"n": 1, "x": 1, **{f"flight {i}": 1 for i in range(1001)}})
    assert "1,001 columns that the contract does not name: a mapping became columns" in problem(
        [("a.jsonl", keys)], columns="discard_value"
    )


@pytest.mark.parametrize("columns", ["freeze", "discard_row", "discard_value"])
def test_a_missing_column_is_refused_unless_the_table_evolves(columns):
    assert "missing column x" in problem([("a.csv", "n\n1\n")], columns=columns)


def test_a_nullable_column_may_be_absent_in_a_table_that_evolves():
    assert evolved(("a.csv", "n\n1\n"))[1].rows["x"].to_pylist() == [None]
    assert "missing column x" in problem([("a.csv", "n\n1\n")], contract("n", "x", nullable=False), columns="evolve")


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (lambda: SchemaPolicy(columns="ignore"), "columns is 'ignore': write one of evolve, freeze, discard_row"),
        (
            lambda: SchemaPolicy(data_type="evolve"),
            "data_type is 'evolve': write one of freeze, discard_row, discard_value",
        ),
        (lambda: Format(kind="xlsx"), "format.kind is 'xlsx': write one of auto, parquet, csv"),
        (lambda: Format(delimiter="||"), "format.delimiter is '||': write one ASCII character"),
        (lambda: Format(delimiter='"'), "write different characters"),
        (lambda: Format(delimiter=""), "write different characters"),
        (lambda: Format(encoding="utf-9"), "format.encoding: unknown encoding: utf-9; write utf-8"),
        (
            lambda: Format(time_zone="New York"),
            "format.time_zone 'New York' is unknown; write a name like America/New_York",
        ),
        (lambda: Format(kind="csv", items="data"), "format.items leads into a JSON document, but format.kind is csv"),
        (lambda: Format(max_bytes=0), "format.max_bytes is 0"),
        (lambda: Format(encoding="undefined"), "format.encoding: "),
        (lambda: Format(encoding="utf\0"), "format.encoding: "),
        (lambda: Format(timestamp_format="%d.%m.%Y %Q"), "format.timestamp_format '%d.%m.%Y %Q' holds %Q"),
        (lambda: Format(timestamp_format="%Y-%m-%d %H:%M:%S.%n"), "holds %n, which is unknown; write %Y"),
        (lambda: Format(date_format="%d.%m.%Y%"), "format.date_format '%d.%m.%Y%' holds %, which is unknown"),
        (lambda: Format(date_format="%d.%m."), "format.date_format '%d.%m.' has no year"),
    ],
)
def test_a_wrong_declaration_says_what_to_write(declared, words):
    with pytest.raises(DeclarationError) as caught:
        declared()
    assert words in str(caught.value)
