"""JSON lines and documents: a value has the type that JSON gives it, and nothing is guessed from its text."""

import json
from datetime import UTC, date, datetime

import pytest

from ml_assets_tests.tables.delivered import refusal, rows, values

NOON = datetime(2013, 1, 5, 12, tzinfo=UTC)


def test_rows_are_numbered_by_line_and_empty_lines_count():
    content = '\ufeff{"n": 1}\r\n\n  \n{"n": 2}\r{"n": 3}\n'
    assert rows(content, "a.jsonl", "n") == [{"n": 1, "_row": 1}, {"n": 2, "_row": 4}, {"n": 3, "_row": 5}]


def test_every_type_comes_from_its_own_json():
    row = {"text": "é\n", "n": -(2**63), "x": 1e-7, "ok": False, "at": "2013-01-05T13:00:00+01:00", "day": "2012-02-29"}
    found = rows(json.dumps(row), "a.ndjson", *row)
    assert found == [{**row, "at": NOON, "day": date(2012, 2, 29), "_row": 1}]
    assert values('{"x": 5}\n{"x": null}\n{}\n{"x": 0.1}\n', "a.jsonl", "x") == [5.0, None, None, 0.1]


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("n", "1.0", "1.0"),
        ("n", "1e2", "100.0"),
        ("n", '"1"', '"1"'),
        ("n", "true", "true"),
        ("n", "9223372036854775808", "9223372036854775808 (and 1 more); it is beyond 64 bits"),
        ("n", "123456789012345678901234567890", "123456789012345678901234567890 (and 1 more); it is beyond 64 bits"),
        ("x", "NaN", "NaN (and 1 more); numbers are finite"),
        ("x", "-Infinity", "-Infinity (and 1 more); numbers are finite"),
        ("x", '"NaN"', '"NaN"'),
        ("x", "1e400", "1e400"),
        ("text", "1", "1"),
        ("text", '{"a": [1, 2]}', '{"a":[1,2]}'),
        ("text", "[]", "[]"),
        ("ok", "1", "1"),
        ("ok", '"true"', '"true"'),
        ("at", "1357387200", "1357387200"),
        ("at", '"2013-02-29T12:00:00Z"', '"2013-02-29T12:00:00Z"'),
        ("at", '"2013-01-05T12:00:00"', '"2013-01-05T12:00:00" (and 1 more); write the time zone'),
        ("at", '""', '""'),
        ("day", '"2013-02-29"', '"2013-02-29"'),
    ],
)
def test_a_value_of_another_type_is_shown_as_json(column, value, shown):
    line = f'{{"{column}": {value}}}\n'
    said = refusal("{}\n" + line + line, "a.jsonl", column)
    assert f"line 2 holds {shown}" in said


def test_local_times_of_json_have_the_declared_zone():
    content = '{"at": "2013-01-05T07:00:00"}\n{"at": "2013-01-05T12:00:00Z"}\n'
    assert values(content, "a.jsonl", "at", time_zone="America/New_York") == [NOON, NOON]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"n": 1}\n{"n": 2, "n": 3}\n', "line 2 has the key n twice"),
        ('{"n": 1}\n\n{"n": 2\n', "line 3 is no JSON: at byte"),
        ('{"n": 1} {"n": 2}\n', "line 1 is no JSON: at byte 9 of input: unexpected content after document"),
        ('{"n": 1}\n[2]\n', "line 2 is no JSON object"),
        ('{"n": 1}\n2\n', "line 2 is no JSON object"),
        ('{"n": 01}\n', "line 1 is no JSON: at byte 6 of input: number with leading zero"),
        ("{'n': 1}\n", "line 1 is no JSON"),
        ('{"n": 1, "tab": "\t"}\n', "unexpected control character in string"),
        ('{"n": 1, "half": "\\ud800"}\n', "no low surrogate"),
        (b'{"n": 1, "text": "\xff"}\n', "byte 18 (0xff) on line 1 is not utf-8"),
        ("\n \n", "it holds no rows"),
        ('{"m": 1}\n{"N": 1}\n', "missing column n, unexpected column m, N, column 'N' is not 'n'"),
    ],
)
def test_a_broken_line_is_named(content, words):
    assert words in refusal(content, "a.jsonl", "n")


def test_keys_may_hold_any_sign():
    odd = ['a"b', "a\\b", "a/b", "a~b", "a.b", "", "0", "é", "$"]
    said = refusal(json.dumps(dict.fromkeys(odd, 1)), "a.jsonl", "n")
    assert 'unexpected column a"b, a\\b, a/b, a~b, a.b and 4 more' in said


DOCUMENT = {"data": {"rows": [{"n": 1, "x": 0.1}, {"n": 2}]}, "next": None}


def test_a_document_holds_its_rows_at_a_path_or_is_a_list():
    two = [{"n": 1, "x": 0.1, "_row": 1}, {"n": 2, "x": None, "_row": 2}]
    assert rows(json.dumps(DOCUMENT, indent=2), "a.json", "n", "x", items="data.rows") == two
    assert rows(json.dumps(DOCUMENT["data"]["rows"]).encode("utf-16"), "a.json", "n", "x", encoding="utf-16") == two


@pytest.mark.parametrize(
    ("items", "content", "words"),
    [
        (None, DOCUMENT, "the list of rows at the top of the document is of type object; set format.items"),
        (
            "data.row",
            DOCUMENT,
            "the list of rows at data.row is not there; set format.items to where it is, as data.rows",
        ),
        ("data.rows", {"data": {"rows": [{"n": 1}, [2]]}}, "row 2 is no JSON object"),
        ("data.rows", {"data": {"rows": []}}, "it holds no rows"),
        ("data.rows", {"data": {"rows": [{"n": 1}, {"n": "2"}]}}, 'column n is not BIGINT: row 2 holds "2"'),
    ],
)
def test_a_document_without_rows_says_what_is_there(items, content, words):
    assert words in refusal(json.dumps(content), "a.json", "n", items=items)


def test_a_document_that_is_cut_off_or_says_a_key_twice_is_refused():
    assert "it is no JSON: at byte" in refusal(json.dumps(DOCUMENT)[:-5], "a.json", "n", items="data.rows")
    assert "row 1 has the key n twice" in refusal('[{"n": 1, "n": 2}]', "a.json", "n")
