"""The lake: replacing partitions, reading as of a version, pushing work into the scan."""

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.adapters.lake import EMPTY, WHOLE, Lake, PartitionRange, content_of
from ml_assets.engine import connect
from ml_assets.errors import LakeConflictError, LakeError, TableNotFoundError

DAYS = ["2013-01-01", "2013-01-02", "2013-01-03"]
NAME = "tables/flights"


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def con():
    with connect() as con:
        yield con


def day_rows(*days: str, delay: float = 1.0) -> pa.Table:
    columns = {
        "partition_key": [day for day in days for _ in range(3)],
        "flight_id": [f"{day}-{number}" for day in days for number in range(3)],
        "delay": [float(delay + number) for _ in days for number in range(3)],
    }
    schema = pa.schema({"partition_key": pa.string(), "flight_id": pa.string(), "delay": pa.float64()})
    return pa.table(columns, schema)


def read(lake: Lake, con, name: str = NAME, **arguments) -> list[tuple]:
    return sorted(lake.read(name, con, **arguments).fetchall())


def rows_of(table: pa.Table) -> list[tuple]:
    return sorted(tuple(row.values()) for row in table.to_pylist())


def n_versions(lake: Lake, name: str = NAME) -> int:
    return len(list(Path(lake.uri, name, "_delta_log").glob("*.json")))


def damage_all_but(lake: Lake, day: str) -> None:
    for file in Path(lake.uri, NAME).glob("partition_key=*/*.parquet"):
        if f"={day}" not in str(file):
            file.write_bytes(b"damaged")


