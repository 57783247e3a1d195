"""Sensors at the border of the graph: they look at the world and request exactly what is new."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import dagster as dg

from ml_assets.adapters.sources.base import Look, PartitionState, Sql
from ml_assets.errors import SourceUnavailableError, shorten
from ml_assets.orchestration.resources import Platform
from ml_assets.steps.days import holds, runs_of
from ml_assets.steps.memo import digest
from ml_assets.steps.specs import TableSpec

TICK_SECONDS = 5
_RUNNING = dg.DefaultSensorStatus.RUNNING
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def arrivals(spec: TableSpec) -> dg.SensorDefinition:
    """Requests the partitions of a table whose delivered content is new, consecutive days in one run.

    The run key holds the content and when it was written, so that the same delivery never runs twice, and one that
    brings former content back runs again. A cursor that was lost costs nothing but hashing. Files of days that the
    table does not have, or not yet, wait outside of the cursor.
    """
    keys = [dg.AssetKey(["raw", spec.name]), dg.AssetKey(["tables", spec.name])]

    @dg.sensor(
        name=f"{spec.name}_arrivals",
        target=dg.AssetSelection.assets(*keys),
        default_status=_RUNNING,
        minimum_interval_seconds=_interval(spec),
        description=f"Requests the partitions of {spec.name} of which its source has new content.",
    )
    def tick(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from ml_assets.steps.deliver import source_of

        source = source_of(spec, platform.look())
        seen = {key: PartitionState(**state) for key, state in json.loads(context.cursor or "{}").items()}
        try:
            found = source.look(seen)
        except SourceUnavailableError as error:
            return dg.SensorResult(skip_reason=f"{error} It is looked at again.", cursor=context.cursor)
        now = {key: state for key, state in found.states.items() if not spec.daily or holds(spec, key)}
        fresh = [key for key, state in now.items() if key not in seen or seen[key].digest != state.digest]
        cursor = json.dumps({key: asdict(state) for key, state in now.items()})
        if not fresh:
            return dg.SensorResult(skip_reason=_nothing_new(source.label, found, now), cursor=cursor)
        contents = {key: digest([now[key].digest, now[key].stat]) for key in fresh}
        return dg.SensorResult(run_requests=requests(spec.name, keys, contents), cursor=cursor)

    return tick


def _interval(spec: TableSpec) -> int:
    """A database is asked as often as the table says; other sources cost nothing to look at, or tell by the time."""
    return max(TICK_SECONDS, int(spec.source.every.total_seconds())) if isinstance(spec.source, Sql) else TICK_SECONDS


def requests(
    name: str, keys: Sequence[dg.AssetKey], contents: Mapping[str, str], *, tags: Mapping[str, str] | None = None
) -> list[dg.RunRequest]:
    """One run request for each run of consecutive partitions, keyed by what they contain."""
    if "" in contents:
        return [dg.RunRequest(run_key=f"{name}:{contents['']}", asset_selection=list(keys), tags=dict(tags or {}))]
    found = []
    for first, last in runs_of(list(contents)):
        content = digest({day: hashed for day, hashed in contents.items() if first <= day <= last})
        span = {_FIRST: first, _LAST: last, **(tags or {})}
        run_key = f"{name}:{first}..{last}:{content}"
        found.append(dg.RunRequest(run_key=run_key, asset_selection=list(keys), tags=span))
    return found


def _nothing_new(label: str, found: Look, now: Mapping[str, PartitionState]) -> str:
    outside = sorted(set(found.states) - set(now))
    stray = [*found.problems, *(f"{day}, no day of this table by now" for day in outside)]
    n_files = sum(state.n_files for state in now.values())
    text = f"Nothing new: {n_files} files in {len(now)} partitions of {label}."
    return text + (f" Left out: {shorten(stray)}" if stray else "")
