"""Judges what counts alone tell: missing values, spikes of them, and the number of rows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from ml_assets import engine
from ml_assets.tables.evidence import Evidence, History, day, median, on, percent
from ml_assets.tables.expectations import LEAST_HISTORY, Expectation, Missing, MissingSpike, Verdict, Volume

if TYPE_CHECKING:
    import numpy as np

_LEAST_WEEKDAYS = 4


def not_judged(expected: Expectation, partition: str, why: str, **numbers: Any) -> Verdict:
    """A verdict that passes, and says why nothing was judged."""
    sentence = f"Not judged{on(partition)}: {why}."
    return Verdict(expected.check, partition, True, expected.severity, sentence, {"judged": False, **numbers})


def missing(expected: Missing, partitions: Sequence[str], history: History, given: Evidence) -> Iterator[Verdict]:
    """The share of nulls, of each partition by itself."""
    nulls = history.nulls(expected.column)
    for partition in partitions:
        at = history.at.get(partition, -1)
        n, empty = (history.rows[at], nulls[at]) if at >= 0 else (float("nan"), float("nan"))
        if not (n > 0 and empty >= 0):  # NaN where there is no profile
            yield not_judged(expected, partition, "there are no rows")
            continue
        share = float(empty / n)
        said = f"{expected.column}: {percent(share)} missing{on(partition)} ({int(empty):,} of {int(n):,})"
        numbers = {"missing": int(empty), "rows": int(n), "share": share, "below": expected.below}
        where = f"{engine.quote(expected.column)} IS NULL"
        yield Verdict(
            expected.check,
            partition,
            share < expected.below,
            expected.severity,
            f"{said}, less than {100 * expected.below:g} % is allowed.",
            numbers,
            query=given.query(partition, where),
        )


def spikes(expected: MissingSpike, partitions: Sequence[str], history: History, given: Evidence) -> Iterator[Verdict]:
    """The share of nulls against the share that is usual."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        shares = history.nulls(expected.column) / history.rows
    windows = history.recent(shares)
    known = (~np.isnan(windows)).sum(axis=1)
    usual = median(windows)
    limits = usual + _margins(expected, windows, usual, history.rows)
    for partition in partitions:
        at = history.at.get(partition, -1)
        if at < 0 or np.isnan(shares[at]):
            yield not_judged(expected, partition, "there are no rows")
        elif known[at] < LEAST_HISTORY:
            yield not_judged(expected, partition, f"only {known[at]} of {LEAST_HISTORY} earlier partitions are known")
        else:
            share, before, limit = (float(each[at]) for each in (shares, usual, limits))
            said = f"{expected.column}: {percent(share)} missing{on(partition)}, usually {percent(before)}"
            numbers = {"share": share, "usual": before, "limit": limit, "history": int(known[at])}
            where = f"{engine.quote(expected.column)} IS NULL"
            yield Verdict(
                expected.check,
                partition,
                share <= limit,
                expected.severity,
                f"{said}; up to {percent(limit)} is no spike.",
                numbers,
                query=given.query(partition, where),
            )


def _margins(expected: MissingSpike, windows: "np.ndarray", usual: "np.ndarray", rows: "np.ndarray") -> "np.ndarray":
    """How far above the usual share is no spike: see `MissingSpike`."""
    import numpy as np

    spread = 1.4826 * median(np.abs(windows - usual[:, None]))
    n = np.fmax(rows, 1)
    error = np.sqrt(np.fmax(usual, 1 / n) * (1 - np.fmin(usual, 1)) / n)
    return np.fmax(np.fmax(expected.spreads * spread, expected.at_least), 3 * error)


def volume(expected: Volume, partitions: Sequence[str], history: History, given: Evidence) -> Iterator[Verdict]:
    """The number of rows against the usual number."""
    import numpy as np

    windows = history.recent(history.rows)
    days = [day(partition) for partition in history.partitions]
    weekdays = np.array([np.nan if each is None else each.weekday() for each in days])
    same = np.where(history.recent(weekdays) == weekdays[:, None], windows, np.nan)
    by_weekday = (~np.isnan(same)).sum(axis=1) >= _LEAST_WEEKDAYS
    usual = np.where(by_weekday, median(same), median(windows))
    known = (~np.isnan(windows)).sum(axis=1)
    for partition in partitions:
        at = history.at.get(partition, -1)
        n = 0 if at < 0 or np.isnan(history.rows[at]) else int(history.rows[at])
        if at < 0 or known[at] < LEAST_HISTORY:
            so_far = 0 if at < 0 else int(known[at])
            why = f"only {so_far} of {LEAST_HISTORY} earlier partitions are known"
            yield not_judged(expected, partition, why, rows=n)
        elif not _is_over(partition, given.now):
            yield not_judged(expected, partition, f"the day is not over; {n:,} rows so far", rows=n)
        else:
            yield _volume(expected, partition, n, float(usual[at]), bool(by_weekday[at]), given)


def _volume(expected: Volume, partition: str, n: int, usual: float, by_weekday: bool, given: Evidence) -> Verdict:
    ratio = n / usual if usual else float(n > 0) or 1.0
    whose = "of the same weekday" if by_weekday else "of the partitions before"
    said = f"{n:,} rows{on(partition)}, {ratio:.2f} times the median {whose} ({usual:,.0f})"
    numbers = {"rows": n, "usual": usual, "ratio": ratio, "at_least": expected.at_least, "at_most": expected.at_most}
    passed = expected.at_least <= ratio <= expected.at_most
    sentence = f"{said}; {expected.at_least:g} to {expected.at_most:g} times is expected."
    return Verdict(
        expected.check, partition, passed, expected.severity, sentence, numbers, query=given.query(partition, "true")
    )


def _is_over(partition: str, now: datetime) -> bool:
    start = day(partition)
    return start is None or datetime.combine(start, time(), tzinfo=UTC) + timedelta(days=1) <= now
