"""What ingestion costs, and what is left of it when its process is killed: `chaos` and `costs`."""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cost import Cost, cpu
from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.settings import Settings
from ml_assets.adapters.versions import tables
from ml_assets.engine import connect
from ml_assets.feeds.flights import land
from ml_assets.steps.ingest import ingest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec

DAY = timedelta(days=1)
_BEGIN = datetime(2013, 6, 1, tzinfo=UTC)
_COUNTED = "temperature_f"  # tells in the rows which delivery they came with


@cache
def shipped() -> dict[str, TableSpec]:
    """The tables of the shipped example, as its YAML declares them."""
    import dagster as dg

    import ml_assets
    from ml_assets.components import Table
    from ml_assets.components.declared import Declared
    from ml_assets.components.project import Project

    tree = dg.ComponentTree.for_project(Path(str(ml_assets.__file__)).parent)
    components = Project(tree.get_all_components(of_type=Declared))
    return {name: table.spec() for name, table in components.named(Table).items()}


def costs(folder: Path) -> list[Cost]:
    """A year of deliveries at once, the same again, and one commit after 365 others."""
    home, specs = folder / "year", shipped()
    land(str(home / "landing"), since=date(2013, 1, 1), until=date(2013, 12, 31))
    began = time.perf_counter()
    first = cpu(lambda: ingest_year(home, specs), 1)
    wall = time.perf_counter() - began
    before = _versions(home)
    again = cpu(lambda: ingest_year(home, specs), 1)
    if _versions(home) != before:
        raise RuntimeError("The same deliveries made a commit.")
    floor = cpu(lambda: _plain_year(home, specs, folder / "plain"), 1)
    year = "ingest a year of flights, 365 days x 5 tables"
    return [
        Cost(year, first, "pyarrow: read all files, write plain Parquet by day", floor),
        Cost(f"{year}, wall seconds", wall, "what it may take", 90, 1.0),
        Cost("the same year delivered again", again, "the first delivery", first, 0.1),
        latency(folder / "latency"),
    ]


def latency(folder: Path) -> Cost:
    """A commit of one day of 900 rows, at the 365th day and at the 10th: the median of ten around it."""
    lake, rng, spent = Lake(str(folder)), np.random.default_rng(7), []
    for day in days("2013-01-01", 365):
        rows = pa.table({"partition_key": [day] * 900, **{f"c{i}": rng.normal(size=900) for i in range(10)}})
        spent.append(cpu(lambda rows=rows, day=day: lake.write("tables/t", rows, partitions=[day]), 1))
    return Cost("a commit at partition 365", median(spent[355:]), "at partition 10", median(spent[5:15]), 2.0)


def ingest_year(home: Path, specs: Mapping[str, TableSpec], now: str = "2014-01-01T00:00:00+00:00") -> None:
    """Take the landed year in, all of its days at once."""
    every = days("2013-01-01", 365)
    for spec in specs.values():
        _ingest(str(home), spec, every if spec.daily else ("",), now)


def _plain_year(home: Path, specs: Mapping[str, TableSpec], into: Path) -> None:
    for name in specs:
        for file in sorted((home / "landing" / name).glob("*.parquet")):
            place = into / name / f"partition_key={file.stem[:10]}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(pq.read_table(file), place / "rows.parquet")


def _versions(home: Path) -> dict[str, int]:
    lake = Lake(str(home / "lake"))
    return {name: lake.version(name) for name in tables(lake)}


def days(first: str, n: int) -> tuple[str, ...]:
    """So many days as partitions."""
    return tuple((date.fromisoformat(first) + number * DAY).isoformat() for number in range(n))


