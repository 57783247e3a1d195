"""Whether the features of a view are alive and distributed as before, judged by the profiles of its days.

The newest day is judged, by the 84 before it: what older days of a long run were like is no news. A feature is *dead*
when it has no value, and *constant* when one value stands in at least nine of ten rows and there is no other; a
feature of rain is both constant and right for a week, so it counts only when it lasts longer than it ever did.

How far a distribution moved is the population stability index (PSI) between a day and the 28 before it, over tenths of
those (words: the twenty most frequent), with one more bin for rows without a value. Rows of one day are no sample of a
month: a feature over 28 days moves slowly, the weather of a day is its own. So a PSI is out of line only above 0.25 and
above what is usual, mean + 3.5 standard deviations of the log PSI of the 28 days before, as `monitoring.calibrate` has
it with 2.8. On the flights of 2013, day by day over 49 features, that is 25 of 17,885 feature days, most of them the
blizzard of 9 February and the holidays; nothing was called dead or constant.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.tables.evidence import percent
from ml_assets.tables.profile import ROWS
from ml_assets.tables.shift import psi
from ml_assets.tables.trend import REMEMBERED

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_HISTORY, LEAST_CONSTANT = 7, 14
REFERENCE, LEAST_REFERENCE, COMPARED, LEAST_COMPARED = 28, 14, 28, 10
MAJOR, REACH = 0.25, 3.5
_READ = ["partition_key", "column", "n", "nulls", "distinct", "minimum", "maximum", "histogram", "top"]
_MOSTLY, _GRID, _WORDS = 0.9, 200, 20

Rows = Sequence[Mapping[str, Any]]  # the profiles of one feature, one for each day that has rows, in order
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Lifeless:
    """A feature that tells rows apart no longer, or never did."""

    feature: str
    sentence: str
    value: str | None
    n_days: int


@dataclass(frozen=True)
class Moved:
    """How far a feature's distribution on the newest day lies from that of the days before; `usual` is the limit."""

    feature: str
    psi: float
    usual: float
    missing: float
    missing_before: float
    sentence: str

    @property
    def out_of_line(self) -> bool:
        """Whether it moved by more than it usually does."""
        return self.psi > self.usual


