"""Deliveries without new rows, through the sensor and the conditions: the table is judged, nothing after it runs."""

import dagster as dg
import pyarrow.parquet as pq
import pytest

from ml_assets.orchestration.resources import PLATFORM
from ml_assets.orchestration.sensors import arrivals
from ml_assets_tests.project import Project, days, flights, materialized

FIRST, LAST = "2013-01-01", "2013-01-04"
DAY = "2013-01-02"
TAKEN_IN = ["raw/flights", "tables/flights"]


class Daemon:
    """The sensor of arrivals and the conditions of the graph, tick by tick, and the runs that they ask for."""

    def __init__(self, project: Project) -> None:
        self.project, self.seen, self.conditions = project, None, None
        self.sensor = arrivals(project.table("flights"))

    def arrive(self) -> list[tuple[str, str, list[str]]]:
        """One tick of the sensor; runs what it requests and gives that: first day, last day, assets."""
        with dg.build_sensor_context(cursor=self.seen, resources={"platform": PLATFORM}) as context:
            result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.seen = result.cursor
        asked = []
        for request in result.run_requests or []:
            span = [request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
            assets = [key.to_user_string() for key in request.asset_selection or []]
            asked.append((*span, assets))
            self.made = materialized(self.project.run(*assets, first=span[0], last=span[1]))
        return asked

    def follow(self) -> set[tuple[str, str | None]]:
        """One tick of the conditions; runs what they request and gives that."""
        result = dg.evaluate_automation_conditions(self.project.defs, self.project.instance, cursor=self.conditions)
        self.conditions = result.cursor
        keys = [dg.AssetKey(["features", name]) for name in ("carrier_delays", "last_flight", "carrier_attributes")]
        found = {key: result.get_requested_partitions(key) for key in keys}
        for key, partitions in found.items():
            for partition in sorted(partition or "" for partition in partitions):
                assert self.project.run(key.to_user_string(), first=partition).success
        return {(key.path[-1], partition) for key, partitions in found.items() for partition in partitions}


@pytest.fixture
def daemon(project):
    """Four days were delivered and computed."""
    daemon = Daemon(project)
    daemon.follow()
    project.land_days(*days(FIRST, LAST))
    assert daemon.arrive() == [(FIRST, LAST, TAKEN_IN)]
    views = ("carrier_delays", "last_flight")
    assert daemon.follow() == {(view, day) for view in views for day in days(FIRST, LAST)}
    assert (daemon.arrive(), daemon.follow()) == ([], set())
    return daemon


def delivered(project: Project) -> str:
    return str(project.landing / "flights" / f"{DAY}.parquet")


def recompressed(project: Project) -> None:
    pq.write_table(pq.read_table(delivered(project)), delivered(project), compression="zstd", row_group_size=4)


def reordered(project: Project) -> None:
    rows = pq.read_table(delivered(project))
    pq.write_table(rows.take(list(range(rows.num_rows))[::-1]), delivered(project))


@pytest.mark.parametrize("edit", [recompressed, reordered])
def test_the_same_rows_in_another_file_run_raw_and_table_and_nothing_downstream(project, daemon, edit):
    before = dict(daemon.made["tables/flights"])
    edit(project)
    assert daemon.arrive() == [(DAY, DAY, TAKEN_IN)]
    assert daemon.made["tables/flights"][DAY] == before[DAY]
    assert daemon.follow() == set()
    assert daemon.follow() == set()


def test_a_touched_file_runs_nothing(project, daemon):
    (project.landing / "flights" / f"{DAY}.parquet").touch()
    assert (daemon.arrive(), daemon.follow()) == ([], set())


def test_restated_rows_run_exactly_the_days_that_reach_them(project, daemon):
    project.land(f"{DAY}.parquet", flights(DAY, delay=99.0))
    assert daemon.arrive() == [(DAY, DAY, TAKEN_IN)]
    assert daemon.follow() == {
        *(("carrier_delays", day) for day in days(DAY, LAST)),
        *(("last_flight", day) for day in days(DAY, "2013-01-03")),
    }


def test_every_materialization_says_why_and_what_it_was_made_from(project, daemon):
    project.land(f"{DAY}.parquet", flights(DAY, delay=99.0))
    daemon.arrive()
    daemon.follow()
    for name in ("tables/flights", "features/carrier_delays", "features/last_flight"):
        event = project.instance.get_latest_materialization_event(dg.AssetKey.from_user_string(name))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        made_from = metadata["made from"].value
        upstream = "raw/flights" if name.startswith("tables") else "tables/flights 2013-01-02"
        assert metadata["why"].value.startswith(f"{upstream} changed: ")
        assert set(made_from) == {"inputs", "code version", "configuration", "row hash", "lake version"}
        assert made_from["lake version"] == project.lake.version(name)
