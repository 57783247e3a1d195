"""The year 2013 of the flights example in a folder, as its YAML declares it: for the suites that need its rows."""

import os
from datetime import date
from functools import cache
from pathlib import Path

from benchmarks.ingestion import days, ingest_year, shipped
from ml_assets.adapters.settings import Settings
from ml_assets.feeds.flights import land
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec

YEAR = days("2013-01-01", 365)
_MODEL = "arrival_delay"


@cache
def model() -> ModelSpec:
    """The shipped model, with its views and their tables."""
    import dagster as dg

    import ml_assets
    from ml_assets.components import Model
    from ml_assets.components.declared import Declared
    from ml_assets.components.project import Project

    tree = dg.ComponentTree.for_project(Path(str(ml_assets.__file__)).parent)
    components = Project(tree.get_all_components(of_type=Declared))
    return components.named(Model)[_MODEL].spec(components)


def build(home: Path) -> None:
    """Land the year and take it in, so late that it is history: nothing says how soon its rows would have arrived."""
    land(str(home / "landing"), since=date(2013, 1, 1), until=date(2013, 12, 31))
    ingest_year(home, shipped(), "2014-03-01T00:00:00+00:00")


def step(home: Path | str, *partitions: str) -> Run:
    """What a step is given."""
    os.environ["ML_ASSETS_HOME"] = str(home)
    return Run(Settings.from_environment(), partitions or ("",), log=lambda _: None)
