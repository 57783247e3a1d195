"""Ingestion: keep what was delivered, byte for byte, and let the rows that keep the contract into the table."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.landing import Delivery, Landing
from ml_assets.engine import connect
from ml_assets.errors import DeliveryError, shorten
from ml_assets.records import Finding, Produced, StepResult, unchanged
from ml_assets.steps import catalogue
from ml_assets.steps.arrow import among
from ml_assets.steps.memo import Memo, digest
from ml_assets.steps.pictures import profile_metadata
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec
from ml_assets.tables import contract as contracts
from ml_assets.tables.schema import Contract
from ml_assets.tables.validate import Counts, DeliveredFile, FileProblem, Validation, gather, validate

if TYPE_CHECKING:
    import pyarrow as pa

CHECKS = (catalogue.READABLE.name, catalogue.NOT_EMPTY.name, catalogue.FEW_INVALID.name, catalogue.RECONCILED.name)


@dataclass(frozen=True)
class Stored:
    """A delivered file as it is kept; only the newest of a name in a partition is current."""

    partition_key: str
    name: str
    sha256: str
    size_bytes: int
    object: str
    arrived_at: datetime
    current: bool = True


def ingest(spec: TableSpec, run: Run) -> Mapping[str, StepResult]:
    """Store new deliveries and validate what changed; a refused partition keeps what it held before."""
    results = {}
    if run.wants(spec.raw):
        results[spec.raw] = store(spec, run)
    if run.wants(spec.table):
        results[spec.table] = validate_deliveries(spec, run)
    return results


def store(spec: TableSpec, run: Run) -> StepResult:
    """Copy the files of the partitions into the lake under their hash, and list them with their arrival time."""
    before = deliveries(spec, run.lake, run.partitions)
    landing = Landing(run.settings.landing(spec.files), daily=spec.daily)
    found = list(before)
    for delivery in landing.deliveries():
        if (delivery.partition or "") in run.partitions:
            content = landing.read(delivery)
            _remember(found, spec, run.lake, content, delivery.partition or "", name_of(landing, delivery))
    found = _newest_of_each_name(found)
    partitions = [p for p in run.partitions if any(file.partition_key == p for file in found)]
    if not partitions:
        days = f" of {shorten(run.partitions)}" if spec.daily else ""
        raise DeliveryError(f"No file{days} matches {landing.pattern}. Deliver it, or correct `source.files`.")
    run.lake.write(spec.raw, _of_table(spec, _as_table(found)), partitions=partitions if spec.daily else None)
    produced = {p: _delivered([file for file in found if file.partition_key == p and file.current]) for p in partitions}
    return StepResult(produced, (_kept(run.lake, found),))


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
    return {p: {spec.raw: _digest([f for f in files if f.partition_key == p and f.current])} for p in partitions}


def memos(spec: TableSpec, lake: Lake, contract: Contract) -> tuple[Memo, Memo]:
    """What the rows were made from, and which deliveries were refused under this contract."""
    rules = [astuple(rule) for rule in contract.rules]  # a contract's text leaves them out
    config = [contract, rules, spec.known_at, spec.partition_column, spec.fail_above]
    made = Memo(lake, spec.table, version=catalogue.INGEST, config=config)
    return made, Memo(lake, f"refused/{spec.name}", version=catalogue.INGEST, config=config)


def deliveries(spec: TableSpec, lake: Lake, partitions: Sequence[str]) -> list[Stored]:
    """The files that are kept of these partitions, superseded ones too."""
    if not lake.exists(spec.raw):
        return []
    rows = lake.dataset(spec.raw, partitions=list(partitions) if spec.daily else None).to_table().to_pylist()
    return [Stored(**{"partition_key": "", **row}) for row in rows]


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
    rows, problems = gather(named, contract)
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


def name_of(landing: Landing, delivery: Delivery) -> str:
    """The path below the folder of the pattern, since two folders may hold files of one name."""
    folder = re.split(r"[*?\[]", landing.pattern)[0].rpartition("/")[0]
    return delivery.uri.removeprefix(f"{folder}/")


def _remember(found: list[Stored], spec: TableSpec, lake: Lake, content: bytes, partition: str, name: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if any((f.partition_key, f.name, f.sha256) == (partition, name, sha256) for f in found):
        newest = max((f for f in found if (f.partition_key, f.name) == (partition, name)), key=lambda f: f.arrived_at)
        if newest.sha256 == sha256:
            return
        found[:] = [f for f in found if (f.partition_key, f.name, f.sha256) != (partition, name, sha256)]
    place = f"{spec.raw}/{sha256[:2]}/{sha256}{''.join(PurePath(name).suffixes[-2:])}"
    lake.put_object(place, content)
    found.append(Stored(partition, name, sha256, len(content), place, clock.now()))


def _newest_of_each_name(found: Sequence[Stored]) -> list[Stored]:
    newest = {(f.partition_key, f.name): f for f in sorted(found, key=lambda f: f.arrived_at)}
    return [Stored(**{**vars(f), "current": newest[f.partition_key, f.name] is f}) for f in found]


def _as_table(found: Sequence[Stored]) -> "pa.Table":
    import pyarrow as pa

    text, time = pa.string(), pa.timestamp("us", "UTC")
    kinds = [text, text, text, pa.int64(), text, time, pa.bool_()]
    schema = pa.schema(list(zip(Stored.__dataclass_fields__, kinds, strict=True)))
    return pa.Table.from_pylist([vars(file) for file in found], schema)


def _delivered(files: Sequence[Stored]) -> Produced:
    newest = max((file.arrived_at for file in files), default=None)
    return Produced(
        _digest(files),
        {
            "files": [{"name": f.name, "sha256": f.sha256, "bytes": f.size_bytes} for f in files],
            "n_files": len(files),
            "bytes": sum(file.size_bytes for file in files),
            "newest arrival": newest.isoformat() if newest else "none",
        },
    )


def _digest(files: Sequence[Stored]) -> str:
    """Names do not count: the same bytes delivered again under another name are nothing new."""
    return digest(sorted({file.sha256 for file in files}))


def _kept(lake: Lake, files: Sequence[Stored]) -> Finding:
    wrong = [f.name for f in files if hashlib.sha256(lake.get_object(f.object)).hexdigest() != f.sha256]
    sentence = (
        f"The stored bytes of {shorten(wrong)} differ from what was delivered." if wrong else "All bytes are kept."
    )
    return Finding(catalogue.KEPT.name, not wrong, sentence, numbers={"files": len(files)})


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
