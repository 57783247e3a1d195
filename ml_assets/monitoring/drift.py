"""How far current rows have moved from the rows a model was trained on, column by column: arithmetic on two profiles.

PSI = sum over bins of (p - q) * ln(p / q), p and q the shares of the current and the reference rows. Nulls are
a bin of their own, so a null rate that goes from 1 % to 60 % is drift. Profiles come from `profile`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import duckdb

from ml_assets.errors import shorten
from ml_assets.monitoring.profile import ColumnProfile, Profile, observe

if TYPE_CHECKING:
    import pyarrow as pa

Verdict = Literal["PASS", "WARN", "FAIL"]

EMPTY_SHARE = 1e-4
"""Share that stands for an empty bin, whose logarithm would be infinite: one row in ten thousand."""
LARGEST_CATEGORIES = 20
RARE_CATEGORY = 0.01
"""Categories below this share of the reference, or beyond the 20 largest, are one bin: alone they would be noise."""


@dataclass(frozen=True)
class Thresholds:
    """PSI from which a column warns and fails, and the rows below which neither is said."""

    warn: float = 0.15
    fail: float = 0.2
    min_rows: int = 200


@dataclass(frozen=True)
class ColumnDrift:
    """One column of the current rows against the reference.

    `noise` is the PSI to expect without any drift, from sample sizes and bins alone: (1/N + 1/M) * (bins - 1).
    `usual` is the PSI that blocks of the reference themselves reach (see `calibrate`): below it values may move freely.
    `structural_psi` is the part of nulls, or of categories never seen, alone; what is usual does not excuse it.
    `new_categories` are the categories the reference never had, with their share of the current rows, largest first.
    """

    column: str
    psi: float
    noise: float
    usual: float | None
    structural_psi: float
    n: int
    null_rate: float
    reference_null_rate: float
    null_rate_change: float
    new_categories: dict[str, float]
    enough_rows: bool
    verdict: Verdict
    sentence: str


def drift(
    con: duckdb.DuckDBPyConnection, current: "str | pa.Table", reference: Profile, thresholds: Thresholds | None = None
) -> list[ColumnDrift]:
    """Compare the rows of a view (or Arrow table) with the stored reference, in one pass over them."""
    return compare(reference, observe(con, current, reference), thresholds)


def compare(reference: Profile, current: Profile, thresholds: Thresholds | None = None) -> list[ColumnDrift]:
    """Compare two profiles on the same bins, in the order of the reference's columns; reads no rows."""
    pairs = zip(reference.columns, current.columns, strict=True)
    return [_column_drift(before, after, thresholds or Thresholds()) for before, after in pairs]


def psi(reference: Sequence[float], current: Sequence[float]) -> float:
    """Population stability index of two sequences of counts over the same bins; 0 when either is empty.

    An empty bin counts as a share of `EMPTY_SHARE`; a bin that is empty on both sides adds nothing.
    """
    n_reference, n_current = sum(reference), sum(current)
    if not n_reference or not n_current:
        return 0.0
    pairs = zip(reference, current, strict=True)
    shares = ((max(c / n_current, EMPTY_SHARE), max(r / n_reference, EMPTY_SHARE)) for r, c in pairs)
    return math.fsum((p - q) * math.log(p / q) for p, q in shares)


def worst(drifts: Sequence[ColumnDrift]) -> tuple[Verdict, str]:
    """The gravest verdict of all columns, with the sentences of the columns that reach it."""
    for verdict in ("FAIL", "WARN"):
        reached = sorted((found for found in drifts if found.verdict == verdict), key=lambda found: -found.psi)
        if reached:
            return verdict, " ".join(found.sentence for found in reached[:5]) + _rest(len(reached) - 5)
    judged = [found for found in drifts if found.enough_rows]
    if not judged:
        return "PASS", "Too few rows to judge any column."
    top = max(judged, key=lambda found: found.psi)
    usual = "" if top.usual is None else f", parts of the reference reach {top.usual:.3f}"
    return "PASS", f"No column of {len(judged)} has moved: the largest PSI is {top.psi:.3f} ({top.column}{usual})."


def _rest(n: int) -> str:
    return f" And {n} more." if n > 0 else ""


