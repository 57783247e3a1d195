"""Processes that tests start and kill; they import nothing of pytest, and fork from a server that is warm."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.online import open_store
from ml_assets.errors import LakeConflictError

ROOT = str(Path(__file__).parents[2])
PARTITIONS = [f"2013-01-{day:02}" for day in range(1, 5)]
ROWS_PER_PARTITION = 20
EPOCH = datetime(2013, 1, 1, tzinfo=UTC)
ENTITIES = 5000
# `pytest` since each child imports the main script again
PRELOADED = [
    "deltalake",
    "ml_assets.adapters.lake",
    "ml_assets.adapters.online.redis",
    "ml_assets.adapters.online.sqlite",
    "pandas",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pytest",
]


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run a function of this module in a process of its own."""
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


@contextmanager
def living(target: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """Run a function of this module in a process that is killed at the end of the block, whatever happens in it."""
    process = start(target, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def generation_of_rows(generation: int, partitions: list[str]) -> pa.Table:
    keys = [key for key in partitions for _ in range(ROWS_PER_PARTITION)]
    row = list(range(len(keys)))
    return pa.table({"partition_key": keys, "row": row, "generation": [generation] * len(keys)})


def rewrite_lake_forever(uri: str, first: int) -> None:
    generation = first
    while True:
        Lake(uri).write("tables/t", generation_of_rows(generation, PARTITIONS), partitions=PARTITIONS)
        generation += 1


def write_own_partition(uri: str, partition: str, times: int) -> None:
    for generation in range(times):
        Lake(uri).write("tables/t", generation_of_rows(generation, [partition]), partitions=[partition])


def count_up(uri: str, partition: str, times: int) -> None:
    """Read a number, add one, write it: again from the start where another process was first."""
    lake, done = Lake(uri), 0
    while done < times:
        version = lake.version("tables/t")
        [row] = lake.dataset("tables/t", partitions=[partition], version=version).to_table().to_pylist()
        rows = pa.table({"partition_key": [partition], "x": [row["x"] + 1]})
        with suppress(LakeConflictError):
            lake.write("tables/t", rows, partitions=[partition], base_version=version)
            done += 1


def write_the_same_partitions(uri: str, number: int, times: int, conflicts: Any) -> None:
    """Write rows that only this process writes, over those of others; count how often another was first."""
    for generation in range(times):
        rows = generation_of_rows(1000 * number + generation, PARTITIONS)
        try:
            Lake(uri).write("tables/t", rows, partitions=PARTITIONS)
        except LakeConflictError:
            with conflicts.get_lock():
                conflicts.value += 1


def shared_counter() -> Any:
    """A number that processes started here can share."""
    return multiprocessing.get_context("forkserver").Value("i", 0)


def generation_of_features(generation: int) -> pa.Table:
    return pa.table(
        {
            "carrier": [f"C{entity}" for entity in range(ENTITIES)],
            "feature_timestamp": pa.array([EPOCH] * ENTITIES, pa.timestamp("us", tz="UTC")),
            "generation": [float(generation)] * ENTITIES,
        }
    )


def write_hours(place: str, name: str, hours: range) -> None:
    """Write an entity and a feature of this name, hour by hour."""
    store = open_store(place)
    for hour in hours:
        at = pa.array([EPOCH + timedelta(hours=hour)], pa.timestamp("us", tz="UTC"))
        rows = pa.table({"carrier": [name], "feature_timestamp": at, name: [float(hour)]})
        store.write("v", ["carrier"], [name], rows)


def replace_features_forever(place: str, first: int) -> None:
    store, generation = open_store(place), first
    while True:
        rows = generation_of_features(generation)
        store.replace("v", ["carrier"], ["generation"], rows, first=EPOCH, last=EPOCH)
        generation += 1


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
