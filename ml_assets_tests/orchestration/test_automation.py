"""What the conditions inside the graph request, tick by tick, after real runs."""

import dagster as dg
import pytest

from ml_assets_tests.project import Project, checks, days, flights

FIRST, LAST = "2013-01-01", "2013-01-04"
DELIVERED = set(days(FIRST, LAST))
VIEW = dg.AssetKey(["features", "carrier_delays"])
STATIC = dg.AssetKey(["features", "carrier_attributes"])


class Daemon:
    """The automation sensor without its threads: evaluates, remembers, and says what it would request."""

    def __init__(self, project: Project) -> None:
        self.project, self.cursor = project, None

    def tick(self) -> dict[dg.AssetKey, set[str | None]]:
        result = dg.evaluate_automation_conditions(self.project.defs, self.project.instance, cursor=self.cursor)
        self.cursor = result.cursor
        wanted = {key: result.get_requested_partitions(key) for key in (VIEW, STATIC)}
        return {key: partitions for key, partitions in wanted.items() if partitions}

    def wants(self) -> set[str | None]:
        return self.tick().get(VIEW, set())


def take_in(project: Project, first: str, last: str = "") -> dict[str, bool]:
    return checks(project.run("raw/flights", "tables/flights", first=first, last=last))


def compute(project: Project, first: str, last: str = "") -> None:
    assert project.run(VIEW.to_user_string(), first=first, last=last).success


@pytest.fixture
def daemon(project):
    """Four days were delivered, their features computed, and nothing is left to do."""
    daemon = Daemon(project)
    assert daemon.tick() == {}
    project.land_days(*DELIVERED)
    take_in(project, FIRST, LAST)
    assert daemon.wants() == DELIVERED
    compute(project, FIRST, LAST)
    assert daemon.wants() == set()
    return daemon


def test_new_days_request_exactly_themselves_and_never_days_to_come(project, daemon):
    project.land_days("2013-01-05")
    take_in(project, "2013-01-05")
    assert daemon.wants() == {"2013-01-05"}
    compute(project, "2013-01-05")
    assert daemon.wants() == set()


def test_a_request_is_made_once(project, daemon):
    project.land_days("2013-01-05")
    take_in(project, "2013-01-05")
    assert daemon.wants() == {"2013-01-05"}
    assert daemon.wants() == set()


def test_the_same_content_again_requests_nothing(project, daemon):
    for first, last in ((FIRST, LAST), ("2013-01-02", "")):
        take_in(project, first, last)
        assert daemon.wants() == set()


def test_late_data_requests_the_days_whose_windows_reach_it(project, daemon):
    project.land("2013-01-02-late.parquet", flights("2013-01-02", hours=(22,)))
    take_in(project, "2013-01-02")
    assert daemon.wants() == {"2013-01-02", "2013-01-03", "2013-01-04"}


@pytest.mark.parametrize("together", [True, False])
def test_a_refused_day_brings_nothing_and_holds_up_no_other(project, daemon, together):
    project.land_days("2013-01-05")
    project.land("2013-01-06.parquet", b"PAR1")
    spans = [("2013-01-05", "2013-01-06")] if together else [("2013-01-05", ""), ("2013-01-06", "")]
    assert not all(all(take_in(project, first, last).values()) for first, last in spans)
    assert daemon.wants() == {"2013-01-05", "2013-01-06"}  # the windows of the 6th reach the 5th
    compute(project, "2013-01-05", "2013-01-06")
    assert daemon.wants() == set()
    project.land_days("2013-01-06")
    assert all(take_in(project, "2013-01-06").values())
    assert daemon.wants() == {"2013-01-06"}


def test_a_view_over_a_whole_table_follows_it(project):
    daemon = Daemon(project)
    daemon.tick()
    project.land_carriers()
    for fleet, expected in ((100, {STATIC: {None}}), (100, {}), (200, {STATIC: {None}})):
        project.land_carriers(fleet)
        project.run("raw/carriers", "tables/carriers")
        assert daemon.tick() == expected
        project.run(STATIC.to_user_string())
        assert daemon.tick() == {}
