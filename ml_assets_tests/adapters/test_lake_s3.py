"""The lake on S3, as moto plays it: only the URI differs."""

import pyarrow as pa
import pytest

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.errors import LakeConflictError, TableNotFoundError
from ml_assets_tests import s3

DAYS = ["2013-01-01", "2013-01-02"]


@pytest.fixture(scope="module")
def options():
    with s3.server() as options:
        yield options


def day_rows(value: int) -> pa.Table:
    return pa.table({"partition_key": DAYS, "x": [value, value]})


def test_partitions_are_replaced_and_read_on_s3(options):
    lake = Lake("s3://assets/lake", options)
    first = lake.write("tables/t", day_rows(1), partitions=DAYS)
    assert lake.write("tables/t", day_rows(1), partitions=DAYS).changed == ()
    assert lake.write("tables/t", day_rows(2).slice(1), partitions=DAYS[1:]).version == first.version + 1
    with connect() as con:
        assert sorted(lake.read("tables/t", con).fetchall()) == [(DAYS[0], 1), (DAYS[1], 2)]
        assert sorted(lake.read("tables/t", con, version=0).fetchall()) == [(DAYS[0], 1), (DAYS[1], 1)]
    assert lake.partitions("tables/t") == DAYS
    assert not lake.exists("tables/other")


def test_maintenance_on_s3_keeps_the_newest_and_the_kept_versions(options):
    lake = Lake("s3://assets/kept", options)
    for value in range(4):
        lake.write("tables/t", day_rows(value), partitions=DAYS)
    hashes = {version: lake.content("tables/t", version=version) for version in (1, 3)}
    assert len(lake.maintain("tables/t", retain_hours=0, keep_versions=[1])) == 4
    assert {version: lake.content("tables/t", version=version) for version in (1, 3)} == hashes
    with pytest.raises(TableNotFoundError, match="2 of its 2"):
        lake.dataset("tables/t", version=2)


def test_objects_are_kept_for_good_on_s3(options):
    lake = Lake("s3://assets/lake", options)
    assert lake.put_object("raw/a.parquet", b"bytes") == "s3://assets/lake/objects/raw/a.parquet"
    assert lake.get_object("raw/a.parquet") == b"bytes"
    assert (lake.has_object("raw/a.parquet"), lake.has_object("raw/b.parquet")) == (True, False)
    with pytest.raises(LakeConflictError):
        lake.put_object("raw/a.parquet", b"others")
    lake.put_object("raw/a.csv.gz", b"neither packed nor unpacked by its name")
    with lake._object("raw/a.csv.gz")[0].open_input_file("assets/lake/objects/raw/a.csv.gz") as file:
        assert file.read() == lake.get_object("raw/a.csv.gz") == b"neither packed nor unpacked by its name"


def test_objects_are_removed_by_the_begin_of_their_path_on_s3(options):
    lake = Lake("s3://assets/lake", options)
    for path in ("scratch/a/1", "scratch/ab"):
        lake.replace_object(path, b"bytes")
    assert lake.remove_objects("scratch/a/") == ["scratch/a/1"]
    assert (lake.has_object("scratch/a/1"), lake.has_object("scratch/ab")) == (False, True)
