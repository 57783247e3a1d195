"""The landing place: what was delivered, and whether it is anything new."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from ml_assets.adapters.landing import Landing, PartitionState
from ml_assets.errors import DeliveryError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weather").mkdir()
    return tmp_path / "weather"


@pytest.fixture
def landing(folder):
    return Landing(f"{folder}/*.parquet", daily=True)


def deliver(folder, name: str, content: bytes = b"rows", modified: float = 1e9) -> None:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (modified, modified))


def digests(landing: Landing, known=None) -> dict[str, str]:
    return {partition: state.digest for partition, state in landing.content(known).items()}


def test_deliveries_are_listed_by_name_with_their_day(folder, landing):
    for name in ("2013-01-05T14.parquet", "weather_2013-01-04_v2.parquet"):
        deliver(folder, name)
    found = [(delivery.name, delivery.partition, delivery.size) for delivery in landing.deliveries()]
    assert found == [("2013-01-05T14.parquet", "2013-01-05", 4), ("weather_2013-01-04_v2.parquet", "2013-01-04", 4)]
    assert landing.deliveries()[0].modified_at == datetime.fromtimestamp(1e9, UTC)


def test_unfinished_and_hidden_and_foreign_files_are_not_delivered(folder, landing):
    names = (".2013-01-05.parquet", "_2013-01-05.parquet", "2013-01-05.parquet.tmp", "2013-01-05.csv", "_SUCCESS")
    for name in names:
        deliver(folder, name)
    (folder / "2013-01-06.parquet").mkdir()
    assert landing.deliveries() == []
    assert landing.deliveries().problems == ()


def test_a_folder_that_is_not_there_yet_has_no_deliveries(tmp_path):
    assert Landing(f"{tmp_path}/nothing/*.parquet", daily=True).content() == {}


@pytest.mark.parametrize("name", ["weather.parquet", "2013-02-30.parquet", "12013-01-05.parquet"])
def test_a_file_without_a_day_is_a_problem_beside_the_others(folder, landing, name):
    deliver(folder, name)
    deliver(folder, "2013-01-05.parquet")
    found = landing.deliveries()
    assert [delivery.partition for delivery in found] == ["2013-01-05"]
    [problem] = found.problems
    assert name in str(problem)
    assert list(landing.content()) == ["2013-01-05"]


def test_a_source_that_is_not_daily_is_one_partition(folder):
    deliver(folder, "aircraft.parquet")
    landing = Landing(str(folder / "aircraft.parquet"), daily=False)
    assert [delivery.partition for delivery in landing.deliveries()] == [None]
    assert list(landing.content()) == [""]


def test_patterns_cross_folders_only_with_two_stars(folder):
    (folder / "2013" / "01").mkdir(parents=True)
    deliver(folder / "2013" / "01", "2013-01-05.parquet")
    deliver(folder, "2013-01-06.parquet")

    def days(pattern: str) -> list[str | None]:
        return [delivery.partition for delivery in Landing(f"{folder}/{pattern}", daily=True).deliveries()]

    assert days("*.parquet") == ["2013-01-06"]
    assert days("*/*/*.parquet") == ["2013-01-05"]
    assert days("**/*.parquet") == ["2013-01-05", "2013-01-06"]


def test_a_delivery_is_read_and_hashed(folder, landing):
    deliver(folder, "2013-01-05.parquet", b"abc")
    [delivery] = landing.deliveries()
    assert landing.read(delivery) == b"abc"
    assert landing.digest(delivery) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_compressed_files_are_read_as_they_are(folder):
    deliver(folder, "2013-01-05.csv.gz", b"\x1f\x8b not opened")
    landing = Landing(f"{folder}/*.csv.gz", daily=True)
    assert landing.read(landing.deliveries()[0]) == b"\x1f\x8b not opened"


def test_a_delivery_that_is_gone_says_so(folder, landing):
    deliver(folder, "2013-01-05.parquet")
    [delivery] = landing.deliveries()
    (folder / "2013-01-05.parquet").unlink()
    with pytest.raises(DeliveryError, match="gone since"):
        landing.read(delivery)


def test_new_bytes_are_new_content_of_their_day_only(folder, landing):
    for day in ("2013-01-05", "2013-01-06"):
        deliver(folder, f"{day}.parquet", day.encode())
    before = digests(landing)
    deliver(folder, "2013-01-06T14.parquet", b"late")
    after = digests(landing)
    assert after["2013-01-05"] == before["2013-01-05"]
    assert after["2013-01-06"] != before["2013-01-06"]


def test_touching_renaming_or_repeating_a_delivery_is_nothing_new(folder, landing):
    deliver(folder, "2013-01-05.parquet", b"rows")
    known = landing.content()
    deliver(folder, "2013-01-05.parquet", b"rows", modified=2e9)
    assert digests(landing, known) == digests(landing) == {"2013-01-05": known["2013-01-05"].digest}
    deliver(folder, "again-2013-01-05.parquet", b"rows")
    assert digests(landing, known) == digests(landing) == {"2013-01-05": known["2013-01-05"].digest}
    (folder / "2013-01-05.parquet").unlink()
    assert digests(landing, known) == {"2013-01-05": known["2013-01-05"].digest}


def test_bytes_are_read_only_where_a_file_changed(folder, landing):
    for day in ("2013-01-05", "2013-01-06"):
        deliver(folder, f"{day}.parquet", b"rows")
    known = landing.content()
    deliver(folder, "2013-01-05.parquet", b"ROWS")  # the same size and time as before: only a reader would see it
    deliver(folder, "2013-01-06.parquet", b"ROWS", modified=2e9)
    after = landing.content(known)
    assert after["2013-01-05"] == known["2013-01-05"]
    assert after["2013-01-06"].digest != known["2013-01-06"].digest


def test_the_state_survives_a_cursor(folder, landing):
    deliver(folder, "2013-01-05.parquet")
    known = landing.content()
    cursor = json.dumps({partition: asdict(state) for partition, state in known.items()})
    assert {partition: PartitionState(**state) for partition, state in json.loads(cursor).items()} == known
    assert known["2013-01-05"].n_files == 1
    assert known["2013-01-05"].n_bytes == 4
