"""Fifteen days of real flights through the whole chain, with settings that make it quick: for tests of the steps."""

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from ml_assets.adapters.settings import Settings
from ml_assets.evaluation.policy import BeatsChampion, Gates
from ml_assets.monitoring.retrain import RetrainPolicy
from ml_assets.records import Finding, StepResult
from ml_assets.steps import (
    consistency,
    endpoint,
    evaluation,
    features,
    ingest,
    labels,
    model,
    predictions,
    release,
    training_set,
    watching,
)
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, EndpointSpec, ModelSpec, SearchBudget, TableSpec, ViewSpec
from ml_assets_tests.project import days

FIRST, LAST, AHEAD = "2013-01-01", "2013-01-15", "2013-01-16"
DAYS = days(FIRST, LAST)
WATERMARK = "2013-01-15T00:00:00+00:00"  # one day before the end of the last day of outcomes
NAME = "arrival_delay"


@cache
def shipped() -> tuple[dict[str, TableSpec], ModelSpec]:
    """Tables and model of the shipped example, as its YAML declares them."""
    import dagster as dg

    from ml_assets.components import Model, Table
    from ml_assets.components.declared import Declared
    from ml_assets.components.project import Project

    root = Path(ml_assets_root())
    components = Project(dg.ComponentTree.for_project(root).get_all_components(of_type=Declared))
    tables = {name: table.spec() for name, table in components.named(Table).items()}
    return tables, components.named(Model)[NAME].spec(components)


def ml_assets_root() -> Path:
    import ml_assets

    return Path(str(ml_assets.__file__)).parent


@cache
def quick() -> ModelSpec:
    """The shipped model on shorter spans, with a search of two short trials."""
    return replace(
        shipped()[1],
        window=None,
        validation=3 * DAY,
        test=3 * DAY,
        budget=SearchBudget(trials=2, rounds=12, threads=1),
        gates=Gates(roc_auc_at_least=0.55, beats_baseline=False, beats_champion=BeatsChampion(margin=0.05)),
        slices=("origin",),
        retrain=RetrainPolicy(schedule="0 4 * * 1", new_rows=3000, cooldown=timedelta(days=1), min_rows=1000),
    )


@dataclass(frozen=True)
class World:
    """An installation in a folder. `spec` may differ from test to test; few rows prove parity, which makes it quick."""

    home: Path
    spec: ModelSpec
    mlflow_uri: str = ""
    parity_rows: int = 200

    @property
    def endpoint(self) -> EndpointSpec:
        """The endpoint of the model."""
        return EndpointSpec(NAME, self.spec, parity_rows=self.parity_rows)

    @property
    def tables(self) -> Mapping[str, TableSpec]:
        """The declared tables."""
        return shipped()[0]

    @property
    def settings(self) -> Settings:
        """The places below the folder."""
        home = self.home
        return Settings(
            home=home,
            landing_uri=str(home / "landing"),
            lake_uri=str(home / "lake"),
            mlflow_uri=self.mlflow_uri or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            online_store=str(home / "online" / "features.db"),
            endpoints=home / "endpoints",
            reports=home / "reports",
        )

    def having(self, **changes: Any) -> "World":
        """The same place with another declaration of the model."""
        return replace(self, spec=replace(self.spec, **changes))

    def step(self, *partitions: str, **arguments: Any) -> Run:
        """What a step is given."""
        return Run(self.settings, partitions or ("",), **arguments)

    def land(self, first: str, last: str) -> None:
        """Land real files, as the feed does."""
        from ml_assets.feeds.flights import land

        land(self.settings.landing_uri, since=date.fromisoformat(first), until=date.fromisoformat(last))

    def take_in(self, *wanted: str) -> None:
        """Bring landed files of these days (and, where none are given, whole tables) into the lake."""
        for table in self.tables.values():
            if table.daily and wanted:
                ingest.ingest(table, self.step(*wanted))
            if not table.daily and not wanted:
                ingest.ingest(table, self.step())

    def compute(self, *wanted: str, views: Iterable[ViewSpec] | None = None) -> dict[str, StepResult]:
        """Compute the features of these days."""
        return {
            view.name: features.materialize(view, self.step(*wanted) if view.daily else self.step())[view.name]
            for view in views or self.spec.views
        }

    def learn(self, *wanted: str) -> dict[str, StepResult]:
        """Label, train, judge and release."""
        steps = (training_set.materialize, model.train, evaluation.materialize, release.materialize)
        results = dict(labels.materialize(self.spec, self.step(*(wanted or DAYS))))
        for step in steps:
            results |= step(self.spec, self.step())
        return results

    def serve(self) -> StepResult:
        """Start or update the server."""
        return endpoint.materialize(self.endpoint, self.step())[self.endpoint.endpoint]

    def watch(self, *wanted: str) -> dict[str, StepResult]:
        """Ask about the rows of days, join what happened, and judge."""
        chain = (
            predictions.materialize,
            predictions.outcomes,
            consistency.materialize,
            watching.watch_drift,
            watching.watch_performance,
        )
        results: dict[str, StepResult] = {}
        for step in chain:
            results |= step(self.endpoint, self.step(*(wanted or DAYS)))
        return results

    def server(self) -> Any:
        """The server's place."""
        return endpoint.local(self.endpoint, self.step())

    def rows(self, name: str, partitions: Sequence[str] | None = None) -> pa.Table:
        """Rows of a lake table."""
        return self.step().lake.dataset(name, partitions=partitions).to_table()

    def versions(self) -> dict[str, int]:
        """The version of every table in the lake."""
        lake = self.step().lake
        root = Path(lake.uri)
        return {
            name: lake.version(name)
            for name in sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))
        }

    def mlflow(self, sql: str) -> list[tuple]:
        """What MLflow's database says, asked without MLflow."""
        with closing(sqlite3.connect(self.home / "mlflow" / "mlflow.db", timeout=30)) as database:
            return database.execute(sql).fetchall()


