"""Judges deliveries: which of their rows may stand in the table, and what is to be said of each partition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.errors import shorten
from ml_assets.steps import evidence, quarantine
from ml_assets.steps.deliver import Stored
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets.tables.delivery import DeliveredFile, FileProblem, Gathered, gather
from ml_assets.tables.drift_policy import NO_UNEXPECTED_COLUMNS, type_rule
from ml_assets.tables.expectations import Outliers, Verdict
from ml_assets.tables.format import Format
from ml_assets.tables.formats.cells import table_type
from ml_assets.tables.schema import RELEASED, RESERVED, Contract, Rule
from ml_assets.tables.trend import Step
from ml_assets.tables.validate import Counts, Validation, rules_of, validate

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Judgement:
    """What came of the deliveries of some partitions; `profiles` are theirs, `history` those around them.

    `decided` counts the refused rows on which a person has decided, by partition.
    """

    spec: TableSpec
    contract: Contract
    partitions: Sequence[str]
    gathered: Gathered
    validation: Validation
    rules: Sequence[Rule]
    profiles: "pa.Table"
    history: "pa.Table"
    verdicts: Sequence[Verdict]
    steps: Sequence[Step]
    problems: Mapping[str, Sequence[FileProblem]]
    decided: Mapping[str, int]

    def counts(self, partition: str) -> Counts:
        """The rows of a partition, counted."""
        return self.validation.counts.get(partition, Counts())

    def totals(self) -> Counts:
        """The rows of all partitions, counted."""
        each, by_rule = [self.counts(partition) for partition in self.partitions], Counter[str]()
        for counts in each:
            by_rule.update(counts.by_rule)
        return Counts(
            delivered=sum(counts.delivered for counts in each),
            valid=sum(counts.valid for counts in each),
            quarantined=sum(counts.quarantined for counts in each),
            duplicates=sum(counts.duplicates for counts in each),
            by_rule=dict(by_rule),
        )

    def invalid_share(self, partition: str) -> float:
        """The share of delivered rows that are in the quarantine, and on which nobody has decided."""
        return _invalid_share(self.counts(partition), self.decided.get(partition, 0))

    def unknown_columns(self) -> dict[str, int]:
        """What the schema policy did to columns that the contract does not name: rows refused, or values dropped."""
        named = set(self.contract.names())
        found = {column: n for column, n in self._discarded().items() if column not in named}
        if n := self.totals().by_rule.get(NO_UNEXPECTED_COLUMNS):
            found[NO_UNEXPECTED_COLUMNS] = n
        return found | {column.name: self.totals().delivered for column in self.gathered.evolved}

    def wrong_types(self) -> dict[str, int]:
        """What the schema policy did to values of other types: rows refused, or values dropped."""
        named, by_rule = self.contract.names(), self.totals().by_rule
        found = {column: n for column, n in self._discarded().items() if column in named}
        return found | {rule: by_rule[rule] for name in named if (rule := type_rule(name)) in by_rule}

    def _discarded(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, column), n in self.gathered.discarded.items():
            found[column] += n
        return found

    def refusal(self, partition: str) -> str:
        """Why the rows of a partition may not take the place of what it held; "" where they may."""
        problems = self.problems.get(partition, ())
        unfit = _unfit(self.spec, self.counts(partition), problems, self.decided.get(partition, 0))
        return shorten([reason.rstrip(".") for reason in (*unfit, *self._failed.get(partition, ()))], 3)

    @cached_property
    def _failed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            if verdict.refuses:
                found.setdefault(verdict.partition, []).append(verdict.sentence)
        return found


def judge(
    spec: TableSpec, run: Run, contract: Contract, partitions: Sequence[str], files: Sequence[Stored]
) -> Judgement:
    """Read and judge the deliveries of partitions; nothing is written."""
    lake, known_at = run.lake, None if contract.column("known_at") else spec.known_at
    gathered, problems = _gather(spec, lake, contract, files, _taken_in(spec, lake, contract, partitions))
    history = evidence.history(spec, lake, partitions)
    with connect() as con:
        validation = validate(
            con,
            gathered.rows,
            contract,
            known_at=known_at,
            partition_column=spec.partition_column,
            evolved=gathered.evolved,
            refused=gathered.refused,
            outliers=[each for each in spec.expectations if isinstance(each, Outliers)],
        )
        profiles = evidence.profiled(con, validation.valid, validation.counts)
        decided = quarantine.decided(lake, spec, validation.quarantine)
        counts = validation.counts
        broken = {p for p in counts if _unfit(spec, counts[p], problems.get(p, ()), decided.get(p, 0))}
        given = evidence.collected(spec, lake, con, validation, history, profiles)
        verdicts = evidence.verdicts(spec.expectations, sorted(validation.counts), given, broken)
    return Judgement(
        spec,
        contract,
        partitions,
        gathered,
        validation,
        rules_of(contract, known_at=known_at, partition_column=spec.partition_column),
        profiles,
        history,
        verdicts,
        evidence.steps(spec, history, profiles, verdicts, broken),
        problems,
        decided,
    )


def _unfit(spec: TableSpec, counts: Counts, problems: Sequence[FileProblem], decided: int) -> list[str]:
    """What is wrong with a delivery, whatever is expected of it."""
    reasons = [problem.problem for problem in problems]
    if not reasons and not counts.delivered:
        reasons.append("it holds no rows")
    if (share := _invalid_share(counts, decided)) > spec.fail_above:
        reasons.append(f"{share:.1%} of its rows break the contract, {spec.fail_above:.1%} may")
    return reasons


def _invalid_share(counts: Counts, decided: int) -> float:
    return (counts.quarantined - decided) / counts.delivered if counts.delivered else 0.0


def _taken_in(spec: TableSpec, lake: Lake, contract: Contract, partitions: Sequence[str]) -> dict[str, str]:
    """The types of columns beyond the contract, where other partitions hold the table to them."""
    if spec.schema_drift.columns != "evolve" or not lake.exists(spec.table):
        return {}
    if set(lake.partitions(spec.table)) <= set(partitions):
        return {}
    own = {*contract.names(), *RESERVED, "known_at"}
    schema = lake.dataset(spec.table, partitions=[]).schema
    return {field.name: kind for field in schema if field.name not in own and (kind := table_type(field.type))}


def _gather(
    spec: TableSpec, lake: Lake, contract: Contract, files: Sequence[Stored], stored: Mapping[str, str]
) -> tuple[Gathered, dict[str, list[FileProblem]]]:
    gathered = gather([_delivered(file, lake) for file in files], contract, spec.format, spec.schema_drift, stored)
    problems: dict[str, list[FileProblem]] = {}
    for problem in gathered.problems:
        problems.setdefault(problem.partition or "", []).append(problem)
    return gathered, problems


def _delivered(file: Stored, lake: Lake) -> DeliveredFile:
    """Rows that a person released from the quarantine are JSON lines, whatever the source delivers."""
    own = Format() if file.name.startswith(RELEASED) else None
    content = lake.get_object(file.object)
    return DeliveredFile(file.name, content, file.partition_key or None, file.arrived_at, own)
