"""Mutants whose rows break what the contract says of single rows and of a delivery's rows among themselves."""

import json
import re

import pytest

from ml_assets.steps.days import shift
from ml_assets_tests.mutants.delivery import PLENTY, Mutant, again, put, together
from ml_assets_tests.mutants.graph import Graph

FEW_INVALID = "few_rows_break_the_contract"


@pytest.fixture(scope="module")
def graph(new_project):
    return Graph.standing_on(new_project(), "flights", n_days=20)


# Each an edit of a line of its own, of one delivery.
AT_THE_LIMIT = {
    "the lowest delay": put("delay", "-60", 5),
    "the highest delay": put("delay", "600", 6),
    "the fewest seats": put("seats", "1", 7),
    "the most seats": put("seats", "853", 8),
    "a distance just above an exclusive end": put("distance", "0.000001", 9),
    "the shortest tail number": put("tailnum", "N100U", 10),
    "arrived when it was known": put("known_at", "{day}T00:06:00Z", 11),
    "no tail number": put("tailnum", "", 12),
    "the first moment of the day": put("known_at", "{day}T00:00:00Z", 2),
    "the last moment of the day": put("known_at", "{day}T23:59:59.999999Z", 13),
}


@pytest.fixture(scope="module")
def at_the_limit(graph):
    return graph.restate(Mutant(together(*AT_THE_LIMIT.values())))


@pytest.mark.parametrize("line", [5, 6, 7, 8, 9, 10, 11, 12, 2, 13], ids=AT_THE_LIMIT)
def test_a_value_at_the_limit_passes(at_the_limit, line):
    assert line not in [row["row"] for row in at_the_limit.quarantined]
    assert at_the_limit.row(line)["carrier"]
    assert at_the_limit.failed == set()


# Each on a line of its own, of one delivery: what is put there, the check that fails, the rule that it names, and the
# value in the record of the quarantine.
BEYOND = {
    "a delay below its range": ({"delay": "-60.5"}, "delay__is_at_least", "delay >= -60", -60.5),
    "a delay above its range": ({"delay": "600.5"}, "delay__is_at_most", "delay <= 600", 600.5),
    "no seats": ({"seats": "0"}, "seats__is_at_least", "seats >= 1", 0),
    "more seats than any aircraft": ({"seats": "854"}, "seats__is_at_most", "seats <= 853", 854),
    "the largest whole number": ({"seats": str(2**63 - 1)}, "seats__is_at_most", "seats <= 853", 2**63 - 1),
    "a distance at an exclusive end": ({"distance": "0"}, "distance__is_above", "distance > 0", 0.0),
    "an unknown carrier": ({"carrier": "ZZ"}, "carrier__is_one_of", "carrier in (B6, DL, UA)", "ZZ"),
    "an identifier of another form": (
        {"flight_id": "UA-{day}-x"},
        "flight_id__matches",
        "flight_id matches '[A-Z]{2}-\\\\d{4}-\\\\d{2}-\\\\d{2}-\\\\d{4}$'",
        "UA-{day}-x",
    ),
    "a tail number that is too long": (
        {"tailnum": "N100UAL"},
        "tailnum__has_length",
        "tailnum has 5 to 6 characters",
        "N100UAL",
    ),
    "a tail number that is too short": (
        {"tailnum": "N100"},
        "tailnum__has_length",
        "tailnum has 5 to 6 characters",
        "N100",
    ),
    "nothing in a text that is never null": ({"carrier": ""}, "carrier__is_not_null", "carrier is not null", None),
    "nothing in a number that is never null": ({"seats": ""}, "seats__is_not_null", "seats is not null", None),
    "NaN in a number that is never null": ({"distance": "NaN"}, "distance__is_not_null", "distance is not null", None),
    "arrived after it was known": (
        {"arrived_at": "{day}T00:02:00Z", "known_at": "{day}T00:01:59Z"},
        "arrived_before_known",
        "arrived_before_known",
        "{day} 00:01:59+00",
    ),
    "a moment after the day": (
        {"known_at": "2012-12-24T00:00:00Z"},
        "known_at__in_partition",
        "known_at_in_partition",
        "2012-12-24 00:00:00+00",
    ),
    "a day before by its time zone": (
        {"arrived_at": "{day}T00:30:00+01:00", "known_at": "{day}T00:30:00+01:00"},
        "known_at__in_partition",
        "known_at_in_partition",
        "{before} 23:30:00+00",
    ),
}
LINES = dict(zip(BEYOND, range(5, 99), strict=False))


