"""Mutants of files: bytes that are no text, text that is no table, tables of other columns, times without a zone."""

import gzip
import json
import re

import pytest

from ml_assets_tests.mutants.delivery import Mutant, adding, as_parquet, good, put, together, without
from ml_assets_tests.mutants.graph import Graph

READABLE = "files_are_readable_and_have_the_columns"
NAMES = tuple(good("2012-02-27", 1)[0])


@pytest.fixture(scope="module")
def graph(new_project):
    return Graph.standing_on(new_project(), "flights", "local", n_days=45)


def line(number, edit):
    """Edit the bytes of one line."""

    def edited(content):
        lines = content.split(b"\n")
        lines[number - 1] = edit(lines[number - 1])
        return b"\n".join(lines)

    return edited


def mixed_line_ends(content):
    lines = content.split(b"\n")
    return b"".join(text + (b"\n", b"\r\n", b"\r")[i % 3] for i, text in enumerate(lines[:-1]))


ACCEPTED = {
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "a byte order mark before a quote": lambda content: b"\xef\xbb\xbf" + content.replace(b"flight_id", b'"flight_id"'),
    "mixed line ends": mixed_line_ends,
    "no line end at the end": lambda content: content[:-1],
    "empty lines": lambda content: content.replace(b"\n", b"\n\n"),
    "every field quoted": lambda content: re.sub(rb"([^,\n]+)", rb'"\1"', content),
    "times of another zone": lambda content: content.replace(b"T00:00:00Z", b"T01:00:00.000+01:00"),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_the_same_rows_in_another_spelling_are_the_same_content(graph, text):
    day = graph.free_day("flights")
    before, mutant = graph.standing(), Mutant(text=text)
    outcome = graph.deliver("flights", day, f"{day}.csv", mutant.content(day))
    assert mutant.content(day) != Mutant().content(day)
    assert outcome.failed == set()
    assert graph.standing() == before


def packed(content):
    return gzip.compress(content, mtime=0)


# A mutant, and what the check says of the file `{day}.csv` behind its name.
REFUSED = {
    "a letter in another encoding": (
        Mutant(text=line(5, lambda text: text.replace(b",A3,", b",Z\xfcrich,"))),
        r": unreadable: byte \d+ \(0xfc\) on line 5 is not utf-8; set format.encoding",
    ),
    "UTF-16": (
        Mutant(text=lambda content: content.decode().encode("utf-16")),
        r": unreadable: byte 0 \(0xff\) on line 1 is not utf-8; it looks like utf-16; set format.encoding",
    ),
    "a NUL byte": (
        Mutant(text=line(5, lambda text: text.replace(b"A3", b"A\0"))),
        ": unreadable: a NUL byte on line 5",
    ),
    "a field too few": (
        Mutant(text=line(5, lambda text: text.rpartition(b",")[0])),
        ": unreadable: line 5 has 8 fields, the header has 9; deliver it again",
    ),
    "a field too many": (
        Mutant(text=line(5, lambda text: text + b",x")),
        ": unreadable: line 5 has 10 fields, the header has 9; deliver it again",
    ),
    "a quote that is never closed": (
        Mutant(text=line(5, lambda text: text.replace(b",A3", b',"A3'))),
        ": unreadable: .*quote.* on line 5",
    ),
    "a column of another delimiter": (
        Mutant(text=lambda content: content.replace(b",", b";")),
        ": missing column flight_id, carrier, tailnum, gate, seats and 4 more",
    ),
    "beyond 64 bits": (
        Mutant(put("seats", "9223372036854775808", 5)),
        ": column seats is not BIGINT: line 5 holds '9223372036854775808'; it is beyond 64 bits",
    ),
    "a fraction of a seat": (Mutant(put("seats", "1.5", 5)), ": column seats is not BIGINT: line 5 holds '1.5'"),
    "infinity": (
        Mutant(put("delay", "inf", 5)),
        ": column delay is not DOUBLE: line 5 holds 'inf'; numbers are finite: leave the field empty",
    ),
    "a number beyond floats": (Mutant(put("delay", "1e999", 5)), ": column delay is not DOUBLE: line 5 holds '1e999'"),
    "a word in a number": (
        Mutant(put("delay", "late", 5, 6, 7)),
        r": column delay is not DOUBLE: line 5 holds 'late' \(and 2 more\)",
    ),
    "a time without a zone": (
        Mutant(put("arrived_at", "{day}T00:00:00", 5)),
        ": column arrived_at is not TIMESTAMPTZ: line 5 holds '{day}T00:00:00'; "
        "write the time zone, 2013-01-05T14:00:00Z, or set format.time_zone",
    ),
    "29 February 2013": (
        Mutant(put("arrived_at", "2013-02-29T00:00:00Z", 5)),
        ": column arrived_at is not TIMESTAMPTZ: line 5 holds '2013-02-29T00:00:00Z'",
    ),
    "a column twice": (
        Mutant(text=line(1, lambda text: text.replace(b"distance", b"delay"))),
        ": unreadable: two columns have the name delay; give every column a name of its own",
    ),
    "a missing column": (Mutant(without("gate")), ": missing column gate; correct the delivery, or change "),
    "an unexpected column": (
        Mutant(adding("meal", "fish")),
        ": unexpected column meal; correct the delivery, or change ",
    ),
    "a column in capitals": (
        Mutant(text=line(1, lambda text: text.replace(b"delay", b"Delay"))),
        ": missing column delay, unexpected column Delay, column 'Delay' is not 'delay': write names exactly so",
    ),
    "everything at once": (
        Mutant(together(without("gate"), adding("meal", "fish"), put("seats", "many", 5))),
        ": missing column gate, unexpected column meal, column seats is not BIGINT: line 5 holds 'many'",
    ),
    "no bytes": (Mutant(text=lambda _: b""), ": the file is empty; deliver it again, or remove it"),
    "blanks": (Mutant(text=lambda _: b" \n\n"), ": unreadable: it has no header line"),
    "a header only": (Mutant(text=lambda content: content.split(b"\n")[0] + b"\n"), ": it holds no rows"),
    "an error page": (Mutant(text=lambda _: b"<html>502 Bad Gateway</html>\n"), ": it holds no rows"),
}


@pytest.mark.parametrize(("mutant", "says"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_taken_as_it_is_refuses_its_day_and_is_named(graph, mutant, says):
    outcome = graph.restate(mutant)
    assert outcome.refused
    assert outcome.failed >= {READABLE}
    assert re.match(f"{outcome.day}.csv{says.replace('{day}', outcome.day)}", outcome.says(READABLE))
    assert READABLE in outcome.error
    assert len(outcome.rows()) == 40
    assert outcome.quarantined == []


PACKED = {
    "cut off": (
        lambda content: packed(content)[:-30],
        r"unreadable: the gzip data is cut off after [\d,]+ unpacked bytes",
    ),
    "damaged": (
        lambda content: packed(content)[:200] + b"\0" + packed(content)[201:],
        r"unreadable: the gzip data is damaged after [\d,]+ unpacked bytes",
    ),
    "not packed at all": (
        lambda content: content + b"\n",
        "unreadable: the gzip data is damaged after 0 unpacked bytes",
    ),
    "a bomb": (
        lambda content: packed(content + b"\n" * 50_000_000),
        r"unreadable: it unpacks from [\d,]+ to more than 200,000 bytes, and that is not taken; "
        "deliver less at a time, or raise format.max_bytes",
    ),
}


@pytest.mark.parametrize(("pack", "says"), PACKED.values(), ids=PACKED)
def test_a_packed_file_that_is_wrong_refuses_its_day_beside_a_good_one(graph, pack, says):
    outcome = graph.restate(Mutant(text=pack, suffix=".csv.gz"))
    assert outcome.refused
    assert re.match(rf"{outcome.day}.csv.gz: {says}", outcome.says(READABLE))
    assert len(outcome.rows()) == 40


def test_a_packed_file_that_is_right_is_taken(graph):
    day = graph.free_day("flights")
    (graph.project.landing / "flights" / f"{day}.csv").unlink()
    outcome = graph.deliver("flights", day, f"{day}.csv.gz", packed(Mutant(put("delay", "1.0", 5)).content(day)))
    assert outcome.failed == set()
    assert outcome.row(5)["delay"] == 1.0


def test_a_row_on_several_lines_is_named_by_the_line_on_which_it_begins(graph):
    outcome = graph.restate(Mutant(together(put("gate", '"A\n3"', 4), put("delay", "700", 6))))
    (row,) = outcome.quarantined
    assert row["row"] == 7
    assert outcome.row(4)["gate"] == "A\n3"


def test_a_float_that_is_no_number_is_nothing_and_an_infinite_one_breaks_a_rule(graph):
    day, edit = "2012-05-01", together(put("delay", "NaN", 5), put("delay", "inf", 6), put("distance", "nan", 7))
    outcome = graph.deliver("local", day, f"{day}.parquet", as_parquet(edit(good(day))))
    assert outcome.failed == {"delay__is_finite", "delay__is_at_most", "distance__is_not_null"}
    assert outcome.row(5)["delay"] is None
    assert outcome.says("delay__missing").startswith(f"delay: 2.6 % missing on {day} (1 of 38)")
    found = [(row["row"], row["rules"], json.loads(row["record"])["delay"]) for row in outcome.quarantined]
    assert found == [(5, ["delay is finite", "delay <= 600"], "inf"), (6, ["distance is not null"], 64.5)]


def test_the_29th_of_february_of_a_leap_year_is_a_day_like_others(graph):
    day = "2012-02-29"
    assert day in graph.project.lake.partitions("tables/local")
    content = Mutant(put("delay", "1.0", 5)).content(day)
    outcome = graph.deliver("local", day, f"{day}.csv", content)
    assert (outcome.failed, outcome.row(5)["delay"]) == (set(), 1.0)


def test_a_time_without_a_zone_is_of_the_declared_one(graph):
    outcome = graph.restate(Mutant(put("arrived_at", "2012-01-05T14:00:00", 5)), "local")
    assert outcome.failed == set()
    assert outcome.row(5)["arrived_at"].isoformat() == "2012-01-05T19:00:00+00:00"


@pytest.mark.parametrize("time", ["2012-03-11T02:30:00", "2011-11-06T01:30:00"], ids=["skipped", "twice"])
def test_a_local_time_that_the_clock_skips_or_shows_twice_is_no_time(graph, time):
    outcome = graph.restate(Mutant(put("arrived_at", time, 5)), "local")
    assert outcome.refused
    said = f"line 5 holds '{time}'; America/New_York has no such time, or has it twice: write the offset"
    assert said in outcome.says(READABLE)
