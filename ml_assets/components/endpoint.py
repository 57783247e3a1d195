"""Endpoint: a released model that answers, and what is watched while it does."""

import warnings
from typing import Literal, NamedTuple

import dagster as dg
from pydantic import Field

from ml_assets.components.declared import Declared, Freshness, Level, Schema
from ml_assets.components.model import Model
from ml_assets.components.project import Project
from ml_assets.orchestration import assets, automation, partitions, upkeep
from ml_assets.orchestration.assets import Check, Node
from ml_assets.steps import catalogue
from ml_assets.steps.specs import AHEAD_DAYS, EndpointSpec

# `model` is the word that users write; Dagster asks the class, never an instance, for its own method of that name.
warnings.filterwarnings("ignore", 'Field name "model" in "Endpoint" shadows', UserWarning)


class _Layer(NamedTuple):
    """How a part of an endpoint is made: the version of its step, the step, and what finds out that it is due."""

    version: int
    step: str
    pending: str


_LAYERS = {
    "endpoints": _Layer(catalogue.ENDPOINT, "endpoint.materialize", "pending.of_endpoint"),
    "predictions": _Layer(catalogue.PREDICTIONS, "predictions.materialize", "pending.of_predictions"),
    "outcomes": _Layer(catalogue.OUTCOMES, "predictions.outcomes", "pending.of_outcomes"),
    "consistency": _Layer(catalogue.CONSISTENCY, "consistency.materialize", "pending.of_consistency"),
    "drift": _Layer(catalogue.DRIFT, "watching.watch_drift", "pending.of_drift"),
    "performance": _Layer(catalogue.PERFORMANCE, "watching.watch_performance", "pending.of_performance"),
}


class Rollout(Schema):
    """How a new release takes over the traffic."""

    strategy: Literal["all_at_once"] = Field(
        default="all_at_once",
        description="All at once: loaded beside the old version, proven equal to offline, then switched.",
        examples=["all_at_once"],
    )


class DriftLimits(Schema):
    """PSI of a column against training, beyond what days of the training data reach themselves."""

    warn: float = Field(default=0.15, gt=0, description="A warning.", examples=[0.15])
    fail: float = Field(default=0.2, gt=0, description="A failed check.", examples=[0.2])


class PerformanceLimits(Schema):
    """How much worse than at its release the model may get."""

    roc_auc_drop: float = Field(default=0.02, gt=0, description="In ROC AUC.", examples=[0.02])


class Parity(Schema):
    """The proof before traffic: rows of history through the real server and store, bit for bit as offline."""

    rows: int = Field(
        default=10_000,
        ge=10_000,
        description="Historical rows that are sent; all of them where history has fewer.",
        examples=[10000],
    )
    moments: int = Field(
        default=5, ge=1, description="In how many spans of the time that the online store holds.", examples=[5]
    )


class Consistency(Schema):
    """The comparison of logged features with offline ones, day by day."""

    tolerate: float = Field(
        default=0.0, ge=0, le=1, description="Share of a day's answers in which an input may differ.", examples=[0.001]
    )


