"""Deliveries: what a source gives, kept byte for byte under its hash, and listed with its arrival time."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.sources.base import Fetched, Files, Source, SourceSpec, Sql, Subject, unsafe
from ml_assets.adapters.sources.opening import open_source
from ml_assets.errors import DeliveryError, LakeConflictError, shorten
from ml_assets.records import Finding, Produced, StepResult
from ml_assets.steps import catalogue
from ml_assets.steps.memo import digest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

_ATTEMPTS = 5
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Stored:
    """A delivery as it is kept; only the newest of a name in a partition is current.

    `position` is how far the source has got with the partition: one delivery of it holds that, the last that came.
    """

    partition_key: str
    name: str
    sha256: str
    size_bytes: int
    object: str
    arrived_at: datetime
    current: bool = True
    position: str | None = None


def store(spec: TableSpec, run: Run) -> StepResult:
    """Keep what the source has of the partitions, and say what is kept of each."""
    return said(spec, run, keep(spec, run))


def keep(spec: TableSpec, run: Run) -> Sequence[Stored]:
    """Keep what the source has of the partitions, under its hash, and list it with its arrival time.

    The list is written only as long as nobody else wrote it since it was read; otherwise the source is asked again,
    from the positions that the other run has left.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _store(spec, run)
        except LakeConflictError:
            run.log(f"{spec.raw}: another run delivered at the same time; asking the source again.")
    raise LakeConflictError(f"{spec.raw}: other runs delivered {_ATTEMPTS} times meanwhile. Run the step again.")


def add(spec: TableSpec, lake: Lake, given: Iterable[Fetched], before: Sequence[Stored], base: int) -> None:
    """Keep what no source gave, such as rows that a person released, after all of `before`, the list of version `base`.

    Raises LakeConflictError where another run delivered meanwhile.
    """
    listed = _List(spec, before)
    for each in given:
        listed.add(each, lake)
    _commit(spec, lake, before, listed.files(), base)


def said(spec: TableSpec, run: Run, found: Sequence[Stored]) -> StepResult:
    """What is kept of each partition.

    A day on which the source has nothing is an error for files, which somebody meant to deliver; elsewhere nothing is
    made of it.
    """
    of_partition: dict[str, list[Stored]] = {}
    for file in found:
        of_partition.setdefault(file.partition_key, []).append(file)
    partitions = [p for p in run.partitions if p in of_partition]
    if not partitions and (isinstance(spec.source, Files) or not spec.daily):
        raise DeliveryError(_nothing(spec, run))
    if polled(spec.source):
        _note_empty(run.lake, spec, sorted(set(run.partitions) - set(partitions)))
    produced = {p: _delivered([file for file in of_partition[p] if file.current]) for p in partitions}
    return StepResult(produced, (_kept(run.lake, found),))


def deliveries(spec: TableSpec, lake: Lake, partitions: Sequence[str], *, version: int | None = None) -> list[Stored]:
    """The files that are kept of these partitions, superseded ones too, in the order of their arrival."""
    if not lake.exists(spec.raw):
        return []
    dataset = lake.dataset(spec.raw, partitions=list(partitions) if spec.daily else None, version=version)
    found = [Stored(**{"partition_key": "", **row}) for row in dataset.to_table().to_pylist()]
    return _sorted(found)


def positions(files: Sequence[Stored]) -> dict[str, str]:
    """How far the source has got with each partition."""
    return {file.partition_key: file.position for file in files if file.position is not None}


def polled(source: SourceSpec) -> bool:
    """Whether a source must be fetched from to know what is new; others tell that for next to nothing."""
    return not isinstance(source, Files) and not (isinstance(source, Sql) and source.cursor is not None)


def known_empty(spec: TableSpec, lake: Lake, partition: str) -> bool:
    """Whether a source that is polled was asked for a partition and had nothing."""
    return lake.has_object(_empty(spec, partition))


def distinct(files: Sequence[Stored]) -> list[Stored]:
    """The current files, in the order of their arrival, each content of a partition once, when it first came.

    The same bytes again under another name would restate what has been corrected since, whenever the day is judged.
    """
    found: dict[tuple[str, str], Stored] = {}
    for file in _sorted(file for file in files if file.current):
        found.setdefault((file.partition_key, file.sha256), file)
    return list(found.values())


def content_digest(files: Sequence[Stored]) -> str:
    """Names do not count: the same bytes delivered again under another name are nothing new."""
    return digest(sorted({file.sha256 for file in files}))


def source_of(spec: TableSpec, run: Run) -> Source:
    """The source of a table, opened."""
    subject = Subject(spec.name, spec.first_day, spec.last_day, spec.partition_column)
    scratch = LakeScratch(run.lake, spec.name)
    return open_source(spec.source, subject, landing=run.settings.landing_uri, scratch=scratch, s3=run.s3)


@dataclass(frozen=True)
class LakeScratch:
    """Objects of the lake that belong to the unfinished deliveries of a table."""

    lake: Lake
    table: str

    def get(self, name: str) -> bytes | None:
        """The bytes, or None."""
        path = self._path(name)
        return self.lake.get_object(path) if self.lake.has_object(path) else None

    def put(self, name: str, content: bytes) -> None:
        """Keep bytes, atomically."""
        self.lake.replace_object(self._path(name), content)

    def clear(self, prefix: str) -> None:
        """Forget what begins with a prefix."""
        self.lake.remove_objects(self._path(prefix))

    def _path(self, name: str) -> str:
        return f"scratch/{self.table}/{name}"


