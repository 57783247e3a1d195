"""Opened tables that are kept: no reader may see less for it, and no version may move under a reader."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.adapters import snapshots
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.snapshots import Place
from ml_assets.errors import TableNotFoundError

_DAY = "2013-01-01"


def _rows(*values: int) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.int64()), "partition_key": [_DAY] * len(values)})


def _read(lake: Lake) -> list[int]:
    return sorted(lake.dataset("tables/t").to_table()["x"].to_pylist())


def _opened(lake: Lake) -> object:
    return snapshots.newest(Place.of(lake.uri, "tables/t", None))


def test_a_table_is_opened_once_and_again_after_a_commit_of_anyone(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("tables/t", _rows(1), partitions=[_DAY])
    before = _opened(lake)
    assert _opened(Lake(str(tmp_path))) is before
    assert _read(lake) == [1]
    other = f"""
import pyarrow as pa
from ml_assets.adapters.lake import Lake
rows = pa.table({{"x": [2], "partition_key": ["{_DAY}"]}})
Lake("{tmp_path}").write("tables/t", rows, partitions=["{_DAY}"])"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", other], check=True)
    assert _read(lake) == [2]
    assert _opened(lake) is not before


def test_what_is_read_stays_the_version_that_it_was_while_the_same_process_writes(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("tables/t", _rows(1), partitions=[_DAY])
    table, dataset = snapshots.newest(Place.of(lake.uri, "tables/t", None)), lake.dataset("tables/t")
    for n in (2, 3):
        assert lake.write("tables/t", _rows(n), partitions=[_DAY]).version == n - 1
        assert _read(lake) == [n]
    assert table.version() == 0
    assert dataset.to_table()["x"].to_pylist() == [1]
    assert lake.dataset("tables/t", version=1).to_table()["x"].to_pylist() == [2]
    assert _read(lake) == [3]


def test_a_table_that_is_gone_is_not_found_and_one_made_anew_is_another(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("tables/t", _rows(1), partitions=[_DAY])
    assert lake.exists("tables/t")
    shutil.rmtree(tmp_path / "tables")
    assert not lake.exists("tables/t")
    with pytest.raises(TableNotFoundError, match="No table tables/t"):
        lake.dataset("tables/t")
    lake.write("tables/t", _rows(7), partitions=[_DAY])
    assert _read(lake) == [7]


def test_the_tables_that_are_kept_are_few(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("tables/t0", _rows(1), partitions=[_DAY])
    for n in range(1, 70):
        shutil.copytree(tmp_path / "tables" / "t0", tmp_path / "tables" / f"t{n}")
        assert lake.exists(f"tables/t{n}")
    assert len(snapshots._known) <= 64
