"""Which partitions of a table are out of line with the ones before them, judged by their profiles.

A statistic of a column is out of line when it lies outside what was usual. That is the span of four values, widened by
six spreads on either side. The values are the median of the last 28 partitions, that of the same weekday (where there
are four), that of the last three (so a new level is flagged twice and then is the usual one), and the range of the last
84 without the two farthest at each end. The spread is the largest of 1.48 MAD of the last 28, a quarter of that range
(a fourteenth for the number of rows), and a floor: a twentieth of the column's own width (p05 to p95), 2 points
of a share, 2 % for rows, 4 % for distinct values. Counts are compared as ratios, so that half is as far as double.
Fewer than 28 earlier partitions make the margin wider, by up to 71 %; with fewer than 8 nothing is flagged.

Measured on the flights of 2013 by day, each day against those before it: 10 steps in a year of outcomes (7 of them the
blizzard of 9 February), 5 of schedules (the blizzard, holidays, the last day's rest), 12 of hourly weather (the wind of
1,048 mph among them). Planted on 30 days each: minutes into seconds was flagged on 30 of 30 for each of the three
durations, a constant text column or duration on 30 of 30, twice the rows of a day on 28 of 30 (outcomes) and 30 of 30
(schedules), half of them on 26 and 30. What is mostly one value anyway (no rain, full visibility) can turn constant
unseen, and a column that is often half empty can lose its values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.tables.profile import PROFILE_SCHEMA, QUANTILES, ROWS

if TYPE_CHECKING:
    import pyarrow as pa

REMEMBERED = 84  # how many earlier partitions count
_RECENT, _LEAST, _LATEST, _SPREADS, _TRIMMED = 28, 8, 3, 6, 2
_P01, _P05, _MEDIAN, _P95, _P99 = (QUANTILES.index(at) for at in (0.01, 0.05, 0.5, 0.95, 0.99))
_COUNTS = ("rows", "distinct")
_WORDS = {"rows": "rows", "null share": "without a value", "distinct": "distinct values"}

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Step:
    """A statistic of a partition's column (`""` for the number of rows) that is not what was usual."""

    partition: str
    column: str
    statistic: str
    value: float
    usual_low: float
    usual_high: float
    sentence: str


def steps_out_of_line(history: "pa.Table", current: "pa.Table") -> list[Step]:
    """Compare each partition of `current` with the `REMEMBERED` ones before it in either table, in order of partition.

    Both are profiles; where both have a partition, `current` counts. There is one step a column, for the statistic that
    is farthest out. Distinct values that change along with the number of rows are not mentioned.
    """
    series = _read(together(history, current))
    wanted = set(current["partition_key"].to_pylist())
    return [
        step
        for place, partition in enumerate(series.partitions)
        if partition in wanted and place >= _LEAST
        for step in _steps(series, place)
    ]


def together(history: "pa.Table", current: "pa.Table") -> "pa.Table":
    """The profiles of both tables; where both have a partition, `current` counts."""
    import pyarrow as pa

    schema, replaced = PROFILE_SCHEMA(), set(current["partition_key"].to_pylist())
    keep = [key not in replaced for key in history["partition_key"].to_pylist()]
    kept = history if all(keep) else history.filter(pa.array(keep, pa.bool_()))
    selected = [profiles.select(schema.names) for profiles in (kept, current)]
    return pa.concat_tables([rows if rows.schema.equals(schema) else rows.cast(schema) for rows in selected])


@dataclass(frozen=True)
class _Series:
    """Statistics by partition (down) and by column and name (across); NaN where there is none. Counts are logarithms.

    `floors` is the least that counts as a spread; it may depend on the partition.
    """

    partitions: Sequence[str]
    named: Sequence[tuple[str, str]]
    values: Floats
    floors: Floats
    weekdays: Floats


def _read(profiles: "pa.Table") -> _Series:
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    read = profiles.select(["partition_key", "column", "type", "n", "nulls", "distinct", "mean", "quantiles"])
    for row in read.to_pylist():
        for statistic, value, floor in _statistics(row):
            found.setdefault((row["column"], statistic), {})[row["partition_key"]] = value, floor
    partitions = sorted({partition for by_partition in found.values() for partition in by_partition})
    absent = (np.nan, np.nan)
    both = np.array([[found[name].get(partition, absent) for name in found] for partition in partitions])
    both = both.reshape(len(partitions), len(found), 2)
    return _Series(partitions, list(found), both[..., 0], both[..., 1], np.array([_weekday(p) for p in partitions]))


