"""Whether one feature, or two together, tell the label implausibly well: the sign of a leak that rows alone can give.

A feature is judged by the rate of positives in each of its bins (numbers: bins of equally many rows; texts: categories,
and stretches of their order), learnt on some rows and judged by ROC AUC on others. So a feature need not be monotonic,
and one with many categories gains nothing by remembering them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_assets.evaluation.policy import LeakLimits
from ml_assets.training.statistics import UNDEFINED, Floats, Interval, normal_interval, roc_auc

Codes = NDArray[np.int64]

_BINS, _ROWS_PER_BIN = 64, 40
_COARSE = 16
_PRIOR_ROWS = 5.0
_PAIRS = 16
_LEAVES = 64
_SEED = 7


@dataclass(frozen=True)
class Suspect:
    """A feature or a pair that is too good, the ROC AUC that it has, why it is implausible, and if for certain.

    One that `fades`, good on a random split alone, may be honest where outcomes go by time or by groups.
    """

    features: tuple[str, ...]
    roc_auc: float
    reason: str
    is_certain: bool = True
    fades: bool = False

    def sentence(self) -> str:
        """What is wrong, with numbers."""
        return f"{' with '.join(self.features)} tells the label with ROC AUC {self.roc_auc:.3f}: {self.reason}."


@dataclass(frozen=True)
class Echo:
    """What was found: suspects, ROC AUC on later rows of every feature, best first, and the best pairs."""

    suspects: tuple[Suspect, ...]
    singles: tuple[tuple[str, float], ...]
    pairs: tuple[tuple[str, str, float], ...]


def listen(
    columns: Mapping[str, Any],
    labels: Floats,
    learnt: NDArray[np.bool_],
    limits: LeakLimits,
    *,
    at: NDArray[np.datetime64] | None = None,
    seed: int = _SEED,
) -> Echo:
    """Judge each column and each pair of columns; rows in `learnt` teach the rates, the others (later ones) judge.

    With `at`, the time of each row, a feature that is good only on a random split is a certain suspect as far as it
    tells rows of one time apart. Where outcomes go by weeks an honest feature of the week is good there as well.

    Columns hold numbers, or texts with None. Labels are 0 or 1. Columns in `limits.allow` are measured, and neither
    they nor a pair with one of them is named. Without both labels on both sides there is nothing to judge.
    """
    if any(len(np.unique(labels[side])) < 2 for side in (learnt, ~learnt)):
        return Echo((), (), ())
    coded = {name: _variants(values) for name, values in columns.items()}
    later = {name: _best(variants, labels, learnt) for name, variants in coded.items()}
    half = np.random.default_rng(seed).random(len(labels)) < 0.5
    mixed = {name: _best(variants, labels, half) for name, variants in coded.items()}
    single = {name: found.value for name, found in later.items()}

    def within(name: str) -> Interval:
        return UNDEFINED if at is None else _within(coded[name], labels, half, _times(at))

    suspects = [*_loud(single, limits), *_fading(later, mixed, limits, within)]
    certain = {suspect.features[0] for suspect in suspects if suspect.is_certain}
    quiet = {name: columns[name] for name in columns if name not in certain}
    pairs = _pairs({n: v for n, v in quiet.items() if n not in limits.allow}, single, labels, learnt)
    suspects += _telling(pairs, single, limits)
    return Echo(
        tuple(suspects),
        tuple(sorted(single.items(), key=lambda item: -item[1])),
        tuple(sorted(pairs, key=lambda pair: -pair[2])),
    )


def _loud(single: Mapping[str, float], limits: LeakLimits) -> Iterator[Suspect]:
    """Features beyond the cap, and those that stand alone above all others."""
    ordered = sorted(((auc, name) for name, auc in single.items()), reverse=True)
    gaps = [(a - b, place) for place, ((a, _), (b, _)) in enumerate(pairwise(ordered)) if a >= limits.alone]
    widest, last = max(gaps, default=(0.0, -1))
    for place, (auc, name) in enumerate(ordered):
        if name in limits.allow:
            continue
        if auc >= limits.single:
            yield Suspect((name,), auc, f"a single feature may reach {limits.single:g} (`leaks.single`)")
        elif widest >= limits.distance and place <= last:
            yield Suspect((name,), auc, f"it stands alone, {widest:.2f} above the next best, {ordered[last + 1][1]}")


def _fading(
    later: Mapping[str, Interval],
    mixed: Mapping[str, Interval],
    limits: LeakLimits,
    within: Callable[[str], Interval],
) -> Iterator[Suspect]:
    """Good on rows among those they were learnt from, useless on later ones.

    Such a feature holds outcomes of its own rows, or is as good as the name of a day or a group, which a random split
    rewards. The name of a day tells nothing `within` rows of one time; what surely does not either is a doubt.
    """
    for name, among in mixed.items():
        after = later[name]
        if name in limits.allow or after.value >= limits.single:
            continue
        if among.value >= limits.fading and among.low - after.high >= limits.distance:
            faded = f"on a random split, but {after.value:.3f} on later rows"
            of_one_time = within(name)
            if of_one_time.high < after.value + limits.distance:  # not where it is undefined
                reason = f"{faded} and {of_one_time.value:.3f} among rows of one time: it tells the days apart"
                yield Suspect((name,), among.value, reason, is_certain=False, fades=True)
            else:
                yield Suspect((name,), among.value, faded, fades=True)


def _times(at: NDArray[np.datetime64]) -> Codes:
    """Times as codes: by day, and where there are few days by stretches of them with equally many rows."""
    days = at.astype("datetime64[D]").astype(np.int64)
    (stretches,) = _variants(at.astype("datetime64[us]").astype(np.float64))
    return np.unique((days - days.min()) * (int(stretches.max()) + 1) + stretches, return_inverse=True)[1]


def _within(variants: Sequence[Codes], labels: Floats, learnt: NDArray[np.bool_], times: Codes) -> Interval:
    """ROC AUC among rows of one time, judged as `_best` does; the times differ, and give the interval."""
    found = [_of_one_time(labels[~learnt], _rates(c, labels, learnt)[c[~learnt]], times[~learnt]) for c in variants]
    return max(found, key=lambda interval: interval.high)


def _of_one_time(labels: Floats, scores: Floats, times: Codes) -> Interval:
    """The ROC AUC of each time, on average over its pairs of a positive and a negative; undefined without any."""
    order = np.argsort(times, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(times[order])) + 1)
    both = [part for part in parts if 0 < labels[part].sum() < len(part)]
    if not both:
        return UNDEFINED
    weights = np.array([labels[part].sum() * (1 - labels[part]).sum() for part in both])
    values = np.array([roc_auc(labels[part], scores[part]).value for part in both])
    value = float(np.average(values, weights=weights))
    error = float(np.sqrt((weights**2 * (values - value) ** 2).sum()) / weights.sum())
    return normal_interval(value, error, 0.95)


def _telling(
    pairs: Sequence[tuple[str, str, float]], single: Mapping[str, float], limits: LeakLimits
) -> Iterator[Suspect]:
    for first, second, auc in pairs:
        alone = max(single[first], single[second])
        if auc >= limits.pair:
            yield Suspect((first, second), auc, f"a pair may reach {limits.pair:g} (`leaks.pair`)")
        elif auc >= limits.alone and auc - alone >= limits.distance:
            yield Suspect((first, second), auc, f"the better of the two alone has {alone:.3f}")


def _best(variants: Sequence[Codes], labels: Floats, learnt: NDArray[np.bool_]) -> Interval:
    found = [roc_auc(labels[~learnt], _rates(codes, labels, learnt)[codes[~learnt]]) for codes in variants]
    return max(found, key=lambda interval: interval.value)


def _rates(codes: Codes, labels: Floats, learnt: NDArray[np.bool_]) -> Floats:
    """The rate of positives by code, drawn towards the overall rate where there are few rows."""
    size = int(codes.max()) + 1
    rows = np.bincount(codes[learnt], minlength=size)
    positives = np.bincount(codes[learnt], weights=labels[learnt], minlength=size)
    return (positives + _PRIOR_ROWS * labels[learnt].mean()) / (rows + _PRIOR_ROWS)


def _variants(values: Any, bins: int = _BINS) -> list[Codes]:
    """A column as codes: by value for texts, by bins of equally many rows for numbers and for the order of texts."""
    bins = int(np.clip(len(values) // _ROWS_PER_BIN, 4, bins))
    if not _is_text(values):
        return [_binned(np.asarray(values, dtype=np.float64), bins)]
    known, places = np.unique(np.array(["" if v is None else f"={v}" for v in values]), return_inverse=True)
    ordered = [_binned(places.astype(np.float64), bins)] if len(known) > bins else []
    return [places.astype(np.int64), *ordered]


def _is_text(values: Any) -> bool:
    return isinstance(values, list) or np.asarray(values).dtype.kind in "OUS"


def _binned(values: Floats, bins: int) -> Codes:
    finite = np.isfinite(values)
    edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, bins + 1)[1:-1])) if finite.any() else np.zeros(0)
    # what lies between two edges and what lies on one are different codes: a value that comes often is a bin by itself
    codes = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
    return np.where(finite, codes, 2 * len(edges) + 1).astype(np.int64)


def _pairs(
    columns: Mapping[str, Any], single: Mapping[str, float], labels: Floats, learnt: NDArray[np.bool_]
) -> list[tuple[str, str, float]]:
    """All pairs by a coarse table of rates, the most telling by a small tree, which sees their difference too."""
    coarse = {name: _coarse(values) for name, values in columns.items()}
    found = []
    for first, second in combinations(coarse, 2):
        auc = _cell_auc(coarse[first], coarse[second], labels, learnt)
        found.append((auc - max(single[first], single[second]), auc, first, second))
    chosen = sorted(found, reverse=True)[:_PAIRS]
    return [(a, b, max(auc, _tree_auc(columns[a], columns[b], labels, learnt))) for _, auc, a, b in chosen]


def _coarse(values: Any) -> Codes:
    codes = _variants(values, _COARSE)[0]
    counts = np.bincount(codes)
    common = np.argsort(-counts, kind="stable")[: 2 * _COARSE]
    names = np.full(len(counts), len(common), dtype=np.int64)
    names[common] = np.arange(len(common))
    return names[codes]


def _cell_auc(first: Codes, second: Codes, labels: Floats, learnt: NDArray[np.bool_]) -> float:
    """ROC AUC of the rates in the cells of a table, from counts alone."""
    cells = first * (int(second.max()) + 1) + second
    rates, size = _rates(cells, labels, learnt), int(cells.max()) + 1
    positives = np.bincount(cells[~learnt], weights=labels[~learnt], minlength=size)
    negatives = np.bincount(cells[~learnt], minlength=size) - positives
    order = np.argsort(rates, kind="stable")
    below = np.cumsum(negatives[order]) - negatives[order] / 2
    return float((positives[order] * below).sum() / (positives.sum() * negatives.sum()))


def _tree_auc(first: Any, second: Any, labels: Floats, learnt: NDArray[np.bool_]) -> float:
    from sklearn.tree import DecisionTreeClassifier

    a, b = (_numbers(values, labels, learnt) for values in (first, second))
    matrix = np.column_stack([a, b, a - b])
    tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=_ROWS_PER_BIN // 2, random_state=0)
    tree.fit(matrix[learnt], labels[learnt])
    scores = np.asarray(tree.predict_proba(matrix[~learnt]))[:, 1]
    return roc_auc(labels[~learnt], scores).value


def _numbers(values: Any, labels: Floats, learnt: NDArray[np.bool_]) -> Floats:
    """Numbers as they are, with NaN where they are not finite; texts as the rate of their category."""
    if _is_text(values):
        codes = _variants(values)[0]
        return _rates(codes, labels, learnt)[codes]
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
