"""When the event of a row was, and so from when on its outcome can have been known at the earliest.

A table whose contract marks columns as `after_event` promises more than that `known_at` is there: a row that holds an
outcome is not known before its `event_timestamp`. Other times of the class are not compared: an outcome can be a time
that lies ahead (`rebooked_for`). Nor are dates, which have no time zone. Where the event has no time of its own (only
the schedule has), no row can show the fault; then it is found in live rows, which arrive later than they are said to be
known.
"""

from collections.abc import Sequence

from ml_assets.engine import quote
from ml_assets.tables.schema import Column, Promise, Rule

_CHECK = "known_at__is_not_before_the_event"


def times(columns: Sequence[Column], event_timestamp: str | None, known_at: str | None) -> tuple[str, ...]:
    """The column with the time that has passed when an outcome is known, unless it is that of `known_at` itself.

    Empty where rows hold no outcomes, and where only the arrival tells when they are known: that was seen, not said.
    """
    if not _outcomes(columns) or not (known_at or any(column.name == "known_at" for column in columns)):
        return ()
    known = {"known_at", (known_at or "").strip().strip('"')}
    instants = [column.name for column in columns if column.type == "TIMESTAMPTZ" and column.name not in known]
    return tuple(name for name in instants if name == event_timestamp)


def rule(columns: Sequence[Column], passed: Sequence[str]) -> Rule:
    """The rule that no row with an outcome is known before the times that have passed by then."""
    return Rule("known_at is not before the event", None, is_kept(columns, passed, "_known_at"), check=_CHECK)


def promise(passed: Sequence[str]) -> Promise:
    """What the rule says to people."""
    return Promise(_CHECK, f"No row with an outcome is known before its {' and its '.join(passed)}.")


def is_kept(columns: Sequence[Column], passed: Sequence[str], known_at: str) -> str:
    """SQL over a row that is false where it breaks the rule; `known_at` names the column that says when it is known."""
    late = " AND ".join(f"{known_at} >= {quote(name)}" for name in passed)
    without = " AND ".join(f"{quote(name)} IS NULL" for name in _outcomes(columns))
    return f"({without}) OR ({late})"


def _outcomes(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns if column.available == "after_event"]
