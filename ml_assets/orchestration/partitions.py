"""Daily partitions in UTC, and which partitions of an upstream asset a partition is made from."""

import warnings
from datetime import date, timedelta
from functools import cache

import dagster as dg

from ml_assets.steps.specs import Input


def of(table: Input) -> dg.DailyPartitionsDefinition | None:
    """The partitions of a table, if it has any."""
    return _daily(table.first_day, table.last_day) if table.first_day else None


@cache
def _daily(first: date, last: date | None) -> dg.DailyPartitionsDefinition:
    """From `first` to `last`, both included; without `last` to today, whose deliveries still come."""
    end = (last + timedelta(days=1)).isoformat() if last else None
    today = 0 if last else 1
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_date=end, timezone="UTC", end_offset=today)


def window(key: dg.AssetKey, *, before: int = 0, after: int = 0) -> dg.AssetDep:
    """Depend on the partitions from `before` days before a partition's own to `after` days after it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        mapping = dg.TimeWindowPartitionMapping(
            start_offset=-before, end_offset=after, allow_nonexistent_upstream_partitions=True
        )
    return dg.AssetDep(key, partition_mapping=mapping)
