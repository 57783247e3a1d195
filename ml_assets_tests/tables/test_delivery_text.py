"""CSV and packed files as they really come: each fault is named with its line, and none is read as something else."""

import gzip
import os
import tracemalloc
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from ml_assets_tests.tables.conftest import parquet
from ml_assets_tests.tables.delivered import refusal, rows, values

PLAIN = "n,text\n1,Zürich\n2,Genève\n"
TWO = [{"n": 1, "text": "Zürich", "_row": 2}, {"n": 2, "text": "Genève", "_row": 3}]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("utf-8", PLAIN.encode()),
        ("utf-8", b"\xef\xbb\xbf" + PLAIN.encode()),
        ("utf-8-sig", PLAIN.encode()),
        ("utf-16", PLAIN.encode("utf-16")),
        ("utf-16-le", PLAIN.encode("utf-16-le")),
        ("latin-1", PLAIN.encode("latin-1")),
        ("cp1252", PLAIN.encode("cp1252")),
    ],
)
def test_text_is_read_in_its_encoding_and_a_byte_order_mark_is_no_part_of_the_first_name(encoding, content):
    assert rows(content, "a.csv", "n", "text", encoding=encoding) == TWO


def test_a_wrong_encoding_names_the_byte_and_the_line():
    said = refusal(PLAIN.encode("latin-1"), "a.csv", "n", "text")
    assert said == (
        "unreadable: byte 10 (0xfc) on line 2 is not utf-8; "
        "set format.encoding (or kind, compression) to what the file is, or deliver it again"
    )
    assert "byte 9 (0x81) on line 2 is not cp1252" in refusal(
        b"n,text\n1,\x81\n", "a.csv", "n", "text", encoding="cp1252"
    )
    assert "its bytes are UTF-8, but format.encoding is latin-1" in refusal(
        PLAIN, "a.csv", "n", "text", encoding="latin-1"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PLAIN.encode("utf-16"), "byte 0 (0xff) on line 1 is not utf-8; it looks like utf-16"),
        (gzip.compress(PLAIN.encode(), mtime=0), "is not utf-8; it looks like gzip"),
        (pa.compress(PLAIN.encode(), "zstd", asbytes=True), "is not utf-8; it looks like zstd"),
        (b"n,text\n1,a\n2,\0\n", "a NUL byte on line 3"),
        (
            "n,text\n1,a\n".encode("utf-16-le"),
            "a NUL byte on line 1; deliver it again, or set format.encoding to utf-16",
        ),
    ],
)
def test_what_is_no_text_is_named(content, words):
    assert words in refusal(content, "a.csv", "n", "text")


def test_all_line_ends_end_lines_even_mixed_and_lines_are_counted_as_an_editor_does():
    content = 'n,text\r\n1,a\r2,b\n\n\r\n3,"c\r\nd"\n4,"e\nf"\r\n5,g'
    found = rows(content, "a.csv", "n", "text")
    assert [(row["n"], row["_row"]) for row in found] == [(1, 2), (2, 3), (3, 6), (4, 8), (5, 10)]
    assert [row["text"] for row in found] == ["a", "b", "c\r\nd", "e\nf", "g"]
    assert "line 8 holds 'four'" in refusal(content.replace("4", "four"), "a.csv", "n", "text")


