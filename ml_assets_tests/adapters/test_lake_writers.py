"""Several writers of the lake at once, and writers that are killed."""

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.adapters.lake import Commit, Lake
from ml_assets.adapters.retention import removed_files
from ml_assets.engine import connect
from ml_assets.errors import LakeConflictError
from ml_assets_tests.adapters import processes

NAME = "tables/t"
A, B = "2013-01-01", "2013-01-02"


class OvertakenLake(Lake):
    """A lake in which another writer commits between the moment this one looked and its own first commit."""

    def __init__(self, uri, overtake) -> None:
        super().__init__(uri)
        self.overtake = [overtake]

    def _commit(self, *arguments):
        if self.overtake:
            self.overtake.pop()(Lake(self.uri))
        return super()._commit(*arguments)


def write(lake: Lake, partition: str, value: int, **columns) -> Commit:
    rows = {"partition_key": [partition], "x": [value]} | columns
    return lake.write(NAME, pa.table(rows), partitions=[partition])


def stored(uri: str) -> list[tuple]:
    table = Lake(uri).read(NAME, connect())
    columns = sorted(table.columns)
    return sorted(table.project(", ".join(columns)).fetchall())


@pytest.fixture(params=["existing table", "new table"])
def uri(request, tmp_path):
    uri = str(tmp_path / "lake")
    if request.param == "existing table":
        write(Lake(uri), "2013-01-09", 0)
    return uri


def test_writers_of_other_partitions_both_succeed(uri):
    write(OvertakenLake(uri, lambda other: write(other, B, 2)), A, 1)
    assert [row for row in stored(uri) if row[1]] == [(A, 1), (B, 2)]


def test_a_writer_of_the_same_partition_conflicts(uri):
    with pytest.raises(LakeConflictError, match=f"'{A}'"):
        write(OvertakenLake(uri, lambda other: write(other, A, 2)), A, 1)
    assert [row for row in stored(uri) if row[1]] == [(A, 2)]


def test_two_writers_of_the_same_rows_do_not_conflict(uri):
    commit = write(OvertakenLake(uri, lambda other: write(other, A, 1)), A, 1)
    assert commit.changed == ()
    assert [row for row in stored(uri) if row[1]] == [(A, 1)]


def test_a_writer_that_adds_a_column_meanwhile_does_not_conflict(uri):
    write(OvertakenLake(uri, lambda other: write(other, B, 2, y=["new"])), A, 1)
    assert [row for row in stored(uri) if row[1]] == [(A, 1, None), (B, 2, "new")]


def test_a_whole_table_replaced_meanwhile_conflicts(tmp_path):
    uri = str(tmp_path)
    Lake(uri).write(NAME, pa.table({"x": [0]}))
    with pytest.raises(LakeConflictError):
        OvertakenLake(uri, lambda other: other.write(NAME, pa.table({"x": [2]}))).write(NAME, pa.table({"x": [1]}))
    assert stored(uri) == [(2,)]


def test_processes_that_write_their_own_partitions_lose_nothing(tmp_path):
    uri, partitions = str(tmp_path), processes.PARTITIONS[:4]
    writers = [processes.start(processes.write_own_partition, uri, partition, 5) for partition in partitions]
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert generations(uri) == {(partition, 20, 4, 4) for partition in partitions}
    assert Lake(uri).version(NAME) == 4 * 5 - 1


def test_processes_that_count_up_one_number_lose_no_step(tmp_path):
    uri = str(tmp_path)
    write(Lake(uri), A, 0)
    writers = [processes.start(processes.count_up, uri, A, 8) for _ in range(4)]
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert stored(uri) == [(A, 4 * 8)]
    assert Lake(uri).version(NAME) == 4 * 8


def test_of_processes_that_write_the_same_partitions_one_wins_whole_and_the_others_say_so(tmp_path):
    uri, conflicts = str(tmp_path), processes.shared_counter()
    Lake(uri).write(NAME, processes.generation_of_rows(0, processes.PARTITIONS), partitions=processes.PARTITIONS)
    writers = [
        processes.start(processes.write_the_same_partitions, uri, number, 5, conflicts) for number in range(1, 5)
    ]
    while any(writer.is_alive() for writer in writers):
        require_one_generation(uri)
    assert [writer.exitcode for writer in writers] == [0] * 4
    require_one_generation(uri)
    commits = Lake(uri).version(NAME)
    assert commits + conflicts.value == 4 * 5


