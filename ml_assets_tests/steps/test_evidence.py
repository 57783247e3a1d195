"""In a run over a range each partition is judged as if it had come alone: a refused one is nobody's history."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from ml_assets.engine import connect
from ml_assets.steps import evidence
from ml_assets.tables.evaluate import Evidence
from ml_assets.tables.expectations import Missing, Shift, Volume
from ml_assets.tables.profile import PROFILE_SCHEMA, profile_partitions

NOW = datetime(2014, 1, 1, tzinfo=UTC)
VOLUME = Volume(severity="error")


def days(n: int) -> list[str]:
    return [(date(2013, 1, 1) + timedelta(days=i)).isoformat() for i in range(n)]


def profiles(rows_by_day: dict[str, int]) -> pa.Table:
    nothing = {"type": "", "nulls": 0, "distinct": 0, "histogram": [], "top": []}
    rows = [{"partition_key": day, "column": "", "n": n, **nothing} for day, n in rows_by_day.items()]
    return pa.Table.from_pylist(rows, PROFILE_SCHEMA())


def refused(found) -> set[str]:
    return {verdict.partition for verdict in found if not verdict.passed and verdict.severity == "error"}


def one_by_one(expectations, counts: dict[str, int], broken=()) -> set[str]:
    """The oracle: each day alone, with the days that were let in before it."""
    let_in, out = {}, set()
    for day, n in counts.items():
        given = Evidence("t", NOW, profiles({**let_in, day: n}))
        if day in broken or refused(evidence.verdicts(expectations, [day], given, ())):
            out.add(day)
        else:
            let_in[day] = n
    return out


@pytest.mark.parametrize("n_collapsed", [1, 5, 12])
def test_days_that_collapsed_never_become_what_is_usual(n_collapsed):
    counts = dict.fromkeys(days(9), 100) | dict.fromkeys(days(9 + n_collapsed)[9:], 10)
    found = evidence.verdicts([VOLUME], list(counts), Evidence("t", NOW, profiles(counts)), ())
    assert refused(found) == one_by_one([VOLUME], counts) == set(list(counts)[9:])
    assert sorted(verdict.partition for verdict in found) == list(counts)


def test_a_day_whose_file_is_broken_is_no_history():
    counts = dict.fromkeys(days(8), 100) | dict.fromkeys(days(20)[8:19], 1000) | {days(20)[19]: 100}
    broken = set(days(19)[8:])
    found = evidence.verdicts([VOLUME], list(counts), Evidence("t", NOW, profiles(counts)), broken)
    assert days(20)[19] not in refused(found)
    assert refused(found) | broken == one_by_one([VOLUME], counts, broken)


def test_rows_of_a_refused_day_are_no_reference_of_a_shift():
    good, bad, last = days(10), days(14)[10:], days(15)[14]
    values = {day: [float(i % 10) for i in range(500)] for day in [*good, last]}
    values |= {day: [1000.0] * 400 + [None] * 100 for day in bad}
    rows = pa.table(
        {
            "x": pa.array([x for day in sorted(values) for x in values[day]], pa.float64()),
            "partition_key": [day for day in sorted(values) for _ in values[day]],
        }
    )
    expectations = [Missing("x", 0.1, "error"), Shift("x", timedelta(days=4), severity="error")]
    with connect() as con:
        con.register("judged", rows)
        given = Evidence("t", NOW, profile_partitions(con, rows), (), con, "judged")
        assert refused(evidence.verdicts(expectations, sorted(values), given, ())) == set(bad)


def test_a_day_without_a_valid_row_counts_as_none():
    """Its profile says so, so that the volume is judged."""
    valid = pa.table({"x": [1.0], "partition_key": ["2013-01-01"]})
    with connect() as con:
        found = evidence.profiled(con, valid, ["2013-01-01", "2013-01-02"])
    rows = [row for row in found.to_pylist() if row["partition_key"] == "2013-01-02"]
    assert [(row["column"], row["n"]) for row in rows] == [("", 0)]
