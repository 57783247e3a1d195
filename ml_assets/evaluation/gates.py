"""Gates between a trained model and its release: each says its value, interval, threshold and rows, in a sentence.

A model that cannot be told from worse ones by the rows at hand is `underpowered`, which does not pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ml_assets.evaluation.evaluate import Evaluation
from ml_assets.evaluation.policy import (
    BEATS_BASELINE,
    BEATS_CHAMPION,
    FEWEST_PER_CLASS,
    NO_SLICE_IS_WORSE,
    ROC_AUC_AT_LEAST,
    BeatsChampion,
    Gates,
    names,
)
from ml_assets.training.statistics import Interval, detectable

Verdict = Literal["passed", "failed", "underpowered"]


@dataclass(frozen=True)
class Gate:
    """One gate's verdict; `interval` is of `value`, both None where there was nothing to compute."""

    name: str
    verdict: Verdict
    value: float | None
    threshold: float | None
    interval: tuple[float, float] | None
    n_rows: int
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether it stands in the way of a release; underpowered does."""
        return self.verdict == "passed"


def judge(evaluation: Evaluation, gates: Gates) -> list[Gate]:
    """One gate each for what is declared, named and ordered as `names`; a model is released when all have passed."""
    auc = evaluation.metrics["roc_auc"]
    fewest = min(evaluation.n_positives, evaluation.n_rows - evaluation.n_positives)
    if auc is None or fewest < gates.fewest_per_class:
        return [_too_few(name, evaluation, gates) for name in names(gates)]
    return list(_judge(evaluation, auc, gates))


def _judge(evaluation: Evaluation, auc: Interval, gates: Gates) -> Iterator[Gate]:
    if gates.roc_auc_at_least is not None:
        yield _at_least(evaluation, auc, gates.roc_auc_at_least)
    if gates.beats_baseline:
        yield _beats_baseline(evaluation, auc)
    if gates.beats_champion:
        yield _beats_champion(evaluation, gates.beats_champion)
    if gates.slice_margin is not None:
        yield _slices(evaluation, gates.slice_margin, (gates.beats_champion or BeatsChampion()).confidence)


def _too_few(name: str, evaluation: Evaluation, gates: Gates) -> Gate:
    sentence = (
        f"Underpowered: {evaluation.n_positives:,} positives among {evaluation.n_rows:,} test rows; at least"
        f" {gates.fewest_per_class} of each class are needed to judge. Wait for more labels or widen the test window."
    )
    return Gate(name, "underpowered", None, None, None, evaluation.n_rows, sentence)


def _at_least(evaluation: Evaluation, auc: Interval, threshold: float) -> Gate:
    sentence = f"ROC AUC is {_told(auc, evaluation)}; at least {threshold:.3f} is asked for."
    verdict, bounds = _verdict(passed=auc.value >= threshold), (auc.low, auc.high)
    return Gate(ROC_AUC_AT_LEAST, verdict, auc.value, threshold, bounds, evaluation.n_rows, sentence)


def _beats_baseline(evaluation: Evaluation, auc: Interval) -> Gate:
    rival = evaluation.baseline.metrics["roc_auc"] if evaluation.baseline else None
    if rival is None:
        sentence = "There is no baseline to compare with; declare the baseline's keys or leave this gate out."
        return Gate(BEATS_BASELINE, "failed", auc.value, None, (auc.low, auc.high), evaluation.n_rows, sentence)
    sentence = (
        f"ROC AUC is {_told(auc, evaluation)}; the lower end must lie above the baseline's {rival.value:.3f}"
        f" and {'does' if auc.low > rival.value else 'does not'}."
    )
    verdict, bounds = _verdict(passed=auc.low > rival.value), (auc.low, auc.high)
    return Gate(BEATS_BASELINE, verdict, auc.value, rival.value, bounds, evaluation.n_rows, sentence)


def _beats_champion(evaluation: Evaluation, asked: BeatsChampion) -> Gate:
    difference = evaluation.champion.difference["roc_auc"] if evaluation.champion else None
    if difference is None or evaluation.champion is None:
        return _passed_by_absence(BEATS_CHAMPION, evaluation)
    interval, threshold = difference.at(asked.confidence), -asked.margin
    least = detectable(interval.standard_error, confidence=asked.confidence)
    undecided = interval.high > max(threshold, 0) and least > asked.margin > 0
    verdict: Verdict = "passed" if interval.low > threshold else "underpowered" if undecided else "failed"
    sentence = (
        f"ROC AUC minus the champion's is {_signed(interval)} (paired, {asked.confidence:.0%} interval,"
        f" {evaluation.n_rows:,} rows); {_asked(asked)}: {verdict}. Smallest difference these rows would show:"
        f" {least:.4f}."
    )
    bounds = (interval.low, interval.high)
    return Gate(BEATS_CHAMPION, verdict, interval.value, threshold, bounds, evaluation.n_rows, sentence)


def _asked(asked: BeatsChampion) -> str:
    if asked.margin > 0:
        return f"the lower end must lie above -{asked.margin:g}, so that it is not worse by more"
    return "the lower end must lie above 0, so that it is better"


def _slices(evaluation: Evaluation, margin: float, confidence: float) -> Gate:
    if evaluation.champion is None:
        return _passed_by_absence(NO_SLICE_IS_WORSE, evaluation)
    judged = [(each, each.vs_champion) for each in evaluation.slices if each.vs_champion and not each.underpowered]
    if not judged:
        sentence = f"No slice has {FEWEST_PER_CLASS} rows of each class, so none could be found worse."
        return Gate(NO_SLICE_IS_WORSE, "passed", None, -margin, None, evaluation.n_rows, sentence)
    by_upper_end = [(difference.at(1 - (1 - confidence) / len(judged)), each) for each, difference in judged]
    worst, where = min(by_upper_end, key=lambda pair: (pair[0].high, pair[1].column, pair[1].value))
    bad = [f"{each.column}={each.value}" for interval, each in by_upper_end if interval.high < -margin]
    sentence = (
        f"{len(bad)} of {len(judged)} slices are surely worse than the champion's by more than {margin:g}"
        f"{': ' + ', '.join(bad[:5]) if bad else ''}. Worst: {where.column}={where.value} with {_signed(worst)}"
        f" ({where.n_rows:,} rows); {len(evaluation.slices) - len(judged)} slices are too small to judge."
    )
    verdict, bounds = _verdict(passed=not bad), (worst.low, worst.high)
    return Gate(NO_SLICE_IS_WORSE, verdict, worst.value, -margin, bounds, where.n_rows, sentence)


def _passed_by_absence(name: str, evaluation: Evaluation) -> Gate:
    sentence = "There is no champion yet: passed by absence."
    return Gate(name, "passed", None, None, None, evaluation.n_rows, sentence)


def _verdict(*, passed: bool) -> Verdict:
    return "passed" if passed else "failed"


def _told(interval: Interval, evaluation: Evaluation) -> str:
    bounds = f"{interval.low:.3f} to {interval.high:.3f}"
    return f"{interval.value:.3f} ({evaluation.confidence:.0%} interval {bounds}, {evaluation.n_rows:,} rows)"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
