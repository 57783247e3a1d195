"""What the steps need to know: declarations with every name resolved, free of YAML and of Dagster."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from math import ceil

from ml_assets.adapters.sources.base import Files, SourceSpec
from ml_assets.evaluation.policy import Gates, LeakLimits
from ml_assets.features.view import FEATURE_TIMESTAMP, FeatureView
from ml_assets.monitoring.retrain import RetrainPolicy
from ml_assets.tables import event
from ml_assets.tables.contract import Contract, Promise, load, outline, promises
from ml_assets.tables.expectations import Expectation
from ml_assets.tables.format import Format, SchemaPolicy

DAY = timedelta(days=1)
# Prediction times of a day belong to rows of that day's partition of the spine or, asked ahead, of the next.
AHEAD_DAYS = 1
_FREEZE, _BY_NAME = SchemaPolicy(), Format()


@dataclass(frozen=True)
class TableSpec:
    """A table: where its rows come from, what they promise, and when each could first be used."""

    name: str
    source: SourceSpec
    contract: str
    keys: tuple[str, ...]
    first_day: date | None = None
    last_day: date | None = None
    partition_column: str | None = None
    event_timestamp: str | None = None
    known_at: str | None = None
    fail_above: float = 0.02
    schema_drift: SchemaPolicy = _FREEZE
    expectations: tuple[Expectation, ...] = ()

    def promises(self) -> tuple[Promise, ...]:
        """A named promise for each rule that rows are judged by, from the source text of the contract."""
        dated = self.known_at is not None or any(column.name == "known_at" for column in outline(self.contract))
        return promises(
            self.contract,
            keys=self.keys,
            partition_column=self.partition_column,
            has_known_at=dated,
            passed=self.passed(),
        )

    def passed(self) -> tuple[str, ...]:
        """The columns with a time that has passed when the outcome of a row is known."""
        return event.times(outline(self.contract), self.event_timestamp, self.known_at)

    def loaded(self) -> Contract:
        """The contract with all that it asks of a row, compiled to SQL; the first one takes seconds."""
        return load(self.contract, keys=self.keys, passed=self.passed())

    @property
    def format(self) -> Format:
        """How the deliveries are to be read; only files need to be told of."""
        return self.source.format if isinstance(self.source, Files) else _BY_NAME

    @property
    def daily(self) -> bool:
        """Whether the table is partitioned by UTC day."""
        return self.first_day is not None

    @property
    def raw(self) -> str:
        """Name of the deliveries' list in the lake, and of their objects."""
        return f"raw/{self.name}"

    @property
    def table(self) -> str:
        """Name of the valid rows in the lake."""
        return f"tables/{self.name}"

    @property
    def quarantine(self) -> str:
        """Name of the refused rows in the lake."""
        return f"quarantine/{self.name}"

    @property
    def profiles(self) -> str:
        """Name of the statistics of the valid rows in the lake."""
        return f"profiles/{self.name}"


@dataclass(frozen=True)
class ViewRows:
    """The rows of another feature view, read as a table: each can be used from `known_at`, its time and the delay.

    `of` is how that view is defined; `retained` is the number of an older version of it that is read instead.
    """

    name: str
    keys: tuple[str, ...]
    first_day: date | None = None
    last_day: date | None = None
    delay: timedelta = timedelta(0)
    contract: str = ""
    partition_column: str | None = FEATURE_TIMESTAMP
    event_timestamp: str | None = "event_timestamp"
    known_at: str | None = "known_at"
    of: "ViewSpec | None" = None
    retained: int | None = None

    @property
    def daily(self) -> bool:
        """Whether the view is partitioned by UTC day."""
        return self.first_day is not None

    @property
    def table(self) -> str:
        """Name of the rows in the lake."""
        return f"features/{self.name}" + (f"@{self.retained}" if self.retained else "")


Input = TableSpec | ViewRows


