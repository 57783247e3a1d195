import json

import pytest

LATE_RULE = "delay <= 600"


def test_counts_by_rule_and_partition_come_first_then_rows_as_delivered(airline):
    lines = airline.said("quarantine", "show", "flights").splitlines()
    assert lines[0].split() == ["rule", "partition", "rows"]
    assert [line.split()[-2:] for line in lines[1:3]] == [["2013-01-03", "1"]] * 2
    assert lines[4].startswith("2013-01-03.parquet:2 (partition 2013-01-03, arrived 20")
    assert lines[5].startswith("  breaks: carrier in (B6, DL, UA)")
    assert json.loads(lines[6])["carrier"] == "ZZ"


def test_rows_are_chosen_and_written_for_programs(airline):
    ran = airline.process("quarantine", "show", "airline/flights", "--rule", LATE_RULE, "--format", "jsonl")
    row = json.loads(ran.stdout)
    assert (row["rules"], row["file"], row["partition"]) == ([LATE_RULE], "2013-01-03.parquet", "2013-01-03")
    assert json.loads(row["record"])["delay"] == 1048.0


def test_a_release_is_tried_done_logged_and_not_done_again(own):
    release = ("quarantine", "release", "flights", "--rule", LATE_RULE, "--reason", "a factor of ten")
    corrected = (*release, "--set", "delay=delay / 10")
    assert own.said(*corrected, "--dry-run") == "1 row of flights (2013-01-03: 1) would be released.\n"
    assert own.said("quarantine", "log", "flights").split() == [
        "decided_at",
        "actor",
        "action",
        "rows",
        "rules",
        "partitions",
        "reason",
    ]
    said = own.said(*corrected)
    assert said.startswith("1 row of flights (2013-01-03: 1) released.\n")
    assert "ml-assets materialize +tables/flights --days 2013-01-03..2013-01-03" in said
    assert "No row of flights in quarantine without a decision matches." in own.refused(*corrected)
    (line,) = json.loads(own.said("quarantine", "log", "flights", "--format", "json"))
    assert (line["actor"], line["action"], line["rows"], line["rules"], line["reason"]) == (
        "ada",
        "released",
        1,
        LATE_RULE,
        "a factor of ten",
    )
    own.take_in("2013-01-03")
    where = ("--where", "flight_id = 'UA-2013-01-03-21'", "--columns", "delay", "--format", "csv")
    assert own.said("table", "read", "flights", *where).split() == ["delay", "104.8"]


def test_a_release_without_effect_says_what_would_still_break(own):
    said = own.refused("quarantine", "release", "flights", "--partition", "2013-01-03", "--reason", "try")
    assert said == "0 of 2 rows would keep the contract. Correct them with --set, or drop them.\n"


def test_dropped_rows_are_shown_with_all(own):
    said = own.said("quarantine", "drop", "flights", "--partition", "2013-01-03", "--reason", "tests", "--actor", "bob")
    assert said.startswith("2 rows of flights (2013-01-03: 2) dropped; they are kept")
    assert own.said("quarantine", "show", "flights") == "No row of flights is in quarantine without a decision.\n"
    everything = own.said("quarantine", "show", "flights", "--all")
    assert everything.count("  dropped by bob, 20") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "flight"), "There is no declared table called 'flight'. Did you mean flights?"),
        (
            ("show", "carriers"),
            "No delivery of carriers has been judged row by row yet: `ml-assets explain tables/carri",
        ),
        (("drop", "flights", "--reason", "x"), "Which rows? Give --rule, --partition, or --file with --row."),
        (("drop", "flights", "--reason", "x", "--row", "3"), "A --row is one of a --file."),
        (("drop", "flights", "--reason", " ", "--rule", "r"), "Give a --reason; it is what the log is for."),
        (("drop", "flights", "--reason", "x", "--rule", "r"), "No row of flights in quarantine without a decision"),
        (("release", "flights", "--reason", "x", "--rule", "r", "--set", "delay"), "write it as column=SQL"),
    ],
)
def test_what_a_user_can_correct_is_one_sentence(airline, arguments, said):
    assert said in airline.refused("quarantine", *arguments)


def test_help_shows_an_example_for_every_command(airline):
    for command in ("show", "release", "drop", "log"):
        assert f"ml-assets quarantine {command}" in airline.said("quarantine", command, "--help")