def test_what_was_written_is_read(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    assert read(lake, con) == rows_of(day_rows(*DAYS))


def test_only_the_listed_partitions_are_replaced(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    commit = lake.write(NAME, day_rows(DAYS[1], delay=9), partitions=[DAYS[1]])
    assert (commit.version, commit.changed) == (1, (DAYS[1],))
    assert read(lake, con) == sorted(rows_of(day_rows(DAYS[0], DAYS[2])) + rows_of(day_rows(DAYS[1], delay=9)))


def test_an_identical_rewrite_makes_no_commit(lake):
    first = lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    backwards = day_rows(*DAYS).take(list(range(8, -1, -1))).select(["delay", "flight_id", "partition_key"])
    second = lake.write(NAME, backwards, partitions=DAYS)
    assert (second.version, second.changed, second.content) == (0, (), first.content)
    assert n_versions(lake) == 1


def test_of_the_listed_partitions_only_the_changed_are_rewritten(lake):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    files = set(Path(lake.uri).rglob("*.parquet"))
    changed = pa.concat_tables([day_rows(*DAYS[:2]), day_rows(DAYS[2], delay=5)])
    assert lake.write(NAME, changed, partitions=DAYS).changed == (DAYS[2],)
    assert {file.parent.name for file in set(Path(lake.uri).rglob("*.parquet")) - files} == {f"partition_key={DAYS[2]}"}


def test_a_listed_partition_without_rows_becomes_empty(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    commit = lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:2])
    assert commit.changed == (DAYS[1],)
    assert commit.content[DAYS[1]] == EMPTY
    assert lake.partitions(NAME) == [DAYS[0], DAYS[2]]
    assert read(lake, con) == rows_of(day_rows(DAYS[0], DAYS[2]))


def test_a_table_may_begin_without_rows(lake, con):
    commit = lake.write(NAME, day_rows(), partitions=DAYS[:1])
    assert (commit.version, commit.changed, lake.partitions(NAME)) == (0, (), [])
    assert read(lake, con) == []
    assert lake.read(NAME, con).columns == ["partition_key", "flight_id", "delay"]


def test_rows_of_other_partitions_are_refused(lake):
    with pytest.raises(LakeError, match="2013-01-02"):
        lake.write(NAME, day_rows(*DAYS[:2]), partitions=DAYS[:1])
    assert not lake.exists(NAME)


def test_an_unpartitioned_table_is_replaced_whole_with_its_columns(lake, con):
    lake.write("tables/aircraft", pa.table({"tailnum": ["N1", "N2"], "seats": [1, 2]}))
    commit = lake.write("tables/aircraft", pa.table({"tailnum": ["N3"], "engines": ["jet"]}))
    assert (commit.version, commit.changed, list(commit.content)) == (1, (WHOLE,), [WHOLE])
    assert read(lake, con, "tables/aircraft") == [("N3", "jet")]
    assert lake.write("tables/aircraft", pa.table({"engines": ["jet"], "tailnum": ["N3"]})).changed == ()


def test_a_relation_is_written_like_a_table(lake, con):
    lake.write(NAME, con.from_arrow(day_rows(*DAYS)), partitions=DAYS)
    assert read(lake, con) == rows_of(day_rows(*DAYS))


def test_content_is_that_of_the_rows_in_memory(lake, con):
    commit = lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    assert lake.content(NAME) == commit.content == content_of(con, day_rows(*DAYS), by_partition=True)
    assert lake.content(NAME, partitions=[DAYS[1], "2014-01-01"]) == {
        DAYS[1]: commit.content[DAYS[1]],
        "2014-01-01": EMPTY,
    }


def test_an_older_version_is_read_as_it_was(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    between = datetime.now(UTC)
    lake.write(NAME, day_rows(DAYS[0], delay=7), partitions=DAYS[:1])
    assert lake.version(NAME) == 1
    assert read(lake, con, version=0) == read(lake, con, as_of=between) == rows_of(day_rows(*DAYS))
    assert lake.content(NAME, version=0) != lake.content(NAME)


def test_what_is_not_there_is_not_found(lake, con):
    before = datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(TableNotFoundError, match="Materialize"):
        lake.read(NAME, con)
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    with pytest.raises(TableNotFoundError, match="newest is 0"):
        lake.read(NAME, con, version=4)
    with pytest.raises(TableNotFoundError, match="did not exist"):
        lake.read(NAME, con, as_of=before)


def test_the_moment_of_a_commit_is_that_of_its_version(lake):
    for n in range(3):
        lake.write(NAME, pa.table({"n": [n]}))
    for entry in lake.history(NAME):
        (row,) = lake.dataset(NAME, as_of=entry.committed_at).to_table().to_pylist()
        younger = [each.version for each in lake.history(NAME) if each.committed_at == entry.committed_at]
        assert row == {"n": max(younger)}


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ([DAYS[2], DAYS[0]], [DAYS[0], DAYS[2]]),
        ([], []),
        (["2014-01-01"], []),
        (PartitionRange(DAYS[1]), DAYS[1:]),
        (PartitionRange(last=DAYS[1]), DAYS[:2]),
        (PartitionRange(DAYS[1], DAYS[1]), [DAYS[1]]),
        (PartitionRange(), DAYS),
    ],
)
def test_partitions_are_chosen_by_name_or_range(lake, con, partitions, expected):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    assert read(lake, con, partitions=partitions) == rows_of(day_rows(*expected))
    assert list(lake.content(NAME, partitions=partitions)) == sorted({*expected, *_named(partitions)})
    assert lake.n_rows(NAME, partitions=partitions) == 3 * len(expected)


def _named(partitions) -> list[str]:
    return [] if isinstance(partitions, PartitionRange) else partitions