def generations(uri: str) -> set[tuple]:
    query = "SELECT partition_key, count(*), min(generation), max(generation) FROM t GROUP BY 1"
    with connect() as con:
        Lake(uri).register(con, "t", NAME)
        return set(con.sql(query).fetchall())


def require_one_generation(uri: str) -> int:
    found = generations(uri)
    newest = max(newest for *_, newest in found)
    assert found == {(partition, 20, newest, newest) for partition in processes.PARTITIONS}
    return newest


def test_a_killed_writer_leaves_nothing_half_written(tmp_path):
    uri, chance = str(tmp_path), random.Random(1)  # noqa: S311
    Lake(uri).write(NAME, processes.generation_of_rows(0, processes.PARTITIONS), partitions=processes.PARTITIONS)
    for _ in range(10):
        before = require_one_generation(uri)
        version = Lake(uri).version(NAME)
        writer = processes.start(processes.rewrite_lake_forever, uri, before + 1)
        processes.wait_until(lambda version=version: Lake(uri).version(NAME) > version)
        time.sleep(chance.uniform(0, 0.06))
        require_one_generation(uri)
        writer.kill()
        writer.join()
        assert require_one_generation(uri) > before


def test_maintenance_removes_what_killed_writers_left(tmp_path):
    uri = str(tmp_path)
    Lake(uri).write(NAME, processes.generation_of_rows(0, processes.PARTITIONS), partitions=processes.PARTITIONS)
    orphan = Path(uri, NAME, f"partition_key={A}", "part-00000-of-a-killed-writer.parquet")
    orphan.write_bytes(b"half of a f")
    assert require_one_generation(uri) == 0
    assert Lake(uri).maintain(NAME, retain_hours=0) == []  # a writer may be at work
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(orphan, (two_days_ago, two_days_ago))
    assert len(Lake(uri).maintain(NAME, retain_hours=0)) == 1
    assert not orphan.exists()
    assert require_one_generation(uri) == 0


def test_maintenance_that_a_writer_overtakes_leaves_the_rest_to_the_next(tmp_path):
    lake = Lake(str(tmp_path))
    for value in range(3):
        write(lake, A, value)
    overtaken = lake._table(NAME)
    write(lake, A, 3)
    assert lake.maintain(NAME, retain_hours=0, dry_run=True)
    removed_files(overtaken, 0, (), None, dry_run=False)
    assert stored(lake.uri) == [(A, 3)]
    lake.maintain(NAME, retain_hours=0)
    assert len(list(tmp_path.glob(f"{NAME}/partition_key=*/*.parquet"))) == 1
    assert stored(lake.uri) == [(A, 3)]


def test_two_that_remove_the_same_objects_do_not_hinder_each_other(tmp_path):
    class Overtaken(Lake):
        def _below(self, prefix):
            found = super()._below(prefix)
            Lake(self.uri).remove_objects(prefix)
            return found

    lake = Overtaken(str(tmp_path))
    lake.replace_object("scratch/a", b"a")
    assert lake.remove_objects("scratch/") == ["scratch/a"]
    assert not lake.has_object("scratch/a")


def add_one(uri: str, partition: str, *, base_version: int) -> None:
    rows = Lake(uri).dataset(NAME, partitions=[partition], version=base_version).to_table()
    more = rows.set_column(rows.column_names.index("x"), "x", [[x + 1 for x in rows["x"].to_pylist()]])
    Lake(uri).write(NAME, more, partitions=[partition], base_version=base_version)


def test_rows_that_were_computed_from_an_older_version_are_refused(tmp_path):
    uri = str(tmp_path)
    write(Lake(uri), A, 1)
    write(Lake(uri), A, 5)
    with pytest.raises(LakeConflictError, match=f"'{A}'"):
        add_one(uri, A, base_version=0)
    assert stored(uri) == [(A, 5)]
    add_one(uri, A, base_version=1)
    assert stored(uri) == [(A, 6)]


def test_a_change_of_another_partition_since_the_base_is_no_conflict(tmp_path):
    uri = str(tmp_path)
    write(Lake(uri), A, 1)
    write(Lake(uri), B, 1)
    add_one(uri, A, base_version=0)
    assert stored(uri) == [(A, 2), (B, 1)]


def test_a_table_that_another_made_first_is_not_overwritten(tmp_path):
    uri = str(tmp_path)
    write(Lake(uri), A, 1)
    rows = pa.table({"partition_key": [A], "x": [2]})
    with pytest.raises(LakeConflictError, match=f"'{A}'"):
        Lake(uri).write(NAME, rows, partitions=[A], base_version=-1)
    assert stored(uri) == [(A, 1)]
