"""Processes that tests start and kill; they import nothing of pytest, and fork from a server that is warm."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from ml_assets.steps import ingest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets.tables import contract

ROOT = str(Path(__file__).parents[2])
PRELOADED = ["deltalake", "matplotlib.figure", "ml_assets.steps.ingest", "pandera.pandas", "pyarrow.dataset", "pytest"]


def start_ingest(spec: TableSpec, run: Run, code: Path, begun: Path) -> BaseProcess:
    """Ingest in a process of its own, which writes a file when it begins."""
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=ingest_and_end, args=(spec, run, str(code), str(begun)))
    process.start()
    return process


def ingest_and_end(spec: TableSpec, run: Run, code: str, begun: str) -> None:
    sys.path.insert(0, code)
    contract.load(spec.contract, keys=spec.keys)
    Path(begun).touch()
    ingest.ingest(spec, run)
    os._exit(0)
