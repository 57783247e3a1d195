"""When to train again: a pure policy that weighs schedule, new rows, drift, performance and staleness, and says why.

All times are the data's own: the *watermark* is the instant up to which labels are mature. History that
is replayed in an hour is judged as if it had taken its months, and a model does not grow stale while no data arrives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.errors import shorten
from ml_assets.monitoring.cron import parse

if TYPE_CHECKING:
    from ml_assets.monitoring.drift import ColumnDrift
    from ml_assets.monitoring.performance import Performance

UNIMPORTANT = 0.01
"""Share of the model's total gain below which a drifting input is no reason to train: it hardly moves a score."""


@dataclass(frozen=True)
class RetrainPolicy:
    """What is a reason to train again; a rule that is None is not weighed.

    `schedule` is a cron expression in UTC. `performance_drop` is in ROC AUC. `min_rows` are the mature rows a
    first model needs. `cooldown` keeps two trainings apart, whatever the reasons.
    """

    schedule: str | None = None
    new_rows: int | None = None
    drift_psi: float | None = None
    performance_drop: float | None = None
    max_staleness: timedelta | None = None
    cooldown: timedelta = timedelta(days=1)
    min_rows: int = 1000

    def __post_init__(self) -> None:
        """Refuse a wrong schedule when it is declared, not when it is due."""
        if self.schedule is not None:
            parse(self.schedule)


@dataclass(frozen=True)
class LastTraining:
    """The newest model: its version, the watermark of its training set, and the ROC AUC it was released with."""

    version: str
    watermark: datetime
    roc_auc: float | None = None


@dataclass(frozen=True)
class RetrainState:
    """What is known when the policy is asked.

    `labelled_rows` are all mature rows, `new_labelled_rows` those that came since the last training. `drift` and
    `performance` are those of the version that serves. `importance` maps inputs to their share of the model's gain;
    inputs it does not name count in full. `last_requested` is the watermark at which a training was last asked for,
    whatever became of it. `backlog` counts partitions that were delivered and are not computed yet.
    """

    watermark: datetime | None
    labelled_rows: int
    new_labelled_rows: int = 0
    last_trained: LastTraining | None = None
    drift: "Sequence[ColumnDrift]" = ()
    performance: "Performance | None" = None
    importance: Mapping[str, float] = field(default_factory=dict)
    last_requested: datetime | None = None
    backlog: int = 0


@dataclass(frozen=True)
class Reason:
    """One rule that was weighed: whether it asks for a training, and its numbers in words."""

    name: str
    fired: bool
    sentence: str


@dataclass(frozen=True)
class Decision:
    """Whether to train now; `blocked_by` says what held back a training that had reasons."""

    retrain: bool
    reasons: tuple[Reason, ...]
    blocked_by: Reason | None
    summary: str

    @property
    def fired(self) -> tuple[str, ...]:
        """Names of the rules that ask for a training."""
        return tuple(reason.name for reason in self.reasons if reason.fired)


def decide(policy: RetrainPolicy, state: RetrainState) -> Decision:
    """Weigh every declared rule; the same policy and state always give the same words."""
    reasons = tuple(_weigh(policy, state))
    wanted = any(reason.fired for reason in reasons)
    blocked_by = next(_blocks(policy, state), None) if wanted else None
    return Decision(wanted and blocked_by is None, reasons, blocked_by, _summary(reasons, blocked_by))


def _summary(reasons: tuple[Reason, ...], blocked_by: Reason | None) -> str:
    fired = [reason for reason in reasons if reason.fired]
    if blocked_by is not None:
        return f"Waits ({blocked_by.name}): {blocked_by.sentence} Reasons to train: {_sentences(fired)}"
    if fired:
        return f"Trains ({', '.join(reason.name for reason in fired)}): {_sentences(fired)}"
    if not reasons:
        return "Does not train: no rule is declared that could ask for it."
    return f"Does not train: {_sentences(reasons)}"


def _sentences(reasons: Sequence[Reason]) -> str:
    return " ".join(reason.sentence for reason in reasons)


def _weigh(policy: RetrainPolicy, state: RetrainState) -> Iterator[Reason]:
    last, watermark = state.last_trained, state.watermark
    if last is None or watermark is None:
        yield _first_training(policy, state)
        return
    if policy.schedule is not None:
        yield _schedule(policy.schedule, last, watermark)
    if policy.new_rows is not None:
        yield _new_rows(policy.new_rows, state.new_labelled_rows, last)
    if policy.drift_psi is not None:
        yield _drift(policy.drift_psi, state)
    if policy.performance_drop is not None:
        yield _performance(policy.performance_drop, last, state.performance)
    if policy.max_staleness is not None:
        yield _staleness(policy.max_staleness, last, watermark)


