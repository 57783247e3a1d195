"""The contract of every source, and the declarations that name one. Light: loaded with the definitions.

A source is looked at (which partitions have something that was not there before?) and fetched from (the bytes). What
was fetched is kept by the caller under its hash together with `position`, and the source is told the newest position
of each partition when it is asked again: the list of what is kept *is* the cursor, so the two cannot disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

from ml_assets.tables.format import Format


@dataclass(frozen=True)
class Files:
    """Files by pattern: a local folder or `s3://`, relative to the landing place; see `pattern.Pattern`."""

    pattern: str
    format: Format = field(default_factory=Format)


@dataclass(frozen=True)
class Sql:
    """A table or a query of a database, by any SQLAlchemy URL; with `cursor`, only what is new since the last fetch."""

    url: str = field(repr=False)
    table: str | None = None
    query: str | None = None
    cursor: str | None = None
    every: timedelta = timedelta(minutes=1)
    page_rows: int = 50_000


@dataclass(frozen=True)
class Http:
    """A paged JSON API; `{partition}`, in the URL or in `params`, is the day that is asked for."""

    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    items: str = ""
    next_url: str | None = None  # path in the answer to the address of the next page, or "header:link"
    next_cursor: str | None = None  # path in the answer to a token, sent as the parameter `cursor_param`
    cursor_param: str = "cursor"
    page_param: str | None = None  # pages counted 1, 2, ... until one is empty or not there
    every: timedelta = timedelta(hours=1)
    look_back: timedelta = timedelta(days=2)
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True)
class Python:
    """A function `package.module.function` that gives the rows of a partition; of everything, without partitions."""

    function: str
    every: timedelta = timedelta(hours=1)
    look_back: timedelta = timedelta(days=2)


SourceSpec = Files | Sql | Http | Python


@dataclass(frozen=True)
class PartitionState:
    """What one partition was delivered: plain values, so that a cursor can hold it as JSON (`asdict`, `**`).

    `digest` is of the distinct contents, whatever they are called; `stat` tells when to look at them again.
    """

    digest: str
    n_files: int
    n_bytes: int
    stat: str


@dataclass(frozen=True)
class Look:
    """What a source has, by partition ("" where there are none), and what of it belongs to no partition."""

    states: Mapping[str, PartitionState]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fetched:
    """One delivery: bytes of a partition under a name. A later one of the same name takes its place.

    `position` says where the source has got to with it, as text that only the source reads.
    """

    partition: str
    name: str
    content: bytes
    position: str | None = None


def unsafe(name: str) -> str:
    """What keeps a name from being used as a path, or ""."""
    rules = {
        "is empty": not name,
        "is absolute": name.startswith("/"),
        "holds a backslash": "\\" in name,
        "holds a control character": not name.isprintable(),
        "leads out of its folder": ".." in name.split("/"),
    }
    return next((rule for rule, broken in rules.items() if broken), "")


class Scratch(Protocol):
    """Small objects that outlive a killed attempt, so that the next one goes on from there."""

    def get(self, name: str) -> bytes | None:
        """The bytes, or None."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Keep bytes, atomically."""
        ...

    def clear(self, prefix: str) -> None:
        """Forget what begins with a prefix."""
        ...


@dataclass(frozen=True)
class Subject:
    """The table that a source is for: its name, its days, the column that says which day a row belongs to."""

    name: str
    first_day: date | None = None
    last_day: date | None = None
    column: str | None = None

    @property
    def daily(self) -> bool:
        """Whether the table is partitioned by UTC day."""
        return self.first_day is not None


class Source(Protocol):
    """Everything that deliveries can come from."""

    @property
    def label(self) -> str:
        """How messages call it; never with a password."""
        ...

    def look(self, known: Mapping[str, PartitionState]) -> Look:
        """The state of each partition now, for a sensor: cheap against `known`, the states of the last look.

        A partition whose `digest` is the same has nothing new. Raises SourceUnavailableError.
        """
        ...

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:
        """The deliveries of partitions, one at a time; `positions` are the newest that were kept.

        May give again what was given before (the same bytes are kept once). Raises SourceUnavailableError for what
        may pass by itself, DeliveryError for what will not.
        """
        ...
