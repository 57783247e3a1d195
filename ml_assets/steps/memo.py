"""What was computed from what, and why: one small JSON object per asset and partition, beside the lake's tables.

A step's fingerprint covers its version, its configuration and the content of its inputs. A known fingerprint
means that the output stands already, and the step does no work. An entry keeps these parts by name, so that what
differs can be said in words.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.errors import shorten
from ml_assets.records import Finding, Produced, unchanged

FIRST = "first time"
_EARLIER = "it was made by an earlier release of ml_assets"
_HASH = re.compile(r"(?:[\w.-]+:)?([0-9a-f]{12,})")
_READABLE = 60


@dataclass(frozen=True)
class Entry:
    """How one partition came about. `reason` says what differed from the entry before."""

    fingerprint: str
    inputs: Mapping[str, str]
    data_version: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    made_at: str = ""
    failed: Sequence[Mapping[str, Any]] = ()  # the checks that failed then: `check`, `sentence`, `warn`

    def findings(self, *checks: str) -> tuple[Finding, ...]:
        """What the checks say when nothing was computed: what failed then has failed still."""
        failed = [Finding(passed=False, **each) for each in self.failed]
        return (*failed, *unchanged(*(check for check in checks if check not in {each.check for each in failed})))

    def produced(self, shown: Mapping[str, Any] = MappingProxyType({}), *, reused: bool = False) -> Produced:
        """What Dagster records: the metadata, why it was computed or was not, and all that it was made from."""
        since = f"nothing: same inputs as at {self.made_at[:19]} UTC, when it was computed: {self.reason}"
        made_from = {
            "inputs": dict(self.inputs),
            "code version": self.code,
            "configuration": digest(self.config),
            "row hash": self.data_version,
            "lake version": self.metadata.get("lake version"),
        }
        said = {"why": since if reused else self.reason, "made from": made_from}
        return Produced(self.data_version, {**self.metadata, **shown, **said}, reused)


def digest(value: Any) -> str:
    """A short hash of anything that JSON can hold; other values count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flat(value: Any, name: str = "") -> dict[str, str]:
    """The parts of a configuration by path, as short text; a long one by its hash."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {part.name: getattr(value, part.name) for part in fields(value)}
    if isinstance(value, list | tuple) and any(is_dataclass(part) or isinstance(part, Mapping) for part in value):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        parts = [flat(part, f"{name}.{key}" if name else str(key)) for key, part in value.items()]
        return {path: text for part in parts for path, text in part.items()}
    text = value if isinstance(value, str) else json.dumps(value, default=str).strip('"')
    return {name: text if len(text) <= _READABLE else digest(text)}


def differences(before: Entry, code: str, config: Mapping[str, str], inputs: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words: inputs first, then the code version, then the configuration."""
    if not before.code:
        return [_EARLIER]
    changed = [_change(name, before.inputs.get(name), inputs.get(name)) for name in {**before.inputs, **inputs}]
    changed += [f"code version {before.code} → {code}"] if before.code != code else []
    for name in {**before.config, **config}:
        old, new = before.config.get(name, "none"), config.get(name, "none")
        changed += [f"configuration changed: {name} {_short(old)} → {_short(new)}"] if old != new else []
    return [text for text in changed if text]


def _change(name: str, before: str | None, now: str | None) -> str:
    if before == now:
        return ""
    if before is None or now is None:
        return f"{name} is {'new' if before is None else 'gone'} ({_short(now or before or '')})"
    return f"{name} changed: {_short(before)} → {_short(now)}"


def _short(text: str) -> str:
    found = _HASH.fullmatch(text)
    return f"{found[1][:8]}…" if found else text


class Memo:
    """The record of one asset's partitions; "" is the key of an asset without partitions."""

    def __init__(self, lake: Lake, name: str, *, version: int, config: Any) -> None:
        self.name = name
        self._lake, self._code = lake, str(version)
        self._config = {} if config is None else flat(config)
        self._basis = [self._code, digest(self._config)]

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """The fingerprint of a partition that would be computed from these inputs now."""
        return digest([*self._basis, dict(inputs)])

    def known(self, partition: str, inputs: Mapping[str, str]) -> Entry | None:
        """The entry of a partition, when it was computed from exactly these inputs."""
        entry = self.read(partition)
        return entry if entry and entry.fingerprint == self.fingerprint(inputs) else None

    def changes(self, entry: Entry | None, inputs: Mapping[str, str]) -> list[str]:
        """What differs from an entry; nothing when it stands."""
        if entry is None:
            return [FIRST]
        found = differences(entry, self._code, self._config, inputs)
        return found or ([] if entry.fingerprint == self.fingerprint(inputs) else [_EARLIER])

    def survey(self, inputs: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Produced], list[str]]:
        """Of the partitions with these inputs: those that stand already, and those to compute, sorted."""
        known = {p: entry for p, hashes in inputs.items() if (entry := self.known(p, hashes))}
        return {p: entry.produced(reused=True) for p, entry in known.items()}, sorted(set(inputs) - set(known))

    def read(self, partition: str = "") -> Entry | None:
        """The latest entry of a partition."""
        path = self._path(partition)
        return Entry(**json.loads(self._lake.get_object(path))) if self._lake.has_object(path) else None

    def write(
        self,
        partition: str,
        inputs: Mapping[str, str],
        data_version: str,
        metadata: Mapping[str, Any],
        findings: Sequence[Finding] = (),
    ) -> Entry:
        """Remember how a partition came about, why, and which of its checks failed; call it after the output stands."""
        reason = shorten(self.changes(self.read(partition), inputs), 3) or "computed again from the same inputs"
        entry = Entry(
            fingerprint=self.fingerprint(inputs),
            inputs=dict(inputs),
            data_version=data_version,
            metadata=dict(metadata),
            code=self._code,
            config=self._config,
            reason=reason,
            made_at=clock.now().isoformat(),
            failed=[{"check": f.check, "sentence": f.sentence, "warn": f.warn} for f in findings if not f.passed],
        )
        self._lake.replace_object(self._path(partition), json.dumps(asdict(entry), default=str).encode())
        return entry

    def _path(self, partition: str) -> str:
        return f"memo/{self.name}/{partition or 'whole'}.json"


class Work(NamedTuple):
    """What a step decides by: the record of what stands, and what each partition would be made from now."""

    memo: Memo
    inputs: Mapping[str, Mapping[str, str]]

    def unknown(self) -> dict[str, str]:
        """The partitions that a run would compute, by fingerprint."""
        due = {p: hashes for p, hashes in self.inputs.items() if self.memo.known(p, hashes) is None}
        return {partition: self.memo.fingerprint(hashes) for partition, hashes in due.items()}


def by_day(table: str, hashes: Mapping[str, str], days: Iterable[str]) -> dict[str, str]:
    """The content of some days of a table as inputs, each by a name of its own, so that a change can name it."""
    return {f"{table} {day}": hashes[day] for day in days if day in hashes}
