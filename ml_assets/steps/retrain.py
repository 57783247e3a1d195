"""The retrain policy's view of the world: read from the lake alone, so that a sensor can look every few seconds."""

import json
from collections.abc import Sequence
from datetime import datetime

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.monitoring.retrain import Decision, LastTraining, RetrainState, decide
from ml_assets.steps import release, training_set, watching
from ml_assets.steps.memo import Memo
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec, ModelSpec


def consider(
    spec: ModelSpec, endpoints: Sequence[EndpointSpec], run: Run, *, last_requested: datetime | None
) -> tuple[Decision, datetime | None]:
    """What the policy says now, and the watermark that it was said at."""
    lake = run.lake
    if not (lake.exists(spec.label_table.table) and lake.exists(spec.labels)):
        return decide(spec.retrain, RetrainState(watermark=None, labelled_rows=0)), None
    until = training_set.watermark(spec, lake)
    last = _last_trained(spec, run)
    n_rows, n_new = _labelled(spec, lake, until, last)
    served = release.latest(spec, lake)
    watched = [endpoint for endpoint in endpoints if served]
    performances = [watching.recent_performance(e, run, served.version) for e in watched if served]
    state = RetrainState(
        watermark=until,
        labelled_rows=n_rows,
        new_labelled_rows=n_new,
        last_trained=last,
        drift=[column for endpoint in watched for column in watching.newest_drift(endpoint, run)],
        performance=next((found for found in performances if found), None),
        importance=_importance(spec, lake, served.version) if served else {},
        last_requested=last_requested,
        backlog=len(backlog(spec, lake)),
    )
    return decide(spec.retrain, state), until


def backlog(spec: ModelSpec, lake: Lake) -> list[str]:
    """Days that were delivered and whose features or labels are not computed yet, as `features/x 2013-01-05`."""
    waiting = []
    for view in spec.views:
        delivered = lake.partitions(view.tables[0].table) if lake.exists(view.tables[0].table) else []
        computed = set(lake.partitions(view.name)) if lake.exists(view.name) else set()
        if not view.daily:
            waiting += [] if lake.exists(view.name) else [view.name]
        elif not delivered:
            waiting.append(view.name)
        else:
            waiting += [f"{view.name} {day}" for day in delivered if day not in computed]
    labelled = set(lake.partitions(spec.labels))
    both = set(lake.partitions(spec.spine.table)) & set(lake.partitions(spec.label_table.table))
    return waiting + [f"{spec.labels} {day}" for day in sorted(both - labelled)]


def is_trained(spec: ModelSpec, run: Run, watermark: datetime) -> bool:
    """Whether there is a model from data up to a watermark, released or not."""
    last = _last_trained(spec, run)
    return last is not None and last.watermark >= watermark


def _last_trained(spec: ModelSpec, run: Run) -> LastTraining | None:
    entry = Memo(run.lake, spec.model, version=0, config=None).read()
    served = release.latest(spec, run.lake)
    if entry is None:
        return None
    auc = served.roc_auc if served else None
    return LastTraining(entry.metadata["version"], datetime.fromisoformat(entry.metadata["watermark"]), auc)


def _labelled(spec: ModelSpec, lake: Lake, until: datetime, last: LastTraining | None) -> tuple[int, int]:
    since = f"TIMESTAMPTZ '{last.watermark.isoformat()}'" if last else "TIMESTAMPTZ '-infinity'"
    with connect() as con:
        lake.register(con, "labels", spec.labels)
        ((n_rows, n_new),) = con.execute(f"""
            SELECT count(*), count(*) FILTER ("at" >= {since}) FROM labels
            WHERE "at" < TIMESTAMPTZ '{until.isoformat()}'""").fetchall()
    return n_rows, n_new


def _importance(spec: ModelSpec, lake: Lake, version: str) -> dict[str, float]:
    return json.loads(lake.get_object(f"importance/{spec.name}/{version}.json"))
