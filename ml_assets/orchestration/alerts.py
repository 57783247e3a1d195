"""One message to people when a run gives up, and none before: retries are the machine's business."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import dagster as dg

from ml_assets import clock

TICK_SECONDS = 10
QUIET = timedelta(hours=24)
_ALERT = "ml_assets/alert"
_WILL_RETRY = "dagster/will_retry"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_NEXT = {
    "SourceUnavailableError": "See that the source answers; it is asked again within the hour.",
    "RegistryUnavailableError": "See that MLflow answers; the step is asked for again within the hour.",
    "DeliveryError": "Ask the source for a corrected delivery; until it comes, what stood before stays.",
    "DeclarationError": "Correct the declaration and reload; then materialize the asset again.",
    "check": "Look at the asset's checks in the run; what is downstream waits for them.",
}
_ELSE = "Read the run's log, mend the cause, and materialize the asset again."


@dataclass(frozen=True)
class Failed:
    """One step that gave up: the assets that it makes (none for a job without assets), and why."""

    assets: tuple[dg.AssetKey, ...]
    sentence: str
    advice: str

    def named(self, job: str) -> str:
        """What failed, as a person calls it."""
        return ", ".join(key.to_user_string() for key in self.assets) or job


@cache
def alert_sensor() -> dg.SensorDefinition:
    """The one sensor of an installation that tells people of runs that gave up, switched on.

    The same failure is told once in 24 hours, however often it is asked for again, unless it succeeded in between.
    """

    @dg.run_failure_sensor(
        name="alerts",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        description="Tells the addresses in ML_ASSETS_ALERT_URLS when a run has given up: what, why, and what to do.",
    )
    def tick(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        return dg.SkipReason(tell(context.instance, context.dagster_run, context.failure_event.message or ""))

    return tick


def tell(instance: dg.DagsterInstance, run: dg.DagsterRun, said: str) -> str:
    """Send the message of a failed run, if it is news; give what was done, for the tick."""
    from ml_assets.adapters.alerts import send
    from ml_assets.steps.memo import digest

    if run.tags.get(_WILL_RETRY) == "true":
        return f"Run {run.run_id[:8]} of {run.job_name} is run again by itself."
    failures = _failures(instance, run) or [Failed(tuple(sorted(run.asset_selection or ())), said, _ELSE)]
    title = f"{shown(failures, run)} gave up"
    sameness = digest(sorted([failed.named(run.job_name), failed.sentence] for failed in failures))
    if told := _told(instance, run, failures, sameness):
        return f"{title}; people were told of the same {told} and it did not succeed since."
    sent = send(title, message(failures, run))
    if sent.reached:
        instance.add_run_tags(run.run_id, {_ALERT: sameness})
    return f"{title}. {sent} {failures[0].sentence}"


def shown(failures: Sequence[Failed], run: dg.DagsterRun) -> str:
    """The assets or the job of a run, and its partitions."""
    span = _span(run)
    days = "" if span is None else f" {span[0]}" if span[0] == span[1] else f" {span[0]} to {span[1]}"
    return "; ".join(failed.named(run.job_name) for failed in failures) + days


def message(failures: Sequence[Failed], run: dg.DagsterRun) -> str:
    """Why each step gave up, what to do next, and where to look."""
    base = os.environ.get("ML_ASSETS_DAGSTER_URL", "http://127.0.0.1:3000").rstrip("/")
    parts = [f"{failed.named(run.job_name)}: {failed.sentence}\nNext: {failed.advice}" for failed in failures]
    return "\n\n".join([*parts, f"Run: {base}/runs/{run.run_id}"])


def _failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Failed]:
    kinds = dg.DagsterEventType
    wanted = {kinds.STEP_FAILURE, kinds.ASSET_MATERIALIZATION_PLANNED, kinds.ASSET_CHECK_EVALUATION}
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=wanted) if entry.dagster_event]
    planned = defaultdict(set)
    for event in events:
        if event.event_type == kinds.ASSET_MATERIALIZATION_PLANNED and event.asset_key:
            planned[event.step_key].add(event.asset_key)
    return [
        _failed(event, tuple(sorted(planned[event.step_key])), events)
        for event in events
        if event.event_type == kinds.STEP_FAILURE
    ]


def _failed(event: dg.DagsterEvent, assets: tuple[dg.AssetKey, ...], events: Sequence[dg.DagsterEvent]) -> Failed:
    data = event.step_failure_data
    error = data.error
    if error and error.cls_name == "DagsterAssetCheckFailedError":
        return Failed(assets, _broken_promises(events, event.step_key), _NEXT["check"])
    if data.user_failure_data and data.user_failure_data.description:
        kind = data.user_failure_data.metadata.get("error")
        return Failed(assets, data.user_failure_data.description, _NEXT.get(str(kind.value if kind else ""), _ELSE))
    while error and error.cause:
        error = error.cause
    return Failed(assets, error.message.strip() if error else "It says not why.", _ELSE)


def _broken_promises(events: Iterable[dg.DagsterEvent], step: str | None) -> str:
    """The blocking checks that failed at the last attempt, with what they say."""
    found = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION and event.step_key == step
    ]
    last = {(each.asset_key, each.check_name, each.partition): each for each in found}
    broken = [e for e in last.values() if not e.passed and e.blocking and e.severity == dg.AssetCheckSeverity.ERROR]
    return "; ".join(f"check {e.check_name} of {e.asset_key.to_user_string()}: {e.description}" for e in broken)


def _told(instance: dg.DagsterInstance, run: dg.DagsterRun, failures: Sequence[Failed], sameness: str) -> str | None:
    """When people were told of the same failure, if that is not long ago and nothing of it succeeded since."""
    lately = dg.RunsFilter(tags={_ALERT: sameness}, updated_after=clock.now() - QUIET)
    before = instance.get_run_records(lately, limit=1)
    if not before or not before[0].end_time:
        return None
    since, assets = before[0].end_time, [key for failed in failures for key in failed.assets]
    if any(_succeeded(instance, key, _span(run), since) for key in assets):
        return None
    return f"at {before[0].update_timestamp:%H:%M} UTC"


def _succeeded(instance: dg.DagsterInstance, key: dg.AssetKey, span: tuple[str, str] | None, since: float) -> bool:
    """Whether a run that came to a good end made one of these partitions meanwhile."""
    made = instance.fetch_materializations(dg.AssetRecordsFilter(key, after_timestamp=since), limit=1000).records
    runs = {each.run_id for each in made if span is None or span[0] <= (each.partition_key or "") <= span[1]}
    return bool(runs) and bool(
        instance.get_runs(dg.RunsFilter(run_ids=list(runs), statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    )


def _span(run: dg.DagsterRun) -> tuple[str, str] | None:
    one = run.tags.get("dagster/partition")
    if one:
        return one, one
    return (run.tags[_FIRST], run.tags[_LAST]) if _FIRST in run.tags and _LAST in run.tags else None
