"""Model: from labels and a training set to a released version."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from ml_assets.components import availability, binding, keys, model_columns
from ml_assets.components.declared import Declared, Freshness, Level, Schema
from ml_assets.components.feature_view import FeatureView
from ml_assets.components.project import Project
from ml_assets.components.table import Table
from ml_assets.errors import DeclarationError, shorten
from ml_assets.evaluation import policy
from ml_assets.monitoring.retrain import RetrainPolicy
from ml_assets.orchestration import assets, automation, partitions, retraining
from ml_assets.orchestration.assets import Node
from ml_assets.steps import catalogue
from ml_assets.steps.specs import ModelSpec, SearchBudget


class Spine(Schema):
    """The rows to predict for, and when."""

    table: str = Field(description="The table whose rows are predicted for.", examples=["flight_schedules"])
    time: str = Field(
        description="SQL for the moment of the prediction.", examples=["scheduled_departure_at - INTERVAL 2 HOUR"]
    )


class Label(Schema):
    """What is predicted."""

    table: str = Field(description="The table that tells; it has the keys of the spine.", examples=["flight_outcomes"])
    expression: str = Field(description="SQL over its row; true or 1 is positive.", examples=["delay_minutes > 15"])
    kind: Literal["binary"] = Field(default="binary", description="What kind of label it is.", examples=["binary"])
    horizon: str = Field(
        default="1d", description="How long after the row's day its label counts as final.", examples=["1d"]
    )


class Search(Schema):
    """The search for parameters."""

    trials: int = Field(default=8, ge=1, description="Trials; bad ones are ended early.", examples=[30])


class Train(Schema):
    """How the model is trained."""

    window: str | None = Field(default=None, description="How far back rows are used; all.", examples=["180d"])
    validation: str = Field(default="14d", description="Rows before the test rows, to tune on.", examples=["14d"])
    test: str = Field(default="14d", description="The newest rows, to judge on.", examples=["14d"])
    gap: str | None = Field(default=None, description="Between the splits; the label's horizon.", examples=["1d"])
    search: Search = Field(default=Search(), description="The search for parameters.", examples=[{"trials": 30}])
    estimator: Literal["lightgbm"] = Field(default="lightgbm", description="What learns.", examples=["lightgbm"])
    seed: int = Field(default=7, description="Seed of search and training.", examples=[7])
    rounds: int = Field(default=150, ge=1, description="Boosting rounds at most.", examples=[300])
    min_rows: int = Field(default=1000, ge=10, description="Fewer mature rows are refused.", examples=[1000])
    baseline: Sequence[str] = Field(
        default=(), description="Columns whose rates are the simple baseline.", examples=[["carrier", "origin"]]
    )


class Champion(Schema):
    """How the candidate must compare with the champion."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of the interval.", examples=[0.95])
    margin: float = Field(
        default=0.005, ge=0, description="How much worse may not be excluded; 0 asks for better.", examples=[0.005]
    )


class RocAuc(Schema):
    """Gates on the ROC AUC of the test rows."""

    at_least: float | None = Field(default=None, ge=0.5, le=1, description="A floor.", examples=[0.7])
    beats_baseline: bool = Field(default=True, description="Surely above the baseline.", examples=[True])
    beats_champion: Champion = Field(
        default=Champion(), description="Against the champion.", examples=[{"confidence": 0.95, "margin": 0.005}]
    )


class Slices(Schema):
    """Parts of the test rows that may not get worse."""

    columns: Sequence[str] = Field(description="Each value is a slice.", examples=[["origin", "carrier"]])
    margin: float = Field(default=0.02, ge=0, description="By how much, in ROC AUC.", examples=[0.02])


class Gates(Schema):
    """What a candidate must show before it may serve; each is a blocking check."""

    roc_auc: RocAuc = Field(default=RocAuc(), description="On ROC AUC.", examples=[{"at_least": 0.7}])
    slices: Slices | None = Field(default=None, description="By slice.", examples=[{"columns": ["origin"]}])


class Drift(Schema):
    """When drift is a reason to train."""

    psi: float = Field(description="PSI of an input that matters.", examples=[0.2])


class Drop(Schema):
    """When performance is a reason to train."""

    roc_auc_drop: float = Field(description="Below the released ROC AUC.", examples=[0.02])


