"""Features against their history: what is dead, constant, unseen or shifted is named, and what is not is not."""

import pyarrow as pa
import pytest

from ml_assets.features.encode import Input
from ml_assets.reading import connect
from ml_assets.records import Finding, StepResult
from ml_assets.steps import catalogue, categories, feature_profiles, features, ingest
from ml_assets.steps.specs import ModelSpec
from ml_assets_tests.flights import DAYS, finding
from ml_assets_tests.project import Project, checks, days, flights

MONTH = days("2013-01-01", "2013-01-29")
NEXT = "2013-01-30"
VIEW = """\
SELECT carrier, known_at, arrived_at AS event_timestamp, delay, CASE WHEN delay > 100 THEN 'late' ELSE 'fine' END AS how
FROM flights
"""


def take_in(project: Project, *landed: str) -> None:
    ingest.ingest(project.table("flights"), project.step(min(landed), max(landed)))


def compute(project: Project, first: str, last: str = "", view: str = "last_flight") -> StepResult:
    spec = project.view(view)
    return features.materialize(spec, project.step(first, last or first))[spec.name]


def says(result: StepResult, check: catalogue.Check) -> Finding:
    found = finding(result, check.name)
    assert found.passed or found.warn
    return found


def deliver(project: Project, day: str, change) -> None:
    """A day of flights with other delays."""
    rows = flights(day)
    delays = pa.array([change(delay) for delay in rows["delay"].to_pylist()], pa.float64())
    project.land(f"{day}.parquet", rows.set_column(rows.column_names.index("delay"), "delay", delays))
    take_in(project, day)


@pytest.fixture
def month(project):
    """Four weeks of flights, and a view of numbers and words."""
    project.write("last_flight.sql", VIEW)
    project.land_days(*MONTH, NEXT)
    take_in(project, *MONTH, NEXT)
    return project


def test_days_like_those_before_are_not_remarked_on(month):
    compute(month, MONTH[0], MONTH[-1])
    usual = compute(month, NEXT)
    for check in (catalogue.ALIVE, catalogue.KNOWN_CATEGORIES, catalogue.AS_EXPECTED):
        assert says(usual, check).passed
    assert says(usual, catalogue.AS_EXPECTED).sentence == "No feature is out of line with the 29 days before."


def test_features_that_never_lived_are_named(month):
    month.write("last_flight.sql", VIEW.replace(" delay,", " delay, 7 AS seven, CAST(NULL AS DOUBLE) AS nothing,"))
    found = says(compute(month, MONTH[0], MONTH[-1]), catalogue.ALIVE)
    assert not found.passed
    assert dict(found.numbers["features"]) == {"seven": "7.0", "nothing": None}
    assert "'seven' is 7.0 in all of" in found.sentence
    assert "'nothing' is empty in all of" in found.sentence


def test_an_empty_feature_is_named_on_the_first_day_and_a_constant_one_not_yet(month):
    month.write("last_flight.sql", VIEW.replace(" delay,", " delay, 7 AS seven, CAST(NULL AS DOUBLE) AS nothing,"))
    assert list(says(compute(month, MONTH[0]), catalogue.ALIVE).numbers["features"]) == ["nothing"]


def test_a_feature_that_dies_is_named_with_the_day(month):
    compute(month, MONTH[0], MONTH[-1])
    deliver(month, NEXT, lambda _: None)
    result = compute(month, NEXT)
    assert "'delay' is empty in all of 16 rows since 2013-01-30; before" in says(result, catalogue.ALIVE).sentence
    assert "100.0 % missing, before 0.0 %" in says(result, catalogue.AS_EXPECTED).sentence


def test_a_feature_that_becomes_constant_is_named_on_the_second_day(month):
    compute(month, MONTH[0], MONTH[-3])
    for day in MONTH[-2:]:
        deliver(month, day, lambda _: 5.0)
    first, second = (says(compute(month, day), catalogue.ALIVE) for day in MONTH[-2:])
    assert first.passed
    assert f"'delay' is 5.0 in all of 32 rows since {MONTH[-2]}; before" in second.sentence


@pytest.fixture
def words(project):
    """A view whose text is that of the table."""
    sql = "SELECT carrier, known_at, arrived_at AS event_timestamp, carrier || '!' AS brand, delay FROM flights"
    project.write("last_flight.sql", sql)
    project.land_days(*MONTH)
    project.land(f"{NEXT}.parquet", flights(NEXT, carriers=("UA", "DL")))
    take_in(project, *MONTH, NEXT)
    return project


