"""The daily upkeep of a use case's tables, as Dagster runs it."""

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.orchestration.maintenance import maintenance
from ml_assets.orchestration.resources import PLATFORM
from ml_assets.steps.run import Run

DAYS = ["2013-01-01"]


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("ML_ASSETS_RETAIN_HOURS", "0")
    lake = Run(Settings.from_environment()).lake
    for value in range(3):
        for name in ("tables/weather", "tables/of_another_use_case"):
            lake.write(name, pa.table({"partition_key": DAYS, "x": [value]}), partitions=DAYS)
    return lake


def test_a_run_deletes_what_nobody_needs_of_its_tables_and_says_so(lake, capfd):
    schedule = maintenance("flights", ["weather"])
    defs = dg.Definitions(schedules=[schedule], resources={"platform": PLATFORM})
    result = defs.resolve_job_def("flights_maintenance").execute_in_process()
    found = result.get_step_success_events()
    assert len(found) == 1
    [output] = [event.step_output_data for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert output.metadata["deleted files"].value == 2
    assert len(output.metadata["by table"].value["tables/weather"]) == 2
    log = capfd.readouterr().err
    assert "tables/weather: 2 replaced or unfinished files deleted." in log
    assert "of_another_use_case" not in log
    assert (lake.version("tables/weather"), lake.version("tables/of_another_use_case")) == (4, 2)


def test_it_runs_once_a_day_without_being_switched_on():
    schedule = maintenance("flights", ["weather"])
    assert (schedule.name, schedule.cron_schedule) == ("flights_maintenance", "17 3 * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