def test_an_empty_line_is_a_row_only_where_there_is_one_column():
    assert rows("n\n1\n\n3\n", "a.csv", "n") == [{"n": 1, "_row": 2}, {"n": None, "_row": 3}, {"n": 3, "_row": 4}]
    assert [row["_row"] for row in rows("\n\nn,text\n\n1,a\n", "a.csv", "n", "text")] == [5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("n,text\n1,a\n2\n3,b\n", "unreadable: line 3 has 1 fields, the header has 2; deliver it again"),
        ("n,text\n1,a\n2,b,c\n3\n", "line 3 has 3 fields, the header has 2 (and 1 more such lines)"),
        ('n,text\n1,"a\nb"\n2,b,c\n', "line 4 has 3 fields, the header has 2"),
        ("n,text\n1,a,\n", "line 2 has 3 fields, the header has 2"),
        ("n,text,\n1,a,\n", "unexpected column ''"),
        ("n,text,n\n1,a,2\n", "two columns have the name n; give every column a name of its own"),
        ("N,text\n1,a\n", "missing column n, unexpected column N, column 'N' is not 'n': write names exactly so"),
        ("n, text\n1,a\n", "column ' text' is not 'text': write names exactly so"),
        ("n;text\n1;a\n", "missing column n, text, unexpected column n;text"),
        (" \n\n", "it has no header line"),
        ("n,text\n", "it holds no rows"),
    ],
)
def test_a_broken_structure_says_where(content, words):
    assert words in refusal(content, "a.csv", "n", "text")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('n,text\n1,"a\n2,"b\n3,c\n', "a quote in the middle of a field on line 3, or one that was not closed before"),
        ('n,text\n1,"a"b\n', "a quote in the middle of a field on line 2"),
        ('n,text\n1,5" pipe\n', "a quote in the middle of a field on line 2"),
        ('n,text\n1,b\n2,"a\n', "the quote on line 3 is never closed; quote whole fields, with quotes inside"),
    ],
)
def test_a_stray_quote_never_joins_rows(content, words):
    assert words in refusal(content, "a.csv", "n", "text")


def test_dialects_are_declared():
    german = "n;text;x;day;at\n1;'a;''b';-1,5;05.01.2013;05.01.2013 13:00\n"
    dialect = {
        "delimiter": ";",
        "quote": "'",
        "decimal": ",",
        "date_format": "%d.%m.%Y",
        "timestamp_format": "%d.%m.%Y %H:%M",
        "time_zone": "Europe/Berlin",
    }
    noon = datetime(2013, 1, 5, 12, tzinfo=UTC)
    one = {"n": 1, "text": "a;'b", "x": -1.5, "day": date(2013, 1, 5), "at": noon, "_row": 2}
    assert rows(german, "a.csv", "n", "text", "x", "day", "at", **dialect) == [one]
    assert rows('n,text\n1,5" pipe\n', "a.csv", "n", "text", quote="")[0]["text"] == '5" pipe'
    escaped = rows('n,text\n1,"a\\"b\\\\"\n2,a\\,b\n3,a\\\nb\n4,c\n', "a.csv", "n", "text", escape="\\")
    assert [(row["text"], row["_row"]) for row in escaped] == [('a"b\\', 2), ("a,b", 3), ("a\nb", 4), ("c", 6)]