def test_unseen_categories_are_named_with_rows_and_examples(words):
    compute(words, MONTH[0], MONTH[-1])
    found = says(compute(words, NEXT), catalogue.KNOWN_CATEGORIES)
    assert not found.passed
    assert found.sentence.startswith("1 value was never seen in 'brand': 'DL!' (8 rows); ")
    assert "| brand | DL! | 8 | 2013-01-30 |" in found.numbers["examples"].text
    assert len(connect().sql(found.numbers["query"]).fetchall()) == 8


def test_what_was_unseen_yesterday_is_known_today(words):
    compute(words, MONTH[0], MONTH[-1])
    compute(words, NEXT)
    words.land("2013-01-31.parquet", flights("2013-01-31", carriers=("UA", "DL")))
    take_in(words, "2013-01-31")
    assert says(compute(words, "2013-01-31"), catalogue.KNOWN_CATEGORIES).passed


def test_a_category_stays_unseen_when_its_first_day_is_computed_again(words):
    compute(words, MONTH[0], MONTH[-1])
    compute(words, NEXT)
    words.land(f"{NEXT}-late.parquet", flights(NEXT, hours=(22,), carriers=("DL",), delay=-5.0))
    take_in(words, NEXT)
    assert not says(compute(words, NEXT), catalogue.KNOWN_CATEGORIES).passed


def trained_with(project: Project, *brands: str) -> None:
    table, view = project.table("flights"), project.view("last_flight")
    spec = ModelSpec("lateness", table, "known_at", table, "delay > 15", (view,))
    inputs = [Input("last_flight__brand", "categorical", brands), Input("last_flight__delay", "numeric")]
    categories.remember_training(spec, project.lake, "3", inputs)


def test_what_a_model_was_trained_with_is_known(words):
    compute(words, MONTH[0], MONTH[-1])
    trained_with(words, "DL!", "UA!")
    assert says(compute(words, NEXT), catalogue.KNOWN_CATEGORIES).passed


def test_the_models_that_do_not_know_an_unseen_category_are_named(words):
    compute(words, MONTH[0], MONTH[-1])
    trained_with(words, "B6!", "UA!")
    sentence = says(compute(words, NEXT), catalogue.KNOWN_CATEGORIES).sentence
    assert "version 3 of lateness knows none of these and reads them as missing." in sentence


def test_a_run_over_all_days_has_nothing_to_compare_categories_with(words):
    assert says(compute(words, MONTH[0], NEXT), catalogue.KNOWN_CATEGORIES).passed


def test_a_shifted_distribution_is_named_with_its_psi(month):
    compute(month, MONTH[0], MONTH[-1])
    deliver(month, NEXT, lambda delay: delay / 60)
    found = says(compute(month, NEXT), catalogue.AS_EXPECTED)
    assert not found.passed
    assert "'delay' of 2013-01-30 is distributed otherwise than in the 28 days before: PSI" in found.sentence
    assert "| delay |" in found.numbers["distributions"].text


def test_words_shift_as_well(month):
    compute(month, MONTH[0], MONTH[-1])
    deliver(month, NEXT, lambda _: 200.0)
    assert "'how' of 2013-01-30 is distributed otherwise" in says(compute(month, NEXT), catalogue.AS_EXPECTED).sentence


def test_profiles_stand_beside_the_rows_and_the_newest_day_shows_the_trend(month):
    compute(month, MONTH[0], MONTH[-1])
    produced = compute(month, NEXT).produced[NEXT].metadata
    assert produced["profile"].text.startswith("![profile](data:image/png;base64,")
    assert "| delay | DOUBLE |" in produced["statistics"].text
    stored = month.rows("feature_profiles/last_flight")
    assert {row["partition_key"] for row in stored} == {*MONTH, NEXT}
    counted = {row["partition_key"]: row["n"] for row in stored if row["column"] == ""}
    rows = [row["partition_key"] for row in month.rows("features/last_flight")]
    assert counted == {day: rows.count(day) for day in counted}


def test_profiles_are_the_same_day_by_day_and_at_once(month):
    compute(month, MONTH[0], NEXT)
    at_once = {day: content.hash for day, content in month.lake.content("feature_profiles/last_flight").items()}
    month.write("last_flight.sql", VIEW.replace("delay > 100", "delay > 99 + 1"))
    for day in (*MONTH, NEXT):
        compute(month, day)
    assert {d: c.hash for d, c in month.lake.content("feature_profiles/last_flight").items()} == at_once


