"""What each asset's step decides by, in one place: the schedule that reconciles and `explain` ask as the steps do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

from ml_assets.adapters.lake import Lake
from ml_assets.steps import (
    consistency,
    evaluation,
    features,
    ingest,
    labels,
    model,
    predictions,
    training_set,
    watching,
)
from ml_assets.steps.days import holds
from ml_assets.steps.memo import Work
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec, Input, ModelSpec, TableSpec, ViewSpec
from ml_assets.tables.expectations import References


def of_table(spec: TableSpec, run: Run) -> Work:
    """By the stored deliveries of each partition, and the contract."""
    made, _ = ingest.memos(spec, run.lake, spec.loaded())
    stored = [day for day in _days(run.lake, spec.raw) if holds(spec, day)] if spec.daily else [""]
    kept = ingest.deliveries(spec, run.lake, stored)
    return Work(made, ingest.inputs_of(spec, run.lake, kept, sorted({file.partition_key for file in kept})))


def of_view(spec: ViewSpec, run: Run) -> Work:
    """By the content of its tables."""
    return features.work(spec, run, _days(run.lake, spec.tables[0].table) if spec.daily else [""])


def of_labels(spec: ModelSpec, run: Run) -> Work:
    """By spine and outcomes."""
    return labels.work(spec, run, _days(run.lake, spec.spine.table))


def of_predictions(spec: EndpointSpec, run: Run) -> Work:
    """By the spine, the log, and how much is known of a day."""
    return predictions.work(spec, run, _days(run.lake, spec.model.spine.table))


def of_outcomes(spec: EndpointSpec, run: Run) -> Work:
    """By answers and labels."""
    days = _days(run.lake, spec.predictions) if run.lake.exists(spec.model.labels) else []
    return predictions.outcome_work(spec, run.lake, days)


def of_consistency(spec: EndpointSpec, run: Run) -> Work:
    """By the answers, and the rows of features that count for them."""
    return consistency.work(spec, run, _days(run.lake, spec.predictions))


def of_drift(spec: EndpointSpec, run: Run) -> Work:
    """By the answers."""
    return watching.drift_work(spec, run.lake, _days(run.lake, spec.predictions))


def of_performance(spec: EndpointSpec, run: Run) -> Work:
    """By the outcomes, and whether a day's labels are mature."""
    return watching.performance_work(spec, run.lake, _days(run.lake, spec.outcomes))


def _days(lake: Lake, name: str) -> list[str]:
    return lake.partitions(name) if lake.exists(name) else []


BY_LAYER: Mapping[str, Callable[[Any, Run], Work]] = MappingProxyType(
    {
        "tables": of_table,
        "features": of_view,
        "labels": of_labels,
        "training_sets": training_set.work,
        "models": model.work,
        "evaluations": evaluation.work,
        "predictions": of_predictions,
        "outcomes": of_outcomes,
        "consistency": of_consistency,
        "drift": of_drift,
        "performance": of_performance,
    }
)
"""The record and the inputs by layer; deliveries, releases and servers have none, and look at the world itself."""


@dataclass(frozen=True)
class Asset:
    """An asset of the graph, with the declaration that makes it."""

    layer: str
    spec: Any

    @property
    def name(self) -> str:
        """The asset's name, `layer/name`."""
        return f"{self.layer}/{self.spec.view.name if self.layer == 'features' else self.spec.name}"

    def days(self) -> tuple[date, date | None] | None:
        """Its first day, and the last one if it has an end; None for an asset without partitions."""
        table = _DAYS_OF[self.layer](self.spec)
        return (table.first_day, table.last_day) if table and table.first_day else None

    def upstream(self) -> list[str]:
        """The names of what it is made from, directly."""
        return list(dict.fromkeys(_UPSTREAM[self.layer](self.spec)))


def _of_table(spec: TableSpec) -> list[str]:
    return [spec.raw, *(f"tables/{each.table}" for each in spec.expectations if isinstance(each, References))]


def _of_training_set(spec: ModelSpec) -> list[str]:
    return [spec.labels, spec.spine.table, *(view.name for view in spec.views)]


def _of_predictions(spec: EndpointSpec) -> list[str]:
    return [spec.endpoint, spec.model.spine.table, *(view.name for view in spec.model.views)]


def _days_of_view(spec: ViewSpec) -> Input | None:
    return spec.tables[0] if spec.daily else None


_DAYS_OF: Mapping[str, Callable[[Any], Input | None]] = MappingProxyType(
    {
        **dict.fromkeys(("raw", "tables"), lambda spec: spec),
        "features": _days_of_view,
        "labels": lambda spec: spec.spine,
        **dict.fromkeys(("training_sets", "models", "evaluations", "releases", "endpoints"), lambda _: None),
        **dict.fromkeys(
            ("predictions", "outcomes", "consistency", "drift", "performance"), lambda spec: spec.model.spine
        ),
    }
)

_UPSTREAM: Mapping[str, Callable[[Any], list[str]]] = MappingProxyType(
    {
        "raw": lambda _: [],
        "tables": _of_table,
        "features": lambda spec: [table.table for table in spec.tables],
        "labels": lambda spec: [spec.spine.table, spec.label_table.table],
        "training_sets": _of_training_set,
        "models": lambda spec: [spec.training_set],
        "evaluations": lambda spec: [spec.model, spec.training_set],
        "releases": lambda spec: [spec.evaluation],
        "endpoints": lambda spec: [spec.model.release],
        "predictions": _of_predictions,
        "outcomes": lambda spec: [spec.predictions, spec.model.labels],
        "consistency": lambda spec: [spec.predictions, *(view.name for view in spec.model.views)],
        "drift": lambda spec: [spec.predictions],
        "performance": lambda spec: [spec.outcomes],
    }
)