def test_files_of_other_partitions_are_not_opened(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    damage_all_but(lake, DAYS[1])
    assert read(lake, con, partitions=[DAYS[1]]) == rows_of(day_rows(DAYS[1]))
    lake.register(con, NAME, NAME)
    query = f'SELECT count(*) FROM "{NAME}"'
    assert con.sql(f"{query} WHERE partition_key = '{DAYS[1]}'").fetchall() == [(3,)]
    with pytest.raises(duckdb.Error, match="Parquet"):
        con.sql(f"{query} WHERE delay > 0").fetchall()


def test_the_scan_reads_only_the_columns_and_rows_that_are_asked_for(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    lake.register(con, NAME, NAME)
    plan = con.sql(f"SELECT delay FROM \"{NAME}\" WHERE flight_id > 'F'").explain()
    scan = plan[plan.index("Python Arrow Scan") :]
    assert """Filters: "flight_id" > 'F'""" in scan
    assert "Projections: delay" in scan
    assert "partition_key" not in scan


def test_columns_are_projected_in_the_order_asked_for(lake, con):
    lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1])
    assert lake.read(NAME, con, columns=["delay", "flight_id"]).columns == ["delay", "flight_id"]


def test_registering_again_shows_the_newest_version(lake, con):
    lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1])
    lake.register(con, NAME, NAME)
    lake.write(NAME, day_rows(DAYS[1]), partitions=DAYS[1:2])
    lake.register(con, NAME, NAME)
    assert con.sql(f'SELECT count(*) FROM "{NAME}"').fetchall() == [(6,)]


def test_a_new_column_is_added_and_leaves_the_content_of_other_partitions(lake, con):
    first = lake.write(NAME, day_rows(*DAYS[:2]), partitions=DAYS[:2])
    wider = day_rows(DAYS[2]).append_column("origin", pa.array(["JFK", "LGA", None]))
    lake.write(NAME, wider, partitions=DAYS[2:])
    assert lake.content(NAME, partitions=DAYS[:2]) == first.content
    assert [row[-1] for row in read(lake, con)] == [None] * 6 + ["JFK", "LGA", None]
    assert lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1]).changed == ()


def test_a_new_column_without_values_is_added_too(lake, con):
    lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1])
    empty = day_rows(DAYS[0]).append_column("origin", pa.nulls(3, pa.string()))
    lake.write(NAME, empty, partitions=DAYS[:1])
    assert "origin" in lake.read(NAME, con).columns


def test_whole_numbers_widen_to_the_type_of_the_table(lake, con):
    lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1])
    whole = day_rows(DAYS[1]).set_column(2, "delay", pa.array([1, 2, 3], pa.int32()))
    lake.write(NAME, whole, partitions=DAYS[1:2])
    assert read(lake, con, partitions=DAYS[1:2]) == rows_of(day_rows(DAYS[1]))


def test_another_type_is_refused_unless_all_partitions_are_written(lake, con):
    lake.write(NAME, day_rows(*DAYS[:2]), partitions=DAYS[:2])
    text = day_rows(*DAYS[:2]).set_column(2, "delay", pa.array(["late"] * 6))
    with pytest.raises(LakeError, match="'delay' is double in the table and string"):
        lake.write(NAME, text.slice(0, 3), partitions=DAYS[:1])
    lake.write(NAME, text, partitions=DAYS[:2])
    assert read(lake, con) == rows_of(text)


def test_another_type_takes_along_the_partitions_whose_values_are_the_same(lake, con):
    def rows(values: list, kind: pa.DataType) -> pa.Table:
        return pa.table({"partition_key": DAYS[:2], "x": pa.array(values, kind), "y": [1, 2]})

    lake.write(NAME, rows([None, 2], pa.int64()), partitions=DAYS[:2])
    lake.write(NAME, rows([None, "b"], pa.string()), partitions=DAYS[:2])
    assert read(lake, con) == [(DAYS[0], None, 1), (DAYS[1], "b", 2)]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.nulls(1), "'x' has no type"),
        (pa.array([datetime(2013, 1, 1)], pa.timestamp("us")), "'x' is a time without a zone"),  # noqa: DTZ001
        (pa.array([2**63], pa.uint64()), "does not fit"),
        (pa.array([1], pa.timestamp("ns", tz="UTC")), "does not fit"),
    ],
)
def test_columns_that_cannot_be_stored_are_named(lake, column, message):
    with pytest.raises(LakeError, match=message):
        lake.write(NAME, pa.table({"x": column}))


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_instants_are_stored_in_utc_microseconds(lake, con, zone):
    at = datetime(2013, 3, 10, 6, 59, 59, 123456, tzinfo=UTC)
    lake.write("tables/t", pa.table({"at": pa.array([at], pa.timestamp("ns", tz=zone))}))
    assert read(lake, con, "tables/t") == [(at,)]
    assert str(lake.dataset("tables/t").schema.field("at").type) == "timestamp[us, tz=UTC]"