class Endpoint(Declared):
    """A running HTTP endpoint for the champion of a model, and its record.

    Makes `endpoints/<name>` (the server, started or updated and verified), `predictions/<name>` (what it answered, by
    day), `outcomes/<name>` (the same with labels), `consistency/<name>` (what was answered with, against the lake),
    `drift/<name>` and `performance/<name>` (daily reports).
    """

    model: str = Field(  # pyright: ignore[reportIncompatibleMethodOverride]  Dagster's classmethod of that name stays
        description="The model whose champion answers.", examples=["arrival_delay"]
    )
    rollout: Rollout = Field(
        default=Rollout(), description="How a release takes over.", examples=[{"strategy": "all_at_once"}]
    )
    parity: Parity = Field(default=Parity(), description="The proof before traffic.", examples=[{"rows": 10000}])
    consistency: Consistency = Field(
        default=Consistency(), description="When logged features fail.", examples=[{"tolerate": 0.001}]
    )
    drift: DriftLimits = Field(
        default=DriftLimits(), description="When drift warns and fails.", examples=[{"warn": 0.15, "fail": 0.2}]
    )
    performance: PerformanceLimits = Field(
        default=PerformanceLimits(), description="When performance warns.", examples=[{"roc_auc_drop": 0.02}]
    )
    freshness: Freshness | None = Field(
        default=None, description="How old predictions and reports may get.", examples=[{"warn": "26h", "fail": "36h"}]
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Six assets, and the sensors of the prediction log and of the server's health."""
        project = Project.of(context)
        project.require_unique(self)
        spec = self.spec(project)
        days = partitions.of(spec.model.spine)
        built = [
            assets.build(
                self,
                name=self.op_name(node.layer),
                nodes=[node],
                step=catalogue.step(_LAYERS[node.layer].step, spec),
                version=_LAYERS[node.layer].version,
                partitions_def=days if node.layer != "endpoints" else None,
            )
            for node in self._nodes(spec)
        ]
        sensors = [upkeep.log_sensor(spec), upkeep.health_sensor(spec)]
        return assets.definitions(built, sensors=sensors, upkeep=project.upkeep(self))

    def levels(self, project: Project) -> list[Level]:
        """A release that nothing serves, days without answers, and what was made from other answers or labels."""
        spec = self.spec(project)
        return [
            ([dg.AssetKey([layer, self.name])], catalogue.step(made.pending, spec)) for layer, made in _LAYERS.items()
        ]

    def spec(self, project: Project) -> EndpointSpec:
        """The endpoint with its model."""
        return self.once("spec", lambda: self._spec(project))

    def _spec(self, project: Project) -> EndpointSpec:
        model = project.find(Model, self.model, self, "model").spec(project)
        if self.drift.warn > self.drift.fail:
            raise self.error(f"warn ({self.drift.warn}) must not be above fail ({self.drift.fail}).", "drift", "warn")
        return EndpointSpec(
            name=self.name,
            model=model,
            parity_rows=self.parity.rows,
            parity_moments=self.parity.moments,
            tolerated_skew=self.consistency.tolerate,
            drift_warn=self.drift.warn,
            drift_fail=self.drift.fail,
            performance_drop=self.performance.roc_auc_drop,
        )

    def _nodes(self, spec: EndpointSpec) -> list[Node]:
        views = [(dg.AssetKey(["features", v.view.name]), v.daily) for v in spec.model.views]
        served = self._served(spec)
        answered = self._answered(spec, served, views)
        labelled = self._labelled(spec, answered)
        return [
            served,
            answered,
            labelled,
            self._compared(answered, views),
            self._watch("drift", answered, catalogue.STEADY),
            self._watch("performance", labelled, catalogue.HOLDS),
        ]

    def _served(self, spec: EndpointSpec) -> Node:
        return Node(
            "endpoints",
            self.name,
            self.description or f"Answers with the champion of `{spec.model.name}`.",
            kinds=frozenset({"http", "lightgbm"}),
            deps=[dg.AssetKey(["releases", spec.model.name])],
            checks=(catalogue.SERVES, catalogue.EQUAL_BITS),
            automation=automation.on_new_content(),
        )

    def _answered(self, spec: EndpointSpec, served: Node, views: list[tuple[dg.AssetKey, bool]]) -> Node:
        spine = partitions.window(dg.AssetKey(["tables", spec.model.spine.name]), after=AHEAD_DAYS)
        daily = [key for key, by_day in views if by_day]
        return Node(
            "predictions",
            self.name,
            "What the endpoint answered, by the day of the prediction.",
            kinds=frozenset({"http", "deltalake"}),
            deps=[served.key, spine, *_windows(views)],
            checks=(catalogue.ANSWERED,),
            freshness=self.freshness_policy(self.freshness),
            automation=automation.on_new_content(present=[served.key, *daily], ignore=[served.key]),
        )

    def _labelled(self, spec: EndpointSpec, answered: Node) -> Node:
        labels = partitions.window(dg.AssetKey(["labels", spec.model.name]), after=AHEAD_DAYS)
        return Node(
            "outcomes",
            self.name,
            "Predictions with their labels, once these are known.",
            kinds=frozenset({"duckdb", "deltalake"}),
            deps=[partitions.window(answered.key), labels],
            checks=(catalogue.COVERED,),
            freshness=self.freshness_policy(self.freshness),
            automation=automation.on_new_content(present=[answered.key]),
        )

    def _compared(self, answered: Node, views: list[tuple[dg.AssetKey, bool]]) -> Node:
        return Node(
            "consistency",
            self.name,
            "The features of real requests as they were logged, against those of the lake.",
            kinds=frozenset({"duckdb", "deltalake"}),
            deps=[partitions.window(answered.key), *_windows(views)],
            checks=(catalogue.CONSISTENT,),
            freshness=self.freshness_policy(self.freshness),
            automation=automation.on_new_content(present=[answered.key], ignore=[key for key, _ in views]),
        )

    def _watch(self, layer: str, upstream: Node, check: Check) -> Node:
        texts = {
            "drift": "Inputs and score of each day against the training reference.",
            "performance": "ROC AUC and log loss of each day, as far as labels are known.",
        }
        return Node(
            layer,
            self.name,
            texts[layer],
            kinds=frozenset({"evidently", "duckdb"} if layer == "drift" else {"duckdb"}),
            deps=[partitions.window(upstream.key)],
            checks=(check,),
            freshness=self.freshness_policy(self.freshness),
            automation=automation.on_new_content(present=[upstream.key]),
        )


def _windows(views: list[tuple[dg.AssetKey, bool]]) -> list[dg.AssetDep | dg.AssetKey]:
    """Features of the same day, of views that are made by day."""
    return [partitions.window(key) if daily else key for key, daily in views]
