"""Local files: what was delivered, whether it is anything new, and what is refused."""

import json
import os
import threading
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from ml_assets.adapters.sources.base import Fetched, Files, Look, PartitionState, Subject
from ml_assets.adapters.sources.files import LocalSource
from ml_assets.errors import SourceUnavailableError
from ml_assets.tables.format import Format
from ml_assets_tests.contracts.sources import SourceContract

DAYS = Subject("weather", date(2013, 1, 1), date(2013, 1, 31), "known_at")
WHOLE = Subject("aircraft")


class Folder:
    """A folder where a file for each day is written anew with everything that is known of it."""

    secret = "no such thing"

    def __init__(self, folder: Path) -> None:
        self.folder, self.days = folder, {}

    def source(self) -> LocalSource:
        return LocalSource(Files(f"{self.folder}/*.json"), DAYS)

    def put(self, day: str, **rows: int) -> None:
        self.days.setdefault(day, {}).update(rows)
        (self.folder / f"{day}.json").write_text(json.dumps(self.days[day]))

    def rows(self, delivery: Fetched) -> dict[str, int]:
        return json.loads(delivery.content)

    def tick(self) -> None:
        """Files are there as soon as they are written."""


class TestFiles(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        return Folder(tmp_path)


class TestFilesInFoldersOfDays(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        class Folders(Folder):
            def source(self) -> LocalSource:
                return LocalSource(Files(f"{self.folder}/{{partition}}/*.json"), DAYS)

            def put(self, day: str, **rows: int) -> None:
                (self.folder / day).mkdir(exist_ok=True)
                for name, value in rows.items():
                    (self.folder / day / f"{name}.json").write_text(json.dumps({name: value}))

        return Folders(tmp_path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weather").mkdir()
    return tmp_path / "weather"


@pytest.fixture
def source(folder):
    return LocalSource(Files(f"{folder}/*.parquet"), DAYS)


def deliver(folder: Path, name: str, content: bytes = b"rows", modified: float = 1e9) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified, modified))
    return path


def digests(look: Look) -> dict[str, str]:
    return {partition: state.digest for partition, state in look.states.items()}


def fetched(source: LocalSource, *partitions: str) -> list[tuple[str, bytes]]:
    return [(each.name, each.content) for each in source.fetch(partitions, {})]


def test_unfinished_and_hidden_and_foreign_files_are_not_delivered(folder, source):
    names = (".2013-01-05.parquet", "_2013-01-05.parquet", "2013-01-05.parquet.tmp", "2013-01-05.csv", "_SUCCESS")
    for name in names:
        deliver(folder, name)
    (folder / "2013-01-06.parquet").mkdir()
    (folder / "2013-01-07.parquet").symlink_to(folder / "nowhere")
    assert source.look({}) == Look({})


def test_a_folder_that_is_not_there_yet_has_no_deliveries(tmp_path):
    source = LocalSource(Files(f"{tmp_path}/nothing/*.parquet"), DAYS)
    assert source.look({}) == Look({})
    assert fetched(source, "2013-01-05") == []


@pytest.mark.parametrize("name", ["weather.parquet", "2013-02-30.parquet", "12013-01-05.parquet"])
def test_a_file_without_a_day_is_a_problem_beside_the_others(folder, source, name):
    deliver(folder, name)
    deliver(folder, "2013-01-05.parquet")
    found = source.look({})
    [problem] = found.problems
    assert f"{folder}/{name}: " in problem
    assert list(found.states) == ["2013-01-05"]
    assert fetched(source, "2013-01-05") == [("2013-01-05.parquet", b"rows")]


def test_a_source_without_days_is_one_partition(folder):
    deliver(folder, "aircraft.parquet")
    source = LocalSource(Files(f"{folder}/aircraft.parquet"), WHOLE)
    assert list(source.look({}).states) == [""]
    assert [each.partition for each in source.fetch([""], {})] == [""]


def test_files_are_fetched_in_the_order_of_their_names_with_the_path_below_the_folder(folder):
    for name in ("b/2013-01-05T01.parquet", "a/2013-01-05T02.parquet", "2013-01-05T03.parquet"):
        deliver(folder, name, name.encode())
    source = LocalSource(Files(f"{folder}/**/*.parquet"), DAYS)
    names = [name for name, _ in fetched(source, "2013-01-05")]
    assert names == ["b/2013-01-05T01.parquet", "a/2013-01-05T02.parquet", "2013-01-05T03.parquet"]


def test_touching_renaming_or_repeating_a_delivery_is_nothing_new(folder, source):
    deliver(folder, "2013-01-05.parquet")
    known = source.look({})
    for change in ("2013-01-05.parquet", "again-2013-01-05.parquet"):
        deliver(folder, change, modified=2e9)
        assert digests(source.look(known.states)) == digests(source.look({})) == digests(known)
    (folder / "2013-01-05.parquet").unlink()
    assert digests(source.look(known.states)) == digests(known)


def test_bytes_are_read_only_where_a_file_changed(folder, source):
    for day in ("2013-01-05", "2013-01-06"):
        deliver(folder, f"{day}.parquet")
    known = {day: replace(state, digest="from the last look") for day, state in source.look({}).states.items()}
    deliver(folder, "2013-01-06.parquet", b"ROWS")
    after = digests(source.look(known))
    assert after["2013-01-05"] == "from the last look"
    assert after["2013-01-06"] == source.look({}).states["2013-01-06"].digest


def test_other_bytes_of_the_same_size_and_date_are_new(folder, source):
    deliver(folder, "2013-01-05.parquet", b"rows")
    known = source.look({})
    deliver(folder, "2013-01-05.parquet", b"ROWS")
    assert digests(source.look(known.states)) != digests(known)


def test_the_state_survives_a_cursor(folder, source):
    deliver(folder, "2013-01-05.parquet")
    known = source.look({}).states
    cursor = json.dumps({partition: asdict(state) for partition, state in known.items()})
    assert {partition: PartitionState(**state) for partition, state in json.loads(cursor).items()} == known
    assert (known["2013-01-05"].n_files, known["2013-01-05"].n_bytes) == (1, 4)


def test_only_what_changed_is_fetched_again(folder, source):
    for hour in range(3):
        deliver(folder, f"2013-01-05T0{hour}.parquet")
    position = {each.partition: each.position for each in source.fetch(["2013-01-05"], {})}
    assert list(source.fetch(["2013-01-05"], position)) == []
    deliver(folder, "2013-01-05T01.parquet", b"other")
    deliver(folder, "2013-01-05T03.parquet", b"fourth")
    again = list(source.fetch(["2013-01-05"], position))
    assert [each.name for each in again] == ["2013-01-05T01.parquet", "2013-01-05T03.parquet"]
    assert list(source.fetch(["2013-01-05"], {"2013-01-05": again[-1].position})) == []


def test_a_link_that_leads_out_of_the_folder_is_left_out_and_named(folder, source, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "2013-01-05.parquet").symlink_to(tmp_path / "secret")
    deliver(folder, "2013-01-06.parquet")
    found = source.look({})
    assert list(found.states) == ["2013-01-06"]
    [problem] = found.problems
    assert problem.startswith(f"{folder}/2013-01-05.parquet: a link that leads out of its folder, to {tmp_path}/secret")
    assert fetched(source, "2013-01-05", "2013-01-06") == [("2013-01-06.parquet", b"rows")]


@pytest.mark.parametrize("pattern", ["**/*.parquet", "*/*.parquet", "{partition}/*.parquet"])
def test_a_linked_folder_that_leads_out_is_not_entered(folder, tmp_path, pattern):
    deliver(tmp_path / "other", "2013-01-05.parquet", b"secret")
    (folder / "2013-01-05").symlink_to(tmp_path / "other")
    source = LocalSource(Files(f"{folder}/{pattern}"), DAYS)
    found = source.look({})
    assert found.states == {}
    assert "leads out of its folder" in found.problems[0]
    assert fetched(source, "2013-01-05") == []


def test_links_within_the_folder_are_followed(folder, source):
    (folder / "..data").mkdir()
    deliver(folder / "..data", "2013-01-05.parquet")
    (folder / "2013-01-05.parquet").symlink_to(folder / "..data" / "2013-01-05.parquet")
    assert source.look({}).problems == ()
    assert fetched(source, "2013-01-05") == [("2013-01-05.parquet", b"rows")]


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "landing").symlink_to(folder)
    deliver(folder, "2013-01-05.parquet")
    source = LocalSource(Files(f"{tmp_path}/landing/*.parquet"), DAYS)
    assert fetched(source, "2013-01-05") == [("2013-01-05.parquet", b"rows")]


