"""Mutants of when: restated, late, out of order, delivered twice, and of names that lead elsewhere."""

import hashlib
import os
import time

import dagster as dg
import pytest

from ml_assets.orchestration.resources import PLATFORM
from ml_assets.steps.days import shift
from ml_assets_tests.mutants.delivery import Mutant, csv, good, put
from ml_assets_tests.mutants.graph import Graph
from ml_assets_tests.project import materialized

NEW_DAYS = ("2012-05-01", "2012-05-02", "2012-05-12")


@pytest.fixture(scope="module")
def graph(new_project):
    return Graph.standing_on(new_project(), "flights", n_days=14)


def kept(graph, day):
    """The files of a day in raw, in the order of their arrival: name, whether it is current, and the bytes."""
    lines = graph.project.lake.dataset("raw/flights", partitions=[day]).to_table().to_pylist()
    found = []
    for line in sorted(lines, key=lambda line: line["arrived_at"]):
        content = graph.project.lake.get_object(line["object"])
        assert hashlib.sha256(content).hexdigest() == line["sha256"]
        found.append((line["name"], line["current"], content))
    return found


def rows_of(day, *lines, **values):
    """Some of a day's rows with other values, as a file of their own."""
    return csv([{**good(day)[line - 2], **values} for line in lines])


def test_a_restated_file_takes_the_place_of_the_one_of_its_name_which_stays_readable(graph):
    day = graph.free_day("flights")
    fewer = rows_of(day, 2, 3, delay="1.0")
    outcome = graph.deliver("flights", day, f"{day}.csv", fewer)
    assert outcome.failed == set()
    assert [row["delay"] for row in outcome.rows()] == [1.0, 1.0]
    assert outcome.counts == (2, 2, 0, 0)
    assert kept(graph, day) == [(f"{day}.csv", False, Mutant().content(day)), (f"{day}.csv", True, fewer)]


def test_a_restatement_in_a_file_of_its_own_wins_by_key(graph):
    day = graph.free_day("flights")
    correction = rows_of(day, 5, 6, delay="1.0")
    outcome = graph.deliver("flights", day, f"{day}-correction.csv", correction)
    assert outcome.failed == set()
    assert [row["delay"] for row in outcome.rows()].count(1.0) == 2
    assert outcome.counts == (42, 40, 0, 2)
    assert [(name, current) for name, current, _ in kept(graph, day)] == [
        (f"{day}.csv", True),
        (f"{day}-correction.csv", True),
    ]


def test_a_restatement_that_is_broken_leaves_the_row_that_it_would_replace(graph):
    day = graph.free_day("flights")
    outcome = graph.deliver("flights", day, f"{day}-correction.csv", rows_of(day, 5, delay="700"))
    assert outcome.failed == {"delay__is_at_most"}
    assert outcome.counts == (41, 40, 1, 0)
    assert outcome.row(5)["delay"] == float(good(day)[3]["delay"])
    assert [(row["file"], row["row"]) for row in outcome.quarantined] == [(f"{day}-correction.csv", 2)]


def test_a_file_with_an_older_name_and_date_that_arrives_later_counts_as_what_came_last(graph):
    day = graph.free_day("flights")
    graph.deliver("flights", day, f"{day}T12.csv", rows_of(day, 5, delay="1.0"))
    path = graph.project.land(f"{day}T06.csv", rows_of(day, 5, delay="2.0"), table="flights")
    os.utime(path, (0, 0))
    assert graph.run("flights", day).row(5)["delay"] == 2.0


def test_of_files_that_are_seen_at_once_the_one_that_was_written_last_wins(graph):
    day = graph.free_day("flights")
    graph.project.land(f"{day}T12.csv", rows_of(day, 5, delay="1.0"), table="flights")
    time.sleep(0.05)  # more than a tick of the file system's clock
    graph.project.land(f"{day}-correction.csv", rows_of(day, 5, delay="2.0"), table="flights")
    assert graph.run("flights", day).row(5)["delay"] == 2.0


def test_the_same_file_again_under_another_name_changes_nothing(graph):
    day = graph.free_day("flights")
    graph.deliver("flights", day, f"{day}-correction.csv", rows_of(day, 5, delay="1.0"))
    standing = graph.standing()
    graph.deliver("flights", day, f"{day}-again.csv", Mutant().content(day))
    assert graph.standing() == standing
    outcome = graph.deliver("flights", day, f"{day}-more.csv", rows_of(day, 6, delay="2.0"))
    assert (outcome.row(5)["delay"], outcome.row(6)["delay"]) == (1.0, 2.0)
    assert outcome.counts == (42, 40, 0, 2)


def test_days_that_arrive_in_another_order_come_out_the_same_and_touch_only_themselves(graph):
    late, early = NEW_DAYS[1], NEW_DAYS[0]
    for day in (late, early):  # `deliver` asserts that no other day changes
        assert graph.deliver("flights", day, f"{day}.csv", Mutant().content(day)).failed == set()
    held = graph.project.lake.content("tables/flights")
    for day in (early, late):
        (graph.project.landing / "flights" / f"{day}.csv").unlink()
    assert graph.project.run("raw/flights", "tables/flights", first=early, last=late).success
    assert graph.project.lake.content("tables/flights") == held