@dataclass(frozen=True)
class ViewSpec:
    """A feature view with its tables, and for how long its rows are kept online.

    `retained` is the number of an older version that is computed beside the declared one (`steps.view_versions`).
    """

    view: FeatureView
    tables: tuple[Input, ...]
    keep: timedelta
    retained: int | None = None
    expectations: tuple[Expectation, ...] = ()

    @property
    def name(self) -> str:
        """Name of the feature rows in the lake."""
        return f"features/{self.view.name}" + (f"@{self.retained}" if self.retained else "")

    @property
    def profiles(self) -> str:
        """Name of the statistics of the feature rows in the lake."""
        return f"feature_profiles/{self.name.partition('/')[2]}"

    @property
    def reads(self) -> tuple[ViewRows, ...]:
        """The views among its tables."""
        return tuple(table for table in self.tables if isinstance(table, ViewRows))

    @property
    def daily(self) -> bool:
        """A view is partitioned like its first table."""
        return self.tables[0].daily and not self.view.is_static

    def lookback_days(self, table: Input) -> int:
        """How many whole partitions of a table before its own a partition is computed from."""
        delay = table.delay if isinstance(table, ViewRows) else timedelta(0)
        return ceil((self.view.lookback() + delay) / DAY)

    def rows(self) -> ViewRows:
        """The view as what other views read."""
        first, last = (self.tables[0].first_day, self.tables[0].last_day) if self.daily else (None, None)
        return ViewRows(self.view.name, (*self.view.entity, FEATURE_TIMESTAMP), first, last, self.view.delay, of=self)


@dataclass(frozen=True)
class SearchBudget:
    """How a model is searched for and fitted."""

    trials: int = 8
    rounds: int = 300
    seed: int = 7
    threads: int = 2


@dataclass(frozen=True)
class ModelSpec:
    """A model: for which rows it predicts what, from which features, and when it may serve."""

    name: str
    spine: TableSpec
    at: str
    label_table: TableSpec
    label: str
    views: tuple[ViewSpec, ...]
    horizon: timedelta = timedelta(days=1)
    request_features: str | None = None
    window: timedelta | None = None
    validation: timedelta = timedelta(days=14)
    test: timedelta = timedelta(days=14)
    gap: timedelta = timedelta(days=1)
    min_rows: int = 1000
    budget: SearchBudget = SearchBudget()
    baseline: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    gates: Gates = field(default_factory=Gates)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)
    leaks: LeakLimits = field(default_factory=LeakLimits)

    @property
    def labels(self) -> str:
        """Name of the labels in the lake."""
        return f"labels/{self.name}"

    @property
    def training_set(self) -> str:
        """Name of the training set in the lake."""
        return f"training_sets/{self.name}"

    @property
    def model(self) -> str:
        """Name of the model among the assets."""
        return f"models/{self.name}"

    @property
    def release(self) -> str:
        """Name of the release among the assets."""
        return f"releases/{self.name}"

    @property
    def evaluation(self) -> str:
        """Name of the evaluated test rows in the lake."""
        return f"evaluations/{self.name}"

    @property
    def horizon_days(self) -> int:
        """How many partitions of the label's table after a row's own may hold its label."""
        return ceil(self.horizon / DAY)


@dataclass(frozen=True)
class EndpointSpec:
    """An endpoint: which model answers, and how what it answers is watched."""

    name: str
    model: ModelSpec
    parity_rows: int = 10_000
    parity_moments: int = 5
    tolerated_skew: float = 0.0
    drift_warn: float = 0.15
    drift_fail: float = 0.2
    performance_drop: float = 0.02

    @property
    def endpoint(self) -> str:
        """Name of the endpoint among the assets."""
        return f"endpoints/{self.name}"

    @property
    def predictions(self) -> str:
        """Name of the prediction log in the lake."""
        return f"predictions/{self.name}"

    @property
    def outcomes(self) -> str:
        """Name of the predictions with their labels in the lake."""
        return f"outcomes/{self.name}"

    @property
    def consistency(self) -> str:
        """Name of the comparisons of logged features with offline ones in the lake."""
        return f"consistency/{self.name}"

    @property
    def drift(self) -> str:
        """Name of the drift figures in the lake."""
        return f"drift/{self.name}"

    @property
    def performance(self) -> str:
        """Name of the performance figures in the lake."""
        return f"performance/{self.name}"


def keep_default(max_age: timedelta | None) -> timedelta:
    """How long rows stay online: what counted at any moment of the last five weeks."""
    return 35 * DAY + (max_age or timedelta(0))
