"""Judges deliveries: which of their rows may stand in the table, and what is to be said of each partition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.errors import shorten
from ml_assets.steps import quarantine
from ml_assets.steps.days import shift
from ml_assets.steps.deliver import Stored
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, TableSpec
from ml_assets.tables.delivery import DeliveredFile, FileProblem, Gathered, gather
from ml_assets.tables.drift_policy import NO_UNEXPECTED_COLUMNS, type_rule
from ml_assets.tables.evaluate import Evidence, evaluate
from ml_assets.tables.expectations import Outliers, References, Shift, Verdict
from ml_assets.tables.format import Format
from ml_assets.tables.profile import PROFILE_SCHEMA, profile_partitions
from ml_assets.tables.schema import RELEASED, Contract, Rule
from ml_assets.tables.trend import REMEMBERED, Step, steps_out_of_line
from ml_assets.tables.validate import Counts, Validation, rules_of, validate

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds


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
        counts = self.counts(partition)
        undecided = counts.quarantined - self.decided.get(partition, 0)
        return undecided / counts.delivered if counts.delivered else 0.0

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
        reasons = [problem.problem for problem in self.problems.get(partition, ())]
        if not reasons and not self.counts(partition).delivered:
            reasons.append("it holds no rows")
        if (share := self.invalid_share(partition)) > self.spec.fail_above:
            reasons.append(f"{share:.1%} of its rows break the contract, {self.spec.fail_above:.1%} may")
        return shorten([*reasons, *self._failed.get(partition, ())], 3)

    @cached_property
    def _failed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            if not verdict.passed and verdict.severity == "error":
                found.setdefault(verdict.partition, []).append(verdict.sentence)
        return found



def judge(
    spec: TableSpec, run: Run, contract: Contract, partitions: Sequence[str], files: Sequence[Stored]
) -> Judgement:
    """Read and judge the deliveries of partitions; nothing is written."""
    lake, known_at = run.lake, None if contract.column("known_at") else spec.known_at
    gathered, problems = _gather(spec, lake, contract, files)
    history = _history(spec, lake, partitions)
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
        profiles = profile_partitions(con, validation.valid)
        evidence = _evidence(spec, lake, con, validation, _joined(history, profiles))
        verdicts = evaluate(spec.expectations, sorted(validation.counts), evidence)
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
        steps_out_of_line(history, profiles) if spec.daily else [],
        problems,
        quarantine.decided(lake, spec, validation.quarantine),
    )


def _gather(
    spec: TableSpec, lake: Lake, contract: Contract, files: Sequence[Stored]
) -> tuple[Gathered, dict[str, list[FileProblem]]]:
    gathered = gather([_delivered(file, lake) for file in files], contract, spec.format, spec.schema_drift)
    problems: dict[str, list[FileProblem]] = {}
    for problem in gathered.problems:
        problems.setdefault(problem.partition or "", []).append(problem)
    return gathered, problems


def _delivered(file: Stored, lake: Lake) -> DeliveredFile:
    """Rows that a person released from the quarantine are JSON lines, whatever the source delivers."""
    own = Format() if file.name.startswith(RELEASED) else None
    content = lake.get_object(file.object)
    return DeliveredFile(file.name, content, file.partition_key or None, file.arrived_at, own)


def _history(spec: TableSpec, lake: Lake, partitions: Sequence[str]) -> "pa.Table":
    """The profiles that the first of these partitions is compared with, and those that lie among them."""
    if not (spec.daily and partitions and lake.exists(spec.profiles)):
        return PROFILE_SCHEMA().empty_table()
    first, last = min(partitions), max(partitions)
    stored = [p for p in lake.partitions(spec.profiles) if p < last]
    before = [p for p in stored if p < first][-REMEMBERED:]
    wanted = before + sorted({p for p in stored if p > first} - set(partitions))
    return lake.dataset(spec.profiles, partitions=wanted).to_table().select(PROFILE_SCHEMA().names)


def _evidence(
    spec: TableSpec,
    lake: Lake,
    con: "duckdb.DuckDBPyConnection",
    validation: Validation,
    profiles: "pa.Table",
) -> Evidence:
    con.register("refused_rows", validation.quarantine)
    con.register("judged_rows", _with_reference(spec, lake, validation))
    tables = {}
    for each in spec.expectations:
        if not (isinstance(each, References) and lake.exists(f"tables/{each.table}")):
            continue
        referred = lake.dataset(f"tables/{each.table}")
        if _holds(referred, each.to, validation.valid.schema.field(each.column).type):
            tables[each.table] = f"referred_{each.table}"
            con.register(tables[each.table], referred)
    return Evidence(spec.name, clock.now(), profiles, validation.fences, con, "judged_rows", tables, "refused_rows")


def _with_reference(spec: TableSpec, lake: Lake, validation: Validation) -> "pa.Table":
    """The valid rows, and for a shift those of the days that they are compared with."""
    import pyarrow as pa

    shifts = [each for each in spec.expectations if isinstance(each, Shift)]
    if not (shifts and spec.daily and validation.counts and lake.exists(spec.table)):
        return validation.valid
    first, last = min(validation.counts), max(validation.counts)
    reach = max(each.reference + each.current for each in shifts)
    since = shift(first, -ceil(reach / DAY))
    days = [p for p in lake.partitions(spec.table) if since <= p < last and p not in validation.counts]
    stored, schema = lake.dataset(spec.table, partitions=days), validation.valid.schema
    columns = dict.fromkeys(["partition_key", *(each.column for each in shifts)])
    before = stored.to_table(columns=[name for name in columns if _holds(stored, name, schema.field(name).type)])
    return pa.concat_tables([validation.valid, before], promote_options="default")


def _holds(stored: "ds.Dataset", column: str, kind: "pa.DataType") -> bool:
    """Whether rows have a column of this type: those of another contract may not."""
    return column in stored.schema.names and stored.schema.field(column).type == kind


def _joined(history: "pa.Table", profiles: "pa.Table") -> "pa.Table":
    import pyarrow as pa

    return pa.concat_tables([history, profiles])
