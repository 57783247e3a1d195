"""The sensor of arrivals requests what is new, once, and says why it does not."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from shutil import copy2

import dagster as dg
import pytest

from ml_assets import clock
from ml_assets.adapters.sources.base import Sql
from ml_assets.orchestration import sensors
from ml_assets.orchestration.resources import PLATFORM
from ml_assets_tests.project import Project, days, flights

FIRST, SECOND, THIRD = days("2013-01-01", "2013-01-03")
RANGE = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Sensor:
    """The sensor as the daemon runs it: the cursor of one tick is given to the next."""

    def __init__(self, project: Project, table: str = "flights", **changes) -> None:
        self.definition, self.cursor = sensors.arrivals(project.table(table, **changes)), None

    def tick(self) -> dg.SensorResult:
        with dg.build_sensor_context(cursor=self.cursor, resources={"platform": PLATFORM}) as context:
            result = self.definition(context)
        self.cursor = result.cursor
        return result

    def spans(self) -> list[tuple[str, str]]:
        return [tuple(request.tags[tag] for tag in RANGE) for request in self.tick().run_requests or []]

    def keys(self) -> list[str]:
        return [request.run_key for request in self.tick().run_requests or []]


@pytest.fixture
def sensor(project):
    project.land_days(FIRST, SECOND)
    sensor = Sensor(project)
    sensor.tick()
    return sensor


def test_the_first_look_requests_consecutive_days_in_one_run(project):
    project.land_days(FIRST, SECOND, "2013-01-05")
    result = Sensor(project).tick()
    assert [tuple(r.tags[tag] for tag in RANGE) for r in result.run_requests] == [
        (FIRST, SECOND),
        ("2013-01-05", "2013-01-05"),
    ]
    selected = {key.to_user_string() for request in result.run_requests for key in request.asset_selection}
    assert selected == {"raw/flights", "tables/flights"}


def test_a_table_without_partitions_is_requested_as_a_whole(project):
    project.land_carriers()
    sensor = Sensor(project, "carriers")
    (request,) = sensor.tick().run_requests
    assert not set(RANGE) & set(request.tags)
    assert not sensor.tick().run_requests


def test_a_hundred_further_looks_request_nothing(project, sensor):
    path = project.landing / "flights" / f"{FIRST}.parquet"
    for look in range(100):
        os.utime(path, ns=(look * 10**9, look * 10**9))
        if look == 30:
            copy2(path, path.with_name(f"{FIRST}-again.parquet"))
        if look == 60:
            path.rename(path := path.with_name(f"{FIRST}-renamed.parquet"))
        assert not sensor.tick().run_requests


def test_new_content_requests_exactly_its_days(project, sensor):
    project.land(f"{SECOND}.parquet", flights(SECOND, delay=1.0))
    assert sensor.spans() == [(SECOND, SECOND)]
    project.land_days(THIRD)
    assert sensor.spans() == [(THIRD, THIRD)]
    assert sensor.spans() == []


def test_a_further_file_of_a_day_requests_the_day(project, sensor):
    project.land(f"{FIRST}T22.parquet", flights(FIRST, hours=(22,)))
    assert sensor.spans() == [(FIRST, FIRST)]


def test_a_cursor_that_was_lost_gives_the_same_run_keys(project):
    project.land_days(FIRST, SECOND, "2013-01-05")
    keys = Sensor(project).keys()
    assert len(set(keys)) == 2
    assert Sensor(project).keys() == keys


def test_other_content_gives_another_run_key(project):
    project.land_days(FIRST)
    before = Sensor(project).keys()
    project.land(f"{FIRST}.parquet", flights(FIRST, delay=1.0))
    assert set(Sensor(project).keys()).isdisjoint(before)


def test_content_that_is_taken_back_runs_again(project):
    project.land_days(FIRST)
    sensor = Sensor(project)
    keys = sensor.keys()
    for rows in (flights(FIRST, delay=1.0), flights(FIRST)):
        project.land(f"{FIRST}.parquet", rows)
        keys += sensor.keys()
    assert len(set(keys)) == 3


def test_a_skipped_look_says_how_much_is_there(sensor):
    assert sensor.tick().skip_reason.skip_message.startswith("Nothing new: 2 files in 2 partitions of ")


def test_a_stray_file_is_named_in_the_skip_reason(project, sensor):
    project.land("january.parquet", flights(FIRST))
    said = sensor.tick().skip_reason.skip_message
    assert "january.parquet" in said
    assert "no day in the file name" in said


def test_unfinished_files_are_not_delivered_yet(project, sensor):
    project.land(f"_{THIRD}.parquet", flights(THIRD))
    project.land(f"{THIRD}.parquet.tmp", flights(THIRD))
    assert sensor.spans() == []


@pytest.mark.parametrize("day", ["2012-12-31", "2013-02-01"])
def test_a_file_of_a_day_that_the_table_does_not_have_is_named_and_not_requested(project, sensor, day):
    project.land(f"{day}.parquet", flights(FIRST))
    assert f"Left out: {day}, no day of this table by now" in sensor.tick().skip_reason.skip_message


def test_a_file_that_lands_before_its_day_is_requested_when_the_day_begins(project):
    project.land_days(FIRST, SECOND)
    sensor = Sensor(project, partitions={"column": "known_at", "start": FIRST})
    with clock.frozen(datetime(2013, 1, 1, 23, tzinfo=UTC)):
        assert sensor.spans() == [(FIRST, FIRST)]
    with clock.frozen(datetime(2013, 1, 2, tzinfo=UTC)):
        assert sensor.spans() == [(SECOND, SECOND)]


def test_every_requested_day_is_a_partition_of_the_asset(project):
    from ml_assets.orchestration import partitions

    for cut in ({"column": "known_at", "start": FIRST}, {"column": "known_at", "start": FIRST, "end": SECOND}):
        spec = project.table("flights", partitions=cut)
        for day in (FIRST, SECOND, THIRD, clock.now().date().isoformat()):
            held = sensors.holds(spec, day)
            assert partitions.of(spec).has_partition_key(day) == held


def test_nothing_landed_yet_is_no_error(project):
    assert Sensor(project).tick().skip_reason.skip_message.startswith("Nothing new: 0 files")


def test_a_source_that_does_not_answer_is_a_skipped_look_and_loses_nothing(project, sensor):
    known = sensor.cursor
    away = Sensor(project, source={"files": f"{'x' * 300}/*.parquet"})
    away.cursor = known
    said = away.tick().skip_reason.skip_message
    assert "cannot be listed" in said
    assert said.endswith("It is looked at again.")
    assert away.cursor == known


def test_a_polled_source_is_asked_once_for_old_days_and_each_time_for_new_ones(project):
    cut = {"column": "known_at", "start": FIRST}
    sensor = Sensor(project, source={"python": f"{project.package}.rows"}, partitions=cut)
    with clock.frozen(datetime(2013, 1, 4, 12, tzinfo=UTC)):
        assert sensor.spans() == [(FIRST, "2013-01-04")]
        assert sensor.spans() == []
    with clock.frozen(datetime(2013, 1, 4, 13, tzinfo=UTC)):
        assert sensor.spans() == [(SECOND, "2013-01-04")]


def test_landed_folders_may_name_the_day(project):
    sensor = Sensor(project, source={"files": "flights/{partition}/*.parquet"})
    project.land("part-0.parquet", flights(FIRST), table=f"flights/{FIRST}")
    assert sensor.spans() == [(FIRST, FIRST)]
    project.land("part-1.parquet", flights(FIRST, hours=(22,)), table=f"flights/{FIRST}")
    assert sensor.spans() == [(FIRST, FIRST)]


def test_a_database_is_asked_as_often_as_its_table_says(project):
    source = Sql("sqlite:///shop.db", table="flights", every=timedelta(minutes=10))
    asked = sensors.arrivals(replace(project.table("flights"), source=source))
    assert asked.minimum_interval_seconds == 600
    assert sensors.arrivals(project.table("flights")).minimum_interval_seconds == sensors.TICK_SECONDS