def _column_drift(before: ColumnProfile, after: ColumnProfile, thresholds: Thresholds) -> ColumnDrift:
    expected, found = _bins(before, after)
    value, noise = psi(expected, found), _noise(expected, found)
    # with more noise than half the warning, a warning would say nothing
    enough = min(before.n, after.n) >= thresholds.min_rows and 2 * noise <= thresholds.warn
    structural = _structural(before, after)
    beyond = value if value >= (before.usual or 0.0) else structural
    verdict = _verdict(beyond, thresholds) if enough else "PASS"
    null_rate, reference_null_rate = _share(after.nulls, after.n), _share(before.nulls, before.n)
    new = _new_categories(before, after)
    return ColumnDrift(
        column=before.name,
        psi=value,
        noise=noise,
        usual=before.usual,
        structural_psi=structural,
        n=after.n,
        null_rate=null_rate,
        reference_null_rate=reference_null_rate,
        null_rate_change=null_rate - reference_null_rate,
        new_categories=new,
        enough_rows=enough,
        verdict=verdict,
        sentence=_opening(before, after, value, noise, verdict if enough else None)
        + _nulls(null_rate, reference_null_rate)
        + _news(new),
    )


def _bins(before: ColumnProfile, after: ColumnProfile) -> tuple[list[int], list[int]]:
    """Counts of both sides over the same bins; the last one holds the nulls, unless there are none anywhere."""
    if before.kind == "numeric":
        expected, found = list(before.counts), list(after.counts)
    else:
        expected, found = _category_bins(before, after)
    if before.nulls or after.nulls:
        expected, found = [*expected, before.nulls], [*found, after.nulls]
    return expected, found


def _category_bins(before: ColumnProfile, after: ColumnProfile) -> tuple[list[int], list[int]]:
    """A bin per common category of the reference, one for its rare ones, one for all it never had."""
    known = dict(zip(before.categories, before.counts, strict=True))
    seen = dict(zip(after.categories, after.counts, strict=True))
    largest = sorted(known, key=lambda category: (-known[category], category))[:LARGEST_CATEGORIES]
    common = [category for category in largest if known[category] >= RARE_CATEGORY * before.n]
    rare = known.keys() - common
    expected = [known[category] for category in common] + [sum(known[category] for category in rare), 0]
    found = [seen.get(category, 0) for category in common] + [
        sum(seen.get(category, 0) for category in rare),
        sum(count for category, count in seen.items() if category not in known),
    ]
    kept = [i for i in range(len(expected)) if expected[i] or found[i]]
    return [expected[i] for i in kept], [found[i] for i in kept]


def _noise(expected: Sequence[int], found: Sequence[int]) -> float:
    """Expected PSI of two samples of one distribution (Yurdakul 2018); 0 when a side has no rows."""
    if not sum(expected) or not sum(found):
        return 0.0
    bins = sum(1 for before, after in zip(expected, found, strict=True) if before or after)
    return (1 / sum(expected) + 1 / sum(found)) * (bins - 1)


def _verdict(value: float, thresholds: Thresholds) -> Verdict:
    return "FAIL" if value >= thresholds.fail else "WARN" if value >= thresholds.warn else "PASS"


def _structural(before: ColumnProfile, after: ColumnProfile) -> float:
    """The larger of two coarse PSIs: null or not (when nulls have risen), known category or not.

    Merging bins never adds to a PSI, so neither exceeds the whole one.
    """
    rose = _share(after.nulls, after.n) > _share(before.nulls, before.n)
    nulls = psi((before.n - before.nulls, before.nulls), (after.n - after.nulls, after.nulls)) if rose else 0.0
    if before.kind == "numeric":
        return nulls
    known = set(before.categories)
    new = sum(count for name, count in zip(after.categories, after.counts, strict=True) if name not in known)
    return max(nulls, psi((before.n, 0), (after.n - new, new)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _new_categories(before: ColumnProfile, after: ColumnProfile) -> dict[str, float]:
    if before.kind == "numeric":
        return {}
    known = set(before.categories)
    new = [(name, count) for name, count in zip(after.categories, after.counts, strict=True) if name not in known]
    return {name: count / after.n for name, count in sorted(new, key=lambda found: (-found[1], found[0]))}


def _opening(before: ColumnProfile, after: ColumnProfile, value: float, noise: float, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"{before.name}: too few rows to judge ({after.n} against {before.n} of the reference)."
    moved = {"PASS": "is where it was", "WARN": "has moved", "FAIL": "has moved far"}[verdict]
    usual = "" if before.usual is None else f", parts of the reference reach {before.usual:.3f}"
    return f"{before.name} {moved}: PSI {value:.3f} over {after.n} rows (about {noise:.3f} without drift{usual})."


def _nulls(rate: float, reference_rate: float) -> str:
    if abs(rate - reference_rate) < 0.01:
        return ""
    return f" Nulls went from {reference_rate:.1%} to {rate:.1%}."


def _news(new: dict[str, float]) -> str:
    if not new:
        return ""
    return f" Never seen in training: {shorten(f'{name} ({share:.1%})' for name, share in new.items())}."
