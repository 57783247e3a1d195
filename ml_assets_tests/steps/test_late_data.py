"""What becomes known late, on a real lake: rows change from that moment on, and only the days that it reaches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from ml_assets.steps import features, ingest
from ml_assets_tests.project import CARRIER_DELAYS, CARRIERS, FLIGHTS, Project, days, flights

WEEK = days("2013-01-01", "2013-01-08")
HOUR = timedelta(hours=1)
TWO_DAYS = CARRIER_DELAYS.replace(
    "[mean, count], windows: [6h, 1d]", "[mean, count, last, distinct], windows: [6h, 2d]"
)
DAILY_WORST = """\
type: ml_assets.components.FeatureView
attributes:
  name: daily_worst
  table: carrier_delays
  entity: [carrier]
  every: 1h
  delay: 15m
  aggregations:
    delay_mean_6h: {functions: [max, count], windows: [1d]}
"""


@pytest.fixture
def landed(project):
    project.declare(FLIGHTS, CARRIERS, TWO_DAYS, DAILY_WORST)
    project.land_days(*WEEK)
    take_in(project)
    return project


def take_in(project: Project, *partitions: str) -> None:
    given = partitions or WEEK
    ingest.ingest(project.table("flights"), project.step(min(given), max(given)))


def compute(project: Project, view: str = "carrier_delays") -> list[str]:
    """Compute all days; those that were not reused."""
    spec = project.view(view)
    result = features.materialize(spec, project.step(WEEK[0], WEEK[-1]))[spec.name]
    assert [f.sentence for f in result.findings if not f.passed and not f.warn] == []
    return sorted(day for day, made in result.produced.items() if not made.reused)


def restate(project: Project, flight: str, known_at: datetime, delay: float) -> dict[str, Any]:
    """Deliver another outcome of a flight, on the day on which it becomes known, in a file of its own."""
    day, (carrier, *_) = flight[3:13], flight.split("-")
    original = next(r for r in flights(day).to_pylist() if r["flight_id"] == flight)
    row = {**original, "carrier": carrier, "delay": delay, "known_at": known_at}
    name = known_at.date().isoformat()
    project.land(f"{name}-correction.parquet", pa.Table.from_pylist([row], flights(day).schema))
    take_in(project, name)
    return row


def oracle(rows: list[dict[str, Any]]) -> dict[tuple[str, datetime], tuple]:
    """Mean, count, last and number of distinct delays of two days, by trying every row at every hour."""
    found = {}
    for number in range(len(WEEK) * 24):
        g = datetime(2013, 1, 1, tzinfo=UTC) + number * HOUR
        newest: dict[str, dict[str, Any]] = {}
        for row in sorted((r for r in rows if r["known_at"] <= g), key=lambda r: r["known_at"]):
            newest[row["flight_id"]] = row
        for carrier in ("UA", "B6"):
            inside = [r for r in newest.values() if r["carrier"] == carrier and g - 48 * HOUR < r["arrived_at"] <= g]
            delays = [r["delay"] for r in sorted(inside, key=lambda r: (r["arrived_at"], r["known_at"]))]
            if delays:
                found[carrier, g] = sum(delays) / len(delays), float(len(delays)), delays[-1], float(len(set(delays)))
    return found


def stored(project: Project) -> dict[tuple[str, datetime], tuple]:
    names = [f"delay_{function}_2d" for function in ("mean", "count", "last", "distinct")]
    return {
        (row["carrier"], row["feature_timestamp"]): tuple(row[name] for name in names)
        for row in project.rows("features/carrier_delays")
    }


def agrees(found: dict[tuple, tuple], expected: dict[tuple, tuple]) -> None:
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-9), key


def test_a_corrected_outcome_changes_rows_from_when_it_was_known_and_no_other(landed):
    originals = [row for day in WEEK for row in flights(day).to_pylist()]
    assert compute(landed) == list(WEEK)
    before = stored(landed)
    agrees(before, oracle(originals))
    known_at = datetime(2013, 1, 4, 10, 20, tzinfo=UTC)
    correction = restate(landed, "UA-2013-01-03-15", known_at, 300.0)
    # The windows of two days reach three days on: one more for the row that closes an entity.
    assert compute(landed) == ["2013-01-04", "2013-01-05", "2013-01-06", "2013-01-07"]
    after = stored(landed)
    agrees(after, oracle([*originals, correction]))
    changed = {key for key in after if after[key] != before[key]}
    assert {carrier for carrier, _ in changed} == {"UA"}
    assert min(g for _, g in changed) == datetime(2013, 1, 4, 11, tzinfo=UTC)
    assert max(g for _, g in changed) == datetime(2013, 1, 5, 14, tzinfo=UTC)  # two days after the flight had landed


def test_a_correction_known_a_day_later_still_cannot_be_seen_before(landed):
    compute(landed)
    before = landed.rows("features/carrier_delays")
    known_at = datetime(2013, 1, 6, 0, 0, tzinfo=UTC)
    restate(landed, "B6-2013-01-05-21", known_at, -40.0)
    compute(landed)
    later = [row for row in landed.rows("features/carrier_delays") if row not in before]
    assert min(row["feature_timestamp"] for row in later) == known_at


def test_what_is_made_from_other_views_follows_their_rows_alone(landed):
    compute(landed)
    assert compute(landed, "daily_worst") == list(WEEK)
    before = landed.rows("features/daily_worst")
    restate(landed, "UA-2013-01-03-15", datetime(2013, 1, 4, 10, 20, tzinfo=UTC), 300.0)
    assert compute(landed, "daily_worst") == []  # until its own input has been computed
    compute(landed)
    # Rows of its input changed on the 4th and the 5th; its window of a day, and a closing row, reach two days on.
    assert compute(landed, "daily_worst") == ["2013-01-04", "2013-01-05", "2013-01-06", "2013-01-07"]
    changed = [row for row in landed.rows("features/daily_worst") if row not in before]
    assert {row["carrier"] for row in changed} <= {"UA"}


def test_a_view_over_a_view_is_what_plain_python_finds_in_its_rows(landed):
    compute(landed)
    compute(landed, "daily_worst")
    given = landed.rows("features/carrier_delays")
    for row in landed.rows("features/daily_worst"):
        g = row["feature_timestamp"]
        seen = [
            each["delay_mean_6h"]
            for each in given
            if each["carrier"] == row["carrier"]
            and g - 24 * HOUR < each["feature_timestamp"] <= g
            and each["delay_mean_6h"] is not None
        ]
        assert row["delay_mean_6h_count_1d"] == len(seen)
        assert row["delay_mean_6h_max_1d"] == max(seen, default=None)


def test_a_view_over_a_view_waits_for_its_delay(project):
    late = TWO_DAYS.replace("every: 1h", "every: 1h\n  delay: 150m")
    project.declare(FLIGHTS, late, DAILY_WORST)
    project.land_days(*WEEK)
    take_in(project)
    compute(project)
    compute(project, "daily_worst")
    given, found = project.rows("features/carrier_delays"), project.rows("features/daily_worst")
    assert min(r["feature_timestamp"] for r in found) - min(r["feature_timestamp"] for r in given) == 3 * HOUR
