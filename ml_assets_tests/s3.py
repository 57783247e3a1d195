"""S3 as moto's server plays it, on a port of this machine, for tests that need a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "assets"


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """Start one with an empty bucket, and give the `AWS_*` variables that lead to it."""
    process = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    process.start()
    host, port = process.get_host_and_port()
    options = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    client(options).create_bucket(Bucket=BUCKET)
    yield options
    process.stop()


def client(options: dict[str, str]) -> Any:
    """A client of that server."""
    return boto3.client("s3", **arguments(options))


def arguments(options: dict[str, str]) -> dict[str, str]:
    """The variables as boto3 and dagster_aws take them."""
    return {
        "endpoint_url": options["AWS_ENDPOINT_URL"],
        "region_name": options["AWS_REGION"],
        "aws_access_key_id": options["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": options["AWS_SECRET_ACCESS_KEY"],
    }


def client_with_hook(client: Any, before_read: Any) -> Any:
    """The client, which does something just before it reads an object: by boto's own event, on the real way out."""
    client.meta.events.register("before-call.s3.GetObject", lambda **_: before_read())
    return client