class _List:
    """The deliveries of some partitions, old ones and those that come."""

    def __init__(self, spec: TableSpec, before: Sequence[Stored]) -> None:
        self._spec, self._of_name, self._newest = spec, defaultdict(list), {}
        self._positions = positions(before)
        for file in before:
            self._append(file)

    def add(self, fetched: Fetched, lake: Lake) -> None:
        """Keep a delivery, if it is not the newest of its name already, and note the position."""
        if rule := unsafe(fetched.name):
            raise DeliveryError(f"{self._spec.name}: the name {fetched.name!a} {rule}. Deliver it under another.")
        sha256 = hashlib.sha256(fetched.content).hexdigest()
        same = self._of_name[fetched.partition, fetched.name]
        if not same or same[-1].sha256 != sha256:
            same[:] = [file for file in same if file.sha256 != sha256]
            place = f"{self._spec.raw}/{sha256[:2]}/{sha256}{_suffixes(fetched.name)}"
            lake.put_object(place, fetched.content)
            size, time = len(fetched.content), self._arrival(fetched.partition)
            self._append(Stored(fetched.partition, fetched.name, sha256, size, place, time))
        if fetched.position is not None:
            self._positions[fetched.partition] = fetched.position

    def files(self) -> list[Stored]:
        """All of them in the order of their arrival; the last of a partition holds its position."""
        found = [replace(file, current=file is same[-1]) for same in self._of_name.values() for file in same]
        return [
            replace(file, position=self._positions.get(file.partition_key) if self._is_newest(file) else None)
            for file in _sorted(found)
        ]

    def _append(self, file: Stored) -> None:
        self._of_name[file.partition_key, file.name].append(file)
        self._newest[file.partition_key] = file

    def _arrival(self, partition: str) -> datetime:
        # No two of a partition arrive at once, nor before another: which is the newer never depends on the clock.
        newest = self._newest.get(partition)
        return max(clock.now(), newest.arrived_at + _TICK) if newest else clock.now()

    def _is_newest(self, file: Stored) -> bool:
        newest = self._newest[file.partition_key]
        return (file.name, file.sha256) == (newest.name, newest.sha256)


def _store(spec: TableSpec, run: Run) -> Sequence[Stored]:
    base = run.lake.version(spec.raw) if run.lake.exists(spec.raw) else -1
    before = deliveries(spec, run.lake, run.partitions, version=base) if base >= 0 else []
    source, listed = source_of(spec, run), _List(spec, before)
    for fetched in source.fetch(run.partitions, positions(before)):
        if fetched.partition not in run.partitions:
            raise DeliveryError(f"{source.label} gave rows of {fetched.partition}, for which nobody asked.")
        listed.add(fetched, run.lake)
    return _commit(spec, run.lake, before, listed.files(), base)


def _commit(
    spec: TableSpec, lake: Lake, before: Sequence[Stored], found: Sequence[Stored], base: int
) -> Sequence[Stored]:
    if _contents(found) == _contents(before):
        return before  # a position alone is no reason to write: the next fetch only reads a little more
    rows = _as_table(found) if spec.daily else _as_table(found).drop_columns(["partition_key"])
    changed = sorted({file.partition_key for file in found})
    lake.write(spec.raw, rows, partitions=changed if spec.daily else None, base_version=base)
    return found


def _note_empty(lake: Lake, spec: TableSpec, partitions: Sequence[str]) -> None:
    """There are days on which nothing happens, and they are not to be asked for for ever."""
    for partition in partitions:
        lake.replace_object(_empty(spec, partition), b"")


def _empty(spec: TableSpec, partition: str) -> str:
    return f"empty/{spec.name}/{partition or 'whole'}"


def _suffixes(name: str) -> str:
    """Such as `.csv.gz`, for people who look at the objects."""
    return re.search(r"(\.[A-Za-z0-9]{1,10}){0,2}$", name)[0]  # pyright: ignore[reportOptionalSubscript] - matches ""


def _sorted(files: Iterable[Stored]) -> list[Stored]:
    return sorted(files, key=lambda file: (file.arrived_at, file.partition_key, file.name))


def _contents(files: Sequence[Stored]) -> set[Stored]:
    return {replace(file, position=None) for file in files}


def _nothing(spec: TableSpec, run: Run) -> str:
    source = source_of(spec, run)
    days = f" of {shorten(run.partitions)}" if spec.daily else ""
    left_out = source.look({}).problems
    also = f" Left out: {shorten(left_out)}" if left_out else ""
    return f"{source.label} has nothing{days}. Deliver it, or correct `source`.{also}"


def _as_table(found: Sequence[Stored]) -> "pa.Table":
    import pyarrow as pa

    text, time = pa.string(), pa.timestamp("us", "UTC")
    kinds = [text, text, text, pa.int64(), text, time, pa.bool_(), text]
    schema = pa.schema(list(zip(Stored.__dataclass_fields__, kinds, strict=True)))
    return pa.Table.from_pylist([vars(file) for file in found], schema)


def _delivered(files: Sequence[Stored]) -> Produced:
    newest = max((file.arrived_at for file in files), default=None)
    return Produced(
        content_digest(files),
        {
            "files": [{"name": f.name, "sha256": f.sha256, "bytes": f.size_bytes} for f in files],
            "n_files": len(files),
            "bytes": sum(file.size_bytes for file in files),
            "newest arrival": newest.isoformat() if newest else "none",
        },
    )


def _kept(lake: Lake, files: Sequence[Stored]) -> Finding:
    wrong = [f.name for f in files if hashlib.sha256(lake.get_object(f.object)).hexdigest() != f.sha256]
    sentence = (
        f"The stored bytes of {shorten(wrong)} differ from what was delivered." if wrong else "All bytes are kept."
    )
    return Finding(catalogue.KEPT.name, not wrong, sentence, numbers={"files": len(files)})
