"""A project of a user with a lake, and the real command in its folder."""

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.settings import Settings
from ml_assets.cli import main
from ml_assets.steps import ingest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets_tests import command
from ml_assets_tests.project import DOCUMENTS, Project, flights

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
TOO_LATE = "UA-2013-01-03-21"  # this flight of the third day breaks `delay <= 600`


@dataclass(frozen=True)
class Airline:
    """Three days of flights in the lake; the second came twice, the third has two rows that break the contract."""

    code: Path
    home: Path
    spec: TableSpec

    @property
    def lake(self):
        return Lake(str(self.home / "lake"))

    def take_in(self, *days):
        """Store and validate, as the graph does."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ML_ASSETS_HOME", str(self.home))
            patch.syspath_prepend(self.code)
            return ingest.ingest(self.spec, Run(Settings.from_environment(), days))

    def run(self, *arguments):
        """The command line in the folder of the project, in this process; its output is no terminal."""
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
        code = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.code)
            patch.setenv("ML_ASSETS_HOME", str(self.home))
            patch.setenv("USER", "ada")
            patch.setattr(sys, "argv", ["ml-assets", *arguments])
            patch.setattr(sys, "path", [*sys.path])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            try:
                main()
            except SystemExit as left:
                code = int(left.code or 0)
        out, err = (stream.buffer.getvalue().decode() for stream in streams)
        return subprocess.CompletedProcess(arguments, code, out, err)

    def process(self, *arguments):
        """The real command in the folder of the project, in a pipe."""
        return command.run(self.code, *arguments, ML_ASSETS_HOME=str(self.home), NO_COLOR="1", USER="ada")

    def said(self, *arguments):
        """What a command that succeeds prints."""
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def refused(self, *arguments):
        """The sentence of a command that a user can correct."""
        ran = self.run(*arguments)
        assert ran.returncode == 1, ran.stdout
        assert "Traceback" not in ran.stderr
        return ran.stderr

    def copied(self, folder: Path) -> "Airline":
        """The same with a home of its own."""
        shutil.copytree(self.home, folder / "home")
        return Airline(self.code, folder / "home", self.spec)


@contextmanager
def begun(folder: Path, documents: Mapping[str, str] = DOCUMENTS) -> Iterator[tuple[Project, Airline]]:
    """A project below a folder, with its home beside it, which Python and the environment know of meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_ASSETS_HOME", str(folder / "home"))
        patch.syspath_prepend(folder / "code")
        project = Project(folder / "code", documents)
        project.name_package()
        yield project, Airline(folder / "code", folder / "home", project.table("flights"))


def build(folder: Path) -> Airline:
    """Land the three days and take them in, each by itself."""
    with begun(folder) as (project, airline):
        project.land_days(*DAYS[:2])
        project.land("2013-01-03.parquet", broken(flights("2013-01-03")))
        for day in DAYS:
            airline.take_in(day)
        project.land("2013-01-02.parquet", restated(flights("2013-01-02")))
        airline.take_in("2013-01-02")
    return airline


def broken(rows: pa.Table) -> pa.Table:
    """One flight too late by far, one of an airline that nobody knows."""
    return changed(changed(rows, TOO_LATE, delay=1048.0), "B6-2013-01-03-00", carrier="ZZ")


def restated(rows: pa.Table) -> pa.Table:
    """Another delay for the first flight, without the last, and with one more."""
    listed = changed(rows, "UA-2013-01-02-00", delay=33.5).to_pylist()
    return pa.Table.from_pylist([*listed[:-1], {**listed[0], "flight_id": "UA-extra"}], rows.schema)


def changed(rows: pa.Table, flight_id: str, **values) -> pa.Table:
    """Rows with other values in one of them."""
    listed = [row | values if row["flight_id"] == flight_id else row for row in rows.to_pylist()]
    return pa.Table.from_pylist(listed, rows.schema)
