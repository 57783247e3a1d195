"""Whatever is written in any dialect is read back equal, and good values do not depend on the bad ones beside them."""

import csv
import gzip
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ml_assets.errors import DeliveryError
from ml_assets.tables.delivery import read_delivery
from ml_assets.tables.format import Format
from ml_assets.tables.formats import texts
from ml_assets_tests.tables.conftest import parquet
from ml_assets_tests.tables.delivered import KINDS, contract, gathered

LETTERS = st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"])
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  given a zone
VALUES = {
    "text": st.text(LETTERS, max_size=8) | st.sampled_from(["NA", '"', '""', "\r\n", "\\", ";", "true", "é,\n", " a "]),
    "n": st.integers(-(2**63), 2**63 - 1),
    "x": st.floats(allow_nan=False, allow_infinity=False),
    "ok": st.booleans(),
    "at": MOMENTS,
    "day": st.dates(),
}
ROWS = st.lists(st.tuples(*(st.none() | values for values in VALUES.values())), min_size=1, max_size=8).map(
    lambda rows: [dict(zip(VALUES, row, strict=True)) for row in rows]
)


@st.composite
def dialects(draw):
    delimiter, quote, escape = draw(st.permutations([";", "\t", "|", "'", '"', "\\", ","]))[:3]
    return {
        "delimiter": delimiter,
        "quote": quote,
        "escape": draw(st.sampled_from([None, escape])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])),
        "decimal": draw(st.sampled_from([".", ","])),
    }


def as_csv(rows, dialect, ends) -> bytes:
    """Fields as text, quoted where they need it, and empty text always, since an empty field is null."""
    quote, escape = dialect["quote"], dialect["escape"]

    def field(value) -> str:
        if value is None:
            return ""
        text = value.isoformat() if isinstance(value, date) else str(value)
        text = text.replace(".", dialect["decimal"]) if isinstance(value, float) else text
        if text and not set(text) & {dialect["delimiter"], quote, escape or quote, "\r", "\n"}:
            return text
        if escape:
            text = text.replace(escape, escape * 2).replace(quote, escape + quote)
        else:
            text = text.replace(quote, quote * 2)
        return f"{quote}{text}{quote}"

    lines = [list(rows[0]), *(row.values() for row in rows)]
    text = "".join(dialect["delimiter"].join(map(field, line)) + ends[i % len(ends)] for i, line in enumerate(lines))
    return text.encode(dialect["encoding"])


@settings(max_examples=150)
@given(rows=ROWS, dialect=dialects(), ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=4))
def test_csv_in_any_dialect_comes_back(rows, dialect, ends):
    content = gzip.compress(as_csv(rows, dialect, ends))
    found = read_delivery(content, "a.csv.gz", contract(*KINDS), Format(**dialect)).drop_columns(["_row"])
    assert found.to_pylist() == rows


@settings(max_examples=100)
@given(rows=ROWS)
def test_what_the_standard_library_writes_comes_back_with_its_lines(rows):
    stream, lines = io.StringIO(newline=""), []
    writer = csv.writer(stream)
    writer.writerow(rows[0])
    for row in rows:
        lines.append(len(stream.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        writer.writerow("" if value is None else value for value in row.values())
    found = read_delivery(stream.getvalue().encode(), "a.csv", contract(*KINDS)).to_pylist()
    assert [row.pop("_row") for row in found] == lines
    assert found == [{**row, "text": row["text"] or None} for row in rows]


@settings(max_examples=100)
@given(rows=ROWS, document=st.booleans())
def test_json_comes_back(rows, document):
    plain = [{k: v.isoformat() if isinstance(v, date) else v for k, v in row.items()} for row in rows]
    if document:
        content, name = json.dumps({"page": {"rows": plain}}).encode(), "a.json"
    else:
        content, name = "\n".join(json.dumps(row, ensure_ascii=False) for row in plain).encode(), "a.jsonl"
    found = read_delivery(content, name, contract(*KINDS), Format(items="page.rows" if document else None))
    assert found["_row"].to_pylist() == list(range(1, len(rows) + 1))
    assert found.drop_columns(["_row"]).to_pylist() == rows


@settings(max_examples=60)
@given(rows=ROWS, zone=st.integers(-14, 14))
def test_parquet_comes_back(rows, zone):
    kinds = {"text": pa.large_string(), "n": pa.int64(), "x": pa.float64(), "ok": pa.bool_(), "day": pa.date32()}
    kinds["at"] = pa.timestamp("us", timezone(timedelta(hours=zone)).tzname(None).removeprefix("UTC") or "UTC")
    table = pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in VALUES})
    found = read_delivery(parquet(table), "a.parquet", contract(*KINDS)).drop_columns(["_row"])
    assert found.to_pylist() == rows


