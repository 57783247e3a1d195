"""When to ask a source again that cannot tell what is new: the newest days each time that `every` has passed."""

from datetime import UTC, datetime, time, timedelta

from ml_assets import clock
from ml_assets.adapters.sources.base import Look, PartitionState, Subject

DAY = timedelta(days=1)


def look(subject: Subject, *, every: timedelta, look_back: timedelta) -> Look:
    """The days of the table until today: one state for each `every`, and one for good when a day is older.

    A day is asked for a last time when `look_back` has passed since its end. Without days the whole is asked for.
    """
    now = clock.now()
    moment = _state(f"{(now - datetime.min.replace(tzinfo=UTC)) // every} of {every}")
    if subject.first_day is None:
        return Look({"": moment})
    last, first = min(subject.last_day or now.date(), now.date()), subject.first_day
    days = [first + n * DAY for n in range((last - first).days + 1)]
    closed = _state("closed")
    states = {}
    for day in days:
        end = datetime.combine(day + DAY, time(), UTC)
        states[day.isoformat()] = moment if end + look_back > now else closed
    return Look(states)


def _state(digest: str) -> PartitionState:
    return PartitionState(digest, n_files=1, n_bytes=0, stat=digest)
