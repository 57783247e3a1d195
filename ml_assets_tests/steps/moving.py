"""A process that moves the rows of a view and stops in the middle, to be killed; imports nothing of pytest."""

import multiprocessing
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from ml_assets.adapters.lake import Lake
from ml_assets.steps import view_moves, view_versions
from ml_assets.steps.specs import ViewSpec
from ml_assets_tests.steps.processes import ROOT

# the function before which it stops, and at which of its calls
AWAY = {
    "in the middle of copying": ("write", 3),
    "when all is copied": ("stand", 1),
    "before emptying": ("_empty", 1),
    "when all is emptied": ("_copy", 2),
    "when nothing is computed yet": ("stand", 2),
}
BACK = {"before emptying": ("_empty", 1), "when all is emptied": ("_copy", 1), "when all is back": ("stand", 2)}
_PLACES = {"write": Lake, "stand": view_versions, "_empty": view_moves, "_copy": view_moves}


def start(stage: tuple[str, int], spec: ViewSpec, lake: Lake, reached: Path) -> BaseProcess:
    """Move in a process of its own, which writes a file when it is there, and waits to be killed."""
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deltalake", "ml_assets.steps.view_moves", "pyarrow.dataset", "pytest"])
    process = context.Process(target=move_and_hold, args=(stage, spec, lake, str(reached)))
    process.start()
    return process


def move_and_hold(stage: tuple[str, int], spec: ViewSpec, lake: Lake, reached: str) -> None:
    (name, at), calls = stage, []
    before = getattr(_PLACES[name], name)

    def counted(*arguments: object, **more: object) -> None:
        calls.append(name)
        if len(calls) == at:
            Path(reached).touch()
            time.sleep(300)
        before(*arguments, **more)

    setattr(_PLACES[name], name, counted)
    view_moves._AT_ONCE = 1
    view_moves.make_room(spec, lake)