ALMOST = {
    "BIGINT": st.from_regex(r"[+-]?0?[0-9]{0,20}(\.0|e2|x1)?", fullmatch=True),
    "DOUBLE": st.from_regex(
        r"[+-]?[0-9]{0,3}\.?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?|[+-]?(inf|nan|Infinity)", fullmatch=True
    ),
    "BOOLEAN": st.sampled_from(["true", "TRUE", "tRue", "0", "1", "2", "t", "false", "no", "True "]),
    "DATE": st.from_regex(r"(0000|2012|2013|9999|10000)-(00|02|11|13)-(00|1|29|30|31)", fullmatch=True),
    "TIMESTAMPTZ": st.from_regex(
        r"(0000|0001|2012|2013|9999)-(02|11|12)-(03|29|31)[ Tt](00|01|23|24)(:(30|59|60)(:(00|59|60)(\.[0-9]{0,7})?)?)?"
        r"(Z|z|[+-](05|23|24)(:?(30|60))?)?",
        fullmatch=True,
    ),
}


@settings(max_examples=300)
@given(data=st.data(), kind=st.sampled_from(list(ALMOST)), zone=st.sampled_from([None, "America/New_York"]))
def test_each_text_is_judged_alone(data, kind, zone):
    """One that fits is cast by Arrow when alone; beside bad ones DuckDB's grammar says which fit. They must agree."""
    found = data.draw(st.lists(st.none() | ALMOST[kind] | st.text(max_size=4), min_size=2, max_size=6))
    format = Format(time_zone=zone)
    together = texts.parse(pa.chunked_array([pa.array([*found, "bad"])]), kind, format)
    alone = [texts.parse(pa.chunked_array([pa.array([text], pa.string())]), kind, format) for text in found]
    assert together.values.to_pylist()[:-1] == [one.values.to_pylist()[0] for one in alone]
    assert together.bad is not None
    assert together.bad.to_pylist() == [*(one.bad is not None and one.bad.to_pylist()[0] for one in alone), True]
    nothing = [
        text is not None and value is None for text, value in zip(found, together.values.to_pylist(), strict=False)
    ]
    assert together.bad.to_pylist()[:-1] == nothing


@settings(max_examples=25)
@given(
    rows=ROWS,
    faults=st.lists(st.sampled_from(["n", "x", "ok", "at", "day"]), min_size=1, max_size=3),
    at=st.integers(0, 7),
)
def test_no_row_is_lost_under_any_policy(rows, faults, at):
    lines = [{k: v.isoformat() if isinstance(v, date) else v for k, v in row.items()} for row in rows]
    lines[at % len(rows)] |= dict.fromkeys(faults, "no such value") | {"new": 1}
    file = ("a.jsonl", "\n".join(map(json.dumps, lines)))
    for columns in ("evolve", "discard_row", "discard_value"):
        for data_type in ("discard_row", "discard_value"):
            found = gathered([file], contract(*KINDS), columns=columns, data_type=data_type)
            kept, refused = found.rows["_row"].to_pylist(), found.refused["row"].to_pylist()
            assert sorted(kept + refused) == list(range(1, len(rows) + 1))
            assert (refused == [at % len(rows) + 1]) is ("discard_row" in (columns, data_type))


@settings(max_examples=300)
@given(content=st.binary(max_size=60), name=st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.csv.gz", "a.parquet"]))
@example(content=b'n,text\n1,"', name="a.csv")
@example(content=b'[{"n": 1}', name="a.json")
@example(content=b"\xef\xbb\xbf", name="a.csv")
@example(content=b"\r", name="a.jsonl")
def test_any_bytes_are_rows_or_a_delivery_error(content, name):
    try:
        names = read_delivery(content, name, contract("n", "text")).column_names
    except DeliveryError:
        names = ["n", "text", "_row"]
    assert names == ["n", "text", "_row"]


@settings(max_examples=100)
@given(text=st.text(st.characters(codec="latin-1", exclude_characters='\0\r\n"'), min_size=1))
def test_latin_1_is_read_as_such_unless_it_is_utf_8(text):
    content = f'text\n"{text}"\n'.encode("latin-1")
    try:
        content.decode("utf-8")
        assume(content.isascii())
    except UnicodeDecodeError:
        pass
    assert read_delivery(content, "a.csv", contract("text"), Format(encoding="latin-1"))["text"].to_pylist() == [text]
