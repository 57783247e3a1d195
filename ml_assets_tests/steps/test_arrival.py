"""Where only the arrival tells when a row was known, rows that come again keep the moment of their first arrival."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ml_assets.steps.arrival import first_known
from ml_assets.tables import contract as contracts

BEFORE, NOW = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)


def carriers(*rows, known_at=NOW, **more):
    columns = {"carrier": [name for name, _ in rows], "fleet": [fleet for _, fleet in rows], **more}
    known = pa.array([known_at] * len(rows), pa.timestamp("us", "UTC"))
    return pa.table({**columns, "known_at": known})


@pytest.fixture
def known(project):
    """What becomes of rows that arrive after these."""
    spec = replace(project.table("carriers"), known_at=None)
    project.lake.write(spec.table, carriers(("UA", 100), ("B6", None), known_at=BEFORE))
    contract = contracts.load(spec.contract, keys=spec.keys)

    def arrive(rows):
        found = first_known(spec, project.lake, contract, rows)
        return {row["carrier"]: row["known_at"] for row in found.to_pylist()}

    return arrive


def test_rows_that_stand_keep_their_moment_in_any_order(known):
    assert known(carriers(("B6", None), ("UA", 100))) == {"B6": BEFORE, "UA": BEFORE}


def test_a_row_with_another_value_is_known_from_now_on(known):
    assert known(carriers(("UA", 101), ("B6", 3), ("DL", 1))) == {"UA": NOW, "B6": NOW, "DL": NOW}


def test_a_new_column_makes_a_row_new_where_it_says_something(known):
    rows = carriers(("UA", 100), ("B6", None), hub=["EWR", None])
    assert known(rows) == {"UA": NOW, "B6": BEFORE}


def test_rows_keep_their_order(project):
    spec = replace(project.table("carriers"), known_at=None)
    contract = contracts.load(spec.contract, keys=spec.keys)
    project.lake.write(spec.table, carriers(*((f"C{n}", n) for n in range(50)), known_at=BEFORE))
    rows = carriers(*((f"C{n}", n) for n in reversed(range(100))))
    assert first_known(spec, project.lake, contract, rows)["carrier"].to_pylist() == rows["carrier"].to_pylist()


def test_a_table_that_says_when_rows_are_known_is_left_alone(project):
    spec = project.table("carriers")
    project.lake.write(spec.table, carriers(("UA", 100), known_at=BEFORE))
    rows = carriers(("UA", 100))
    assert first_known(spec, project.lake, contracts.load(spec.contract, keys=spec.keys), rows) is rows
