"""The online store: the newest feature rows of every entity, as they stand in the lake."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.records import Finding
from ml_assets.steps.arrow import among
from ml_assets.steps.days import runs_of, shift, start_of
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

_ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


def findings(spec: ViewSpec, run: Run, rows: "pa.Table | None", days: Sequence[str]) -> tuple[Finding, ...]:
    """Put the rows just computed online; without any (None) only fill a store that has lost the view."""
    if days:
        _keep(spec, run, rows)
    return ()


def _keep(spec: ViewSpec, run: Run, rows: "pa.Table | None" = None) -> None:
    """Write fresh rows to the online store; a store that has lost the view gets its newest days from the lake."""
    store, view = run.online_store, spec.view
    if rows is None:
        if view.name not in store.views():
            _keep(spec, run, _newest_rows(spec, run.lake))
        return
    columns = [*view.entity, FEATURE_TIMESTAMP, *view.features()]
    if not spec.daily:  # all of them, so that an entity that has left the table leaves the store as well
        always = {"first": _ALWAYS[0], "last": _ALWAYS[1]}
        store.replace(view.name, view.entity, view.features(), rows.select(columns), keep=None, **always)
    days = sorted(set(rows["partition_key"].to_pylist())) if spec.daily else []
    for first, last in runs_of(days):
        part = among(rows, "partition_key", [day for day in days if first <= day <= last]).select(columns)
        span = {"first": start_of(first), "last": start_of(last) + DAY - timedelta(microseconds=1)}
        store.replace(view.name, view.entity, view.features(), part, keep=spec.keep, **span)


def _newest_rows(spec: ViewSpec, lake: Lake) -> "pa.Table":
    newest = max(lake.partitions(spec.name), default="")
    span = PartitionRange(shift(newest, -(spec.keep // DAY)), newest) if newest else None
    return lake.dataset(spec.name, partitions=span).to_table()
