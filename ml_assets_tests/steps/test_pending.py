"""What should be computed and is not, by the state of things."""

import os

import pytest

from ml_assets.steps import ingest, pending
from ml_assets_tests.project import Project

FIRST, SECOND, THIRD = "2013-01-01", "2013-01-02", "2013-01-03"


def missing(project: Project, **changes) -> set[str]:
    return set(pending.of_table(project.table("flights", **changes), project.step()))


def take_in(project: Project, *days: str, **changes) -> None:
    first, last = min(days), max(days)
    ingest.ingest(project.table("flights", **changes), project.step(first, last))


@pytest.fixture
def taken_in(project):
    project.land_days(FIRST, SECOND)
    take_in(project, FIRST, SECOND)
    return project


def test_nothing_is_missing_where_nothing_landed(project):
    assert missing(project) == set()


def test_what_landed_and_is_not_stored_is_missing(taken_in):
    assert missing(taken_in) == set()
    taken_in.land_days(THIRD)
    assert missing(taken_in) == {THIRD}


def test_a_day_that_was_asked_for_before_it_landed_is_missing_when_it_lands(project):
    project.land_days(FIRST)
    take_in(project, FIRST, THIRD)
    project.land_days(SECOND, THIRD)
    assert missing(project) == {SECOND, THIRD}


def test_a_table_without_partitions_is_missing_as_a_whole(project):
    project.land_carriers()
    spec = project.table("carriers")
    assert set(pending.of_table(spec, project.step())) == {""}
    ingest.ingest(spec, project.step())
    assert pending.of_table(spec, project.step()) == {}
    project.land_carriers(fleet=7)
    assert set(pending.of_table(spec, project.step())) == {""}


def test_other_bytes_are_missing_even_of_the_same_size_and_date(taken_in):
    path = taken_in.landing / "flights" / f"{FIRST}.parquet"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"UA", b"DL"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert missing(taken_in) == {FIRST}


def test_what_was_only_touched_or_is_gone_is_not_missing(taken_in):
    os.utime(taken_in.landing / "flights" / f"{FIRST}.parquet", (0, 0))
    (taken_in.landing / "flights" / f"{SECOND}.parquet").unlink()
    assert missing(taken_in) == set()


def test_what_was_stored_and_never_judged_is_missing(project):
    project.land_days(FIRST)
    ingest.ingest(project.table("flights"), project.step(FIRST, outputs=frozenset({"raw/flights"})))
    assert missing(project) == {FIRST}


def test_days_that_the_table_no_longer_has_are_not_asked_for(taken_in):
    all_anew = {"keys": ["carrier", "arrived_at"]}
    assert missing(taken_in, **all_anew) == {FIRST, SECOND}
    assert missing(taken_in, **all_anew, partitions={"column": "known_at", "start": SECOND}) == {SECOND}


def test_a_source_that_does_not_answer_is_said_and_hides_nothing_else(taken_in):
    elsewhere = {"source": {"files": f"{'x' * 300}/*.parquet"}, "keys": ["carrier", "arrived_at"]}
    said, spec = [], taken_in.table("flights", **elsewhere)
    found = pending.of_table(spec, taken_in.step(log=said.append))
    assert set(found) == {FIRST, SECOND}
    assert "cannot be listed" in said[0]


def test_a_polled_day_is_missing_until_it_was_asked_for(project):
    project.write("../../rows.py", "def rows(day):\n    return None\n")
    cut = {"column": "known_at", "start": FIRST, "end": SECOND}
    polled = {"source": {"python": f"{project.package}.rows.rows"}, "partitions": cut}
    assert missing(project, **polled) == {FIRST, SECOND}
    outputs = frozenset({"raw/flights"})
    ingest.ingest(project.table("flights", **polled), project.step(FIRST, SECOND, outputs=outputs))
    assert missing(project, **polled) == set()


def test_a_day_that_was_refused_is_not_missing_until_something_of_it_changes(taken_in):
    taken_in.land(f"{THIRD}.parquet", b"PAR1")
    assert missing(taken_in) == {THIRD}
    take_in(taken_in, THIRD)
    assert missing(taken_in) == set()
    assert missing(taken_in, invalid_rows={"fail_above": 0.3}) == {FIRST, SECOND, THIRD}