def test_a_stray_link_that_is_not_meant_is_nobodys_problem(folder, source, tmp_path):
    (folder / "notes.txt").symlink_to(tmp_path / "elsewhere")
    (folder / "archive").symlink_to(tmp_path)
    assert source.look({}) == Look({})


@pytest.mark.parametrize(
    ("name", "rule"),
    [("2013-01-05\\x.parquet", "holds a backslash"), ("2013-01-05\n.parquet", "holds a control character")],
)
def test_a_name_that_is_no_path_everywhere_is_left_out_and_named(folder, source, name, rule):
    deliver(folder, name)
    deliver(folder, "2013-01-05.parquet")
    [problem] = source.look({}).problems
    assert f"the name {rule}" in problem
    assert problem.isprintable()
    assert fetched(source, "2013-01-05") == [("2013-01-05.parquet", b"rows")]


def test_a_file_larger_than_the_limit_is_left_out_unread(folder):
    deliver(folder, "2013-01-05.parquet", b"12345")
    deliver(folder, "2013-01-06.parquet", b"1234")
    source = LocalSource(Files(f"{folder}/*.parquet", Format(max_bytes=4)), DAYS)
    [problem] = source.look({}).problems
    assert "5 bytes are more than `max_bytes`" in problem
    assert fetched(source, "2013-01-05", "2013-01-06") == [("2013-01-06.parquet", b"1234")]


