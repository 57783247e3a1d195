"""What the checks of expectations say: of all partitions that were judged by one, a sentence, numbers and rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_assets.records import Finding
from ml_assets.steps.pictures import markdown_table
from ml_assets.tables.expectations import Expectation, Verdict

_NAMED = 5


def of_verdicts(expectations: Sequence[Expectation], verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    """One finding for each expectation, over all partitions that were judged by it."""
    by_check: dict[str, list[Verdict]] = {expected.check: [] for expected in expectations}
    for verdict in verdicts:
        by_check[verdict.check].append(verdict)
    for check, each in by_check.items():
        failed = [verdict for verdict in each if not verdict.passed]
        if each:
            yield _of_failed(check, failed) if failed else _of_passed(check, each)
        else:
            yield Finding(check, True, "Not judged: there are no rows.", numbers={"judged": False})


def named(sentences: Sequence[str]) -> str:
    """The first five sentences, and how many more there are."""
    rest = len(sentences) - _NAMED
    return " ".join(sentences[:_NAMED]) + (f" And {rest} more." if rest > 0 else "")


def _of_passed(check: str, verdicts: Sequence[Verdict]) -> Finding:
    last = max(verdicts, key=lambda verdict: verdict.partition)
    sentence = last.sentence if len(verdicts) == 1 else f"{len(verdicts)} partitions pass; the last: {last.sentence}"
    return Finding(check, True, sentence, numbers=_plain(last.numbers))


def _of_failed(check: str, failed: Sequence[Verdict]) -> Finding:
    worst = next((verdict for verdict in failed if verdict.refuses), failed[0])
    more = f" And {len(failed) - 1} more partitions." if len(failed) > 1 else ""
    numbers = {"partitions that fail": len(failed), **_plain(worst.numbers)}
    if worst.examples:
        numbers["examples"] = markdown_table(tuple(worst.examples[0]), [tuple(r.values()) for r in worst.examples])
    if worst.query:
        numbers["query"] = worst.query
    return Finding(check, False, worst.sentence + more, warn=worst.severity == "warn", numbers=numbers)


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value is not None}
