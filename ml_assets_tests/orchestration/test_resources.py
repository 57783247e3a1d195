"""The platform may be given a client of S3, by the resource that Dagster has for it."""

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from ml_assets.orchestration.resources import Platform
from ml_assets_tests import s3
from ml_assets_tests.project import FLIGHTS, flights, parquet

FIRST = "2013-01-01"


@pytest.fixture(scope="module")
def options():
    with s3.server() as options:
        yield options


@pytest.fixture
def platform(options, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return Platform(s3=S3Resource(**s3.arguments(options)))


# Dagster's own handling of nested resources (1.13) calls what it has deprecated.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
def test_tables_are_taken_in_from_s3_by_dagsters_resource(project, platform, options):
    body = parquet(flights(FIRST))
    s3.client(options).put_object(Bucket=s3.BUCKET, Key=f"flights/{FIRST}.parquet", Body=body)
    project.declare(FLIGHTS.replace("flights/*.parquet", f"s3://{s3.BUCKET}/flights/*.parquet"))
    [asset] = project.defs.assets
    result = dg.materialize([asset], partition_key=FIRST, instance=project.instance, resources={"platform": platform})
    assert result.success
    assert len(project.rows("tables/flights")) == flights(FIRST).num_rows


def test_without_it_the_variables_count():
    assert Platform().look().s3 is None
