"""All features of the flights for a year, and for one more day.

The views are those of the shipped example and one with a composite key, so that four have four windows each. A whole
step is what a user waits for: computing, proofs, checks, pictures, the commit, and the rows for the online store.
Computing alone is reading the lake and giving the rows; a day of it reads the 28 days that its windows reach back. Its
floor is what is left when nothing is computed: those files are read whole, and DuckDB plans the same SQL over no rows.
"""

import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks import flights
from benchmarks.cost import Cost, measured, report
from ml_assets.engine import quote
from ml_assets.features.compute import compute
from ml_assets.features.view import Aggregation, FeatureView
from ml_assets.steps import features
from ml_assets.steps.days import start_of
from ml_assets.steps.specs import DAY, ViewSpec

_MAY_TAKE = 60.0  # CPU seconds
_DAYS = flights.YEAR[:-1]  # the weather of 2013 ends a day early
_LITTLE = "300MB"
_MORE = 5  # days that come one by one after the others
_WINDOWS = tuple(timedelta(hours=n) for n in (6, 24, 7 * 24, 28 * 24))


def costs(folder: Path) -> list[Cost]:
    """The year against what it may take, and one more day against a hundredth of that."""
    flights.build(folder)
    first, more = _DAYS[:-_MORE], _DAYS[-_MORE:]
    year, peak = _run("step", folder, first[0], first[-1])
    rows, _ = _run("rows", folder, first[0], first[-1])
    os.environ["ML_ASSETS_MEMORY_LIMIT"] = _LITTLE
    _, little = _run("rows", folder, first[0], first[-1])
    del os.environ["ML_ASSETS_MEMORY_LIMIT"]
    day = median(_run("step", folder, each, each)[0] for each in more)
    day_rows = median(_run("rows", folder, each, each)[0] for each in more)
    floor = median(_run("floor", folder, each, each)[0] for each in more)
    hundredth = "a hundredth of what the year may take"
    said = f"{sum(len(spec.view.features()) for spec in views())} features of {len(views())} views"
    long = f"{said}, {len(first)} days"
    return [
        Cost(f"{long}, whole steps", year, "what they may take", _MAY_TAKE, 1.0),
        Cost(f"{long}, computed", rows, "whole steps", year),
        Cost(f"{long}, whole steps, peak GiB", peak, "the memory limit of DuckDB, GiB", 2e9 / 2**30),
        Cost(f"{long}, computed, peak GiB with a limit of {_LITTLE}", little, "with 2GB, whole steps", peak),
        Cost(f"{said}, one more day, computed", day_rows, hundredth, _MAY_TAKE / 100, 1.0),
        Cost(f"{said}, one more day, computed", day_rows, f"{len(first)} days, computed", rows),
        Cost(f"{said}, one more day, computed", day_rows, "its files read, and its SQL over no rows", floor),
        Cost(f"{said}, one more day, whole steps", day, f"{len(first)} days, whole steps", year),
    ]


def _run(what: str, folder: Path, first: str, last: str) -> tuple[float, float]:
    return measured([sys.executable, "-W", "ignore", "-m", "benchmarks.features", what, str(folder), first, last], 1)


def views() -> list[ViewSpec]:
    """The shipped views, and delays by route."""
    shipped = list(flights.model().views)
    carriers = next(spec for spec in shipped if spec.view.name == "carrier_delays")
    late = Aggregation("CAST(arrival_delay_minutes > 15 AS DOUBLE)", ("mean", "count"), _WINDOWS)
    route = FeatureView(
        "route_delays",
        ("origin", "destination"),
        timedelta(hours=1),
        carriers.view.tables,
        delay=carriers.view.delay,
        max_age=carriers.view.max_age,
        keys=carriers.view.keys,
        event_timestamp=carriers.view.event_timestamp,
        aggregations={"late": late},
    )
    return [*shipped, replace(carriers, view=route)]


def step(home: str, first: str, last: str) -> None:
    """Materialize the days of all views, as the orchestrator does."""
    wanted = _between(first, last)
    for spec in views():
        result = features.materialize(spec, flights.step(home, *(wanted if spec.daily else ())))[spec.name]
        refused = [finding.sentence for finding in result.findings if not finding.passed]
        if len(result.produced) != (len(wanted) if spec.daily else 1):
            raise SystemExit(f"{spec.name} has not all of its days: {refused}")


def rows(home: str, first: str, last: str) -> None:
    """Compute the rows of the days of all views; another day changes nothing in a static one."""
    for spec in (spec for spec in views() if spec.daily or first != last):
        with features.opened(spec, flights.step(home).lake, first if spec.daily else "", last) as con:
            compute(con, spec.view, first=start_of(first), last=start_of(last) + DAY)


def floor(home: str, first: str, last: str) -> None:
    """Read what `rows` reads, and ask the same of tables without rows."""
    for spec in (spec for spec in views() if spec.daily):
        with features.opened(spec, flights.step(home).lake, first, last) as con:
            for table in spec.tables:
                con.register(table.name, con.sql(f"FROM {quote(table.name)}").to_arrow_table().slice(0, 0))
            compute(con, spec.view, first=start_of(first), last=start_of(last) + DAY)


def _between(first: str, last: str) -> list[str]:
    return [day for day in flights.YEAR if first <= day <= last]


if __name__ == "__main__":
    what, *asked = sys.argv[1:]
    rows(asked[0], *flights.YEAR[:2])  # reading the YAML and importing libraries is not part of it
    report(lambda: {"step": step, "rows": rows, "floor": floor}[what](*asked))