@pytest.fixture(scope="module")
def beyond(graph):
    edits = [put(column, value, LINES[name]) for name, each in BEYOND.items() for column, value in each[0].items()]
    return graph.restate(Mutant(together(*edits), n=400))


@pytest.mark.parametrize("name", BEYOND)
def test_a_row_that_breaks_a_rule_is_set_aside_and_named_by_file_line_rule_and_value(beyond, name):
    _, check, rule, value = BEYOND[name]
    day, line, n = beyond.day, LINES[name], sum(each[1] == check for each in BEYOND.values())
    assert not beyond.checks[check].passed
    assert beyond.says(check) == f"{n} of 400 rows break `{rule}` ({day}: {n}). They are in quarantine."
    (row,) = [row for row in beyond.quarantined if row["row"] == line]
    assert (row["file"], row["rule"], row["rules"]) == (f"{day}.csv", rule, [rule])
    delivered = value.format(day=day, before=shift(day, -1)) if isinstance(value, str) else value
    assert delivered in json.loads(row["record"]).values()
    assert f"| {day} | {day}.csv | {line} | " in beyond.shown(check, "examples")
    assert row in beyond.found(check)
    assert len(beyond.found(check)) == n


def test_nothing_but_the_broken_rows_is_set_aside_and_nothing_but_their_rules_fails(beyond):
    assert beyond.failed == {check for _, check, *_ in BEYOND.values()}
    assert beyond.counts == (400, 400 - len(BEYOND), len(BEYOND), 0)


def test_a_row_that_breaks_two_rules_is_counted_once_and_named_by_both(graph):
    outcome = graph.restate(Mutant(together(put("delay", "700", 5), put("carrier", "", 5))))
    assert outcome.failed == {"delay__is_at_most", "carrier__is_not_null"}
    (row,) = outcome.quarantined
    assert row["rules"] == ["carrier is not null", "delay <= 600"]
    assert outcome.counts == (40, 39, 1, 0)


def test_as_many_invalid_rows_as_are_allowed_leave_the_day_with_the_others(graph):
    outcome = graph.restate(Mutant(put("delay", "700", 5, 6)))
    assert outcome.failed == {"delay__is_at_most"}
    assert outcome.says(FEW_INVALID) == "2 of 40 rows are in quarantine."


def test_one_invalid_row_more_than_is_allowed_refuses_the_day(graph):
    outcome = graph.restate(Mutant(put("delay", "700", 5, 6, 7)))
    assert outcome.refused
    assert outcome.failed == {"delay__is_at_most", FEW_INVALID}
    said = rf"More than 5(\.0)? ?% of the rows break the contract \({outcome.day}: 7\.5 ?%\)\. See the quarantine\."
    assert re.fullmatch(said, outcome.says(FEW_INVALID))
    assert FEW_INVALID in outcome.error
    assert [row["row"] for row in outcome.quarantined] == [5, 6, 7]
    assert len(outcome.rows()) == 40


@pytest.mark.parametrize(("n", "share", "refused"), [(99, "9.9", False), (100, "10.0", True), (101, "10.1", True)])
def test_a_tenth_of_a_column_may_not_be_missing(graph, n, share, refused):
    outcome = graph.restate(Mutant(put("delay", "", *range(2, n + 2)), n=PLENTY))
    said = f"delay: {share} % missing on {outcome.day} ({n} of 1,000), less than 10 % is allowed."
    assert outcome.says("delay__missing") == said
    assert (outcome.refused, outcome.failed) == (refused, {"delay__missing"} if refused else set())
    assert outcome.quarantined == []
    if refused:
        assert "delay__missing" in outcome.error
        assert outcome.shown("delay__missing", "examples").count("\n") == 11  # ten rows below the header
        assert len(outcome.rows()) == 40


