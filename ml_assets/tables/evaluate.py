"""Judges what a table is expected to be like, of many partitions at once.

What needs only counts comes from the profiles; what needs rows is asked in one statement for all partitions. A
partition is judged by those with a smaller key, so it comes out the same alone and among others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ml_assets import engine
from ml_assets.tables import by_profile, by_rows
from ml_assets.tables.by_profile import not_judged
from ml_assets.tables.evidence import Evidence, History, on, percent
from ml_assets.tables.expectations import (
    Expectation,
    Fences,
    Missing,
    MissingSpike,
    Outliers,
    References,
    Shift,
    Verdict,
    Volume,
)
from ml_assets.tables.shift import shifts

__all__ = ["Evidence", "evaluate"]


def evaluate(expectations: Sequence[Expectation], partitions: Sequence[str], given: Evidence) -> list[Verdict]:
    """Judge each partition by each expectation, in this order; those that fail come with at most ten examples."""
    given, history = given.keyed(), History(given.profiles)
    verdicts: list[Verdict] = []
    for expected in expectations:
        match expected:
            case Missing():
                found = list(by_profile.missing(expected, partitions, history, given))
                verdicts += _with_examples(found, given, given.rows, _null(expected.column))
            case MissingSpike():
                found = list(by_profile.spikes(expected, partitions, history, given))
                verdicts += _with_examples(found, given, given.rows, _null(expected.column))
            case Volume():
                verdicts += by_profile.volume(expected, partitions, history, given)
            case Outliers():
                verdicts += _outliers(expected, partitions, given)
            case References():
                verdicts += by_rows.references(expected, partitions, given)
            case Shift():
                pass  # all together, below
    return verdicts + list(shifts([each for each in expectations if isinstance(each, Shift)], partitions, given))


def _null(column: str) -> str:
    return f"{engine.quote(column)} IS NULL"


def _with_examples(
    verdicts: Sequence[Verdict], given: Evidence, view: str | None, where: str | Mapping[str, str]
) -> Iterator[Verdict]:
    """Add rows to those that fail; `where` may differ by partition."""
    failed = [verdict.partition for verdict in verdicts if not verdict.passed]
    wanted = {partition: where if isinstance(where, str) else where[partition] for partition in failed}
    found = by_rows.examples(given, view, wanted)
    for verdict in verdicts:
        shown = [] if verdict.passed else found.get(verdict.partition, [])
        yield replace(verdict, examples=shown) if shown else verdict


def _outliers(expected: Outliers, partitions: Sequence[str], given: Evidence) -> Iterable[Verdict]:
    mine = {fences.partition: fences for fences in given.fences if fences.outliers == expected}
    view = given.quarantine if expected.action == "quarantine" else given.rows
    verdicts = [_beyond(expected, p, mine[p], given) for p in partitions if p in mine]
    return _with_examples(verdicts, given, view, {p: _where(expected, found) for p, found in mine.items()})


def _beyond(expected: Outliers, partition: str, found: Fences, given: Evidence) -> Verdict:
    if found.low is None or found.high is None:
        why = "half of the values are one value" if found.n else "there are no values"
        return not_judged(expected, partition, f"{expected.column} has no spread, {why}", n=found.n, beyond=0)
    share = found.beyond / found.n
    said = f"{expected.column}: {found.beyond:,} of {found.n:,} values ({percent(share)}){on(partition)}"
    done = {"flag": "lie", "clip": "lay", "quarantine": "of rows now in the quarantine lie"}[expected.action]
    sentence = f"{said} {done} beyond the fences {found.low:g} and {found.high:g}, {percent(expected.at_most)} may."
    numbers = {"beyond": found.beyond, "n": found.n, "share": share, "low": found.low, "high": found.high}
    layer = "quarantine" if expected.action == "quarantine" else ""
    return Verdict(
        expected.check,
        partition,
        share <= expected.at_most,
        expected.severity,
        sentence,
        {**numbers, "q1": found.q1, "q3": found.q3},
        query=given.query(partition, _where(expected, found), layer),
    )


def _where(expected: Outliers, found: Fences) -> str:
    """SQL for the rows beyond the fences: after clipping they lie on them."""
    name = engine.quote(expected.column)
    if found.low is None or found.high is None:
        return "false"
    low, high = (f"CAST('{bound!r}' AS DOUBLE)" for bound in (found.low, found.high))
    whole = f"ceil({low}), floor({high})"
    return {
        "flag": f"({name} < {low} OR {name} > {high})",
        "clip": f"({name} IN ({low}, {high}) OR (typeof({name}) = 'BIGINT' AND {name} IN ({whole})))",
        "quarantine": f"list_contains(rules, {engine.literal(expected.rule)})",
    }[expected.action]