def test_lists_numbers_booleans_and_days_come_back_as_they_were(lake, con):
    rows = con.sql(
        "SELECT [1.5, NULL] AS l, 7::UINTEGER AS u, true AS b, DATE '2013-01-01' AS d, 1::DECIMAL(9, 2) AS n"
    )
    expected = rows.fetchall()
    lake.write("tables/t", rows)
    assert read(lake, con, "tables/t") == expected
    assert lake.write("tables/t", rows).changed == ()


def test_a_partitioned_table_is_not_written_as_a_whole(lake):
    with pytest.raises(LakeError, match="partitions="):
        lake.write(NAME, day_rows(*DAYS))
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    with pytest.raises(LakeError, match="another name"):
        lake.write(NAME, pa.table({"x": [1]}))


def test_partition_names_may_hold_any_characters(lake, con):
    key = "2013-01-01T05:00 a/b%c"
    lake.write(NAME, pa.table({"partition_key": [key], "x": [1]}), partitions=[key])
    assert lake.partitions(NAME) == [key]
    assert read(lake, con, partitions=[key]) == [(key, 1)]


def test_a_lake_can_be_sent_to_another_process(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    assert read(pickle.loads(pickle.dumps(lake)), con) == read(lake, con)


def test_maintenance_keeps_the_newest_and_the_kept_versions(lake, con):
    for delay in range(4):
        lake.write(NAME, day_rows(DAYS[0], delay=delay), partitions=DAYS[:1])
    hashes = {version: lake.content(NAME, version=version) for version in (1, 3)}
    told = lake.maintain(NAME, retain_hours=0, keep_versions=[1, 99], dry_run=True)
    assert (len(told), lake.version(NAME)) == (2, 3)
    assert lake.maintain(NAME, retain_hours=0, keep_versions=[1, 99]) == told
    assert {version: lake.content(NAME, version=version) for version in (1, 3)} == hashes
    assert read(lake, con) == rows_of(day_rows(DAYS[0], delay=3))
    with pytest.raises(TableNotFoundError, match=r"Version 2 of tables/flights is not whole any more: .* 1 of its 1"):
        lake.read(NAME, con, version=2)
    assert lake.maintain(NAME, retain_hours=0, keep_versions=[1]) == []


def test_maintenance_without_anything_to_delete_makes_no_version(lake):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    lake.write("tables/aircraft", pa.table({"tailnum": ["N1"]}))
    for name in (NAME, "tables/aircraft"):
        assert lake.maintain(name, retain_hours=0) == []
        assert lake.version(name) == 0


def test_maintenance_keeps_what_was_replaced_lately(lake, con):
    lake.write(NAME, day_rows(DAYS[0]), partitions=DAYS[:1])
    lake.write(NAME, day_rows(DAYS[0], delay=2), partitions=DAYS[:1])
    assert lake.maintain(NAME) == []
    assert read(lake, con, version=0) == rows_of(day_rows(DAYS[0]))


def test_maintenance_merges_the_small_files_of_other_writers_and_no_content_changes(lake):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    for _ in range(5):
        write_deltalake(f"{lake.uri}/{NAME}", day_rows(*DAYS[:2]), mode="append")
    before, version = lake.content(NAME), lake.version(NAME)
    assert len(lake.dataset(NAME).files) == 3 + 5 * 2
    lake.maintain(NAME)
    assert len(lake.dataset(NAME).files) == 3
    assert lake.content(NAME) == lake.content(NAME, version=version) == before
    assert lake.maintain(NAME, retain_hours=0, keep_versions=[version]) == []


def test_an_object_is_kept_for_good(lake):
    uri = lake.put_object("raw/flights/abc.parquet", b"bytes")
    assert lake.put_object("raw/flights/abc.parquet", b"bytes") == uri
    assert Path(uri).read_bytes() == lake.get_object("raw/flights/abc.parquet") == b"bytes"
    assert [file.name for file in Path(uri).parent.iterdir()] == ["abc.parquet"]
    with pytest.raises(LakeConflictError, match="holds other bytes"):
        lake.put_object("raw/flights/abc.parquet", b"others")


@pytest.mark.parametrize("suffix", [".csv.gz", ".json.zst", ".csv.bz2"])
def test_the_bytes_of_an_object_are_left_alone_whatever_its_name_says(lake, suffix):
    place = Path(lake.put_object(f"raw/orders/abc{suffix}", b"bytes"))
    assert place.read_bytes() == lake.get_object(f"raw/orders/abc{suffix}") == b"bytes"


def test_an_object_that_is_not_there_is_not_found(lake):
    assert not lake.has_object("raw/x")
    with pytest.raises(TableNotFoundError, match="raw/x"):
        lake.get_object("raw/x")


def test_objects_are_removed_by_the_begin_of_their_path(lake):
    for path in ("scratch/a/1", "scratch/a/2", "scratch/ab", "other/a"):
        lake.put_object(path, b"bytes")
    assert lake.remove_objects("scratch/a/") == ["scratch/a/1", "scratch/a/2"]
    assert [lake.has_object(path) for path in ("scratch/a/1", "scratch/ab", "other/a")] == [False, True, True]
    assert lake.remove_objects("scratch/a") == ["scratch/ab"]
    assert lake.remove_objects("nothing/") == []
    before = datetime.now(UTC) - timedelta(hours=1)
    assert lake.remove_objects("other", before=before) == []
    assert lake.has_object("other/a")


def test_the_history_names_when_and_what_each_version_replaced(lake):
    began = datetime.now(UTC).replace(microsecond=0)
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    lake.write(NAME, pa.concat_tables([day_rows(DAYS[0]), day_rows(DAYS[1], delay=9)]), partitions=DAYS[:2])
    newest, first = lake.history(NAME)
    assert (newest.version, newest.partitions) == (1, (DAYS[1],))
    assert (first.version, first.partitions) == (0, tuple(DAYS))
    assert began <= first.committed_at <= newest.committed_at <= datetime.now(UTC)
    assert lake.history(NAME, limit=1) == [newest]


def test_a_table_whose_files_do_not_say_alone_which_rows_there_are_is_refused(lake, con):
    lake.write(NAME, day_rows(*DAYS), partitions=DAYS)
    DeltaTable(f"{lake.uri}/{NAME}").alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    with pytest.raises(LakeError, match=r"tables/flights needs a reader of deletionVectors\. Write it without"):
        lake.read(NAME, con)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.sampled_from(DAYS), st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=4)
)
def test_any_sequence_of_writes_leaves_what_a_dictionary_would_hold(tmp_path_factory, writes):
    lake, expected, con = Lake(str(tmp_path_factory.mktemp("lake"))), {}, connect()
    for written in writes:
        expected |= {day: sorted(values) for day, values in written.items()}
        keys = [day for day, values in written.items() for _ in values]
        numbers = [value for values in written.values() for value in values]
        rows = pa.table({"partition_key": pa.array(keys, pa.string()), "x": pa.array(numbers, pa.int64())})
        lake.write(NAME, rows, partitions=list(written))
    assert read(lake, con) == sorted((day, value) for day, values in expected.items() for value in values)
    assert lake.partitions(NAME) == sorted(day for day, values in expected.items() if values)
