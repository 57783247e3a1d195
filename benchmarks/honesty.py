"""How good the flights example is when nothing leaks: trained on January to August, tested on September to December.

By the project's own steps: views, labels, the join, the split by time, its fit. Beside it the same with the leak that
makes published numbers look better: outcomes count as known when the flight was scheduled, not when it had landed.
Such a source is refused where its rows come in, so the leaky rows are put into a copy of the lake behind its back.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import flights
from benchmarks.cost import Cost
from benchmarks.ingestion import shipped
from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.steps import features, ingest, labels, training_set
from ml_assets.steps.model import Frame
from ml_assets.steps.specs import ModelSpec
from ml_assets.training.fit import FitSpec, fit, predict
from ml_assets.training.statistics import roc_auc

_HONEST, _TOO_GOOD = 0.74, 0.76
_OUTCOMES = "flight_outcomes"
_DAY = "2013-06-03"


def costs(folder: Path) -> list[Cost]:
    """The honest number, the leaky one, and what says so."""
    honest, leaky = folder / "honest", folder / "leaky"
    flights.build(honest)
    shutil.copytree(honest, leaky)
    _known_by_schedule(leaky)
    said = "AUC of late arrivals, trained on January to August, tested on September to December"
    lied = "the same, with outcomes known by schedule"
    refusals = _refusals(leaky)
    sys.stdout.write(f"What says so: {'; '.join(refusals)}\n")
    honestly = _auc(honest)
    return [
        Cost(said, honestly, "at least", _HONEST, 1.0, at_least=True),
        Cost(said, honestly, "what is too good to be true", _TOO_GOOD, 1.0),
        Cost(lied, _auc(leaky), "honestly", honestly),
        Cost("checks that refuse outcomes known by schedule", len(refusals), "at least", 1, 1.0, at_least=True),
    ]


def _auc(home: Path) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.honesty", str(home)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.splitlines()[-1])


def measured(home: str) -> float:
    """The area under the curve of the test months."""
    spec = replace(flights.model(), window=None, test=timedelta(days=121))
    for view in spec.views:
        features.materialize(view, flights.step(home, *(flights.YEAR if view.daily else ())))
    labels.materialize(spec, flights.step(home, *flights.YEAR))
    training_set.materialize(spec, flights.step(home))
    return _tested(spec, flights.step(home).lake)


def _tested(spec: ModelSpec, lake: Lake) -> float:
    frame = Frame.load(spec, lake, version=lake.version(spec.training_set))
    fitted = fit(frame.matrix("train"), FitSpec(), seed=7, validation=frame.matrix("validation"))
    test = frame.matrix("test")
    return roc_auc(test.y, predict(fitted.model_text, test.X)).value


def _known_by_schedule(home: Path) -> None:
    """Rewrite the outcomes in the lake, and the file of one day."""
    lake, name = Lake(str(home / "lake")), f"tables/{_OUTCOMES}"
    lake.write(name, _early(lake.dataset(name).to_table()), partitions=flights.YEAR)
    file = home / "landing" / _OUTCOMES / f"{_DAY}.parquet"
    pq.write_table(_early(pq.read_table(file)), file)


def _early(rows: pa.Table) -> pa.Table:
    changed = "scheduled_departure_at AS known_at"
    if "partition_key" in rows.column_names:
        changed += ", strftime(scheduled_departure_at, '%Y-%m-%d') AS partition_key"
    with connect() as con:
        con.register("rows", rows)
        return con.sql(f"SELECT * REPLACE ({changed}) FROM rows").to_arrow_table()


def _refusals(home: Path) -> list[str]:
    """What the delivery of such rows is told."""
    table = shipped()[_OUTCOMES]
    found = ingest.ingest(table, flights.step(home, _DAY))[table.table].findings
    return [f"{finding.check}: {finding.sentence}" for finding in found if not finding.passed and not finding.warn]


if __name__ == "__main__":
    auc = measured(sys.argv[1])
    sys.stdout.write(f"{json.dumps(auc)}\n")