def recent(profiles: "pa.Table") -> Mapping[str, Rows]:
    """The profiles of each feature on the newest day and the 84 before; days without rows are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = sorted(set(profiles["partition_key"].to_pylist()))[-REMEMBERED - 1 :]
    kept = profiles.select(_READ).filter(pc.is_in(profiles["partition_key"], pa.array(keys, pa.string())))  # pyright: ignore[reportAttributeAccessIssue]  made at run time
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(kept.to_pylist(), key=lambda row: row["partition_key"]):
        if row["column"] != ROWS and row["n"]:
            found.setdefault(row["column"], []).append(row)
    return found


def lifeless(features: Mapping[str, Rows]) -> Iterator[Lifeless]:
    """The features that are dead or constant on the newest day, and were not before or always were.

    One that lived before counts when it has been so for more than twice as long as ever in at least seven earlier days.
    One that never lived counts at once when it is dead, and after 14 days (a static view: at once) when it is constant.
    """
    for feature, rows in features.items():
        states = [_state(row) for row in rows]
        now = states[-1]
        if now is None:
            continue
        n_days = next((n for n, state in enumerate(reversed(states)) if state != now), len(states))
        earlier = states[:-n_days]
        always = not earlier and (now[0] == "dead" or n_days >= LEAST_CONSTANT or not rows[-1]["partition_key"])
        usual = 2 * _longest(earlier, now[0]) + (now[0] == "constant")
        if always or (len(earlier) >= LEAST_HISTORY and n_days > usual):
            yield _lifeless(feature, now, rows[-n_days:], had_life=bool(earlier))


def _state(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """What kind of dead a feature is on a day, and the one value that it has."""
    known = row["n"] - row["nulls"]
    if not known:
        return "dead", ""
    same = row["minimum"] == row["maximum"] and row["distinct"] <= 1 and known >= _MOSTLY * row["n"]
    return ("constant", row["minimum"]) if same else None


def _longest(states: Sequence[tuple[str, str] | None], kind: str) -> int:
    longest = n = 0
    for state in states:
        n = n + 1 if state and state[0] == kind else 0
        longest = max(longest, n)
    return longest


def _lifeless(feature: str, state: tuple[str, str], rows: Rows, *, had_life: bool) -> Lifeless:
    n, first = sum(row["n"] for row in rows), rows[0]["partition_key"]
    what = "is empty" if state[0] == "dead" else f"is {state[1]}"
    since = f" since {first}" if first else ""
    before = "; before, it had others" if had_life else ""
    sentence = f"'{feature}' {what} in all of {n:,} rows{since}{before}."
    return Lifeless(feature, sentence, state[1] or None, len(rows))


def moved(features: Mapping[str, Rows]) -> Iterator[Moved]:
    """How far each feature moved on the newest day, where there are enough days to tell what is usual."""
    for feature, rows in features.items():
        first = max(LEAST_REFERENCE, len(rows) - 1 - COMPARED)
        counts, of_bins = _below(rows) if any(row["histogram"] for row in rows) else _of_words(rows)
        if len(rows) - 1 - first < LEAST_COMPARED or not counts.any():
            continue
        nulls = np.array([row["nulls"] for row in rows], dtype=float)
        found = [_between(counts, nulls, at, of_bins) for at in range(first, len(rows))]
        logs = np.log(np.maximum(found[:-1], 1e-6))
        usual = max(MAJOR, float(np.exp(logs.mean() + REACH * logs.std(ddof=1))))
        yield _moved(feature, found[-1], usual, rows)


def _between(counts: Floats, nulls: Floats, at: int, of_bins: "_Bins") -> float:
    """The PSI between a day and the 28 before it."""
    days = slice(max(0, at - REFERENCE), at)
    before, now = of_bins(counts[days].sum(axis=0), counts[at])
    return psi(np.append(before, nulls[days].sum()), np.append(now, nulls[at]))


_Bins = Callable[[Floats, Floats], tuple[Floats, Floats]]


def _below(rows: Rows) -> tuple[Floats, _Bins]:
    """How many values lie below each point of a grid over all days; between the edges of bins they lie evenly."""
    steps = _steps([row["histogram"] for row in rows])
    points = np.unique(np.concatenate([xs for xs, _ in steps]))
    grid = points[np.linspace(0, len(points) - 1, min(len(points), _GRID)).astype(int)]
    # In a bin narrower than a double can divide by, the interpolation is infinite: it ends at the end of the bin.
    found = [np.interp(grid, xs, below, left=0.0).clip(max=below[-1]) if len(xs) else 0 * grid for xs, below in steps]
    return np.array(found), _tenths


def _steps(histograms: Sequence[Rows]) -> list[tuple[Floats, Floats]]:
    """The edges of the bins of each and how many values lie below them; a bin without width is a step."""
    bins = [(each["low"], each["high"], each["n"]) for histogram in histograms for each in histogram]
    low, high, n = np.array(bins, dtype=float).reshape(-1, 3).T
    edges = np.column_stack([np.where(high > low, low, np.nextafter(low, -np.inf)), high])
    ends = np.cumsum([len(histogram) for histogram in histograms])
    found = []
    for first, last in pairwise([0, *ends]):
        total = np.cumsum(n[first:last])
        found.append((edges[first:last].ravel(), np.column_stack([total - n[first:last], total]).ravel()))
    return found


def _tenths(before: Floats, now: Floats) -> tuple[Floats, Floats]:
    at = np.unique(np.searchsorted(before, before[-1] * np.arange(1, 10) / 10))
    ends = np.append(at, len(before) - 1)
    return np.diff(before[ends], prepend=0.0), np.diff(now[ends], prepend=0.0)


def _of_words(rows: Rows) -> tuple[Floats, _Bins]:
    """How often each word is among the most frequent of a day; the last column has all others."""
    words = sorted({one["value"] for row in rows for one in row["top"]})
    place = {word: i for i, word in enumerate(words)}
    counts = np.zeros((len(rows), len(words) + 1))
    for day, row in enumerate(rows):
        for one in row["top"]:
            counts[day, place[one["value"]]] = one["n"]
        counts[day, -1] = row["n"] - row["nulls"] - counts[day].sum()
    return (counts, _most_frequent) if words else (np.zeros((len(rows), 1)), _most_frequent)


def _most_frequent(before: Floats, now: Floats) -> tuple[Floats, Floats]:
    top = np.argsort(-before[:-1], kind="stable")[:_WORDS]
    others = [counts.sum() - counts[top].sum() for counts in (before, now)]
    return np.append(before[top], others[0]), np.append(now[top], others[1])


def _moved(feature: str, found: float, usual: float, rows: Rows) -> Moved:
    now, before = rows[-1], rows[-1 - REFERENCE : -1]
    missing, missing_before = now["nulls"] / now["n"], sum(r["nulls"] for r in before) / sum(r["n"] for r in before)
    sentence = (
        f"'{feature}' of {now['partition_key']} is distributed otherwise than in the {len(before)} days before: PSI"
        f" {found:.2f}, usual is up to {usual:.2f}; {percent(missing)} missing, before {percent(missing_before)}."
    )
    return Moved(feature, found, usual, missing, missing_before, sentence)
