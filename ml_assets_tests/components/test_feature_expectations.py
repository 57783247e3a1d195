"""`expectations:` of a feature view: the words of a table, about features; errors at the line that is wrong."""

import textwrap
from datetime import timedelta

import pytest

from ml_assets.tables.expectations import Missing, MissingSpike, Outliers, Shift, Volume
from ml_assets_tests.components.test_declarations import complaint
from ml_assets_tests.project import CARRIER_ATTRIBUTES, CARRIERS, FLIGHTS, LAST_FLIGHT, LAST_FLIGHT_SQL, Project

FULL = """\
missing: {last_delay: 0.5}
spikes: {spreads: 4}
outliers: {last_delay: {factor: 3, severity: error}}
volume: {at_least: 0.8}
shift: {last_delay: {reference: 14d, psi: 0.5, severity: error}}
"""


def with_expectations(document: str, text: str) -> str:
    return f"{document}  expectations:\n{textwrap.indent(text.rstrip(), '    ')}\n"


def declare(project: Project, *documents: str):
    project.write("last_flight.sql", LAST_FLIGHT_SQL)
    return project.declare(*documents)


def test_everything_that_can_be_written_arrives(project):
    declare(project, with_expectations(LAST_FLIGHT, FULL), FLIGHTS)
    assert project.view("last_flight").expectations == (
        Missing("last_delay", 0.5, "error"),
        MissingSpike("last_delay", 4),
        Outliers("last_delay", 3, severity="error"),
        Volume(0.8),
        Shift("last_delay", timedelta(days=14), 0.5, severity="error"),
    )


def test_without_a_word_nothing_is_declared(project):
    declare(project, LAST_FLIGHT, FLIGHTS)
    assert project.view("last_flight").expectations == ()


def test_only_what_is_written_is_judged(project):
    declare(project, with_expectations(LAST_FLIGHT, "outliers: {last_delay: {}}"), FLIGHTS)
    assert project.view("last_flight").expectations == (Outliers("last_delay"),)


WRONG = {
    "unknown feature": ("missing:\n  delay: 0.5", 10, "the view has no column 'delay'. It has: last_delay"),
    "the entity": ("missing:\n  carrier: 0.5", 10, "the view has no column 'carrier'"),
    "clipped": ("outliers:\n  last_delay:\n    action: clip", 11, "`clip` would make it another one. Write `flag`"),
    "no share": ("missing:\n  last_delay: 5", 10, "5.0 is no share"),
    "part of a day": ("shift:\n  last_delay:\n    reference: 1h", 11, "give it in whole days"),
    "another table": ("references: {}", 8, "references"),
}


@pytest.mark.parametrize(("text", "line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_word_is_an_error_at_its_line(project, text, line, words):
    path = declare(project, with_expectations(LAST_FLIGHT, text), FLIGHTS)
    said = complaint(project)
    assert words in said
    assert f"{path.name}:{line}" in said


def test_a_static_view_is_compared_with_no_days(project):
    declare(project, with_expectations(CARRIER_ATTRIBUTES, "shift: {fleet: {}}"), CARRIERS)
    assert "has no days to compare with" in complaint(project)
