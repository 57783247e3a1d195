"""How good the flights example is when nothing leaks: trained on January to August, tested on September to December.

By the project's own steps: views, labels, the join, the split by time, its fit. Beside it the same with the leak that
makes published numbers look better: outcomes count as known when the flight was scheduled, not when it had landed.
And with a worse one: an outcome counts as known before its flight departs, so that windows hold the row's own outcome.
Such sources are refused where their rows come in, so the leaky rows are put into a copy of the lake behind its back;
then the leak checks of the views and of the training set have to name them. What they stop is made all the same with a
contract that does not say which columns are outcomes, to see how good it would look.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import flights
from benchmarks.cost import Cost
from benchmarks.ingestion import shipped
from ml_assets.adapters.lake import Lake
from ml_assets.defs.flights.contracts import FlightOutcomes
from ml_assets.engine import connect
from ml_assets.records import Finding
from ml_assets.steps import features, ingest, labels, leaks, training_set
from ml_assets.steps.model import Frame
from ml_assets.steps.specs import ModelSpec
from ml_assets.training.fit import FitSpec, fit, predict
from ml_assets.training.statistics import roc_auc

_HONEST, _TOO_GOOD = 0.74, 0.76
_OUTCOMES = "flight_outcomes"
_DAY = "2013-06-03"
_BY_SCHEDULE, _OWN_ROW = "outcomes known by schedule", "outcomes known before their flight departs"
_KNOWN_AT = {_BY_SCHEDULE: "scheduled_departure_at", _OWN_ROW: "scheduled_departure_at - INTERVAL 3 HOUR"}


def costs(folder: Path) -> list[Cost]:
    """The honest number, the leaky ones, and what says so."""
    flights.build(folder / "honest")
    leaky = {name: _leaky(folder, name) for name in _KNOWN_AT}
    refusals = {name: _refusals(home) for name, home in leaky.items()}
    honest, early, own = (_found(home) for home in (folder / "honest", *leaky.values()))
    for name, found in zip(_KNOWN_AT, (early, own), strict=True):
        sys.stdout.write(f"What says so, {name}: {'; '.join([*refusals[name], *found.named])}\n")
    said = "AUC of late arrivals, trained on January to August, tested on September to December"
    many = {name: f"checks at delivery that refuse {name}" for name in _KNOWN_AT}
    return [
        Cost(said, honest.auc, "at least", _HONEST, 1.0, at_least=True),
        Cost(said, honest.auc, "what is too good to be true", _TOO_GOOD, 1.0),
        Cost("leak checks that complain of the honest one, one added", len(honest.named) + 1, "none", 1, 1.0),
        Cost(f"the same, {_BY_SCHEDULE}", early.auc, "honestly", honest.auc),
        Cost(f"the same, {_OWN_ROW}", own.auc, "what is too good to be true", _TOO_GOOD, 1.0, at_least=True),
        Cost(f"leak checks that name {_BY_SCHEDULE}", len(early.named), "at least", 1, 1.0, at_least=True),
        Cost(f"leak checks that name {_OWN_ROW}", len(own.named), "at least", 1, 1.0, at_least=True),
        *(Cost(many[name], len(each), "at least", 1, 1.0, at_least=True) for name, each in refusals.items()),
    ]


class Unmarked(FlightOutcomes):
    """The outcomes of flights as a project has them that does not say which columns exist only after the event."""

    departed_at: datetime = pandera.Field(nullable=True)
    arrived_at: datetime = pandera.Field(nullable=True)
    departure_delay_minutes: float = pandera.Field(nullable=True)
    arrival_delay_minutes: float = pandera.Field(nullable=True)
    air_time_minutes: float = pandera.Field(nullable=True)
    cancelled: bool
    diverted: bool


@dataclass(frozen=True)
class Found:
    """The area under the curve of the test months, and what leak checks say of the views and the training set."""

    auc: float
    named: list[str]


def _found(home: Path) -> Found:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.honesty", str(home)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Found(**json.loads(told.splitlines()[-1]))


def measured(home: str) -> Found:
    """Train and test on what the lake holds."""
    spec = replace(flights.model(), window=None, test=timedelta(days=121))
    named = _computed(spec, home)
    if named:
        spec = _unmarked(spec)
        _computed(spec, home)
    named += _labelled(spec, home)
    training_set.materialize(spec, flights.step(home))
    named += _failed(leaks.findings(spec, flights.step(home)))
    return Found(_tested(spec, flights.step(home).lake), named)


def _labelled(spec: ModelSpec, home: str) -> list[str]:
    """Label the year; what stops labels stops them all, and those of the honest lake take their place."""
    run = flights.step(home, *flights.YEAR)
    if named := _failed(labels.materialize(spec, run)[spec.labels].findings):
        honest = Lake(str(Path(home).with_name("honest") / "lake")).dataset(spec.labels).to_table()
        run.lake.write(spec.labels, honest, partitions=sorted({*honest["partition_key"].to_pylist()}))
    return named


def _computed(spec: ModelSpec, home: str) -> list[str]:
    """Compute all features of the year; what stops them."""
    named = []
    for view in spec.views:
        run = flights.step(home, *(flights.YEAR if view.daily else ()))
        named += _failed(features.materialize(view, run)[view.name].findings)
    return named


def _failed(findings: Sequence[Finding]) -> list[str]:
    return [f"{each.check}: {each.sentence}" for each in findings if not (each.passed or each.warn)]


def _unmarked(spec: ModelSpec) -> ModelSpec:
    contract = f"{__package__}.honesty.{Unmarked.__name__}"
    views = []
    for view in spec.views:
        tables = (replace(t, contract=contract) if t.name == _OUTCOMES else t for t in view.tables)
        views.append(replace(view, tables=tuple(tables)))
    return replace(spec, views=tuple(views))


def _tested(spec: ModelSpec, lake: Lake) -> float:
    frame = Frame.load(spec, lake, version=lake.version(spec.training_set))
    fitted = fit(frame.matrix("train"), FitSpec(), seed=7, validation=frame.matrix("validation"))
    test = frame.matrix("test")
    return roc_auc(test.y, predict(fitted.model_text, test.X)).value


def _leaky(folder: Path, name: str) -> Path:
    """A copy of the lake with other outcomes, and so the file of one day."""
    home = folder / name.replace(" ", "_")
    shutil.copytree(folder / "honest", home)
    lake, table = Lake(str(home / "lake")), f"tables/{_OUTCOMES}"
    lake.write(table, _early(lake.dataset(table).to_table(), name), partitions=flights.YEAR)
    file = home / "landing" / _OUTCOMES / f"{_DAY}.parquet"
    pq.write_table(_early(pq.read_table(file), name), file)
    return home


def _early(rows: pa.Table, name: str) -> pa.Table:
    known = f"greatest({_KNOWN_AT[name]}, TIMESTAMPTZ '2013-01-01')"
    changed = [f"{known} AS known_at"]
    changed += [f"{known} AS arrived_at"] if name == _OWN_ROW else []
    changed += [f"strftime({known}, '%Y-%m-%d') AS partition_key"] if "partition_key" in rows.column_names else []
    with connect() as con:
        con.register("rows", rows)
        return con.sql(f"SELECT * REPLACE ({', '.join(changed)}) FROM rows").to_arrow_table()


def _refusals(home: Path) -> list[str]:
    """What the delivery of such rows is told."""
    table = shipped()[_OUTCOMES]
    return _failed(ingest.ingest(table, flights.step(home, _DAY))[table.table].findings)


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(asdict(measured(sys.argv[1])))}\n")
