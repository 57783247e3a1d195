"""Objects of S3, against moto's server: nothing is missed, and what is replaced while it is read is noticed."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from ml_assets.adapters.sources.base import Fetched, Files, Look, Subject
from ml_assets.adapters.sources.s3 import S3Source
from ml_assets.errors import SourceUnavailableError
from ml_assets.tables.format import Format
from ml_assets_tests import s3
from ml_assets_tests.contracts.sources import SourceContract

DAYS = Subject("weather", date(2013, 1, 1), date(2013, 1, 31), "known_at")
MANY = 1005  # a page of a listing has a thousand


@pytest.fixture(scope="module")
def options():
    with s3.server() as options:
        yield options


@pytest.fixture
def client(options, monkeypatch):
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    return s3.client(options)


class Bucket:
    """A folder of the bucket where an object for each day is written anew with everything that is known of it."""

    secret = "no such thing"

    def __init__(self, client) -> None:
        self.client, self.folder, self.days = client, uuid4().hex, {}

    def source(self, pattern: str = "{partition}*.json", **format) -> S3Source:
        return S3Source(Files(f"s3://{s3.BUCKET}/{self.folder}/{pattern}", Format(**format)), DAYS)

    def put(self, day: str, **rows: int) -> None:
        self.days.setdefault(day, {}).update(rows)
        self.write(f"{day}.json", json.dumps(self.days[day]).encode())

    def write(self, name: str, content: bytes = b"rows") -> None:
        self.client.put_object(Bucket=s3.BUCKET, Key=f"{self.folder}/{name}", Body=content)

    def rows(self, delivery: Fetched) -> dict[str, int]:
        return json.loads(delivery.content)

    def tick(self) -> None:
        """Objects are there as soon as they are written."""


class TestS3(SourceContract):
    @pytest.fixture
    def origin(self, client):
        return Bucket(client)


@pytest.fixture
def bucket(client):
    return Bucket(client)


def names(source: S3Source, *partitions: str) -> list[str]:
    return [each.name for each in source.fetch(partitions, {})]


def test_no_page_of_a_listing_is_forgotten(bucket):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: bucket.write(f"2013-01-05T{n:04}.json", str(n).encode()), range(MANY)))
    state = bucket.source().look({}).states["2013-01-05"]
    assert state.n_files == MANY
    assert sorted(names(bucket.source(), "2013-01-05")) == [f"2013-01-05T{n:04}.json" for n in range(MANY)]


def test_objects_of_the_same_second_are_all_seen(bucket):
    time.sleep(1 - time.time() % 1)  # a second begins
    known = Look({})
    digests = set()
    for n in range(5):
        bucket.write(f"2013-01-05T{n}.json", str(n).encode())
        known = bucket.source().look(known.states)
        digests.add(known.states["2013-01-05"].digest)
    assert len(digests) == 5
    assert known.states["2013-01-05"].n_files == 5


def test_an_object_that_is_written_over_within_a_second_is_new_content(bucket):
    bucket.write("2013-01-05.json", b"rows")
    known = bucket.source().look({})
    bucket.write("2013-01-05.json", b"ROWS")
    assert bucket.source().look(known.states).states["2013-01-05"].digest != known.states["2013-01-05"].digest


def test_the_same_object_again_and_under_another_name_is_nothing_new(bucket):
    bucket.write("2013-01-05.json")
    [first] = bucket.source().fetch(["2013-01-05"], {})
    known = bucket.source().look({})
    bucket.write("2013-01-05.json")
    assert list(bucket.source().fetch(["2013-01-05"], {"2013-01-05": first.position})) == []
    bucket.write("2013-01-05-again.json")
    assert bucket.source().look(known.states).states["2013-01-05"].digest == known.states["2013-01-05"].digest


def test_former_content_that_comes_back_is_told_from_what_never_went(bucket):
    bucket.write("2013-01-05.json", b"first")
    before = bucket.source().look({}).states["2013-01-05"]
    time.sleep(1.1)  # S3 tells times in seconds
    bucket.write("2013-01-05.json", b"first")
    after = bucket.source().look({}).states["2013-01-05"]
    assert (after.digest, after.stat == before.stat) == (before.digest, False)


def test_an_object_that_is_replaced_while_it_is_read_is_listed_again(bucket):
    for day in ("2013-01-05", "2013-01-06"):
        bucket.write(f"{day}.json", b"old")
    coming = bucket.source().fetch(["2013-01-05", "2013-01-06"], {})
    next(coming)
    bucket.write("2013-01-06.json", b"new and longer")
    replaced = next(coming)
    assert replaced.content == b"new and longer"
    assert list(bucket.source().fetch(["2013-01-06"], {"2013-01-06": replaced.position})) == []


def test_an_object_that_is_replaced_again_and_again_is_asked_for_later(bucket, options):
    bucket.write("2013-01-05.json", b"listed")

    def writing_before_each_read():
        return s3.client_with_hook(s3.client(options), lambda: bucket.write("2013-01-05.json", uuid4().hex.encode()))

    source = S3Source(bucket.source().spec, DAYS, writing_before_each_read)
    with pytest.raises(SourceUnavailableError, match="replaced again and again"):
        list(source.fetch(["2013-01-05"], {}))


def test_an_object_that_is_gone_since_it_was_listed_is_asked_for_again(bucket):
    for day in ("2013-01-05", "2013-01-06"):
        bucket.write(f"{day}.json")
    coming = bucket.source().fetch(["2013-01-05", "2013-01-06"], {})
    next(coming)
    bucket.client.delete_object(Bucket=s3.BUCKET, Key=f"{bucket.folder}/2013-01-06.json")
    with pytest.raises(SourceUnavailableError, match="NoSuchKey"):
        next(coming)


def test_patterns_mean_what_they_mean_for_files(bucket):
    for name in (
        "2013-01-05.csv",
        "x/2013-01-05.csv",
        "_x/2013-01-05.csv",
        "2013-01-05.csv.tmp",
        "2013-01-06/",
        "a.csv",
    ):
        bucket.write(name)
    assert names(bucket.source("*.csv"), "2013-01-05") == ["2013-01-05.csv"]
    assert names(bucket.source("**/*.csv"), "2013-01-05") == ["2013-01-05.csv", "x/2013-01-05.csv"]
    [problem] = bucket.source("*.csv").look({}).problems
    assert problem.startswith(f"s3://assets/{bucket.folder}/a.csv: no day in the file name")


@pytest.mark.parametrize("key", ["../2013-01-05.csv", "x/../../2013-01-05.csv", "/2013-01-05.csv", "x\\2013-01-05.csv"])
def test_a_key_that_would_lead_out_of_a_folder_is_left_out_and_named(bucket, key):
    bucket.write(key)
    found = bucket.source("**").look({})
    assert found.states == {}
    assert "Deliver the file under another one" in found.problems[0]


def test_an_object_larger_than_the_limit_is_left_out_unread(bucket):
    bucket.write("2013-01-05.json", b"12345")
    [problem] = bucket.source(max_bytes=4).look({}).problems
    assert "5 bytes are more than `max_bytes`" in problem


def test_a_folder_that_is_not_there_yet_has_no_deliveries(bucket):
    assert bucket.source().look({}) == Look({})


def test_a_missing_bucket_is_named_with_advice(client):
    source = S3Source(Files("s3://nowhere/{partition}.json"), DAYS)
    with pytest.raises(SourceUnavailableError, match=r"^s3://nowhere/.*NoSuchBucket.*Create the bucket"):
        source.look({})


def test_unknown_credentials_are_told_with_advice(bucket, options):
    def answer(n_actions: str) -> None:
        address = f"{options['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        urlopen(Request(address, n_actions.encode(), {"Content-Type": "text/plain"})).read()  # noqa: S310

    answer("0")
    try:
        with pytest.raises(SourceUnavailableError, match=r"InvalidAccessKeyId.*Correct AWS_ACCESS_KEY_ID"):
            bucket.source().look({})
    finally:
        answer("1000000000")


def test_silence_is_told_with_the_address(client, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(SourceUnavailableError, match=rf"does not answer: .*{address}.*AWS_ENDPOINT_URL"):
        S3Source(Files("s3://assets/{partition}.json"), DAYS).look({})


def test_no_credentials_at_all_are_told(client, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceUnavailableError, match="Unable to locate credentials"):
        S3Source(Files("s3://assets/{partition}.json"), DAYS).look({})
