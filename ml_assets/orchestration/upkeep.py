"""Sensors of a running endpoint, and the schedule that finds what the conditions missed."""

import json
from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from ml_assets.orchestration.resources import Platform
from ml_assets.orchestration.retraining import UNDER_WAY
from ml_assets.orchestration.sensors import requests
from ml_assets.steps.days import holds
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec

TICK_SECONDS = 10
RECONCILE_CRON = "*/10 * * * *"
_RUNNING = dg.DefaultSensorStatus.RUNNING
# Dagster's own job: one of a selection would refuse tables of a use case that begin on different days.
_EVERY_ASSET = "__ASSET_JOB"
Pending = Callable[[Run], Mapping[str, str]]


def log_sensor(spec: EndpointSpec) -> dg.SensorDefinition:
    """Requests the days about which clients asked since the last look; what the graph asked itself it has kept."""
    key = dg.AssetKey(["predictions", spec.name])

    @dg.sensor(
        name=f"{spec.name}_prediction_log",
        target=dg.AssetSelection.assets(key),
        default_status=_RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Requests the days that {spec.name} was asked about since the last look at its log.",
    )
    def tick(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from ml_assets.steps import endpoint

        seen = json.loads(context.cursor or "{}")
        segments, asked = endpoint.unread(spec, platform.look(), seen)
        days = {day: content for day, content in asked.items() if holds(spec.model.spine, day)}
        cursor = json.dumps(segments)
        if not days:
            return dg.SensorResult(skip_reason=f"No new answers in {len(segments)} log segments.", cursor=cursor)
        return dg.SensorResult(run_requests=requests(f"{spec.name}_log", [key], days), cursor=cursor)

    return tick


def health_sensor(spec: EndpointSpec) -> dg.SensorDefinition:
    """Requests the endpoint again when its server has died."""
    key = dg.AssetKey(["endpoints", spec.name])

    @dg.sensor(
        name=f"{spec.name}_health",
        target=dg.AssetSelection.assets(key),
        default_status=_RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Starts {spec.name} again when its server is down.",
    )
    def tick(platform: Platform) -> dg.RunRequest | dg.SkipReason:
        from ml_assets.steps import endpoint, release

        run = platform.look()
        if release.latest(spec.model, run.lake) is None:
            return dg.SkipReason("Nothing is released yet.")
        if gone := endpoint.gone(spec, run):
            return dg.RunRequest(run_key=f"{spec.name}:down:{gone}", asset_selection=[key])
        status = endpoint.local(spec, run).status()
        if status.generation is None:
            return dg.SkipReason("It starts." if status.alive else "It was never started.")
        return dg.SkipReason(f"Serves {dict(status.weights)} at {status.url}.")

    return tick


def reconciliation(group: str, levels: Sequence[tuple[Sequence[dg.AssetKey], Pending]]) -> dg.ScheduleDefinition:
    """Every ten minutes, requests the partitions whose inputs are not those that they were computed from.

    Only those that were missing at the last look too, since a condition may be about to run them. What fails again and
    again is asked for once an hour, and never while a run of the same assets is under way.
    """

    @dg.schedule(
        name=f"{group}_reconcile",
        cron_schedule=RECONCILE_CRON,
        job_name=_EVERY_ASSET,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Finds what the conditions of {group} missed: they see changes, this sees the state.",
    )
    def tick(context: dg.ScheduleEvaluationContext, platform: Platform) -> list[dg.RunRequest] | dg.SkipReason:
        from ml_assets.steps.pending import seen_twice

        run, busy = platform.look(), _under_way(context.instance)
        hour = f"{context.scheduled_execution_time:%Y-%m-%dT%H}"
        missing = {keys[-1].to_user_string(): pending(run) for keys, pending in levels if not busy & set(keys)}
        lasting = seen_twice(group, run, missing)
        found = [
            request
            for keys, _ in levels
            if (days := lasting.get(keys[-1].to_user_string()))
            for request in requests(f"{keys[-1].to_user_string()}:reconcile:{hour}", keys, days)
        ]
        if not found and any(missing.values()):
            return dg.SkipReason("Some partitions wait to be computed; they are asked for if they still do next time.")
        return found or dg.SkipReason("Everything is computed from the inputs that stand.")

    return tick


def _under_way(instance: dg.DagsterInstance) -> set[dg.AssetKey]:
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    return {key for run in runs for key in run.asset_selection or ()}
