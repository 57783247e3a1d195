"""`expectations:` in YAML: what it stands for, and errors at the line that is wrong."""

import re
import textwrap
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import create_defs_folder_sandbox
from pydantic import Field

from ml_assets.components.declared import Declared
from ml_assets.components.expectations import Expectations, ShiftRule
from ml_assets.errors import DeclarationError
from ml_assets.tables.expectations import Missing, MissingSpike, Outliers, References, Shift, Volume
from ml_assets.tables.schema import Column

COLUMNS = (
    Column("flight_id", "VARCHAR", False),
    Column("tailnum", "VARCHAR", True),
    Column("delay", "DOUBLE", True),
    Column("seats", "BIGINT", False),
    Column("arrived_at", "TIMESTAMPTZ", True),
)
TABLES = {"aircraft": (Column("tailnum", "VARCHAR", False), Column("seats", "BIGINT", True))}
FULL = """\
missing: {delay: 0.95, arrived_at: null, default: 0.2, severity: warn}
spikes: {spreads: 4, at_least: 0.05, severity: error}
outliers:
  delay: {action: clip, factor: 3, at_most: 0.01, severity: error}
  seats: {}
volume: {at_least: 0.25, at_most: 4, severity: error}
shift:
  delay: {reference: 14d, psi: 0.1, current: 7d}
  tailnum: {}
references:
  tailnum: {table: aircraft, column: tailnum, at_least: 0.8, severity: warn}
"""


class Holder(Declared):
    """Stands for a table, with nothing but its expectations."""

    expectations: Expectations = Field(default=Expectations(), description="What is expected.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Resolve as a table does, so that an error is the one a user sees."""
        resolved.append(self.expectations.resolve(self, COLUMNS, TABLES))
        return dg.Definitions()


resolved: list[Any] = []


@pytest.fixture
def resolve():
    """Load a YAML document with these expectations as Dagster does."""

    def load(text: str):
        written = f"type: {__name__}.Holder\nattributes:\n  name: flights\n"
        written += f"  expectations:\n{textwrap.indent(text, '    ')}" if text else ""
        resolved.clear()
        with create_defs_folder_sandbox() as sandbox:
            folder = sandbox.defs_folder_path / "flights"
            folder.mkdir()
            (folder / "defs.yaml").write_text(written)
            with sandbox.build_all_defs():
                pass
        return resolved[-1]

    return load


def test_without_a_word_missing_values_spikes_and_volume_are_watched(resolve):
    assert resolve("") == (
        Missing("tailnum", 0.1, "warn"),
        Missing("delay", 0.1, "warn"),
        Missing("arrived_at", 0.1, "warn"),
        MissingSpike("tailnum"),
        MissingSpike("delay"),
        MissingSpike("arrived_at"),
        Volume(),
    )


def test_a_limit_that_was_written_down_is_an_error(resolve):
    """A contract that allows nulls must not refuse a small first file; a limit that somebody chose must hold."""
    found = {each.column: each.severity for each in resolve("missing: {delay: 0.3}") if isinstance(each, Missing)}
    assert found == {"tailnum": "warn", "delay": "error", "arrived_at": "warn"}


def test_everything_that_can_be_written_arrives(resolve):
    assert resolve(FULL) == (
        Missing("tailnum", 0.2, "warn"),
        Missing("delay", 0.95, "warn"),
        MissingSpike("tailnum", 4, 0.05, "error"),
        MissingSpike("delay", 4, 0.05, "error"),
        MissingSpike("arrived_at", 4, 0.05, "error"),
        Outliers("delay", 3, "clip", 0.01, "error"),
        Outliers("seats"),
        Volume(0.25, 4, "error"),
        Shift("delay", timedelta(days=14), 0.1, timedelta(days=7)),
        Shift("tailnum"),
        References("tailnum", "aircraft", "tailnum", 0.8, "warn"),
    )


def test_what_is_watched_by_default_can_be_left_out(resolve):
    assert resolve("missing: {default: null}\nspikes: null\nvolume: null\n") == ()


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("missing:\n  gust: 0.9", "the contract has no column 'gust'. It has: flight_id, tailnum", 6),
        ("missing:\n  default: 0.1\n  delay: 1.5", "1.5 is no share", 7),
        ("missing:\n  delay: 0", "0 is no share", 6),
        ("missing:\n  delay: a lot", "a lot is no share", 6),
        ("missing:\n  seats: 0.5", "seats is never null: the contract forbids it", 6),
        ("missing:\n  severity: fatal", "severity 'fatal' is neither warn nor error", 6),
        ("outliers:\n  tailnum: {}", "tailnum is VARCHAR; outliers needs one of BIGINT, DOUBLE", 6),
        ("shift:\n  arrived_at: {}", "arrived_at is TIMESTAMPTZ; shift needs one of", 6),
        ("shift:\n  delay:\n    reference: a month", "'a month' is no duration", 7),
        ("shift:\n  delay:\n    psi: 0.1\n    current: 36h", "give it in whole days", 8),
        ("volume:\n  at_least: 2", "`at_least` must be smaller than `at_most`", 6),
        ("references:\n  tailnum:\n    table: planes\n    column: x", "no 'planes' among the tables: aircraft", 7),
        ("references:\n  tailnum:\n    table: aircraft\n    column: x", "aircraft has no column 'x'", 8),
        ("references:\n  tailnum:\n    table: aircraft\n    column: seats", "aircraft.seats is BIGINT", 8),
    ],
)
def test_a_wrong_word_is_an_error_at_its_line(resolve, text, words, line):
    with pytest.raises(ComponentTreeException) as caught:
        resolve(text)
    cause = caught.value.__cause__
    assert isinstance(cause, DeclarationError)
    assert words in str(cause)
    assert cause.line == line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outliers: {delay: {action: drop}}", "Input should be 'flag', 'clip' or 'quarantine'"),
        ("volume: {least: 1}", "least"),
        ("spikes: {severity: loud}", "Input should be 'warn' or 'error'"),
        ("shifts: {}", "shifts"),
    ],
)
def test_a_wrong_type_or_field_is_refused_at_its_line(resolve, text, words):
    with pytest.raises(ComponentTreeException) as caught:
        resolve(text)
    assert words in str(caught.value.__cause__)
    assert re.search(r"defs.yaml:[45]\b", str(caught.value.__cause__))


def test_two_columns_that_share_a_check_are_refused():
    columns = (Column("wind gust", "DOUBLE", True), Column("wind_gust", "DOUBLE", True))
    with pytest.raises(DeclarationError, match="two expectations have the name wind_gust__missing"):
        Expectations().resolve(Holder(name="weather"), columns, {})


def test_a_table_without_partitions_is_compared_with_no_days():
    columns = [Column("delay", "DOUBLE", True)]
    resolved = Expectations().resolve(Holder(name="carriers"), columns, daily=False)
    assert resolved == (Missing("delay", 0.1, "warn"),)
    with pytest.raises(DeclarationError, match="has no days to compare with"):
        Expectations(shift={"delay": ShiftRule()}).resolve(Holder(name="carriers"), columns, daily=False)
