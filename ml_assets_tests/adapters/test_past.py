"""The lake as it was: each table in its version of then, and nothing that came later."""

import time
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.past import PastLake
from ml_assets.engine import connect
from ml_assets.errors import LakeError, TableNotFoundError


def days(**values: int) -> pa.Table:
    return pa.table({"partition_key": [*values], "x": [*values.values()]})


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def past(lake):
    """Before a correction of a day, another day, and another table."""
    lake.write("tables/a", days(one=1, two=2), partitions=["one", "two"])
    moment = datetime.now(UTC)
    time.sleep(0.01)  # Delta keeps milliseconds
    lake.write("tables/a", days(one=10, three=3), partitions=["one", "three"])
    lake.write("tables/b", days(one=1), partitions=["one"])
    return PastLake(lake, moment)


def test_a_table_is_what_it_was_whichever_way_it_is_asked(lake, past):
    before = days(one=1, two=2).to_pylist()
    assert past.dataset("tables/a").to_table().sort_by("partition_key").to_pylist() == before
    assert (past.version("tables/a"), past.partitions("tables/a"), past.n_rows("tables/a")) == (0, ["one", "two"], 2)
    assert past.content("tables/a") == lake.content("tables/a", version=0) != lake.content("tables/a")
    with connect() as con:
        past.register(con, "a", "tables/a", partitions=["one"])
        assert con.sql("SELECT x FROM a").fetchall() == [(1,)]
        assert past.read("tables/a", con, columns=["x"]).order("x").fetchall() == [(1,), (2,)]
    assert lake.dataset("tables/a").to_table().num_rows == 3


def test_a_version_by_its_number_is_that_version(past):
    assert past.dataset("tables/a", version=1).to_table().num_rows == 3
    assert past.partitions("tables/a", version=1) == ["one", "three", "two"]


def test_a_table_that_came_later_is_not_there(lake, past):
    assert lake.exists("tables/b")
    assert (past.exists("tables/a"), past.exists("tables/b")) == (True, False)
    with pytest.raises(TableNotFoundError, match="did not exist at"):
        past.dataset("tables/b")


def test_files_that_were_deleted_since_are_an_error_and_not_fewer_rows(lake, past):
    lake.maintain("tables/a", retain_hours=0)
    with pytest.raises(LakeError):
        past.dataset("tables/a")
