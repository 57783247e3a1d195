"""Deliveries are kept byte for byte, listed once, and two runs at once lose nothing of each other."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.sources.base import Fetched, Look, PartitionState
from ml_assets.errors import DeliveryError, LakeConflictError
from ml_assets.steps import deliver
from ml_assets_tests.project import Project, flights

FIRST, SECOND = "2013-01-01", "2013-01-02"


@pytest.fixture
def spec(project):
    return project.table("flights")


def listed(project: Project, *partitions: str) -> list[tuple[str, bytes, bool]]:
    found = deliver.deliveries(project.table("flights"), project.lake, partitions or [FIRST])
    return [(file.name, project.lake.get_object(file.object), file.current) for file in found]


class Interrupted(Lake):
    """A lake in which somebody else does something just before an object is stored, as often as told."""

    def meanwhile(self, act: Callable[[], object], times: int = 1) -> "Interrupted":
        self.left = [act] * times
        return self

    def put_object(self, path: str, content: bytes) -> str:
        if self.left:
            self.left.pop()()
        return super().put_object(path, content)


def store_with(project: Project, lake: Lake, *partitions: str) -> None:
    run = project.step(*partitions or (FIRST,))
    run.__dict__["lake"] = lake
    deliver.store(project.table("flights"), run)


def test_two_runs_at_once_lose_nothing_of_each_other(project, spec):
    project.land(f"{FIRST}.parquet", b"mine")

    def rival() -> None:
        project.land(f"{FIRST}-rival.parquet", b"theirs")
        deliver.store(spec, project.step(FIRST))

    store_with(project, Interrupted(project.lake.uri).meanwhile(rival))
    assert sorted(listed(project)) == [
        (f"{FIRST}-rival.parquet", b"theirs", True),
        (f"{FIRST}.parquet", b"mine", True),
    ]


def test_a_run_that_was_overtaken_does_not_bring_old_content_back(project, spec):
    path = project.land(f"{FIRST}.parquet", b"old")

    def rival() -> None:
        path.write_bytes(b"new")
        deliver.store(spec, project.step(FIRST))

    store_with(project, Interrupted(project.lake.uri).meanwhile(rival))
    assert [(content, current) for _, content, current in listed(project) if current] == [(b"new", True)]


def test_runs_of_different_days_do_not_wait_for_each_other(project, spec):
    project.land(f"{FIRST}.parquet", b"first")
    project.land(f"{SECOND}.parquet", b"second")
    asked = []

    def rival() -> None:
        asked.append(deliver.store(spec, project.step(SECOND)))

    store_with(project, Interrupted(project.lake.uri).meanwhile(rival, times=9))
    assert len(asked) == 1
    assert {name for name, _, _ in listed(project, FIRST, SECOND)} == {f"{FIRST}.parquet", f"{SECOND}.parquet"}


def test_a_run_that_is_overtaken_again_and_again_gives_up_and_says_so(project, spec):
    path = project.land(f"{FIRST}.parquet", b"mine")
    numbers = iter(range(100))

    def rival() -> None:
        deliver.store(spec, project.step(FIRST))
        path.write_bytes(str(next(numbers)).encode())

    with pytest.raises(LakeConflictError, match=r"raw/flights: other runs delivered 5 times meanwhile\. Run the step"):
        store_with(project, Interrupted(project.lake.uri).meanwhile(rival, times=100))


def test_a_second_delivery_of_the_same_commits_nothing(project, spec):
    paths = [project.land(f"{day}.parquet", flights(day)) for day in (FIRST, SECOND)]
    first = deliver.store(spec, project.step(FIRST, SECOND))
    before, files = project.versions(), listed(project, FIRST, SECOND)
    for path in paths:
        path.write_bytes(path.read_bytes())
        os.utime(path, (0, 0))
    again = deliver.store(spec, project.step(FIRST, SECOND))
    assert (project.versions(), listed(project, FIRST, SECOND)) == (before, files)
    assert again == first


def test_a_list_of_an_earlier_version_is_read_on(project, spec):
    project.land(f"{FIRST}.parquet", b"rows")
    deliver.store(spec, project.step(FIRST))
    rows = project.lake.dataset(spec.raw).to_table().drop_columns(["position"])
    other = Lake(f"{project.lake.uri}-earlier")
    other.write(spec.raw, rows, partitions=[FIRST])
    [file] = deliver.deliveries(spec, other, [FIRST])
    assert (file.name, file.position) == (f"{FIRST}.parquet", None)
    other.put_object(file.object, b"rows")
    project.land(f"{FIRST}-late.parquet", b"late")
    store_with(project, other)
    assert len(deliver.deliveries(spec, other, [FIRST])) == 2


def test_what_is_newer_never_depends_on_the_clock(project, spec):
    for day in (3, 2, 1):
        project.land(f"{FIRST}.parquet", str(day).encode())
        with clock.frozen(datetime(2013, 1, day, tzinfo=UTC)):
            deliver.store(spec, project.step(FIRST))
    assert [(content, current) for _, content, current in listed(project)] == [
        (b"3", False),
        (b"2", False),
        (b"1", True),
    ]


def test_content_that_comes_back_is_current_again_and_listed_once(project, spec):
    for content in (b"a", b"b", b"a"):
        project.land(f"{FIRST}.parquet", content)
        deliver.store(spec, project.step(FIRST))
    assert [(content, current) for _, content, current in listed(project)] == [(b"b", False), (b"a", True)]


def test_nothing_delivered_names_what_was_left_out(project, spec):
    project.land("january.parquet", b"rows")
    with pytest.raises(DeliveryError, match=rf"flights/\*.parquet has nothing of {FIRST}.*january.parquet: no day"):
        deliver.store(spec, project.step(FIRST))
    assert project.versions() == {}


@dataclass
class Given:
    """A source that gives what it was told to, and remembers from where it was asked."""

    coming: Sequence[Fetched]
    asked: list[Mapping[str, str]] = field(default_factory=list)
    label: str = "given"

    def look(self, known: Mapping[str, PartitionState]) -> Look:
        return Look({})

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:
        self.asked.append(dict(positions))
        yield from self.coming


@pytest.fixture
def given_source(monkeypatch):
    source = Given([])
    monkeypatch.setattr(deliver, "source_of", lambda spec, run: source)
    return source


def test_a_source_is_asked_from_the_position_that_it_gave_last(project, spec, given_source):
    given_source.coming = [
        Fetched(FIRST, "1", b"1", "at 1"),
        Fetched(FIRST, "2", b"2", "at 2"),
        Fetched(FIRST, "3", b"3"),
        Fetched(SECOND, "1", b"1"),
    ]
    deliver.store(spec, project.step(FIRST, SECOND))
    given_source.coming = [Fetched(SECOND, "2", b"2", "at 9")]
    deliver.store(spec, project.step(FIRST, SECOND))
    deliver.store(spec, project.step(SECOND))
    assert given_source.asked == [{}, {FIRST: "at 2"}, {SECOND: "at 9"}]


def test_a_position_without_new_content_is_no_commit(project, spec, given_source):
    given_source.coming = [Fetched(FIRST, "1", b"1", "at 1")]
    deliver.store(spec, project.step(FIRST))
    before = project.versions()
    given_source.coming = [Fetched(FIRST, "1", b"1", "at 2")]
    deliver.store(spec, project.step(FIRST))
    assert project.versions() == before


def test_rows_of_a_day_that_nobody_asked_for_are_refused(project, spec, given_source):
    given_source.coming = [Fetched(SECOND, "1", b"1")]
    with pytest.raises(DeliveryError, match=f"given gave rows of {SECOND}, for which nobody asked"):
        deliver.store(spec, project.step(FIRST))


NAMES = {
    "../x.csv": "leads out",
    "a/../../x.csv": "leads out",
    "/etc/passwd": "is absolute",
    "a\\..\\x": "holds a backslash",
    "x\x00.csv": "holds a control character",
    "": "is empty",
}


@pytest.mark.parametrize(("name", "rule"), NAMES.items(), ids=map(repr, NAMES))
def test_a_name_that_leads_elsewhere_is_refused(project, spec, given_source, name, rule):
    given_source.coming = [Fetched(FIRST, name, b"1")]
    with pytest.raises(DeliveryError, match=f"flights: the name .* {rule}"):
        deliver.store(spec, project.step(FIRST))
    assert project.versions() == {}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("./\\ab\x00 %#?é~"), min_size=1, max_size=8))
def test_whatever_the_name_the_bytes_lie_under_their_hash(project, spec, given_source, name):
    content = name.encode()
    given_source.coming = [Fetched(FIRST, name, content)]
    hashed = sha256(content).hexdigest()
    try:
        deliver.store(spec, project.step(FIRST))
    except DeliveryError:
        assert not project.lake.exists(spec.raw) or name not in {row["name"] for row in project.rows(spec.raw)}
    else:
        [place] = [row["object"] for row in project.rows(spec.raw) if row["name"] == name]
        assert re.fullmatch(rf"raw/flights/{hashed[:2]}/{hashed}(\.[A-Za-z0-9]+)*", place)


def test_a_polled_day_without_content_is_no_error_and_not_asked_for_again(project, given_source):
    polled = project.table("flights", source={"python": "package.module.rows"})
    given_source.coming = []
    assert deliver.store(polled, project.step(FIRST)).produced == {}
    assert deliver.known_empty(polled, project.lake, FIRST)
    assert not deliver.known_empty(polled, project.lake, SECOND)


def test_scratch_outlives_its_holder_and_is_forgotten_by_prefix(project):
    scratch = deliver.LakeScratch(project.lake, "flights")
    for name in ("a.1", "a.2", "b.1"):
        scratch.put(name, name.encode())
    scratch.put("a.1", b"again")
    deliver.LakeScratch(project.lake, "others").put("a.1", b"others")
    scratch.clear("a.")
    again = deliver.LakeScratch(Lake(project.lake.uri), "flights")
    assert [again.get(name) for name in ("a.1", "a.2", "b.1")] == [None, None, b"b.1"]
    assert deliver.LakeScratch(project.lake, "others").get("a.1") == b"others"


def test_a_list_is_a_table_of_plain_columns(project, spec):
    project.land(f"{FIRST}.parquet", b"rows")
    deliver.store(spec, project.step(FIRST))
    schema = project.lake.dataset(spec.raw).schema
    assert (schema.field("position").type, schema.field("arrived_at").type) == (pa.string(), pa.timestamp("us", "UTC"))
