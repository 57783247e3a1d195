"""Ingestion: keep what was delivered, byte for byte, and let the rows that keep the contract into the table."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.errors import shorten
from ml_assets.records import Finding, Produced, StepResult, unchanged
from ml_assets.steps import catalogue
from ml_assets.steps.arrow import among
from ml_assets.steps.deliver import Stored, content_digest, deliveries, store
from ml_assets.steps.memo import Memo
from ml_assets.steps.pictures import profile_metadata
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets.tables import contract as contracts
from ml_assets.tables.schema import Contract
from ml_assets.tables.validate import Counts, DeliveredFile, FileProblem, Validation, gather, validate

if TYPE_CHECKING:
    import pyarrow as pa

CHECKS = (catalogue.READABLE.name, catalogue.NOT_EMPTY.name, catalogue.FEW_INVALID.name, catalogue.RECONCILED.name)


def ingest(spec: TableSpec, run: Run) -> Mapping[str, StepResult]:
    """Store new deliveries and validate what changed; a refused partition keeps what it held before."""
    results = {}
    if run.wants(spec.raw):
        results[spec.raw] = store(spec, run)
    if run.wants(spec.table):
        results[spec.table] = validate_deliveries(spec, run)
    return results


def validate_deliveries(spec: TableSpec, run: Run) -> StepResult:
    """Validate the current deliveries of the partitions whose files or contract changed, and replace their rows."""
    files = [file for file in deliveries(spec, run.lake, run.partitions) if file.current]
    inputs = inputs_of(spec, files, run.partitions)
    contract = contracts.load(spec.contract, keys=spec.keys)
    memo, refusals = memos(spec, run.lake, contract)
    produced, due = memo.survey(inputs)
    outcome = _judge(spec, run.lake, contract, [file for file in files if file.partition_key in due])
    good = [p for p in due if outcome.accepts(p, spec.fail_above)]
    for partition, fresh in _replace(spec, run, outcome, good).items():
        memo.write(partition, inputs[partition], fresh.data_version, _plain(fresh.metadata))
        produced[partition] = fresh
    for partition in {file.partition_key for file in files} & set(due) - set(good):
        refusals.write(partition, inputs[partition], "refused", {})
    return StepResult(produced, outcome.findings(due, spec.fail_above) if due else unchanged(*CHECKS))


def inputs_of(spec: TableSpec, files: Sequence[Stored], partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    """What the rows of each partition are made from: the content of its current files."""
    return {p: {spec.raw: content_digest([f for f in files if f.partition_key == p and f.current])} for p in partitions}


def memos(spec: TableSpec, lake: Lake, contract: Contract) -> tuple[Memo, Memo]:
    """What the rows were made from, and which deliveries were refused under this contract."""
    rules = [astuple(rule) for rule in contract.rules]  # a contract's text leaves them out
    config = [contract, rules, spec.known_at, spec.partition_column, spec.fail_above]
    made = Memo(lake, spec.table, version=catalogue.INGEST, config=config)
    return made, Memo(lake, f"refused/{spec.name}", version=catalogue.INGEST, config=config)


@dataclass(frozen=True)
class _Outcome:
    validation: Validation
    problems: dict[str, list[FileProblem]]

    def counts(self, partition: str) -> Counts:
        return self.validation.counts.get(partition, Counts())

    def invalid_share(self, partition: str) -> float:
        counts = self.counts(partition)
        return counts.quarantined / counts.delivered if counts.delivered else 0.0

    def accepts(self, partition: str, fail_above: float) -> bool:
        delivered = self.counts(partition).delivered > 0
        return delivered and not self.problems.get(partition) and self.invalid_share(partition) <= fail_above

    def findings(self, partitions: Sequence[str], fail_above: float) -> tuple[Finding, ...]:
        broken = [problem for p in partitions for problem in self.problems.get(p, [])]
        empty = [p or "the delivery" for p in partitions if not self.counts(p).delivered and not self.problems.get(p)]
        many = [(p, self.invalid_share(p)) for p in partitions if self.invalid_share(p) > fail_above]
        totals = [self.counts(p) for p in partitions]
        delivered, valid = sum(c.delivered for c in totals), sum(c.valid for c in totals)
        quarantined, doubled = sum(c.quarantined for c in totals), sum(c.duplicates for c in totals)
        sums = f"{delivered} delivered = {valid} valid + {quarantined} quarantined + {doubled} duplicates"
        return (
            Finding(
                catalogue.READABLE.name,
                not broken,
                "; ".join(shorten([p.problem for p in broken], 3).splitlines())
                or f"All files of {delivered} rows read.",
                numbers={"files with a problem": len(broken)},
            ),
            Finding(
                catalogue.NOT_EMPTY.name,
                not empty,
                f"No rows in {shorten(empty)}." if empty else f"{delivered} rows delivered.",
            ),
            Finding(
                catalogue.FEW_INVALID.name,
                not many,
                _too_many(many, fail_above) if many else f"{quarantined} of {delivered} rows are in quarantine.",
                numbers={"quarantined": quarantined, "allowed share": fail_above, "by rule": _by_rule(totals)},
            ),
            Finding(catalogue.RECONCILED.name, delivered == valid + quarantined + doubled, sums),
        )


def _judge(spec: TableSpec, lake: Lake, contract: Contract, files: Sequence[Stored]) -> _Outcome:
    named = [DeliveredFile(f.name, lake.get_object(f.object), f.partition_key or None, f.arrived_at) for f in files]
    gathered = gather(named, contract)
    rows, problems = gathered.rows, gathered.problems
    of_file = {file.name: file.partition_key for file in files}
    by_partition: dict[str, list[FileProblem]] = {}
    for problem in problems:
        by_partition.setdefault(of_file[problem.file], []).append(problem)
    stated = None if contract.column("known_at") else spec.known_at
    with connect() as con:
        return _Outcome(
            validate(con, rows, contract, known_at=stated, partition_column=spec.partition_column), by_partition
        )


def _replace(spec: TableSpec, run: Run, outcome: _Outcome, good: Sequence[str]) -> dict[str, Produced]:
    refused = outcome.validation.quarantine
    judged = sorted(outcome.validation.counts)
    if judged:
        run.lake.write(spec.quarantine, _of_table(spec, refused), partitions=judged if spec.daily else None)
    if not good:
        return {}
    valid = among(outcome.validation.valid, "partition_key", good) if spec.daily else outcome.validation.valid
    commit = run.lake.write(spec.table, valid, partitions=good if spec.daily else None)
    produced = {}
    for partition in good:
        counts, content = outcome.counts(partition), commit.content[partition]
        numbers = {"n_rows": counts.valid, "quarantined": counts.quarantined, "duplicates": counts.duplicates}
        produced[partition] = Produced(content.hash, {**numbers, "lake version": commit.version})
    newest = max(good)
    pictured = {
        **produced[newest].metadata,
        **profile_metadata(valid, label=f"{min(good)} to {newest}" if newest else ""),
    }
    return {**produced, newest: Produced(produced[newest].data_version, pictured)}


def _of_table(spec: TableSpec, rows: "pa.Table") -> "pa.Table":
    return rows if spec.daily else rows.drop_columns(["partition_key"])


def _too_many(many: Sequence[tuple[str, float]], fail_above: float) -> str:
    listed = shorten([f"{partition or 'all'}: {share:.1%}" for partition, share in many])
    return f"More than {fail_above:.1%} of the rows break the contract ({listed}). The rows are in the quarantine."


def _by_rule(totals: Sequence[Counts]) -> dict[str, int]:
    rules: dict[str, int] = {}
    for counts in totals:
        for rule, n in counts.by_rule.items():
            rules[rule] = rules.get(rule, 0) + n
    return rules


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if isinstance(value, int | float | str)}
