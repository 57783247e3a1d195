"""The sensor that decides when a model is trained, in words."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from ml_assets import clock
from ml_assets.orchestration.resources import Platform
from ml_assets.steps.specs import EndpointSpec, ModelSpec

TICK_SECONDS = 10
PATIENCE = timedelta(hours=1)
_MODEL = "ml_assets/model"
UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


def retrain_sensor(spec: ModelSpec, endpoints: Sequence[EndpointSpec]) -> dg.SensorDefinition:
    """Requests a training when the retrain policy says so, and always says why or why not.

    One that failed before there was a model, say while MLflow was away, is asked for again an hour after its end.
    """
    keys = [dg.AssetKey([layer, spec.name]) for layer in ("training_sets", "models", "evaluations", "releases")]

    @dg.sensor(
        name=f"{spec.name}_retrain",
        target=dg.AssetSelection.assets(*keys),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Weighs new rows, drift, performance, schedule and staleness of {spec.name}, and says why.",
    )
    def tick(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from ml_assets.steps import retrain

        if under_way(context.instance, spec):
            return dg.SensorResult(skip_reason="A training is under way.", cursor=context.cursor)
        requested = json.loads(context.cursor)["requested"] if context.cursor else None
        last, run, attempt = datetime.fromisoformat(requested) if requested else None, platform.look(), ""
        ended = given_up_at(context.instance, spec)
        if last and ended and not retrain.is_trained(spec, run, last):
            if clock.now() - ended < PATIENCE:
                reason = f"The training failed at {ended:%H:%M} UTC; it is tried again an hour later."
                return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
            last, attempt = None, f":{ended:%Y-%m-%dT%H:%M}"
        decision, watermark = retrain.consider(spec, endpoints, run, last_requested=last)
        if not decision.retrain or watermark is None:
            return dg.SensorResult(skip_reason=decision.summary, cursor=context.cursor)
        tags = {_MODEL: spec.name, "ml_assets/retrain": ",".join(decision.fired), "ml_assets/why": decision.summary}
        request = dg.RunRequest(
            run_key=f"{spec.name}:{watermark.isoformat()}{attempt}", asset_selection=keys, tags=tags
        )
        return dg.SensorResult(run_requests=[request], cursor=json.dumps({"requested": watermark.isoformat()}))

    return tick


def given_up_at(instance: dg.DagsterInstance, spec: ModelSpec) -> datetime | None:
    """When the latest training of the model ended in failure; None when it did not."""
    newest = instance.get_run_records(dg.RunsFilter(tags={_MODEL: spec.name}), limit=1)
    failed = newest and newest[0].dagster_run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    ended = newest[0].end_time if failed else None
    return datetime.fromtimestamp(ended, UTC) if ended else None


def under_way(instance: dg.DagsterInstance, spec: ModelSpec) -> bool:
    """Whether a training of the model is queued or runs."""
    wanted = dg.RunsFilter(tags={_MODEL: spec.name}, statuses=list(UNDER_WAY))
    return instance.get_runs_count(wanted) > 0