def test_a_file_that_never_stops_changing_is_asked_for_again_later(folder, source):
    path, stop = deliver(folder, "2013-01-05.parquet", b"x" * 50_000_000), threading.Event()

    def write() -> None:
        while not stop.is_set():
            os.utime(path, ns=(0, next(times)))

    times = iter(range(10**9))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(SourceUnavailableError, match=r"is being written while it is read.*rename them"):
            fetched(source, "2013-01-05")
    finally:
        stop.set()
        writer.join()
    assert fetched(source, "2013-01-05") == [(path.name, path.read_bytes())]


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(folder, source):
    """A pipe stands for a slow disk: the reader waits in it while the file is replaced."""
    path = deliver(folder, "2013-01-05.parquet", b"old")
    listed = list(source.entries(f"{folder}/"))
    path.unlink()
    os.mkfifo(path)

    def replace_it() -> None:
        with path.open("wb") as pipe:
            deliver(folder, "new.tmp", b"whole and new").replace(path)
            pipe.write(b"half of the o")

    writer = threading.Thread(target=replace_it)
    writer.start()
    content, state = source.read(listed[0])
    writer.join()
    assert content == b"whole and new"
    assert state == next(source.entries(f"{folder}/"))


def test_a_delivery_that_is_gone_since_it_was_listed_is_asked_for_again(folder, source):
    for day in ("2013-01-05", "2013-01-06"):
        deliver(folder, f"{day}.parquet")
    coming = source.fetch(["2013-01-05", "2013-01-06"], {})
    next(coming)
    (folder / "2013-01-06.parquet").unlink()
    with pytest.raises(SourceUnavailableError, match=r"2013-01-06.parquet is gone since it was listed"):
        next(coming)


def test_a_place_that_cannot_be_listed_says_so(tmp_path):
    too_long = "x" * 300
    source = LocalSource(Files(f"{tmp_path}/{too_long}/*.parquet"), DAYS)
    with pytest.raises(SourceUnavailableError, match=r"cannot be listed: .*File name too long"):
        source.look({})
