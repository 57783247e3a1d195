"""What each step promises: its version, and its checks as sentences that are true when they pass.

Light on purpose: every process loads it with the definitions, while the steps themselves load where they run.
Raise a version when the step's code gives other results from the same inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ml_assets.evaluation import policy
from ml_assets.records import StepResult
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec, ViewSpec

Step = Callable[[Run], Mapping[str, StepResult]]


@dataclass(frozen=True)
class Check:
    """A promise with what it means; a blocking one stops what is downstream."""

    name: str
    description: str
    blocking: bool = False


def step(reference: str, spec: Any) -> Callable[[Run], Any]:
    """A function of this package by name, such as `model.train`, bound to a spec and imported when it is called."""
    module, name = reference.split(".")

    def run_step(run: Run) -> Any:
        return getattr(import_module(f"ml_assets.steps.{module}"), name)(spec, run)

    return run_step


INGEST, FEATURES, LABELS, TRAINING_SET, MODEL, EVALUATION, RELEASE = 1, 2, 1, 1, 1, 2, 1
ENDPOINT, PREDICTIONS, OUTCOMES, CONSISTENCY, DRIFT, PERFORMANCE = 3, 2, 1, 2, 1, 1

KEPT = Check("stored_bytes_match_their_hash", "The stored bytes of every file have the hash that they came with.")
READABLE = Check(
    "files_are_readable_and_have_the_columns",
    "Every file can be read and has exactly the columns of the contract.",
    blocking=True,
)
NOT_EMPTY = Check("deliveries_are_not_empty", "Every delivery holds rows.", blocking=True)
FEW_INVALID = Check(
    "few_rows_break_the_contract",
    "The share of rows in quarantine is at most `invalid_rows.fail_above`.",
    blocking=True,
)
COLUMNS_KNOWN = Check("columns_are_those_of_the_contract", "No file has a column that the contract does not name.")
VALUES_TYPED = Check("values_have_the_types_of_the_contract", "Every value has the type of its column.")
AS_USUAL = Check("statistics_are_as_usual", "No statistic of a column changed by more than its usual spread.")
RECONCILED = Check("no_row_is_lost", "Delivered rows = valid + quarantined + duplicates.", blocking=True)


def of_table(spec: TableSpec) -> tuple[Check, ...]:
    """The checks of a table: on the delivery, on each rule, on the schema, on each expectation, on the statistics."""
    rules = [Check(promise.check, promise.sentence) for promise in spec.promises()]
    policy = [(COLUMNS_KNOWN, spec.schema_drift.columns), (VALUES_TYPED, spec.schema_drift.data_type)]
    drifted = [check for check, word in policy if word != "freeze"]
    return (READABLE, NOT_EMPTY, FEW_INVALID, RECONCILED, *rules, *drifted, *_expected(spec), AS_USUAL)


def _expected(spec: TableSpec | ViewSpec) -> list[Check]:
    return [Check(each.check, each.sentence, blocking=each.severity == "error") for each in spec.expectations]


HINDSIGHT = Check(
    "recomputed_without_later_data_it_is_the_same",
    "The newest day, computed again without anything known later, has the same rows.",
    blocking=True,
)
ARRIVES = Check(
    "rows_arrive_as_soon_as_declared",
    "Rows of the inputs that came live were there at the grid time after their `known_at` plus the view's `delay`.",
    blocking=True,
)
UNIQUE = Check("one_row_per_entity_and_time", "No two rows of an entity share a time.", blocking=True)
GRID_FITS = Check(
    "grid_is_no_finer_than_the_data",
    "Rows become known, and enter or leave the windows, between the times of any wider grid too, if enough can tell.",
    blocking=True,
)
FULL = Check(
    "windows_are_no_longer_than_the_history",
    "The table's days in the lake reach as far back as the longest window, without a week missing: features are whole.",
)
RETAINED = Check("older_versions_in_use_are_computed", "Each older version that a model needs is computed as well.")
ONLINE = Check(
    "online_store_holds_the_newest_rows",
    "The newest rows online are the lake's, bit for bit; of very many, others are compared each day.",
)
ALIVE = Check(
    "no_feature_is_empty_or_constant", "Every feature has values that differ, as they did in the days before."
)
KNOWN_CATEGORIES = Check(
    "categories_were_seen_before", "Every value of a text feature was seen before, in its rows or in training data."
)
AS_EXPECTED = Check(
    "distributions_are_as_expected", "No feature's distribution or statistic changed by more than it usually does."
)


def of_features(spec: ViewSpec) -> tuple[Check, ...]:
    """The checks on what the features of a view are like, with one for each expectation."""
    return (ALIVE, KNOWN_CATEGORIES, AS_EXPECTED, *_expected(spec))


def of_view(spec: ViewSpec) -> tuple[Check, ...]:
    """The checks of a view; each has a finding in every run that materializes."""
    full = (FULL,) if spec.view.aggregations else ()
    return (*of_rows(spec), ARRIVES, *full, RETAINED, ONLINE, *of_features(spec))


def of_rows(spec: ViewSpec) -> tuple[Check, ...]:
    """The checks on how the rows of a view came about."""
    return (HINDSIGHT, UNIQUE) if spec.view.is_static else (HINDSIGHT, UNIQUE, GRID_FITS)


LATER = Check(
    "labels_become_known_after_the_prediction",
    "No label was known at or before the moment of its prediction.",
    blocking=True,
)
LABELLED = Check("most_rows_have_a_label", "At least half of the rows of the spine have a label.")
IN_TIME = Check(
    "splits_follow_each_other_in_time",
    "Training rows come before validation rows, and these before test rows.",
    blocking=True,
)
BOTH = Check("every_split_has_both_labels", "Training, validation and test rows hold both labels.", blocking=True)
REPEATED = Check(
    "rows_come_out_the_same_without_later_data",
    "Rows made again from the tables, without anything known after their time, have the same values.",
    blocking=True,
)
NO_ECHO = Check(
    "no_feature_echoes_the_label",
    "No feature, and no pair of them, tells the label implausibly well.",
    blocking=True,
)
NO_TWINS = Check(
    "no_row_is_in_two_splits", "No validation or test row stands in the training rows as well.", blocking=True
)
FINITE = Check("scores_are_finite_probabilities", "Every score is a probability.", blocking=True)
LEARNT = Check("training_beat_a_constant", "The validation log loss is below that of the constant rate.", blocking=True)
USEFUL = Check("every_feature_is_of_use", "The model loses something on validation rows without each of its inputs.")
TRAINED = (FINITE, LEARNT, USEFUL)
IN_FORCE = Check(
    "champion_is_the_released_version", "The registry's champion is the released version, bit for bit.", blocking=True
)

SERVES = Check("serves_the_released_version", "The released version has the traffic.", blocking=True)
EQUAL_BITS = Check(
    "answers_equal_the_offline_prediction_bit_for_bit",
    "Historical rows through the real server and store give the offline inputs and prediction, bit for bit.",
    blocking=True,
)
ANSWERED = Check(
    "every_row_of_the_spine_was_answered", "Each row that was due has an answer in the log.", blocking=True
)
COVERED = Check("labels_have_come_in", "At least nine in ten predictions have a label.")
CONSISTENT = Check(
    "logged_features_equal_the_offline_ones",
    "What real requests were answered with is what the lake gives for them, but for the share that is tolerated.",
)
STEADY = Check("inputs_and_score_have_not_drifted", "No column moved by more than the declared PSI and than is usual.")
HOLDS = Check("roc_auc_has_not_dropped", "Recent ROC AUC is not surely below that at the release.")

_GATES = {
    policy.ROC_AUC_AT_LEAST: "ROC AUC on the test rows is at least the declared floor.",
    policy.BEATS_BASELINE: "The lower end of the interval of ROC AUC lies above the baseline.",
    policy.BEATS_CHAMPION: "The paired interval of the difference to the champion clears the margin.",
    policy.NO_SLICE_IS_WORSE: "No declared slice is surely worse than the champion's by more than the margin.",
}


def gates(declared: policy.Gates) -> tuple[Check, ...]:
    """The blocking checks of an evaluation."""
    return tuple(Check(name, _GATES[name], blocking=True) for name in policy.names(declared))