def test_a_second_run_writes_no_profile_and_still_answers_every_check(month):
    compute(month, MONTH[0], MONTH[-1])
    before = month.versions()
    again = compute(month, MONTH[0], MONTH[-1])
    assert month.versions() == before
    assert {check.name for check in catalogue.of_view(month.view("last_flight"))} <= {f.check for f in again.findings}


def test_a_static_view_is_profiled_as_a_whole(project):
    project.land_carriers()
    ingest.ingest(project.table("carriers"), project.step())
    spec = project.view("carrier_attributes")
    result = features.materialize(spec, project.step())[spec.name]
    assert says(result, catalogue.ALIVE).passed
    (row,) = [row for row in project.rows("feature_profiles/carrier_attributes") if row["column"] == "fleet"]
    assert (row["n"], row["nulls"]) == (2, 0)
    assert "profile" in result.produced[""].metadata


EXPECTED = """\
  expectations:
    missing: {last_delay: 0.5}
    shift: {last_delay: {reference: 14d, psi: 0.5, severity: error}}
    outliers: {last_delay: {factor: 3}}
    volume: {at_least: 0.8}
"""


@pytest.fixture
def expecting(project):
    path = project.defs_folder / "defs.yaml"
    path.write_text(path.read_text().replace("  sql: last_flight.sql\n", f"  sql: last_flight.sql\n{EXPECTED}"))
    project.land_days(*MONTH, NEXT)
    take_in(project, *MONTH, NEXT)
    return project


def test_each_expectation_is_a_check_of_its_own_that_passes_on_usual_days(expecting):
    compute(expecting, MONTH[0], MONTH[-1])
    result = compute(expecting, NEXT)
    asked = {check.name: check.blocking for check in catalogue.of_features(expecting.view("last_flight"))}
    assert {name: blocking for name, blocking in asked.items() if "last_delay" in name or "row_count" in name} == {
        "last_delay__missing": True,
        "last_delay__shift": True,
        "last_delay__outliers": False,
        "row_count_is_usual": False,
    }
    assert all(finding(result, name).passed for name in asked)
    assert set(result.produced) == {NEXT}


def test_an_expectation_that_fails_as_an_error_keeps_the_rows_out(expecting):
    compute(expecting, MONTH[0], MONTH[-1])
    before = expecting.versions()
    deliver(expecting, NEXT, lambda delay: delay / 60)
    result = compute(expecting, NEXT)
    failed = finding(result, "last_delay__shift")
    assert (failed.passed, failed.warn, result.produced) == (False, False, {})
    assert "features.last_flight" in failed.numbers["query"].replace('"', "")
    assert {name: version for name, version in expecting.versions().items() if "last_flight" in name} == {
        name: version for name, version in before.items() if "last_flight" in name
    }


def test_of_a_range_only_the_days_that_fail_are_kept_out_and_are_nobodys_history(expecting):
    bad = MONTH[20]
    deliver(expecting, bad, lambda delay: delay / 60)
    result = compute(expecting, MONTH[0], NEXT)
    assert set(result.produced) == {*MONTH, NEXT} - {bad}
    assert expecting.lake.partitions("features/last_flight") == [day for day in (*MONTH, NEXT) if day != bad]
    assert bad not in expecting.lake.partitions("feature_profiles/last_flight")
    assert finding(result, "last_delay__shift").numbers["partitions that fail"] == 1


def test_a_failing_expectation_stops_what_is_downstream_in_dagster(expecting):
    expecting.run("features/last_flight", first=MONTH[0], last=MONTH[-1])
    deliver(expecting, NEXT, lambda delay: delay / 60)
    verdicts = checks(expecting.run("features/last_flight", first=NEXT))
    assert verdicts["last_delay__shift"] is False
    assert verdicts[catalogue.ALIVE.name] is True


def test_on_a_day_of_real_flights_nothing_is_remarked_on(grown):
    day = DAYS[-1]
    for view in grown.spec.views:
        judged = [day] if view.daily else [""]
        rows = grown.rows(view.name, judged if view.daily else None)
        found = feature_profiles.judge(view, grown.step(*judged), rows, judged)
        assert {each.check: each.sentence for each in found.findings if not each.passed} == {}, view.name
