"""The upkeep of a lake: what may go goes, what a model was trained on stays."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.errors import DeclarationError, TableNotFoundError
from ml_assets.steps.maintain import maintain
from ml_assets.steps.run import Run

DAYS = ["2013-01-01", "2013-01-02"]
TABLE = "tables/flights"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A lake in which a table has four versions, all of them with other rows."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    lines = []
    run = Run(Settings.from_environment(), log=lines.append)
    for value in range(4):
        for name in (TABLE, "quarantine/flights", "tables/weather"):
            rows = pa.table({"partition_key": DAYS, "x": [value, value]})
            run.lake.write(name, rows, partitions=DAYS)
    return run


def age(path: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def left_by_a_killed_writer(run: Run, path: str, *, days: float) -> Path:
    file = Path(run.lake.uri, "objects", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    age(file, days)
    return file


def test_what_a_model_was_trained_on_reads_with_the_same_hash_and_other_old_versions_do_not(run):
    before = {version: run.lake.content(TABLE, version=version) for version in (1, 3)}
    done = maintain(run, {TABLE: {1}}, retain_hours=0)
    assert (len(done.files[TABLE]), len(done.files["tables/weather"])) == (4, 6)
    assert {version: run.lake.content(TABLE, version=version) for version in (1, 3)} == before
    for version in (0, 2):
        with pytest.raises(TableNotFoundError, match=f"Version {version} of tables/flights is not whole any more"):
            run.lake.content(TABLE, version=version)


def test_by_default_nothing_of_the_last_thirty_days_is_deleted(run):
    assert not any(maintain(run, {}).files.values())
    assert run.lake.content(TABLE, version=0).keys() == set(DAYS)


def test_the_variable_says_for_how_long(run, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_RETAIN_HOURS", "0")
    assert len(maintain(replace(run, settings=Settings.from_environment()), {}).files[TABLE]) == 6
    monkeypatch.setenv("ML_ASSETS_RETAIN_HOURS", "30d")
    with pytest.raises(DeclarationError, match="ML_ASSETS_RETAIN_HOURS is '30d', which is no whole number of hours"):
        Settings.from_environment()


def test_a_dry_run_names_what_would_go_and_leaves_it(run):
    half = left_by_a_killed_writer(run, "raw/a.parquet.0123.tmp", days=2)
    files = {path: path.read_bytes() for path in Path(run.lake.uri).rglob("*") if path.is_file()}
    told = maintain(run, {}, retain_hours=0, dry_run=True)
    assert {path: path.read_bytes() for path in Path(run.lake.uri).rglob("*") if path.is_file()} == files
    done = maintain(run, {}, retain_hours=0)
    assert (told.files, told.objects) == (done.files, done.objects)
    assert not half.exists()


def test_only_the_tables_of_these_names_are_maintained(run):
    assert set(maintain(run, {}, names=["flights"], retain_hours=0).files) == {TABLE, "quarantine/flights"}


def test_what_killed_writers_and_sources_left_goes_after_a_day(run):
    run.lake.put_object("raw/flights/whole.parquet", b"whole")
    old = [
        left_by_a_killed_writer(run, "raw/flights/a.parquet.0123.tmp", days=1.1),
        left_by_a_killed_writer(run, "scratch/raw/flights/page-1", days=1.1),
    ]
    young = [
        left_by_a_killed_writer(run, "raw/flights/b.parquet.0123.tmp", days=0.9),
        left_by_a_killed_writer(run, "scratch/raw/flights/page-2", days=0.9),
    ]
    age(Path(run.lake.uri, "objects/raw/flights/whole.parquet"), 400)
    assert maintain(run, {}).objects == ("scratch/raw/flights/page-1", "raw/flights/a.parquet.0123.tmp")
    assert [file.exists() for file in (*old, *young)] == [False, False, True, True]
    assert run.lake.get_object("raw/flights/whole.parquet") == b"whole"


def test_it_says_what_it_did(run):
    lines = []
    maintain(replace(run, log=lines.append), {TABLE: {1, 2}}, names=["flights"], retain_hours=0)
    assert lines == [
        "quarantine/flights: 6 replaced or unfinished files deleted.",
        "tables/flights: 2 replaced or unfinished files deleted;"
        " versions 1, 2 are kept for the models trained on them.",
        "0 unfinished objects deleted.",
    ]