def test_a_limit_of_missing_values_that_nobody_declared_only_warns(graph):
    outcome = graph.restate(Mutant(put("tailnum", "", *range(2, 6))))
    assert (outcome.failed, outcome.refused) == ({"tailnum__missing"}, False)
    said = f"tailnum: 10.0 % missing on {outcome.day} (4 of 40), less than 10 % is allowed."
    assert outcome.says("tailnum__missing") == said
    assert [row["tailnum"] for row in outcome.found("tailnum__missing")] == [None] * 4


def test_a_tail_number_that_no_aircraft_has_may_be_one_in_five_and_no_more(graph):
    strange = [put("tailnum", f"N{n}XX", n) for n in range(100, 301)]
    outcome = graph.restate(Mutant(together(*strange[:200]), n=PLENTY))
    said = "tailnum: 80.0 % of 1,000 values on {} are in aircraft.tailnum ({} are not), at least 80 % is expected."
    assert (outcome.failed, outcome.says("tailnum__in_aircraft")) == (set(), said.format(outcome.day, 200))
    outcome = graph.restate(Mutant(together(*strange), n=PLENTY))
    said = said.replace("80.0", "79.9").format(outcome.day, 201)
    assert (outcome.refused, outcome.failed) == (True, {"tailnum__in_aircraft"})
    assert outcome.says("tailnum__in_aircraft") == said
    assert "| N100XX | 1 |" in outcome.shown("tailnum__in_aircraft", "examples")


def test_a_flight_without_a_tail_number_refers_to_no_aircraft(graph):
    outcome = graph.restate(Mutant(put("tailnum", "", 5)))
    assert outcome.failed == set()
    assert outcome.says("tailnum__in_aircraft").startswith("tailnum: 100.0 % of 39 values")


def test_a_key_that_comes_twice_in_a_file_is_one_row_the_last(graph):
    outcome = graph.restate(Mutant(again(5, delay="333")))
    assert outcome.failed == set()
    said = "1 rows were delivered again with the same flight_id; the newest of each is kept."
    assert outcome.says("keys_are_unique") == said
    assert (outcome.counts, outcome.row(5)["delay"]) == ((41, 40, 0, 1), 333.0)


def test_a_broken_row_never_takes_the_place_of_a_good_one_with_its_key(graph):
    outcome = graph.restate(Mutant(again(5, delay="700")))
    assert outcome.failed == {"delay__is_at_most"}
    assert outcome.counts == (41, 40, 1, 0)
    assert outcome.row(5)["delay"] < 100
    assert [row["row"] for row in outcome.quarantined] == [42]


def test_two_flights_of_one_aircraft_at_one_moment_are_both_set_aside(graph):
    outcome = graph.restate(Mutant(again(5, flight_id="DL-2012-01-01-0001")))
    check = "tailnum_arrived_at__is_unique"
    assert outcome.failed == {check}
    assert [row["row"] for row in outcome.quarantined] == [5, 42]
    assert outcome.found(check) == outcome.quarantined
    assert outcome.says(check).startswith("2 of 41 rows break `(tailnum, arrived_at) is unique`")


def test_nothing_is_no_value_that_two_rows_share(graph):
    edit = together(put("tailnum", "", 5), again(5, flight_id="DL-2012-01-01-0001"))
    outcome = graph.restate(Mutant(edit))
    assert (outcome.failed, outcome.counts) == (set(), (41, 41, 0, 0))


def test_nan_is_nothing_in_a_number_and_a_word_in_a_text(graph):
    outcome = graph.restate(Mutant(together(put("delay", "NaN", 5), put("gate", "NaN", 5))))
    assert outcome.failed == set()
    assert (outcome.row(5)["delay"], outcome.row(5)["gate"]) == (None, "NaN")