class Retrain(Schema):
    """What is a reason to train again; judged on the clock of the data."""

    schedule: str | None = Field(default=None, description="Cron, UTC.", examples=["0 4 * * 1"])
    new_rows: int | None = Field(default=None, ge=1, description="New labelled rows.", examples=[20000])
    drift: Drift | None = Field(default=None, description="Drift of inputs.", examples=[{"psi": 0.2}])
    performance: Drop | None = Field(default=None, description="Worse answers.", examples=[{"roc_auc_drop": 0.02}])
    max_staleness: str | None = Field(default=None, description="Age of the newest model.", examples=["35d"])
    cooldown: str = Field(default="1d", description="Between two trainings at least.", examples=["6d"])


class ReleasePolicy(Schema):
    """Who must agree to a release."""

    sign_offs: Sequence[str] = Field(
        default=(), max_length=0, description="Roles that sign; empty: the gates decide alone.", examples=[[]]
    )


class Leaks(Schema):
    """How well a single feature, or a pair, may tell the label before it counts as a leak."""

    single: float = Field(default=0.95, gt=0.5, le=1, description="ROC AUC of one feature.", examples=[0.95])
    pair: float = Field(default=0.95, gt=0.5, le=1, description="ROC AUC of two features.", examples=[0.97])
    allow: Sequence[str] = Field(
        default=(), description="Inputs that are known to be honest.", examples=[["account__days_since_login"]]
    )
    twins: bool = Field(
        default=True,
        description="Whether rows of other keys with all the same inputs and the same label are copies.",
        examples=[True],
    )