def _statistics(row: dict) -> Iterator[tuple[str, float, float]]:
    """Names, values and the least spread of each."""
    n = row["n"]
    if row["column"] == ROWS:
        yield "rows", np.log(max(n, 0.5)), max(0.02, 1 / max(n, 1))
        return
    yield "null share", row["nulls"] / n if n else 0.0, 0.02
    if row["type"] != "BOOLEAN":
        yield "distinct", np.log(max(row["distinct"], 0.5)), 0.04
    if row["mean"] is None:  # dates and times move on by themselves
        return
    at = row["quantiles"]
    floor = 0.05 * (at[_P95] - at[_P05]) if at else 0.01
    for name, value in {"mean": row["mean"], **dict(zip(("p01", "median", "p99"), _some(at), strict=False))}.items():
        yield name, value, max(floor, 0.001 * abs(value))


def _some(quantiles: Sequence[float]) -> list[float]:
    return [quantiles[at] for at in (_P01, _MEDIAN, _P99)] if quantiles else []


def _weekday(partition: str) -> float:
    try:
        return date.fromisoformat(partition).weekday()
    except ValueError:
        return np.nan


def _steps(series: _Series, place: int) -> list[Step]:
    """What is out of line in one partition, in the order of its columns."""
    known = np.isfinite(series.values[place])
    known &= np.isfinite(series.values[max(0, place - _RECENT) : place]).sum(axis=0) >= _LEAST
    if not known.any():
        return []
    low, high, spread = _usual(series, place, known)
    value = series.values[place, known]
    margin = spread * _SPREADS * (1 + max(0, _RECENT - place) / _RECENT)
    with np.errstate(divide="ignore", invalid="ignore"):  # what never varied is out of line as soon as it does
        beyond = np.maximum(low - value, value - high) / margin
    named = [name for name, is_known in zip(series.named, known, strict=True) if is_known]
    rows = named.index((ROWS, "rows")) if (ROWS, "rows") in named else None
    farthest: dict[str, tuple[float, Step]] = {}
    for i in np.flatnonzero(beyond > 1):
        column, statistic = named[i]
        along = rows is not None and beyond[rows] > 1 and (value[rows] > high[rows]) == (value[i] > high[i])
        if beyond[i] > farthest.get(column, (0.0,))[0] and not (statistic == "distinct" and along):
            step = _step(series.partitions[place], *named[i], value[i], low[i] - margin[i], high[i] + margin[i])
            farthest[column] = float(beyond[i]), step
    return [step for _, step in farthest.values()]


def _usual(series: _Series, place: int, known: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """The span of the usual values and the spread, of each known statistic."""
    past = series.values[max(0, place - REMEMBERED) : place, known]
    recent = past[-_RECENT:]
    median = np.nanmedian(recent, axis=0)
    weekdays = series.weekdays[max(0, place - _RECENT) : place]
    same = _median(recent[weekdays == series.weekdays[place]], 4, median)
    latest = _median(recent[-_LATEST:], 1, median)
    least, most = _range(past)
    centres = np.array([median, same, latest, least, most])
    names = [statistic for (_, statistic), is_known in zip(series.named, known, strict=True) if is_known]
    part = np.array([14 if name == "rows" else 4 for name in names])
    mad = 1.4826 * np.nanmedian(np.abs(recent - median), axis=0)
    floors = series.floors[max(0, place - REMEMBERED) : place, known]
    floor = np.where([name in _COUNTS for name in names], np.nanmedian(floors, axis=0), np.nanmax(floors, axis=0))
    return centres.min(axis=0), centres.max(axis=0), np.max([mad, (most - least) / part, floor], axis=0)


def _median(values: Floats, least: int, otherwise: Floats) -> Floats:
    """The median of each column of values, where there are enough."""
    enough = np.isfinite(values).sum(axis=0) >= least
    if not enough.any():
        return otherwise
    return np.where(enough, np.nanmedian(np.where(enough, values, 0.0), axis=0), otherwise)


def _range(past: Floats) -> tuple[Floats, Floats]:
    """The least and the greatest of each column, without the two farthest where there are 17 values."""
    ordered = np.sort(past, axis=0)  # NaN last
    n = np.isfinite(past).sum(axis=0)
    left_out = np.minimum(_TRIMMED, (n - 1) // 8)
    across = np.arange(past.shape[1])
    return ordered[left_out, across], ordered[n - 1 - left_out, across]


def _step(partition: str, column: str, statistic: str, value: float, low: float, high: float) -> Step:
    value, low, high = (float(np.exp(x)) if statistic in _COUNTS else float(x) for x in (value, low, high))
    if statistic in _COUNTS:
        value = float(round(value))
    if statistic == "null share":
        low, high = max(low, 0.0), min(high, 1.0)
    shown = [f"{x:.1%}" if statistic == "null share" else _number(x, statistic) for x in (value, low, high)]
    of = f"'{column}' of {partition}" if column else partition
    words = _WORDS.get(statistic)
    what = f"{of} has {shown[0]} {words}" if words else f"The {statistic} of {of} is {shown[0]}"
    return Step(partition, column, statistic, value, low, high, f"{what}; usual is {shown[1]} to {shown[2]}.")


def _number(x: float, statistic: str) -> str:
    return f"{x:,.0f}" if statistic in _COUNTS else f"{x:.4g}"