def build(home: Path) -> None:
    """The whole chain, from landed files to performance; the server is stopped at the end."""
    world = World(home, quick())
    world.land(FIRST, LAST)
    world.take_in()
    world.take_in(*DAYS, AHEAD)
    world.compute(*DAYS)
    world.learn(*DAYS, AHEAD)
    served = world.serve()
    assert served.produced, [found.sentence for found in served.findings]
    world.watch()
    world.server().stop()


def release_copy(world: World, version: str = "2") -> None:
    """Release the version that stands under another number, as if it had been trained and judged again."""
    shutil.copytree(world.home / "bundles" / NAME / "1", world.home / "bundles" / NAME / version)
    place = world.home / "lake" / "objects" / "releases" / f"{NAME}.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"version": version, "previous": "1"}))
    references = world.home / "lake" / "objects" / "references" / NAME
    shutil.copy(references / "1.json", references / f"{version}.json")


def register_copy(world: World) -> None:
    """Register the version that stands once more, with all that is known of it."""
    import mlflow

    client, known = mlflow.MlflowClient(*[world.settings.mlflow_uri] * 2), world.step().registry.version(NAME, "1")
    assert known
    client.create_model_version(NAME, f"runs:/{known.run_id}/model", known.run_id, tags=known.tags)


def copied(home: Path, into: Path, *, leave: Sequence[str] = ()) -> Path:
    """A copy of an installation without its server, which belongs to one folder."""

    def left(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(home)
        return [name for name in names if str(inside / name) in leave or name in ("server.json", "server.lock")]

    shutil.copytree(home, into, ignore=left)
    return into


@contextmanager
def ended(world: World) -> Iterator[World]:
    """End the world's server, whatever happens."""
    try:
        yield world
    finally:
        world.server().stop()


def versions_of(results: Mapping[str, StepResult]) -> dict[str, dict[str, str]]:
    """Data versions by asset and partition."""
    return {name: {p: made.data_version for p, made in r.produced.items()} for name, r in results.items()}


def reused(results: Mapping[str, StepResult]) -> bool:
    """Whether nothing was computed."""
    return all(made.reused for result in results.values() for made in result.produced.values())


def finding(result: StepResult, check: str) -> Finding:
    """What a check said."""
    return next(found for found in result.findings if found.check == check)