def test_words_for_null_are_null_unless_the_column_is_text():
    content = 'n,text,x\nNA,NA,NaN\n,,\n"","",""\n'
    found = rows(content, "a.csv", "n", "text", "x")
    assert [(row["n"], row["text"], row["x"]) for row in found] == [
        (None, "NA", None),
        (None, None, None),
        (None, "", None),
    ]
    dump = rows("text,n\n\\N,\\N\n,2\n", "a.csv", "text", "n", text_nulls=("\\N",), nulls=("\\N",))
    assert [(row["text"], row["n"]) for row in dump] == [(None, None), ("", 2)]


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        (
            "n",
            "9223372036854775808",
            "column n is not BIGINT: line 2 holds '9223372036854775808' (and 1 more); it is beyond 64 bits",
        ),
        ("n", "-9223372036854775809", "it is beyond 64 bits"),
        ("n", "1.0", "line 2 holds '1.0'"),
        ("n", "0x1F", "line 2 holds '0x1F'"),
        ("n", "1e3", "line 2 holds '1e3'"),
        ("n", " 1", "line 2 holds ' 1'"),
        ("x", "inf", "column x is not DOUBLE: line 2 holds 'inf' (and 1 more); numbers are finite"),
        ("x", "-NaN", "numbers are finite: leave the field empty, or write null"),
        ("x", "1e400", "line 2 holds '1e400'"),
        ("x", '"1,5"', "line 2 holds '1,5'"),
        ("ok", "yes", "column ok is not BOOLEAN: line 2 holds 'yes'"),
        ("day", "2013-02-29", "column day is not DATE: line 2 holds '2013-02-29'"),
        ("day", "0000-01-01", "line 2 holds '0000-01-01'"),
        ("day", "2013-01-05T00:00", "line 2 holds '2013-01-05T00:00'"),
        ("at", "2013-02-29T12:00:00Z", "column at is not TIMESTAMPTZ: line 2 holds '2013-02-29T12:00:00Z'"),
        ("at", "2013-01-05T12:00:00", "; write the time zone, 2013-01-05T14:00:00Z, or set format.time_zone"),
        ("at", "2013-01-05", "line 2 holds '2013-01-05'"),
        ("at", "2013-01-05T24:00:00Z", "line 2 holds '2013-01-05T24:00:00Z'"),
        ("at", "2013-01-05T12:00:00.1234567Z", "line 2 holds '2013-01-05T12:00:00.1234567Z'"),
        ("at", "0000-01-05T12:00:00Z", "line 2 holds '0000-01-05T12:00:00Z'"),
        ("at", "9999-12-31T23:59:59-05:00", "line 2 holds '9999-12-31T23:59:59-05:00'"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_line(column, text, words):
    good = {"n": "7", "x": "7", "ok": "true", "day": "2012-02-29", "at": "2012-02-29T00:00:00+01"}[column]
    said = refusal(f"{column}\n{text}\n{good}\n{text}\n", "a.csv", column)
    assert words in said
    assert "(and 1 more)" in said
    assert values(f"{column}\n{good}\n", "a.csv", column)[0] is not None


def test_a_dot_is_no_decimal_comma():
    assert "line 2 holds '1.500'" in refusal("x;n\n1.500;1\n", "a.csv", "x", "n", decimal=",", delimiter=";")
    assert "column x is not DOUBLE: line 2 holds '1.234,5'" in refusal(
        "x;n\n1.234,5;1\n", "a.csv", "x", "n", decimal=",", delimiter=";"
    )


LOCAL = "at\n2013-11-03 00:30\n2013-11-03 01:30\n2013-11-03 02:30:00.5\n2013-11-03T01:30-05\n"
SKIPPED = "at\n2013-03-10 01:59\n2013-03-10 02:30\n"


def utc(month: int, day: int, *time: int) -> datetime:
    return datetime(2013, month, day, *time, tzinfo=UTC)


@pytest.mark.parametrize(("which", "hour"), [("earliest", 5), ("latest", 6)])
def test_an_hour_that_comes_twice_is_the_one_that_was_declared(which, hour):
    found = values(LOCAL, "a.csv", "at", time_zone="America/New_York", ambiguous_time=which)
    assert found == [utc(11, 3, 4, 30), utc(11, 3, hour, 30), utc(11, 3, 7, 30, 0, 500000), utc(11, 3, 6, 30)]


def test_an_hour_that_comes_twice_or_never_is_a_wrong_value():
    hint = "America/New_York has no such time, or has it twice: write the offset, or set format.ambiguous_time"
    twice = refusal(LOCAL, "a.csv", "at", time_zone="America/New_York")
    assert f"line 3 holds '2013-11-03 01:30'; {hint}" in twice
    assert "more)" not in twice
    never = refusal(SKIPPED, "a.csv", "at", time_zone="America/New_York", ambiguous_time="latest")
    assert f"line 3 holds '2013-03-10 02:30'; {hint}" in never


def test_a_time_pattern_knows_the_calendar_and_the_zone():
    pattern = {"timestamp_format": "%d.%m.%Y %H:%M"}
    content = "at\n28.02.2013 12:00\n29.02.2013 12:00\n"
    assert "line 3 holds '29.02.2013 12:00'" in refusal(content, "a.csv", "at", time_zone="UTC", **pattern)
    assert "line 2 holds '28.02.2013 12:00' (and 1 more); write the time zone" in refusal(
        content, "a.csv", "at", **pattern
    )
    zoned = {"timestamp_format": "%d.%m.%Y %H:%M %z"}
    assert values("at\n05.01.2013 14:00 +0200\n", "a.csv", "at", **zoned) == [utc(1, 5, 12)]
    assert "line 3 holds '29.02.2013'" in refusal(
        "day\n28.02.2013\n29.02.2013\n", "a.csv", "day", date_format="%d.%m.%Y"
    )


@pytest.mark.parametrize("word", ["infinity", "-Infinity", " epoch", "05.01.13 14:00", "05.01.99 14:00"])
def test_words_and_years_of_two_digits_are_no_times_of_a_pattern(word):
    pattern = {"timestamp_format": "%d.%m.%Y %H:%M", "time_zone": "UTC"}
    assert f"line 3 holds '{word}'" in refusal(f"at\n05.01.2013 14:00\n{word}\n", "a.csv", "at", **pattern)
    day = word.partition(" ")[0] or word
    assert f"holds '{day}'" in refusal(f"day\n{day}\n", "a.csv", "day", date_format="%d.%m.%Y")
    short = {"timestamp_format": "%d.%m.%y %H:%M", "time_zone": "UTC"}
    assert values("at\n05.01.13 14:00\n", "a.csv", "at", **short) == [utc(1, 5, 14)]


CODECS = {".gz": gzip.compress, ".zst": lambda content: pa.compress(content, "zstd", asbytes=True)}


@pytest.mark.parametrize("suffix", CODECS)
def test_packed_files_are_known_by_name_or_declaration(suffix):
    packed = CODECS[suffix](PLAIN.encode())
    codec = {".gz": "gzip", ".zst": "zstd"}[suffix]
    assert rows(packed, f"a.csv{suffix}", "n", "text") == TWO
    assert rows(packed, "delivery-17", "n", "text", kind="csv", compression=codec) == TWO
    assert rows(PLAIN, f"a.csv{suffix}", "n", "text", compression="none") == TWO


@pytest.mark.parametrize("suffix", CODECS)
def test_every_kind_may_be_packed(suffix):
    kinds = {"a.jsonl": b'{"n": 7}\n', "a.json": b'[{"n": 7}]', "a.parquet": parquet([{"n": 7}])}
    for name, content in kinds.items():
        assert values(CODECS[suffix](content), f"{name}{suffix}", "n") == [7]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_packed_file_that_is_cut_off_or_damaged_is_refused(suffix):
    noise = b"n,text\n" + b"".join(b"1,%b\n" % os.urandom(20).hex().encode() for _ in range(1000))
    packed, codec = CODECS[suffix](noise), {".gz": "gzip", ".zst": "zstd"}[suffix]
    for size in (5, len(packed) // 2, len(packed) - 1):
        said = refusal(packed[:size], f"a.csv{suffix}", "n", "text")
        assert f"unreadable: the {codec} data is cut off after" in said
        assert said.endswith("; deliver it again")
    assert f"the {codec} data is damaged after 0 unpacked bytes" in refusal(PLAIN, f"a.csv{suffix}", "n", "text")
    assert "is damaged after" in refusal(packed + b"rest of another file", f"a.csv{suffix}", "n", "text")


@pytest.mark.parametrize("suffix", CODECS)
def test_a_bomb_is_refused_before_it_is_unpacked(suffix):
    bomb = CODECS[suffix](b"0" * 200_000_000)
    tracemalloc.start()
    said = refusal(bomb, f"a.csv{suffix}", "n", max_bytes=5_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"it unpacks from {len(bomb):,} to more than 5,000,000 bytes, and that is not taken" in said
    assert "raise format.max_bytes" in said
    assert peak < 12_000_000


def test_a_plain_file_has_the_same_limit():
    said = refusal(PLAIN, "a.csv", "n", "text", max_bytes=10)
    assert (
        "it holds 27 bytes, and more than 10 are not taken; deliver less at a time, or raise format.max_bytes" in said
    )


def test_an_unknown_kind_of_file_names_the_known_ones():
    assert "the name ends with one of .parquet, .csv, .jsonl, .ndjson, .json" in refusal(PLAIN, "a.xlsx", "n", "text")
    assert rows(PLAIN, "a.txt", "n", "text", kind="csv") == TWO
