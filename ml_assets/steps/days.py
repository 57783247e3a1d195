"""Daily partition keys, `YYYY-MM-DD` in UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from ml_assets import clock
from ml_assets.steps.specs import DAY, TableSpec


def shift(partition: str, days: int) -> str:
    """The daily partition so many days later."""
    return (datetime.fromisoformat(partition) + days * DAY).date().isoformat()


def start_of(partition: str) -> datetime:
    """The first instant of a daily partition."""
    return datetime.fromisoformat(partition).replace(tzinfo=UTC)


def holds(table: TableSpec, partition: str) -> bool:
    """Whether a daily table has this partition by now: files may land before their day begins."""
    day, last = datetime.fromisoformat(partition).date(), table.last_day or clock.now().date()
    return table.first_day is not None and table.first_day <= day <= last


def runs_of(partitions: Sequence[str]) -> list[tuple[str, str]]:
    """First and last of each run of consecutive days."""
    days = sorted(partitions)
    breaks = [i for i, (a, b) in enumerate(pairwise(days), 1) if shift(a, 1) != b]
    return [(days[i], days[j - 1]) for i, j in pairwise([0, *breaks, len(days)])] if days else []
