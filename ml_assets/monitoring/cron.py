"""When a cron schedule last fell due, judged on any clock: history is replayed on the clock of its data.

No installed library offers this in public, and the one inside Dagster is private; the tests compare with that one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ml_assets.errors import DeclarationError

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_GAP_DAYS = 8 * 366  # from one 29 February to the next, across a year like 1900


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()  # the first one stands for `low`

    def read(self, text: str) -> frozenset[int]:
        return frozenset(value for part in text.split(",") for value in self._part(part.lower()))

    def _part(self, part: str) -> range:
        span, stepped, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, stop = self.low, self.high
        else:
            start = self._number(first)
            stop = self._number(last) if dash else self.high if stepped else start
        width = int(step) if stepped else 1
        if not (self.low <= start <= stop <= self.high and width > 0):
            raise ValueError(part)
        return range(start, stop + 1, width)

    def _number(self, text: str) -> int:
        return self.low + self.names.index(text) if text in self.names else int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """A schedule in UTC: minute, hour, day, month, day of week (0 and 7 are Sunday)."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    def latest(self, until: datetime) -> datetime:
        """The last time the schedule fell due, `until` included."""
        until = until.astimezone(UTC).replace(second=0, microsecond=0)
        for day in _days_back(until):
            if self._falls_on(day):
                due = [at for at in self._times(day) if at <= until]
                if due:
                    return max(due)
        raise DeclarationError(f"The schedule '{self.expression}' never falls due; correct its day or month.")

    def _falls_on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        on_day, on_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        # cron's oldest surprise: two restricted day fields mean either, not both
        return (on_day and on_weekday) if self.any_day else (on_day or on_weekday)

    def _times(self, day: datetime) -> Iterator[datetime]:
        return (day.replace(hour=hour, minute=minute) for hour in self.hours for minute in self.minutes)


def parse(expression: str) -> Cron:
    """Read a five-field cron expression or `@daily` and its like; `DeclarationError` names the wrong field."""
    texts = _ALIASES.get(expression.strip().lower(), expression).split()
    if len(texts) != len(_FIELDS):
        raise DeclarationError(f"The schedule '{expression}' has {len(texts)} fields; write five, such as '0 4 * * 1'.")
    pairs = zip(_FIELDS, texts, strict=True)
    minutes, hours, days, months, weekdays = (_read(field, text, expression) for field, text in pairs)
    return Cron(
        expression=expression,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        any_day=texts[2] == "*" or texts[4] == "*",
    )


def _read(field: _Field, text: str, expression: str) -> frozenset[int]:
    try:
        return field.read(text)
    except ValueError:
        raise DeclarationError(
            f"The schedule '{expression}' has a wrong {field.name}: '{text}'; write numbers from {field.low} to"
            f" {field.high}, '*', ranges '1-5', steps '*/15' or lists '1,15'."
        ) from None


def _days_back(until: datetime) -> Iterator[datetime]:
    midnight = until.replace(hour=0, minute=0)
    return (midnight - timedelta(days=i) for i in range(_LONGEST_GAP_DAYS + 1))
