"""What the commands say of a view whose rows are not those of its declaration: edited since, or refused by a check."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ml_assets.cli import project as projects
from ml_assets_tests.cli.airline import Airline
from ml_assets_tests.project import LAST_FLIGHT_SQL, Project, flights

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
SAME_NAMES = ("    delay AS last_delay", "    delay + 1 AS last_delay")
AT = ("--entity", "carrier=UA", "--at", "2013-01-03T12:30")
TWICE = "SELECT carrier, known_at, fleet FROM carriers UNION ALL SELECT carrier, known_at, fleet + 1 FROM carriers"


class Shop:
    """A project that a test may edit, with three days of flights in the lake."""

    def __init__(self, project: Project, home: Path) -> None:
        self.project = project
        project.name_package()
        project.land_days(*DAYS)
        project.land_carriers()
        self.airline = Airline(project.folder, home, project.table("flights"))
        assert project.run("raw/flights", "tables/flights", first=DAYS[0], last=DAYS[-1]).success
        assert project.run("raw/carriers", "tables/carriers").success

    def compute(self, view: str, *days: str) -> bool:
        span = {"first": days[0], "last": days[-1]} if days else {}
        return self.project.run(f"features/{view}", **span).success

    def edit(self, this: str, that: str, name: str = "defs.yaml") -> None:
        before = (self.project.defs_folder / name).read_text()
        assert this in before
        self.project.write(name, before.replace(this, that))

    def run(self, *words: str) -> CompletedProcess:
        projects.loaded.cache_clear()  # as in a process of its own
        return self.airline.run(*words)

    def said(self, *words: str) -> str:
        ran = self.run(*words)
        return ran.stdout + ran.stderr

    def proofs(self) -> dict:
        return {p["asset"]: p for p in json.loads(self.run("leaks", "--json").stdout) if "arrive" not in p["proof"]}


@pytest.fixture
def shop(project, tmp_path):
    return Shop(project, tmp_path / "var")


def test_rows_of_before_an_edit_are_said_to_be_so_and_their_difference_is_no_leak(shop, tmp_path):
    assert shop.compute("last_flight", *DAYS)
    assert "your edit" not in shop.said("features", "get", "last_flight", *AT)
    assert shop.proofs()["features/last_flight"]["verdict"] == "holds"
    shop.edit(*SAME_NAMES, name="last_flight.sql")
    sentence = "The rows of features/last_flight of 2013-01-03 are of the definition before your edit of "
    for words in (("get", "last_flight", *AT), ("preview", "last_flight"), ("show", "last_flight"), ("list",)):
        assert sentence in shop.said("features", *words)
    assert "defs.yaml:" in shop.said("features", "preview", "last_flight", "--at", "2013-01-03T12:30")
    (found,) = [line for line in json.loads(shop.run("features", "list", "--format", "json").stdout)
                if line["view"] == "last_flight"]  # fmt: skip
    assert found["state"] == "edited"
    shop.said("features", "catalogue", "--output", str(tmp_path / "page.html"))
    assert sentence in (tmp_path / "page.html").read_text()
    proof = shop.proofs()["features/last_flight"]
    assert proof["verdict"] == "warning"
    assert proof["evidence"].startswith("Not computed since, so it cannot be judged. The rows of features/last_flight")
    assert shop.compute("last_flight", *DAYS[1:])
    assert "your edit" not in shop.said("features", "get", "last_flight", *AT)
    assert f"of {DAYS[0]} are of the" in shop.said("features", "preview", "last_flight", "--partition", DAYS[0])


def test_a_difference_after_an_edit_that_was_computed_is_a_leak(shop):
    assert shop.compute("last_flight", *DAYS)
    rows = shop.airline.lake.dataset("features/last_flight").to_table()
    shop.airline.lake.write("features/last_flight", rows.slice(0, 0), partitions=list(DAYS[:1]))
    shop.edit(*SAME_NAMES, name="last_flight.sql")
    assert shop.compute("last_flight", DAYS[-1])
    stored = shop.airline.lake.dataset("features/last_flight", partitions=[DAYS[-1]]).to_table()
    place = stored.column_names.index("last_delay")
    forged = stored.set_column(place, "last_delay", [[7.0] * stored.num_rows])
    shop.airline.lake.write("features/last_flight", forged, partitions=[DAYS[-1]])
    assert shop.proofs()["features/last_flight"]["verdict"] == "LEAK"


def test_rows_that_a_check_refused_are_told_with_its_sentence_until_they_are_computed(shop):
    sql = "SELECT carrier, known_at, fleet FROM carriers"
    shop.edit(sql, TWICE)
    assert not shop.compute("carrier_attributes")
    sentence = "refused: one_row_per_entity_and_time: Feature view 'carrier_attributes' has rows that differ"
    commands = (("explain", "features/carrier_attributes"), ("features", "show", "carrier_attributes"),
                ("features", "list"), ("features", "preview", "carrier_attributes"),
                ("features", "get", "carrier_attributes", *AT), ("leaks",))  # fmt: skip
    for words in commands:
        assert sentence in shop.said(*words)
    shop.edit(TWICE, sql)
    assert shop.compute("carrier_attributes")
    for words in commands:
        assert "has rows that differ" not in shop.said(*words)


def test_what_refused_a_view_is_told_before_the_edit_that_it_holds_up(shop):
    assert shop.compute("last_flight", *DAYS)
    twice = LAST_FLIGHT_SQL.replace("delay AS last_delay", "0.0 AS last_delay") + "UNION ALL\n" + LAST_FLIGHT_SQL
    shop.project.write("last_flight.sql", twice)
    assert not shop.compute("last_flight", *DAYS)
    for words in (("get", "last_flight", *AT), ("preview", "last_flight"), ("list",), ("show", "last_flight")):
        said = [line.strip() for line in shop.said("features", *words).splitlines()]
        (why,) = [n for n, line in enumerate(said) if "were refused: one_row_per_entity_and_time" in line]
        assert said[why].startswith("The rows of features/last_flight of 2013-01-03 were refused")
        assert "Put that right and materialize it" in said[why]
        assert said[why + 1].startswith("The rows of features/last_flight of 2013-01-03 are of the definition before")
        assert "aterialize it" not in said[why + 1]


def test_a_refused_view_without_a_feature_that_was_added_says_what_refused_it(shop):
    assert shop.compute("last_flight", *DAYS)
    more = LAST_FLIGHT_SQL.replace("delay AS last_delay", "delay AS last_delay, delay + 1 AS more")
    shop.project.write("last_flight.sql", more + "UNION ALL\n" + more.replace("delay + 1", "delay + 2"))
    assert not shop.compute("last_flight", *DAYS)
    for words in (("get", "last_flight", *AT), ("preview", "last_flight", "--at", "2013-01-03T12:30")):
        said = shop.said("features", *words)
        assert "lack more" in said
        assert said.count("aterialize it") == 1
        assert said.index("were refused: one_row_per_entity_and_time") < said.index("lack more")


def test_a_refused_day_keeps_the_days_before_it_and_is_named(shop):
    assert shop.compute("last_flight", *DAYS[:2])
    shop.edit("  every: 1h\n  max_age: 1d\n", "  every: 15m\n  max_age: 1d\n")
    shop.project.land(f"{DAYS[2]}.parquet", flights(DAYS[2], hours=range(24)))
    assert shop.project.run("raw/flights", "tables/flights", first=DAYS[2]).success
    assert not shop.compute("last_flight", DAYS[2])
    check = "grid_is_no_finer_than_the_data: Rows became known at"
    assert f"since its last run was refused: {check}" in shop.said("explain", "features/last_flight", DAYS[2])
    shown = shop.said("features", "show", "last_flight")
    assert f"The rows of features/last_flight of {DAYS[2]} were refused: {check}" in shown
    assert "2013-01-01 .. 2013-01-02" in shown
    assert f"of {DAYS[1]} are of the definition before your edit" in shown
    shop.edit("  every: 15m\n", "  every: 30m\n")
    assert "Would run for the first time." in shop.said("explain", "features/last_flight", DAYS[2])
    assert shop.compute("last_flight", *DAYS)
    shown = shop.said("features", "show", "last_flight")
    assert "were refused" not in shown
    assert "before your edit" not in shown
