"""A process that is killed in the middle of ingestion leaves nothing half-written, and a further run repairs."""

import random
import time
from shutil import rmtree

from ml_assets.records import StepResult
from ml_assets.steps import catalogue, ingest
from ml_assets.steps.memo import Memo, digest
from ml_assets.tables import contract
from ml_assets_tests.adapters.processes import wait_until
from ml_assets_tests.project import Project, days, flights
from ml_assets_tests.steps import processes

FIRST, LAST = "2013-01-01", "2013-01-03"
DELIVERED = days(FIRST, LAST)
KILLS = 6


def land(project: Project, generation: int) -> None:
    for day in DELIVERED:
        project.land(f"{day}.parquet", flights(day, delay=float(generation)))


def stored_generation(project: Project, name: str = "tables/flights") -> int:
    """The generation of all rows; days or rows of two generations, or a part of one, fail."""
    rows = project.rows(name) if project.lake.exists(name) else []
    generations = {row["delay"] for row in rows}
    assert len(rows) in (0, 16 * len(DELIVERED))
    assert len(generations) <= 1
    return int(generations.pop()) if generations else -1


def require_honest_memo(project: Project) -> None:
    """Whatever the record says is in place is in place."""
    spec = project.table("flights")
    config = [contract.load(spec.contract, keys=spec.keys), spec.known_at, spec.partition_column, spec.fail_above]
    memo = Memo(project.lake, spec.table, version=catalogue.INGEST, config=config)
    kept = ingest.deliveries(spec, project.lake, DELIVERED)
    contents = project.lake.content(spec.table) if project.lake.exists(spec.table) else {}
    for day in DELIVERED:
        entry = memo.read(day)
        current = [file.sha256 for file in kept if file.partition_key == day and file.current]
        if entry and entry.inputs[spec.raw] == digest(sorted(current)):
            assert entry.data_version == contents[day].hash


def versions(result: StepResult) -> dict[str, str]:
    return {day: produced.data_version for day, produced in result.produced.items()}


def test_a_killed_ingestion_is_invisible_and_the_next_run_repairs_it(project, tmp_path):
    moments, spec = random.Random(1), project.table("flights")  # noqa: S311
    seconds = 0.0
    for generation in range(KILLS + 1):
        land(project, generation)
        begun = tmp_path / f"begun{generation}"
        before = stored_generation(project)
        process = processes.start_ingest(spec, project.step(FIRST, LAST), project.folder, begun)
        wait_until(begun.exists)
        started = time.monotonic()
        if generation:
            time.sleep(moments.uniform(0, seconds))
            process.kill()
        process.join()
        seconds = seconds or time.monotonic() - started
        assert stored_generation(project) in (before, generation)
        require_honest_memo(project)
    repaired = ingest.ingest(spec, project.step(FIRST, LAST))[spec.table]
    assert stored_generation(project) == KILLS
    assert all(p.reused for p in ingest.ingest(spec, project.step(FIRST, LAST))[spec.table].produced.values())
    rmtree(project.lake.uri)
    clean = ingest.ingest(spec, project.step(FIRST, LAST))[spec.table]
    assert versions(repaired) == versions(clean)
