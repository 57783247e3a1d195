"""Mutants with other columns and other types than the contract's, under each policy for them."""

import json

import pytest

from ml_assets_tests.mutants.delivery import Mutant, adding, put, together, without
from ml_assets_tests.mutants.graph import Graph

KNOWN, TYPED = "columns_are_those_of_the_contract", "values_have_the_types_of_the_contract"
READABLE = "files_are_readable_and_have_the_columns"


@pytest.fixture(scope="module")
def graph(new_project):
    return Graph.standing_on(new_project(), "evolving", "discarding_rows", "discarding_values", n_days=9)


def test_evolve_takes_a_new_column_into_the_table(graph):
    outcome = graph.restate(Mutant(adding("meal", "fish", "cake")), "evolving")
    assert outcome.failed == {KNOWN}
    assert outcome.says(KNOWN) == "`evolve`: meal (40)."
    assert [row["meal"] for row in outcome.rows()][:3] == ["fish", "cake", None]
    other = graph.project.lake.dataset("tables/evolving", partitions=[graph.free_day("evolving")]).to_table()
    assert other["meal"].null_count == other.num_rows == 40


def test_evolve_lets_a_column_that_may_be_null_be_absent(graph):
    outcome = graph.restate(Mutant(without("gate")), "evolving")
    assert outcome.failed == set()
    assert {row["gate"] for row in outcome.rows()} == {None}


def test_evolve_does_not_let_a_column_be_absent_that_is_never_null(graph):
    outcome = graph.restate(Mutant(without("seats")), "evolving")
    assert outcome.refused
    assert f"{outcome.day}.csv: missing column seats; correct the delivery, or change " in outcome.says(READABLE)


def test_evolve_does_not_take_a_column_that_differs_from_a_known_one_by_case_alone(graph):
    outcome = graph.restate(Mutant(adding("Delay", "1.0")), "evolving")
    assert outcome.refused
    assert f"{outcome.day}.csv: unexpected column Delay beside delay" in outcome.says(READABLE)


def test_discard_row_sets_rows_aside_that_have_an_unexpected_value(graph):
    outcome = graph.restate(Mutant(adding("meal", "", "cake")), "discarding_rows")
    assert outcome.failed == {KNOWN}
    assert outcome.says(KNOWN) == "`discard_row`: no_unexpected_columns (1)."
    (row,) = outcome.quarantined
    assert (row["file"], row["row"], row["rules"]) == (f"{outcome.day}.csv", 3, ["no_unexpected_columns"])
    assert json.loads(row["record"])["meal"] == "cake"
    assert f"| {outcome.day} | {outcome.day}.csv | 3 | " in outcome.shown(KNOWN, "no_unexpected_columns")
    assert "meal" not in outcome.rows()[0]
    assert outcome.counts == (40, 39, 1, 0)


def test_discard_row_refuses_a_day_of_which_too_many_rows_would_go(graph):
    outcome = graph.restate(Mutant(adding("meal", "fish", "cake", "soup")), "discarding_rows")
    assert outcome.refused
    assert outcome.failed == {KNOWN, "few_rows_break_the_contract"}
    assert len(outcome.quarantined) == 3


def test_discard_value_drops_an_unexpected_column_and_counts_its_values(graph):
    outcome = graph.restate(Mutant(adding("meal", "fish", "cake", "soup")), "discarding_values")
    assert outcome.failed == {KNOWN}
    assert outcome.says(KNOWN) == "`discard_value`: meal (3)."
    assert outcome.counts == (40, 40, 0, 0)
    assert "meal" not in outcome.rows()[0]


@pytest.mark.parametrize("table", ["discarding_rows", "discarding_values"])
def test_no_policy_of_discarding_makes_up_for_a_missing_column(graph, table):
    outcome = graph.restate(Mutant(without("gate")), table)
    assert outcome.refused
    assert f"{outcome.day}.csv: missing column gate; correct the delivery, or change " in outcome.says(READABLE)


@pytest.mark.parametrize("table", ["evolving", "discarding_rows"])
def test_discard_row_sets_a_row_with_a_value_of_another_type_aside_as_it_was_delivered(graph, table):
    outcome = graph.restate(Mutant(put("seats", "many", 5)), table)
    assert outcome.failed == {TYPED}
    assert outcome.says(TYPED) == "`discard_row`: seats__has_type (1)."
    (row,) = outcome.quarantined
    assert (row["file"], row["row"], row["rules"]) == (f"{outcome.day}.csv", 5, ["seats__has_type"])
    assert json.loads(row["record"])["seats"] == "many"
    assert f"| {outcome.day} | {outcome.day}.csv | 5 | " in outcome.shown(TYPED, "seats__has_type")
    assert outcome.counts == (40, 39, 1, 0)


def test_discard_value_drops_a_value_of_another_type_and_counts_it(graph):
    outcome = graph.restate(Mutant(put("delay", "late", 5, 6)), "discarding_values")
    assert outcome.failed == {TYPED}
    assert outcome.says(TYPED) == "`discard_value`: delay (2)."
    assert (outcome.row(5)["delay"], outcome.row(7)["delay"] is None, outcome.quarantined) == (None, False, [])


def test_discard_value_leaves_nothing_where_something_must_be_and_that_is_a_broken_rule(graph):
    outcome = graph.restate(Mutant(put("seats", "many", 5)), "discarding_values")
    assert outcome.failed == {TYPED, "seats__is_not_null"}
    assert [(row["row"], row["rules"]) for row in outcome.quarantined] == [(5, ["seats is not null"])]


def test_a_row_that_goes_for_two_reasons_is_counted_once(graph):
    edit = together(adding("meal", "", "", "", "cake"), put("seats", "many", 5), put("delay", "700", 6))
    outcome = graph.restate(Mutant(edit), "discarding_rows")
    assert outcome.failed == {KNOWN, TYPED, "delay__is_at_most"}
    assert [(row["row"], sorted(row["rules"])) for row in outcome.quarantined] == [
        (5, ["no_unexpected_columns", "seats__has_type"]),
        (6, ["delay <= 600"]),
    ]
