"""The only source of `now()`: the machine's clock, or the instant that a test or a replay sets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_VARIABLE = "ML_ASSETS_NOW"


def now() -> datetime:
    """The current instant in UTC; `ML_ASSETS_NOW` (RFC 3339) replaces it, in child processes too."""
    fixed = os.environ.get(_VARIABLE)
    return datetime.fromisoformat(fixed).astimezone(UTC) if fixed else datetime.now(UTC)


@contextmanager
def frozen(instant: datetime) -> Iterator[None]:
    """Hold `now()` at an instant, here and in processes started meanwhile."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = instant.astimezone(UTC).isoformat()
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
