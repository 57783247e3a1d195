"""What a source has delivered: files of a local folder or of `s3://`, and whether their content is new.

Nothing here opens a file as a table; a truncated or foreign file is content like any other.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING

from ml_assets.adapters.content import WHOLE
from ml_assets.adapters.filesystem import absolute, is_local, open_location
from ml_assets.errors import DeliveryError

if TYPE_CHECKING:
    from pyarrow import fs

_DAY = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Delivery:
    """One delivered file; `stat` changes when the file is written again, be it with the same bytes."""

    uri: str
    name: str
    partition: str | None
    size: int
    modified_at: datetime
    stat: str


class Deliveries(list[Delivery]):
    """Delivered files by name, and as `problems` the files that belong to no day where each must."""

    def __init__(self, deliveries: Iterable[Delivery], problems: Iterable[DeliveryError] = ()) -> None:
        super().__init__(deliveries)
        self.problems = tuple(problems)


@dataclass(frozen=True)
class PartitionState:
    """What one partition was delivered: plain values, so that a cursor can hold it as JSON (`asdict`, `**`).

    `digest` is of the distinct contents, whatever the files are called; `stat` tells when to look at them again.
    """

    digest: str
    n_files: int
    n_bytes: int
    stat: str


class Landing:
    """The files of one source: a pattern with wildcards below a folder, such as `s3://landing/weather/*.parquet`.

    `*` does not cross a folder, `**` does. Hidden files, `_*` and `*.tmp` are not delivered yet.
    """

    def __init__(self, pattern: str, *, daily: bool, storage_options: Mapping[str, str] | None = None) -> None:
        self.pattern = absolute(str(pattern))
        self.daily = daily
        self.storage_options = dict(storage_options) if storage_options else None

    def __repr__(self) -> str:
        return f"Landing({self.pattern!r}, daily={self.daily})"

    def deliveries(self) -> Deliveries:
        """List the delivered files by name, reading none of them; a folder that is not there yet has none."""
        found, problems = [], []
        for info in sorted(self._matching(), key=lambda info: (info.base_name, info.path)):
            try:
                found.append(self._delivery(info))
            except DeliveryError as error:
                problems.append(error)
        return Deliveries(found, problems)

    def read(self, delivery: Delivery) -> bytes:
        """Read a file whole, as it is now."""
        filesystem, path = open_location(delivery.uri, self.storage_options)
        try:
            with filesystem.open_input_stream(path, compression=None) as stream:
                return stream.read()
        except FileNotFoundError as error:
            raise DeliveryError(f"{delivery.uri} is gone since it was listed. Deliver it again.") from error

    def digest(self, delivery: Delivery) -> str:
        """Hash a file's bytes, SHA-256 in hex."""
        return sha256(self.read(delivery)).hexdigest()

    def content(self, known: Mapping[str, PartitionState] | None = None) -> dict[str, PartitionState]:
        """Tell the state of each partition, `""` for a source that is not daily; only files of changed ones are read.

        Compare `digest` with what was known: a file that was touched, renamed or delivered twice is nothing new.
        """
        files = defaultdict(list)
        for delivery in self.deliveries():
            files[delivery.partition or WHOLE].append(delivery)
        before = known or {}
        return {partition: self._state(group, before.get(partition)) for partition, group in sorted(files.items())}

    def _state(self, files: list[Delivery], known: PartitionState | None) -> PartitionState:
        stat = _short(sorted(f"{file.name} {file.stat}" for file in files))
        if known is not None and known.stat == stat:
            return known
        # The listing is older than the bytes: a file that changes in between has another stat next time.
        digests = {digest for file in files if (digest := self._digest_or_none(file))}
        return PartitionState(_short(sorted(digests)), len(files), sum(file.size for file in files), stat)

    def _digest_or_none(self, delivery: Delivery) -> str | None:
        try:
            return self.digest(delivery)
        except DeliveryError:
            return None

    def _delivery(self, info: "fs.FileInfo") -> Delivery:
        uri = info.path if is_local(self.pattern) else f"s3://{info.path}"
        partition = _day(info.base_name, uri) if self.daily else None
        modified_at = datetime.fromtimestamp(info.mtime_ns / 1e9, UTC)
        return Delivery(uri, info.base_name, partition, info.size, modified_at, f"{info.size}-{info.mtime_ns}")

    def _matching(self) -> list["fs.FileInfo"]:
        from pyarrow import fs

        filesystem, path = open_location(self.pattern, self.storage_options)
        selector = fs.FileSelector(self._folder(path), allow_not_found=True, recursive=True)
        return [info for info in filesystem.get_file_info(selector) if info.is_file and self._matches(path, info)]

    def _folder(self, path: str) -> str:
        wildcard = _WILDCARD.search(path)
        return path[: wildcard.start()].rpartition("/")[0] if wildcard else path.rpartition("/")[0]

    def _matches(self, pattern: str, info: "fs.FileInfo") -> bool:
        inside = info.path.removeprefix(self._folder(pattern)).strip("/").split("/")
        if any(part.startswith((".", "_")) for part in inside) or info.base_name.endswith(".tmp"):
            return False
        return _fits(info.path.split("/"), pattern.split("/"))


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Match a path with a pattern part by part, `**` standing for any number of folders."""
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _day(name: str, uri: str) -> str:
    found = _DAY.search(name)
    if found is None:
        raise DeliveryError(f"{uri}: no day in the file name. Deliver it with one, such as weather-2013-01-05.parquet.")
    try:
        date.fromisoformat(found[0])
    except ValueError as error:
        raise DeliveryError(f"{uri}: {found[0]} is not a day. Deliver the file under its right name.") from error
    return found[0]


def _short(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:32]
