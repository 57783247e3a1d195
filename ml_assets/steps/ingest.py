"""Ingestion: keep what was delivered, byte for byte, and let the rows that keep the contract into the table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.records import Produced, StepResult, unchanged
from ml_assets.steps import catalogue, configuration, findings
from ml_assets.steps.arrival import first_known
from ml_assets.steps.arrow import among
from ml_assets.steps.deliver import Stored, content_digest, deliveries, distinct, keep, polled, said
from ml_assets.steps.judge import Judgement, judge
from ml_assets.steps.memo import Memo
from ml_assets.steps.pictures import trend_metadata
from ml_assets.steps.quarantine import audit
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets.tables.schema import Contract

if TYPE_CHECKING:
    import pyarrow as pa


def ingest(spec: TableSpec, run: Run) -> Mapping[str, StepResult]:
    """Store new deliveries and validate what changed; a refused partition keeps what it held before."""
    results, kept = {}, None
    if run.wants(spec.raw):
        kept = keep(spec, run)
        results[spec.raw] = said(spec, run, kept)
    if run.wants(spec.table):
        listed = deliveries(spec, run.lake, run.partitions) if kept is None else kept
        results[spec.table] = _validate(spec, run, distinct(listed))
    return results


def _validate(spec: TableSpec, run: Run, files: Sequence[Stored]) -> StepResult:
    """Validate the deliveries of the partitions whose files or contract changed, and replace their rows."""
    held = {file.partition_key for file in files}
    wanted = [p for p in run.partitions if p in held or not polled(spec.source)]
    inputs = inputs_of(spec, run.lake, files, wanted)
    contract = spec.loaded()
    memo, refusals = memos(spec, run.lake, contract)
    produced, due = memo.survey(inputs)
    if not due:
        return StepResult(produced, unchanged(*(check.name for check in catalogue.of_table(spec))))
    asked = set(due)
    judgement = judge(spec, run, contract, due, [file for file in files if file.partition_key in asked])
    refused = {p: reason for p in due if (reason := judgement.refusal(p))}
    produced |= _replace(judgement, run.lake, memo, inputs, [p for p in due if p not in refused])
    for partition in held & set(refused):
        refusals.write(partition, inputs[partition], "refused", {"because": refused[partition]})
    return StepResult(produced, findings.of(judgement))


def inputs_of(
    spec: TableSpec, lake: Lake, files: Sequence[Stored], partitions: Sequence[str]
) -> dict[str, dict[str, str]]:
    """What the rows of each partition are made from: its current files, and what people decided on refused rows."""
    current: dict[str, list[Stored]] = {partition: [] for partition in partitions}
    for file in files:
        if file.current and file.partition_key in current:
            current[file.partition_key].append(file)
    inputs = {partition: {spec.raw: content_digest(of_it)} for partition, of_it in current.items()}
    if lake.exists(audit(spec)):
        for partition, content in lake.content(audit(spec)).items():
            if partition in inputs:
                inputs[partition][audit(spec)] = content.hash
    return inputs


def memos(spec: TableSpec, lake: Lake, contract: Contract) -> tuple[Memo, Memo]:
    """What the rows were made from, and which deliveries were refused under this contract."""
    config = configuration.of_table(spec, contract)
    made = Memo(lake, spec.table, version=catalogue.INGEST, config=config)
    return made, Memo(lake, f"refused/{spec.name}", version=catalogue.INGEST, config=config)


def _replace(
    judged: Judgement, lake: Lake, memo: Memo, inputs: Mapping[str, Mapping[str, str]], good: Sequence[str]
) -> dict[str, Produced]:
    """Put the rows of the good partitions in place of what was there; the refused rows of all go to the quarantine."""
    spec, counted = judged.spec, sorted(judged.validation.counts)
    if counted:
        _write(spec, lake, spec.quarantine, judged.validation.quarantine, counted)
    if not good:
        return {}
    _write(spec, lake, spec.profiles, judged.profiles, good)
    rows = first_known(spec, lake, judged.contract, judged.validation.valid)
    commit = _write(spec, lake, spec.table, rows, good)
    produced = {}
    for partition in good:
        metadata = {**_numbers(judged, partition), "lake version": commit.version}
        entry = memo.write(partition, inputs[partition], commit.content[partition].hash, metadata)
        produced[partition] = entry.produced(_shown(judged) if partition == max(good) else {})
    return produced


def _write(spec: TableSpec, lake: Lake, name: str, rows: "pa.Table", partitions: Sequence[str]) -> Any:
    if not spec.daily:
        return lake.write(name, rows.drop_columns([c for c in ("partition_key",) if c in rows.column_names]))
    return lake.write(name, among(rows, "partition_key", partitions), partitions=partitions)


def _numbers(judged: Judgement, partition: str) -> dict[str, int]:
    counts = judged.counts(partition)
    return {
        "n_rows": counts.valid,
        "delivered": counts.delivered,
        "quarantined": counts.quarantined,
        "duplicates": counts.duplicates,
    }


def _shown(judged: Judgement) -> Mapping[str, Any]:
    shown = dict(trend_metadata(judged.profiles, judged.history, flagged=judged.steps))
    new = {column.name: column.type for column in judged.gathered.evolved}
    return shown | ({"columns beyond the contract": new} if new else {})