@dataclass
class Watched:
    """A table that is delivered again and again while its ingestion is killed, and what readers saw of it."""

    home: Path
    spec: TableSpec
    partitions: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)
    reads: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def lake(self) -> Lake:
        """Where the rows go."""
        return Lake(str(self.home / "lake"))

    def deliver(self, generation: int) -> None:
        """Put other files in the place of all files: a source that restates everything."""
        folder = self.home / "landing" / "weather"
        for partition in self.partitions:
            file = folder / f"{partition}.parquet"
            rows = pq.read_table(file)
            stamped = rows.set_column(
                rows.column_names.index(_COUNTED), _COUNTED, pa.array([generation / 4] * len(rows), pa.float64())
            )
            pq.write_table(stamped, beside := file.with_suffix(".new"))
            beside.replace(file)

    def start(self, generation: int) -> BaseProcess:
        """Ingest everything in a process of its own, at an hour that is the same for every attempt of a delivery."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.ingestion", "pandera.pandas", "deltalake", "pyarrow.dataset"])
        now = (_BEGIN + generation * timedelta(hours=1)).isoformat()
        process = context.Process(target=_ingest, args=(str(self.home), self.spec, self.partitions, now))
        process.start()
        return process

    def finish(self, generation: int) -> float:
        """Ingest to the end; gives the seconds."""
        began = time.perf_counter()
        process = self.start(generation)
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"The ingestion ended with {process.exitcode}.")
        return time.perf_counter() - began

    def look(self) -> None:
        """Read the table as it is: each day whole, of one delivery, and of none older than known when it began."""
        known = dict(self.newest)  # another reader may come to know more while this one reads its snapshot
        found = self.generations()
        self.reads += 1
        for partition, n_rows in self.rows.items():
            n, oldest, newest = found.get(partition, (0, 0.0, 0.0))
            if n != n_rows or oldest != newest:
                self.wrong.append(f"{partition}: {n} rows of deliveries {oldest} to {newest}, and not {n_rows} of one")
            elif newest < known.get(partition, newest):
                self.wrong.append(f"{partition}: delivery {newest} after {known[partition]}")
            self.newest[partition] = max(newest, self.newest.get(partition, newest))

    def generations(self) -> dict[str, tuple[int, float, float]]:
        """By day: how many rows, and the oldest and newest delivery that they came with."""
        with connect(threads=1) as con:
            rows = self.lake.read(self.spec.table, con)
            query = f"partition_key, count(*), min({_COUNTED}), max({_COUNTED})"
            return {key: (n, low, high) for key, n, low, high in rows.aggregate(query, "partition_key").fetchall()}

    def lost_deliveries(self) -> list[str]:
        """What is listed as kept and is not there, byte for byte."""
        listed = self.lake.dataset(self.spec.raw).to_table().to_pylist()
        return [
            row["name"] for row in listed if sha256(self.lake.get_object(row["object"])).hexdigest() != row["sha256"]
        ]

    def hashes(self) -> dict[str, dict[str, str]]:
        """The content of what ingestion leaves: valid rows, refused rows, statistics."""
        names = [self.spec.table, self.spec.quarantine, self.spec.profiles]
        return {
            name: {key: content.hash for key, content in self.lake.content(name).items()}
            for name in names
            if self.lake.exists(name)
        }


def chaos(folder: Path, *, kills: int = 100, n_days: int = 6, seed: int = 7) -> dict[str, object]:
    """Kill the ingestion at random moments while readers look on, then let it come to its end.

    Every attempt is of a delivery that restates all days, so that there is always something to write. The end is
    compared with a lake that was only ever given the last delivery, by a process that nobody disturbed.
    """
    watched, chance, killed, generation = _prepared(folder / "killed", n_days), random.Random(seed), 0, 1
    stages: Counter[str] = Counter()
    watched.deliver(generation)
    usual = watched.finish(generation)
    with _readers(watched, 2):
        while killed < kills:
            generation += 1
            watched.deliver(generation)
            process = watched.start(generation)
            process.join(chance.uniform(0, usual))
            killed += process.is_alive()
            process.kill()
            process.join()
            stages[_stage(watched, generation)] += 1
        lost = watched.lost_deliveries()
        watched.finish(generation)
    watched.look()
    undisturbed = _prepared(folder / "undisturbed", n_days, generation)
    return {
        "kills": killed,
        "deliveries": generation,
        "reached": dict(stages),
        "reads": watched.reads,
        "wrong reads": watched.wrong,
        "lost deliveries": lost + watched.lost_deliveries(),
        "same hashes as undisturbed": watched.hashes() == undisturbed.hashes(),
        "files left by killed writers": _orphans(watched),
    }


def _stage(watched: Watched, generation: int) -> str:
    """How far an attempt came."""
    if min(newest for _, _, newest in watched.generations().values()) == generation / 4:
        return "rows written"
    listed = watched.lake.dataset(watched.spec.raw).to_table(columns=["arrived_at"])["arrived_at"]
    began = _BEGIN + generation * timedelta(hours=1)
    return "deliveries listed" if max(listed.to_pylist()) >= began else "nothing yet"


def _prepared(home: Path, n_days: int, generation: int = 0) -> Watched:
    watched = Watched(home, replace(shipped()["weather"], expectations=()), days("2013-02-01", n_days))
    first, last = (date.fromisoformat(watched.partitions[at]) for at in (0, -1))
    land(str(home / "landing"), since=first, until=last)
    watched.deliver(generation)
    watched.finish(generation)
    watched.rows = {partition: n for partition, (n, *_) in watched.generations().items()}
    return watched


@contextmanager
def _readers(watched: Watched, n: int) -> Iterator[None]:
    """Threads that look at the table all the time."""
    stop = threading.Event()

    def look_on() -> None:
        while not stop.wait(0.02):
            watched.look()

    with ThreadPoolExecutor(n) as pool:
        looking = [pool.submit(look_on) for _ in range(n)]
        try:
            yield
        finally:
            stop.set()
    for each in looking:
        each.result()


def _ingest(home: str, spec: TableSpec, partitions: Sequence[str], now: str) -> None:
    os.environ["ML_ASSETS_HOME"] = home
    with clock.frozen(datetime.fromisoformat(now)):
        ingest(spec, Run(Settings.from_environment(), tuple(partitions), log=lambda _: None))


def _orphans(watched: Watched) -> int:
    """Files that are in no version: nobody reads them, and maintenance deletes them after a day."""
    found = 0
    for name in (watched.spec.raw, watched.spec.table, watched.spec.quarantine, watched.spec.profiles):
        folder = Path(watched.lake.uri, name)
        if watched.lake.exists(name):
            listed = {
                Path(file).name
                for version in range(watched.lake.version(name) + 1)
                for file in watched.lake.dataset(name, version=version).files  # pyright: ignore[reportAttributeAccessIssue]
            }
            found += sum(path.name not in listed for path in folder.rglob("*.parquet") if "_delta_log" not in str(path))
    return found
