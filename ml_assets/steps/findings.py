"""What the checks of a table say: for each rule and each expectation a sentence, numbers, ten rows, and the query."""

from collections.abc import Iterator, Sequence
from typing import Any

from ml_assets.engine import connect, literal
from ml_assets.errors import shorten
from ml_assets.records import Finding, Markdown
from ml_assets.steps import catalogue
from ml_assets.steps.judge import Judgement
from ml_assets.steps.pictures import markdown_table
from ml_assets.steps.verdicts import named, of_verdicts
from ml_assets.tables.promises import KEYS_CHECK
from ml_assets.tables.schema import Rule

_EXAMPLES, _NAMED = 10, 5


def of(judgement: Judgement) -> tuple[Finding, ...]:
    """All findings on the partitions that were judged."""
    return (
        *_of_deliveries(judgement),
        *_of_rules(judgement),
        *_of_policy(judgement),
        *of_verdicts(judgement.spec.expectations, judgement.verdicts),
        _of_statistics(judgement),
    )


def _of_deliveries(judged: Judgement) -> Iterator[Finding]:
    totals = judged.totals()
    broken = [problem for p in judged.partitions for problem in judged.problems.get(p, [])]
    empty = [_said(p) for p in judged.partitions if not judged.counts(p).delivered and not judged.problems.get(p)]
    many = [p for p in judged.partitions if judged.invalid_share(p) > judged.spec.fail_above]
    yield Finding(
        catalogue.READABLE.name,
        not broken,
        shorten([p.problem for p in broken], 3) or f"All files of {totals.delivered} rows read.",
        numbers={"files with a problem": len(broken)},
    )
    nothing = f"No rows in {shorten(empty)}."
    yield Finding(catalogue.NOT_EMPTY.name, not empty, nothing if empty else f"{totals.delivered} rows delivered.")
    yield Finding(
        catalogue.FEW_INVALID.name,
        not many,
        _too_many(judged, many) if many else f"{totals.quarantined} of {totals.delivered} rows are in quarantine.",
        numbers={
            "quarantined": totals.quarantined,
            "decided by a person": sum(judged.decided.values()),
            "allowed share": judged.spec.fail_above,
            "by rule": totals.by_rule,
        },
    )
    parts = f"{totals.valid} valid + {totals.quarantined} quarantined + {totals.duplicates} duplicates"
    lost = [p for p in judged.partitions if not judged.counts(p).reconciles()]
    sentence = f"{totals.delivered} delivered = {parts}" + (f"; it does not hold for {shorten(lost)}" if lost else "")
    yield Finding(catalogue.RECONCILED.name, not lost, sentence)


def _too_many(judged: Judgement, many: Sequence[str]) -> str:
    listed = shorten([f"{_said(p)}: {judged.invalid_share(p):.1%}" for p in many])
    return f"More than {judged.spec.fail_above:.1%} of the rows break the contract ({listed}). See the quarantine."


def _of_rules(judged: Judgement) -> Iterator[Finding]:
    examples = _Examples(judged)
    for rule in judged.rules:
        yield _of_rule(judged, rule, examples)
    if judged.contract.keys:
        n = judged.totals().duplicates
        keys = " and ".join(judged.contract.keys)
        found = f"{n} rows were delivered again with the same {keys}; the newest of each is kept." if n else ""
        yield Finding(KEYS_CHECK, True, found or f"Every {keys} was delivered once.", numbers={"duplicates": n})


def _of_rule(judged: Judgement, rule: Rule, examples: "_Examples") -> Finding:
    by_partition = {p: n for p in judged.partitions if (n := judged.counts(p).by_rule.get(rule.name, 0))}
    n, delivered = sum(by_partition.values()), judged.totals().delivered
    if not n:
        return Finding(rule.check, True, f"All of {delivered} rows keep `{rule.name}`.", numbers={"broken rows": 0})
    days = shorten([f"{p}: {count}" for p, count in by_partition.items() if p], _NAMED)
    sentence = f"{n} of {delivered} rows break `{rule.name}`{f' ({days})' if days else ''}. They are in quarantine."
    return Finding(rule.check, False, sentence, warn=True, numbers=_rows_found(judged, rule.name, n, examples))


def _rows_found(judged: Judgement, rule: str, n: int, examples: "_Examples") -> dict[str, Any]:
    days = [p for p in judged.partitions if p]
    within = f" AND partition_key BETWEEN {literal(min(days))} AND {literal(max(days))}" if days else ""
    return {
        "broken rows": n,
        "share": n / judged.totals().delivered,
        "examples": examples.of(rule),
        "query": f"SELECT * FROM {judged.spec.quarantine.replace('/', '.')}"
        f" WHERE list_contains(rules, {literal(rule)}){within}",
    }


class _Examples:
    """The first rows of the quarantine by rule, found for all rules at once."""

    def __init__(self, judged: Judgement) -> None:
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        if not (rows := judged.validation.quarantine).num_rows:
            return
        with connect() as con:
            con.register("refused_rows", rows)
            query = """
                SELECT broken, partition_key, file, row, record
                FROM (SELECT *, unnest(rules) AS broken FROM refused_rows)
                QUALIFY row_number() OVER (PARTITION BY broken ORDER BY partition_key, file, row) <= ?
                ORDER BY ALL"""
            for rule, *row in con.execute(query, [_EXAMPLES]).fetchall():
                self._rows.setdefault(rule, []).append(tuple(row))

    def of(self, rule: str) -> Markdown:
        return markdown_table(("partition", "file", "row", "as delivered"), self._rows.get(rule, []))


def _of_policy(judged: Judgement) -> Iterator[Finding]:
    """What a schema policy other than `freeze` let pass, and how."""
    examples, by_rule = _Examples(judged), judged.totals().by_rule
    for check, policy, found in (
        (catalogue.COLUMNS_KNOWN, judged.spec.schema_drift.columns, judged.unknown_columns()),
        (catalogue.VALUES_TYPED, judged.spec.schema_drift.data_type, judged.wrong_types()),
    ):
        if policy == "freeze":
            continue
        said = shorten([f"{name} ({n})" for name, n in found.items()], _NAMED)
        sentence = f"`{policy}`: {said}." if found else "Nothing else was delivered."
        numbers = {name: examples.of(name) for name in found if name in by_rule}
        yield Finding(check.name, not found, sentence, warn=True, numbers=numbers)


def _of_statistics(judged: Judgement) -> Finding:
    sentences = [step.sentence for step in judged.steps]
    n = len(set(judged.history["partition_key"].to_pylist()))
    compared = (
        f"No statistic is out of line with the {n} partitions before." if n else "There is nothing to compare with."
    )
    return Finding(
        catalogue.AS_USUAL.name,
        not sentences,
        named(sentences) or compared,
        warn=True,
        numbers={"out of line": len(sentences)},
    )


def _said(partition: str) -> str:
    return partition or "the delivery"
