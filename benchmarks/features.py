"""All features of the flights for a year, and for one more day: every step from the lake to the lake and the store.

The views are those of the shipped example and one with a composite key, so that four have four windows each. What is
measured is what a user waits for: computing, the proof and checks, the commit, and the rows for the online store.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks import flights
from benchmarks.cost import Cost, measured, report
from ml_assets.features.view import Aggregation, FeatureView
from ml_assets.steps import features
from ml_assets.steps.specs import ViewSpec

_MAY_TAKE = 60.0  # CPU seconds
_MORE = 5  # days that come one by one after the others
_WINDOWS = tuple(timedelta(hours=n) for n in (6, 24, 7 * 24, 28 * 24))


def costs(folder: Path) -> list[Cost]:
    """The year against what it may take, and one more day against the year."""
    flights.build(folder)
    own = [sys.executable, "-W", "ignore", "-m", "benchmarks.features", str(folder)]
    first, *more = [flights.YEAR[:-_MORE], *([day] for day in flights.YEAR[-_MORE:])]
    year, peak = measured([*own, first[0], first[-1]], 1)
    day = median(measured([*own, *each, *each], 1)[0] for each in more)
    said = f"{sum(len(spec.view.features()) for spec in views())} features of {len(views())} views"
    return [
        Cost(f"{said}, {len(first)} days", year, "what they may take", _MAY_TAKE, 1.0),
        Cost(f"{said}, one more day", day, f"the first {len(first)} days", year, 0.01),
        Cost(f"{said}, {len(first)} days, peak GiB", peak, "the memory limit, GiB", 2e9 / 2**30),
    ]


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


def materialize(home: str, first: str, last: str) -> None:
    """Compute the days of all views, as the orchestrator does."""
    wanted = [day for day in flights.YEAR if first <= day <= last]
    for spec in views():
        result = features.materialize(spec, flights.step(home, *(wanted if spec.daily else ())))[spec.name]
        refused = [finding.sentence for finding in result.findings if not finding.passed]
        if len(result.produced) != (len(wanted) if spec.daily else 1):
            raise SystemExit(f"{spec.name} has not all of its days: {refused}")


if __name__ == "__main__":
    views()  # reading the YAML is not part of it
    report(lambda: materialize(*sys.argv[1:]))
