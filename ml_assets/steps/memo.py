"""What was computed from what: one small JSON object per asset and partition, beside the lake's tables.

A step's fingerprint covers its version, its configuration and the content of its inputs. A known fingerprint
means that the output stands already, and the step does no work.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ml_assets.adapters.lake import Lake
from ml_assets.records import Produced


@dataclass(frozen=True)
class Entry:
    """How one partition came about."""

    fingerprint: str
    inputs: Mapping[str, str]
    data_version: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def digest(value: Any) -> str:
    """A short hash of anything that JSON can hold; other values count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Memo:
    """The record of one asset's partitions; "" is the key of an asset without partitions."""

    def __init__(self, lake: Lake, name: str, *, version: int, config: Any) -> None:
        self._lake, self._name = lake, name
        self._basis = {"code": str(version), "config": digest(config)}

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """The fingerprint of a partition that would be computed from these inputs now."""
        return digest({**self._basis, **inputs})

    def known(self, partition: str, inputs: Mapping[str, str]) -> Entry | None:
        """The entry of a partition, when it was computed from exactly these inputs."""
        entry = self.read(partition)
        return entry if entry and entry.fingerprint == self.fingerprint(inputs) else None

    def survey(self, inputs: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Produced], list[str]]:
        """Of the partitions with these inputs: those that stand already, and those to compute, sorted."""
        known = {p: entry for p, hashes in inputs.items() if (entry := self.known(p, hashes))}
        produced = {p: Produced(entry.data_version, entry.metadata, reused=True) for p, entry in known.items()}
        return produced, sorted(set(inputs) - set(known))

    def read(self, partition: str = "") -> Entry | None:
        """The latest entry of a partition."""
        path = self._path(partition)
        return Entry(**json.loads(self._lake.get_object(path))) if self._lake.has_object(path) else None

    def write(self, partition: str, inputs: Mapping[str, str], data_version: str, metadata: Mapping[str, Any]) -> Entry:
        """Remember how a partition came about; call it after the output stands."""
        entry = Entry(self.fingerprint(inputs), {**self._basis, **inputs}, data_version, dict(metadata))
        self._lake.replace_object(self._path(partition), json.dumps(asdict(entry), default=str).encode())
        return entry

    def _path(self, partition: str) -> str:
        return f"memo/{self._name}/{partition or 'whole'}.json"