def _first_training(policy: RetrainPolicy, state: RetrainState) -> Reason:
    has = f"{state.labelled_rows:,} rows have mature labels, a first model needs {policy.min_rows:,}."
    if state.last_trained is not None:
        return Reason("first_training", False, "No row has a mature label.")
    enough = state.watermark is not None and state.labelled_rows >= policy.min_rows
    return Reason("first_training", enough, f"There is no model yet; {has}")


def _schedule(expression: str, last: LastTraining, watermark: datetime) -> Reason:
    due = parse(expression).latest(watermark)
    passed = due > last.watermark
    said = "has passed" if passed else "has not come again"
    return Reason(
        "schedule",
        passed,
        f"The schedule '{expression}' {said} since the data of version {last.version}: it last fell due on {_at(due)},"
        f" that data ends {_at(last.watermark)}.",
    )


def _new_rows(threshold: int, n: int, last: LastTraining) -> Reason:
    return Reason(
        "new_rows", n >= threshold, f"{n:,} rows were labelled since version {last.version} (limit {threshold:,})."
    )


def _drift(threshold: float, state: RetrainState) -> Reason:
    if not state.drift:
        return Reason("drift", False, "Drift has not been measured yet.")
    judged = [found for found in state.drift if found.enough_rows]
    if not judged:
        return Reason("drift", False, "Drift could not be judged: too few rows.")
    matters = [found for found in judged if state.importance.get(found.column, 1.0) >= UNIMPORTANT]
    moved = sorted((found for found in matters if _moved(found, threshold)), key=lambda found: -found.psi)
    ignored = sorted(found.column for found in judged if found not in matters and _moved(found, threshold))
    aside = f" Ignored, since the model hardly uses them: {shorten(ignored)}." if ignored else ""
    if moved:
        named = shorten(f"{found.column} (PSI {found.psi:.3f})" for found in moved)
        return Reason("drift", True, f"Inputs have drifted: {named}, limit {threshold:g}.{aside}")
    top = max(matters, key=lambda found: found.psi, default=None)
    largest = f" the largest PSI is {top.psi:.3f} ({top.column})," if top else ""
    return Reason("drift", False, f"No input that matters has drifted:{largest} limit {threshold:g}.{aside}")


def _moved(found: "ColumnDrift", threshold: float) -> bool:
    return found.psi >= max(threshold, found.usual or 0.0) or found.structural_psi >= threshold


def _performance(threshold: float, last: LastTraining, recent: "Performance | None") -> Reason:
    if recent is None or not recent.mature or recent.roc_auc is None or recent.roc_auc_high is None:
        return Reason("performance", False, "Performance is not known yet: no mature labels of both classes.")
    if last.roc_auc is None:
        return Reason("performance", False, f"Version {last.version} has no ROC AUC to compare with.")
    drop = last.roc_auc - recent.roc_auc
    # a drop that the interval does not exclude may be chance, and a training would not mend it
    fired = drop >= threshold and recent.roc_auc_high < last.roc_auc
    numbers = (
        f"ROC AUC was {last.roc_auc:.3f} at release and is {recent.roc_auc:.3f}"
        f" (95 % up to {recent.roc_auc_high:.3f}) over {recent.n_labelled:,} predictions"
        f" from {recent.first_day} to {recent.last_day}; limit is a drop of {threshold:g}"
    )
    chance = ", and this one may be chance" if drop >= threshold and not fired else ""
    return Reason("performance", fired, f"{numbers}{chance}.")


def _staleness(limit: timedelta, last: LastTraining, watermark: datetime) -> Reason:
    age = watermark - last.watermark
    return Reason(
        "staleness",
        age >= limit,
        f"Version {last.version} is {_span(age)} of data old (limit {_span(limit)}).",
    )


def _blocks(policy: RetrainPolicy, state: RetrainState) -> Iterator[Reason]:
    if state.backlog:
        yield Reason("backlog", True, f"{state.backlog} delivered partitions are still to be computed.")
    requested, watermark = state.last_requested, state.watermark
    if watermark is None:
        return
    if requested is not None and watermark <= requested:
        yield Reason(
            "asked_already", True, f"A training was asked for with the same data, which ends {_at(requested)}."
        )
    newest = max((at for at in (requested, state.last_trained and state.last_trained.watermark) if at), default=None)
    if state.last_trained is not None and newest is not None and watermark - newest < policy.cooldown:
        since = f"Only {_span(watermark - newest)} of new data since the last training"
        yield Reason("cooldown", True, f"{since} (cooldown {_span(policy.cooldown)}).")


def _at(instant: datetime) -> str:
    return f"{instant:%a %Y-%m-%d %H:%M} UTC"


def _span(interval: timedelta) -> str:
    hours = interval.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
