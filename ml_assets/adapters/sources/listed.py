"""What sources of files share, wherever the files are: look at a listing, read what has changed."""

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ml_assets.adapters.sources.base import Fetched, Files, Look, PartitionState, Subject, unsafe
from ml_assets.adapters.sources.pattern import Pattern
from ml_assets.errors import DeliveryError, SourceUnavailableError


@dataclass(frozen=True)
class Entry:
    """A listed file. `stat` changes when it is written again, be it with the same bytes.

    `content` is what tells its bytes apart without reading them, where the listing knows that. `written` orders files
    that are seen at once by when they came. An entry with a `problem` cannot be delivered.
    """

    path: str
    size: int
    stat: str
    content: str | None = None
    problem: str = ""
    written: float = 0.0

    @property
    def position(self) -> str:
        """What tells that the file is the one that was fetched."""
        return self.content or self.stat


_Groups = dict[str, list[Entry]]


class Listed(ABC):
    """Files that can be listed: `entries` and `read` say how."""

    def __init__(self, spec: Files, subject: Subject) -> None:
        self.spec = spec
        self.pattern = Pattern(spec.pattern, daily=subject.daily)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"

    @property
    def label(self) -> str:
        """The pattern."""
        return self.pattern.text

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """The files whose path begins so; a place that is not there yet has none. Raises SourceUnavailableError."""

    @abstractmethod
    def read(self, entry: Entry) -> tuple[bytes, Entry]:
        """The bytes of one state of a file, and that state. Raises SourceUnavailableError."""

    def look(self, known: Mapping[str, PartitionState]) -> Look:
        """The state of each partition; files are read only where something was written since the last look.

        A file that was touched, renamed or delivered twice is nothing new.
        """
        groups, problems = self._grouped(self.pattern.prefix())
        states = {partition: self._state(group, known.get(partition)) for partition, group in sorted(groups.items())}
        return Look(states, tuple(sorted(problems)))

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:
        """The files of partitions that are not those that were fetched before, by name."""
        groups, _ = self._grouped(self.pattern.prefix(partitions))
        for partition in partitions:
            yield from self._changed(partition, groups.get(partition, []), json.loads(positions.get(partition, "{}")))

    def _changed(self, partition: str, group: list[Entry], before: Mapping[str, str]) -> Iterator[Fetched]:
        position = {self.pattern.name(entry.path): entry.position for entry in group}
        fresh = [entry for entry in group if before.get(self.pattern.name(entry.path)) != entry.position]
        fresh.sort(key=lambda entry: entry.written)  # the newest wins by key; those of one moment stay in order of name
        for entry in fresh:
            content, state = self.read(entry)
            name = self.pattern.name(entry.path)
            position[name] = state.position
            reached = json.dumps(position, sort_keys=True) if entry is fresh[-1] else None
            yield Fetched(partition, name, content, reached)

    def _grouped(self, prefix: str) -> tuple[_Groups, list[str]]:
        groups, problems = defaultdict(list), []
        for entry in sorted(self.entries(prefix), key=lambda entry: (entry.path.rpartition("/")[2], entry.path)):
            if problem := self._problem(entry):
                problems.append(problem)
            elif self.pattern.matches(entry.path):
                groups[self.pattern.partition(entry.path)].append(entry)
        return groups, problems

    def _problem(self, entry: Entry) -> str:
        """Why a file is left out although it is meant to be delivered, or ""."""
        problem = entry.problem
        if not problem and self.pattern.matches(entry.path):
            try:
                self.pattern.partition(entry.path)
            except DeliveryError as error:
                problem = str(error)
            if broken := unsafe(self.pattern.name(entry.path)):
                problem = f"the name {broken}. Deliver the file under another one."
            elif entry.size > self.spec.format.max_bytes:
                problem = f"{entry.size} bytes are more than `max_bytes`. Deliver smaller files or raise the limit."
        return f"{_printable(entry.path)}: {problem}" if problem else ""

    def _state(self, group: list[Entry], known: PartitionState | None) -> PartitionState:
        stat = _short(sorted(f"{self.pattern.name(entry.path)} {entry.stat}" for entry in group))
        if known is not None and known.stat == stat:
            return known
        # The listing is older than the bytes: a file that changes in between has another stat next time.
        contents = {content for entry in group if (content := self._content(entry))}
        return PartitionState(_short(sorted(contents)), len(group), sum(entry.size for entry in group), stat)

    def _content(self, entry: Entry) -> str:
        try:
            return entry.content or sha256(self.read(entry)[0]).hexdigest()
        except SourceUnavailableError:
            return f"unsettled {entry.stat}"


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]


def _short(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:32]
