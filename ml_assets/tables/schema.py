"""What a contract says, as plain data: columns, rules and keys. The words that every other module of tables shares."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

TYPES = ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "DATE")
AVAILABLE = ("request", "after_event")
RELEASED = "released-"  # so begins the name of a delivery that a person made of refused rows
RESERVED = ("partition_key", "_file", "_row", "_arrived_at", "_known_at")  # columns that ml_assets adds to rows


@dataclass(frozen=True)
class Column:
    """A column of a table; `type` is one of `TYPES`, and a TIMESTAMPTZ is an instant in UTC, in microseconds.

    `available` says from when on a row has a value in it: "request" is early enough to predict by, "after_event" only
    once the thing has happened that is predicted.
    """

    name: str
    type: str
    nullable: bool
    description: str = ""
    available: str = "request"


@dataclass(frozen=True)
class Rule:
    """Something that a good row keeps: `sql` is TRUE for it, or NULL when the value that is judged is null.

    A rule with `unique` compares rows: its sql is a window over the rows of one partition, so it is judged after
    duplicates by key are gone, and every row of a tie breaks it. `check` is the name of its asset check.
    """

    name: str
    column: str | None
    sql: str
    unique: tuple[str, ...] = ()
    check: str = ""


@dataclass(frozen=True)
class Promise:
    """A rule as the source text states it: the name of its asset check, what it says to people, of which column."""

    check: str
    sentence: str
    column: str | None = None


@dataclass(frozen=True)
class Contract:
    """The columns that a delivery has, exactly; the rules that its rows keep; the keys that identify a row."""

    reference: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = field(repr=False)
    keys: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the order of declaration."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


_LONGEST = 80


def slug(text: str) -> str:
    """The text in `[a-z0-9_]+`, words separated by one underscore, so that `__` separates parts of a name."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or f"x{_short_hash(text)}"


def check_names(rules: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Names of asset checks for (what is judged, words that identify the rule): unique, at most 80 characters.

    Where two would share a name, or one is too long, each gets a hash of what identifies it; so a name depends on the
    set of rules, not on their order.
    """
    wanted = [f"{slug(subject)}__{words[-1]}" if len(words) > 1 else slug(subject) for subject, words in rules]
    times = Counter(wanted)
    return [
        name if times[name] == 1 and len(name) <= _LONGEST else f"{name[: _LONGEST - 7]}_{_short_hash(rule)}"
        for name, rule in zip(wanted, rules, strict=True)
    ]


def _short_hash(of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:6]
