"""The lake and the landing place on S3, as moto plays it: only the URI differs."""

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.landing import Landing
from ml_assets.engine import connect
from ml_assets.errors import LakeConflictError, TableNotFoundError

DAYS = ["2013-01-01", "2013-01-02"]


@pytest.fixture(scope="module")
def options():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    client(options).create_bucket(Bucket="assets")
    yield options
    server.stop()


def client(options: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=options["AWS_ENDPOINT_URL"],
        region_name=options["AWS_REGION"],
        aws_access_key_id=options["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=options["AWS_SECRET_ACCESS_KEY"],
    )


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


def test_objects_are_removed_by_the_begin_of_their_path_on_s3(options):
    lake = Lake("s3://assets/lake", options)
    for path in ("scratch/a/1", "scratch/ab"):
        lake.replace_object(path, b"bytes")
    assert lake.remove_objects("scratch/a/") == ["scratch/a/1"]
    assert (lake.has_object("scratch/a/1"), lake.has_object("scratch/ab")) == (False, True)


def test_deliveries_are_found_on_s3(options):
    landing = Landing("s3://assets/landing/*.parquet", daily=True, storage_options=options)
    assert landing.deliveries() == []
    client(options).put_object(Bucket="assets", Key="landing/2013-01-05.parquet", Body=b"rows")
    [delivery] = landing.deliveries()
    assert (delivery.partition, landing.read(delivery)) == ("2013-01-05", b"rows")
    assert landing.content(landing.content()) == landing.content()
