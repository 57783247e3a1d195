"""Loads `defs/` and nothing else.

`dg.load_from_defs_folder` would import every component library of the environment (1.9 s of CPU in every process,
dagster_aws with boto3 among them) and parse `pyproject.toml` twice; the tree of this package alone costs a fifth of
what `import dagster` does.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import dagster as dg

from ml_assets.orchestration.library import component_docs


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Everything made while loading stays; the collector would walk all of Dagster's objects for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dg.definitions
@_collector_at_rest()
def defs() -> dg.Definitions:
    """The graph of everything that is declared below `defs/`."""
    tree = dg.ComponentTree.from_module(
        defs_module=import_module("ml_assets.defs"), project_root=Path(__file__).parent.parent
    )
    return dg.Definitions.merge(tree.build_defs(tree.defs_module_path), component_docs(tree))
