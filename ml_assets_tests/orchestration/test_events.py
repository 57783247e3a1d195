"""What Dagster records of a run: materializations, versions, checks, failures."""

import dagster as dg
import pytest

from ml_assets.errors import DeliveryError, LakeConflictError, MlAssetsError, RegistryUnavailableError
from ml_assets.orchestration.events import advice
from ml_assets_tests.project import checks, days, failure, flights, materialized, parquet

FIRST, SECOND, THIRD = WEEK = days("2013-01-01", "2013-01-03")
INGEST = ("raw/flights", "tables/flights")


@pytest.fixture
def ingested(project):
    project.land_days(*WEEK)
    result = project.run(*INGEST, first=FIRST, last=THIRD)
    assert result.success
    return materialized(result)


def test_a_run_over_a_range_reports_each_day_with_its_own_version(project, ingested):
    assert set(ingested["tables/flights"]) == set(WEEK) == set(ingested["raw/flights"])
    assert len(set(ingested["tables/flights"].values())) == 3
    stored = {day: content.hash for day, content in project.lake.content("tables/flights").items()}
    assert ingested["tables/flights"] == stored


def test_a_run_of_one_day_gives_the_version_that_a_range_gives(project, ingested):
    assert materialized(project.run(*INGEST, first=SECOND))["tables/flights"] == {
        SECOND: ingested["tables/flights"][SECOND]
    }


def test_features_of_a_range_are_reported_by_day(project, ingested):
    made = materialized(project.run("features/carrier_delays", first=FIRST, last=THIRD))["features/carrier_delays"]
    assert set(made) == set(WEEK)
    assert len(set(made.values())) == 3


def test_only_the_days_that_changed_have_a_new_version(project, ingested):
    project.land(f"{SECOND}.parquet", flights(SECOND, delay=1.0))
    again = materialized(project.run(*INGEST, first=FIRST, last=THIRD))["tables/flights"]
    assert [day for day in WEEK if again[day] != ingested["tables/flights"][day]] == [SECOND]


def test_a_refused_day_is_not_reported_and_fails_the_run_with_the_reason(project):
    project.land_days(FIRST)
    project.land(f"{SECOND}.parquet", parquet(flights(SECOND).drop_columns(["delay"])))
    result = project.run(*INGEST, first=FIRST, last=SECOND)
    assert not result.success
    assert materialized(result) == {
        "raw/flights": materialized(result)["raw/flights"],
        "tables/flights": {FIRST: materialized(result)["tables/flights"][FIRST]},
    }
    assert not checks(result)["files_are_readable_and_have_the_columns"]
    (said,) = [e.description for e in result.get_asset_check_evaluations() if not e.passed]
    assert f"{SECOND}.parquet: missing column delay" in said


def test_a_failed_blocking_check_stops_what_is_downstream_in_the_same_run(project):
    project.land(f"{FIRST}.parquet", b"PAR1")
    result = project.run(*INGEST, "features/carrier_delays", first=FIRST)
    assert "features/carrier_delays" not in materialized(result)


def test_a_check_that_failed_is_not_tried_again(project):
    project.land(f"{FIRST}.parquet", b"PAR1")
    result = project.run(*INGEST, first=FIRST)
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


def test_our_errors_are_failures_with_their_message_and_no_retry(project):
    result = project.run("features/carrier_attributes")
    assert not result.success
    assert failure(result).startswith("features/carrier_attributes is made from tables/carriers. Materialize first.")
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


@pytest.mark.parametrize(
    ("error", "retried"),
    [(DeliveryError, False), (MlAssetsError, False), (LakeConflictError, True), (RegistryUnavailableError, True)],
)
def test_only_what_can_pass_by_itself_is_retried(error, retried):
    with pytest.raises(dg.Failure) as caught, advice():
        raise error("Do this.")
    assert caught.value.description == "Do this."
    assert caught.value.allow_retries is retried


def test_a_fault_of_ours_is_not_disguised():
    with pytest.raises(ZeroDivisionError), advice():
        raise ZeroDivisionError


def test_row_counts_and_reuse_are_in_the_metadata(project, ingested):
    event = project.instance.get_latest_materialization_event(dg.AssetKey(["tables", "flights"]))
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value == 16
    assert metadata["reused"].value is False
    project.run(*INGEST, first=THIRD)
    event = project.instance.get_latest_materialization_event(dg.AssetKey(["tables", "flights"]))
    assert event.asset_materialization.metadata["reused"].value is True


def test_the_leak_check_blocks_and_leaves_no_materialization(project, ingested):
    leak = "SELECT carrier, known_at - INTERVAL 3 HOUR AS known_at, delay AS last_delay FROM flights"
    project.write("last_flight.sql", leak)
    result = project.run("features/last_flight", first=FIRST, last=THIRD)
    assert not result.success
    assert materialized(result) == {}
    assert not checks(result)["recomputed_without_later_data_it_is_the_same"]


def test_a_whole_table_that_is_refused_fails_by_its_check(project):
    project.land("carriers.parquet", b"PAR1", table="carriers")
    result = project.run("raw/carriers", "tables/carriers")
    assert "files_are_readable_and_have_the_columns" in failure(result)
    assert set(materialized(result)) == {"raw/carriers"}