def test_a_row_that_arrives_with_a_day_that_is_not_its_own_goes_nowhere_else(graph):
    day = graph.free_day("flights")
    other = csv(good(shift(day, 1))[:1])
    outcome = graph.deliver("flights", day, f"{day}-more.csv", other)
    assert outcome.failed == {"known_at__in_partition"}
    assert [row["rules"] for row in outcome.quarantined] == [["known_at_in_partition"]]
    assert outcome.counts == (41, 40, 1, 0)


def test_a_refused_day_that_never_stood_leaves_nothing_for_those_behind_it(graph):
    day = NEW_DAYS[2]
    outcome = graph.deliver("flights", day, f"{day}.csv", Mutant(put("seats", "many", 5)).content(day))
    assert outcome.refused
    assert day not in graph.project.lake.partitions("tables/flights")
    behind = graph.project.run("raw/flights", "tables/flights", "features/flights_delays", first=day)
    assert set(materialized(behind)) == {"raw/flights"}
    assert not graph.project.lake.exists("features/flights_delays")
    mended = graph.deliver("flights", day, f"{day}.csv", Mutant().content(day))
    assert (mended.failed, len(mended.rows())) == (set(), 40)


def test_a_refused_day_among_good_ones_of_a_run_holds_up_none_of_them(graph):
    first, second, third = (graph.free_day("flights") for _ in range(3))
    for day, seats in ((first, "99"), (second, "many"), (third, "99")):
        graph.project.land(f"{day}.csv", Mutant(put("seats", seats, 5)).content(day), table="flights")
    before = graph.standing()
    result = graph.project.run("raw/flights", "tables/flights", first=first, last=third)
    changed = {day for (table, day), held in graph.standing().items() if before[table, day] != held}
    assert changed == {first, third} == set(materialized(result)["tables/flights"])
    assert not result.success
    assert {day for _, day in graph.tick()} == {day for each in changed for day in (each, shift(each, 1))}
    graph.tick()


# What is put into the landing folder, and what the sensor of arrivals says of it.
LEFT_OUT = {
    "a link to a file outside": (
        lambda folder, outside: (folder / "2012-05-07.csv").symlink_to(outside / "2012-05-07.csv"),
        "2012-05-07.csv: a link that leads out of its folder, to {outside}/2012-05-07.csv. Deliver the file itself",
    ),
    "a link that climbs": (
        lambda folder, outside: (folder / "2012-05-07.csv").symlink_to(f"../../{outside.name}/2012-05-07.csv"),
        "2012-05-07.csv: a link that leads out of its folder, to {outside}/2012-05-07.csv. Deliver the file itself",
    ),
    "a name that climbs on another system": (
        lambda folder, outside: (folder / "x\\2012-05-07.csv").write_bytes(Mutant().content("2012-05-07")),
        "2012-05-07.csv: the name holds a backslash. Deliver the file under another one.",
    ),
    "a name with a line end": (
        lambda folder, outside: (folder / "x\n2012-05-07.csv").write_bytes(Mutant().content("2012-05-07")),
        "x\\n2012-05-07.csv: the name holds a control character. Deliver the file under another one.",
    ),
    "a file of 29 February 2013": (
        lambda folder, outside: (folder / "2013-02-29.csv").write_bytes(Mutant().content("2012-02-29")),
        "2013-02-29.csv: 2013-02-29 is not a day. Deliver the file under its right name.",
    ),
    "a file without a day": (
        lambda folder, outside: (folder / "latest.csv").write_bytes(Mutant().content("2012-05-07")),
        "latest.csv: no day in the file name",
    ),
    "a file that is too large": (
        lambda folder, outside: (folder / "2012-05-07.csv").write_bytes(Mutant(n=2300).content("2012-05-07")),
        "2012-05-07.csv: 206401 bytes are more than `max_bytes`. Deliver smaller files or raise the limit.",
    ),
}


@pytest.mark.parametrize(("put_there", "says"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_file_that_may_not_come_in_is_left_out_and_named(graph, put_there, says):
    folder, outside = graph.project.landing / "flights", graph.project.landing.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    (outside / "2012-05-07.csv").write_bytes(Mutant().content("2012-05-07"))
    cursor, standing, before = looked(graph).cursor, graph.standing(), set(folder.iterdir())
    put_there(folder, outside)
    (added,) = set(folder.iterdir()) - before
    try:
        assert says.format(outside=outside) in looked(graph, cursor).skip_message
        outcome = graph.run("flights", "2012-05-07")
    finally:
        added.unlink()
    assert "flights/*.csv* has nothing of 2012-05-07. Deliver it" in outcome.error
    assert says.format(outside=outside) in outcome.error
    assert (outcome.checks, materialized(outcome.result), graph.standing()) == ({}, {}, standing)
    assert "2012-05-07" not in graph.project.lake.partitions("raw/flights")


def looked(graph, cursor=None):
    """A tick of the sensor of arrivals."""
    sensor = graph.project.defs.get_repository_def().get_sensor_def("flights_arrivals")
    with dg.build_sensor_context(graph.project.instance, cursor=cursor, resources={"platform": PLATFORM}) as context:
        return sensor.evaluate_tick(context)