class Model(Declared):
    """A model that earns its promotion.

    Makes `labels/<name>` (what happened, by day), `training_sets/<name>` (features as of each row's time, split,
    pinned by a manifest), `models/<name>` (one MLflow run and registered version), `evaluations/<name>` (the report;
    its checks are the gates) and `releases/<name>` (which version may serve, and why), and a sensor that weighs when
    to train again and says why.
    """

    spine: Spine = Field(
        description="The rows to predict for.",
        examples=[{"table": "flight_schedules", "time": "scheduled_departure_at - INTERVAL 2 HOUR"}],
    )
    label: Label = Field(
        description="What is predicted.", examples=[{"table": "flight_outcomes", "expression": "delay_minutes > 15"}]
    )
    features: Sequence[str] = Field(description="Feature views, by name.", examples=[["carrier_delays"]])
    request_features: str | None = Field(
        default=None,
        description="A NumPy function of the request's columns: `package.module.function`.",
        examples=["my_project.defs.flights.features.request_features"],
    )
    train: Train = Field(default=Train(), description="How it is trained.", examples=[{"window": "180d"}])
    gates: Gates = Field(default=Gates(), description="What a candidate must show.", examples=[{"roc_auc": {}}])
    leaks: Leaks = Field(default=Leaks(), description="What counts as a leak.", examples=[{"single": 0.95}])
    retrain: Retrain = Field(default=Retrain(), description="When to train again.", examples=[{"new_rows": 20000}])
    release: ReleasePolicy = Field(default=ReleasePolicy(), description="Who must agree.", examples=[{"sign_offs": []}])
    freshness: Freshness | None = Field(
        default=None, description="How old the release may get.", examples=[{"fail": "35d"}]
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Five assets, their checks, and the sensor of the retrain policy."""
        project = Project.of(context)
        project.require_unique(self)
        spec = self.spec(project)
        chain = self._chain(spec, project)
        built = [self._labels(spec, project), *(self._whole(node, step, version) for node, step, version in chain)]
        endpoints = [endpoint.spec(project) for endpoint in project.serving(self.name)]
        return assets.definitions(
            built, sensors=[retraining.retrain_sensor(spec, endpoints)], upkeep=project.upkeep(self)
        )

    def levels(self, project: Project) -> list[Level]:
        """Days that were labelled from other inputs than stand now."""
        return [([dg.AssetKey(["labels", self.name])], catalogue.step("pending.of_labels", self.spec(project)))]

    def spec(self, project: Project) -> ModelSpec:
        """The model with its tables and views; a fault of a view is told before the model is judged by it."""
        return self.once("spec", lambda: self._spec(project))

    def _spec(self, project: Project) -> ModelSpec:
        (spine, label), views = self._tables(project), self._views(project)
        features = {f"{view.name}__{column.name}" for view in views for column in view.columns(project)}
        self._check(spine, label, views)
        keys.require_one_type(self, spine, views, project)
        self._check_function()
        specs = tuple(view.spec(project) for view in views)
        self._check_columns(features, {column.name for column in spine.columns() if column.available == "request"})
        horizon = self.duration(self.label.horizon, "label", "horizon")
        train = self.train
        return ModelSpec(
            name=self.name,
            spine=spine.spec(),
            at=self.spine.time,
            label_table=label.spec(),
            label=self.label.expression,
            views=specs,
            horizon=horizon,
            request_features=self.request_features,
            window=self.duration(train.window, "train", "window") if train.window else None,
            validation=self.duration(train.validation, "train", "validation"),
            test=self.duration(train.test, "train", "test"),
            gap=self.duration(train.gap, "train", "gap") if train.gap else horizon,
            min_rows=train.min_rows,
            budget=SearchBudget(trials=train.search.trials, rounds=train.rounds, seed=train.seed),
            baseline=tuple(train.baseline),
            slices=tuple(self.gates.slices.columns) if self.gates.slices else (),
            gates=self._gates(),
            retrain=self._policy(),
            leaks=policy.LeakLimits(
                self.leaks.single, self.leaks.pair, tuple(self.leaks.allow), twins=self.leaks.twins
            ),
        )

    def _tables(self, project: Project) -> tuple[Table, Table]:
        """The spine's and the label's."""
        spine = project.find(Table, self.spine.table, self, "spine", "table")
        return spine, project.find(Table, self.label.table, self, "label", "table")

    def _views(self, project: Project) -> list[FeatureView]:
        return [project.find(FeatureView, name, self, "features") for name in self.features]

    def _check(self, spine: Table, label: Table, views: list[FeatureView]) -> None:
        for table, path in ((spine, "spine"), (label, "label")):
            if not table.partitions:
                raise self.error(f"'{table.name}' has no daily partitions, which spine and label need.", path, "table")
        known = {column.name for column in label.columns()}
        if missing := [key for key in spine.keys if key not in known]:
            raise self.error(f"'{label.name}' lacks {shorten(missing)}, the keys of the spine.", "label", "table")
        has = {column.name for column in spine.columns()}
        for view in views:
            if absent := [column for column in view.entity if column not in has]:
                raise self.error(f"the spine lacks {shorten(absent)}, the entity of '{view.name}'.", "features")
        self._bind(spine, "at", self.spine.time, "TIMESTAMPTZ", "spine", "time")
        self._check_availability(spine, views)
        self._bind(label, "label", self.label.expression, "BOOLEAN", "label", "expression")

    def _check_availability(self, spine: Table, views: list[FeatureView]) -> None:
        """A prediction is asked for by what is known before the event."""
        later = "is known only after the event (its contract says `available: after_event`)"
        if read := availability.read_too_early(spine.columns(), "at", self.spine.time, "TIMESTAMPTZ"):
            raise self.error(f"the time reads {shorten(read)}, which {later}. Predict from before.", "spine", "time")
        late = set(availability.late(spine.columns()))
        if keys := [key for key in spine.keys if key in late]:
            raise self.error(f"the key {shorten(keys)} of the spine {later}.", "spine", "table")
        for number, view in enumerate(views):
            if entity := [column for column in view.entity if column in late]:
                problem = f"the entity {shorten(entity)} of '{view.name}' {later}."
                raise self.error(f"{problem} Look it up by a column of the request.", "features", number)

    def _check_columns(self, features: set[str], request: set[str]) -> None:
        """What a request function makes is known only to itself, but for names of features."""
        slices, known = self.gates.slices.columns if self.gates.slices else (), features | request
        for number, name in enumerate(self.leaks.allow):
            if name not in features and ("__" in name or not self.request_features):
                near = shorten(get_close_matches(name, sorted(features)) or sorted(features))
                raise self.error(f"there is no feature '{name}'. There are: {near}.", "leaks", "allow", number)
        for names, path in ((self.train.baseline, ("train", "baseline")), (slices, ("gates", "slices"))):
            if not self.request_features and (absent := [name for name in names if name not in known]):
                raise self.error(
                    f"no {shorten(absent)} in the spine or the features. They have: {shorten(sorted(known))}.", *path
                )

    def _check_function(self) -> None:
        """Found in the source, not imported: definitions must load fast."""
        if not self.request_features:
            return
        module, _, name = self.request_features.rpartition(".")
        try:
            found = find_spec(module) if module else None
        except ModuleNotFoundError:
            found = None
        source = Path(found.origin).read_text() if found and found.origin else ""
        if not re.search(rf"\b(def|import) .*\b{re.escape(name)}\b|^{re.escape(name)}\b.*=", source, re.MULTILINE):
            raise self.error(
                f"there is no '{self.request_features}'. Write it as `package.module.function`.", "request_features"
            )

    def _bind(self, table: Table, name: str, sql: str, kind: str, *path: str) -> None:
        try:
            binding.check_expression(table.columns(), name, sql, kind)
        except DeclarationError as error:
            raise self.error(error.problem, *path) from error

    def _gates(self) -> policy.Gates:
        auc = self.gates.roc_auc
        return policy.Gates(
            roc_auc_at_least=auc.at_least,
            beats_baseline=auc.beats_baseline,
            beats_champion=policy.BeatsChampion(auc.beats_champion.confidence, auc.beats_champion.margin),
            slice_margin=self.gates.slices.margin if self.gates.slices else None,
        )

    def _policy(self) -> RetrainPolicy:
        declared = self.retrain
        staleness = declared.max_staleness
        try:
            return RetrainPolicy(
                schedule=declared.schedule,
                new_rows=declared.new_rows,
                drift_psi=declared.drift.psi if declared.drift else None,
                performance_drop=declared.performance.roc_auc_drop if declared.performance else None,
                max_staleness=self.duration(staleness, "retrain", "max_staleness") if staleness else None,
                cooldown=self.duration(declared.cooldown, "retrain", "cooldown"),
                min_rows=self.train.min_rows,
            )
        except DeclarationError as error:
            raise (error if error.file else self.error(error.problem, "retrain", "schedule")) from error

    def _labels(self, spec: ModelSpec, project: Project) -> dg.AssetsDefinition:
        rows, told = self._tables(project)
        spine, outcomes = dg.AssetKey(["tables", spec.spine.name]), dg.AssetKey(["tables", spec.label_table.name])
        node = Node(
            "labels",
            self.name,
            f"`{spec.label}` for each row of `{spec.spine.name}`, with the moment that it became known.",
            kinds=frozenset({"duckdb", "deltalake"}),
            deps=[partitions.window(outcomes, after=spec.horizon_days)]
            + [partitions.window(spine)] * (spine != outcomes),
            checks=(catalogue.LATER, catalogue.LABELLED),
            columns=model_columns.of_labels(spec, rows),
            lineage=model_columns.lineage_of_labels(spec, rows, told),
            automation=automation.on_new_content(present=[dg.AssetKey(["raw", spec.label_table.name]), spine]),
        )
        return assets.build(
            self,
            name=self.op_name("labels"),
            nodes=[node],
            step=catalogue.step("labels.materialize", spec),
            version=catalogue.LABELS,
            partitions_def=partitions.of(spec.spine),
        )

    def _whole(self, node: Node, step: catalogue.Step, version: int) -> dg.AssetsDefinition:
        return assets.build(self, name=self.op_name(node.layer), nodes=[node], step=step, version=version)

    def _chain(self, spec: ModelSpec, project: Project) -> list[tuple[Node, catalogue.Step, int]]:
        (rows, _), views = self._tables(project), self._views(project)
        upstream = [spec.labels, spec.spine.table, *(view.name for view in spec.views)]
        policy = self.freshness_policy(self.freshness)
        training = Node(
            "training_sets",
            self.name,
            "Labelled rows with features as of each row's time, split by time, pinned by a manifest.",
            kinds=frozenset({"duckdb", "deltalake"}),
            deps=[dg.AssetKey.from_user_string(name) for name in upstream],
            checks=(catalogue.IN_TIME, catalogue.BOTH, catalogue.REPEATED, catalogue.NO_ECHO, catalogue.NO_TWINS),
            columns=model_columns.of_training_set(spec, rows, views, project),
            lineage=model_columns.lineage_of_training_set(spec, rows, views, project),
        )
        trained = Node(
            "models",
            self.name,
            self.description or f"Predicts `{spec.label}`.",
            kinds=frozenset({"lightgbm", "mlflow", "optuna"}),
            deps=[training.key],
            checks=catalogue.TRAINED,
        )
        judged = Node(
            "evaluations",
            self.name,
            "How good the candidate is, against champion and baseline; its checks are the gates.",
            kinds=frozenset({"python"}),
            deps=[trained.key, training.key],
            checks=catalogue.gates(spec.gates),
        )
        released = Node(
            "releases",
            self.name,
            "Which version may serve, and why.",
            kinds=frozenset({"mlflow"}),
            deps=[judged.key],
            checks=(catalogue.IN_FORCE,),
            freshness=policy,
        )
        return [
            (training, catalogue.step("training_set.materialize", spec), catalogue.TRAINING_SET),
            (trained, catalogue.step("model.train", spec), catalogue.MODEL),
            (judged, catalogue.step("evaluation.materialize", spec), catalogue.EVALUATION),
            (released, catalogue.step("release.materialize", spec), catalogue.RELEASE),
        ]
