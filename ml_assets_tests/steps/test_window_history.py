"""Windows that reach further back than what is in the lake."""

from dataclasses import replace

import pytest

from ml_assets.steps import catalogue, features, ingest
from ml_assets_tests.project import DOCUMENTS, Project, days

MONTH = days("2013-01-01", "2013-01-31")


@pytest.fixture
def endless(tmp_path, monkeypatch):
    """The project with a table that has no last day, so that no declaration can say how long its history is."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    flights = DOCUMENTS["flights"].replace(', end: "2013-01-31"', "")
    views = DOCUMENTS["carrier_delays"].replace("windows: [6h, 1d]", "windows: [6h, 1d, 5d]")
    return Project(tmp_path / "code", {**DOCUMENTS, "flights": flights, "carrier_delays": views})


def computed(project, first, last):
    project.land_days(*days(first, last))
    spec = replace(project.table("flights"), last_day=None)
    ingest.ingest(spec, project.step(first, last))
    (result,) = features.materialize(project.view("carrier_delays"), project.step(first, last)).values()
    return next(found for found in result.findings if found.check == catalogue.FULL.name)


def test_windows_longer_than_the_history_are_said_with_the_day_from_which_they_are_full_until_they_are(endless):
    found = computed(endless, "2013-01-02", "2013-01-04")
    assert (found.passed, found.warn) == (False, True)
    assert found.sentence.startswith("The windows 5d are longer than the history of tables/flights, 3 days: they mean")
    assert "begins on 2013-01-02: windows of 5d are full from 2013-01-07 00:00 UTC on." in found.sentence
    rows = endless.rows("features/carrier_delays")
    assert f"{len(rows):,} of {len(rows):,} rows now computed are of before." in found.sentence
    assert found.numbers == {
        "days of history": 3,
        "longest window in days": 5.0,
        "days missing": 0,
        "rows before": len(rows),
    }
    later = computed(endless, "2013-01-05", "2013-01-08")
    assert later.passed
    early = [
        row for row in endless.rows("features/carrier_delays") if row["partition_key"] in ("2013-01-05", "2013-01-06")
    ]
    assert later.numbers["rows before"] == len(early)
    again = features.materialize(endless.view("carrier_delays"), endless.step("2013-01-05", "2013-01-08"))
    assert catalogue.FULL.name in [found.check for found in again["features/carrier_delays"].findings]


def test_days_that_are_missing_within_the_longest_window_are_counted_and_a_week_of_them_is_warned_of(endless):
    path = endless.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("[6h, 1d, 5d]", "[6h, 1d, 10d]"))
    computed(endless, "2013-01-01", "2013-01-02")
    week = computed(endless, "2013-01-10", "2013-01-11")
    assert (week.passed, week.warn, week.numbers["days missing"]) == (False, True, 7)
    assert "has no row from 2013-01-03 to 2013-01-09: windows over these days mean less" in week.sentence
    days_off = computed(endless, "2013-01-05", "2013-01-07")
    assert (days_off.passed, days_off.numbers["days missing"]) == (True, 4)
    assert ", but for 4 days without rows (2013-01-03, 2013-01-04, 2013-01-08, 2013-01-09)." in days_off.sentence


def test_only_views_with_windows_have_the_check(project):
    assert catalogue.FULL in catalogue.of_view(project.view("carrier_delays"))
    assert catalogue.FULL not in catalogue.of_view(project.view("last_flight"))
