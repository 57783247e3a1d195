"""Ctrl-C, `kill` and a closed terminal end a session in the same orderly way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block for each of them; afterwards they no longer disturb the clearing up."""
    for number in _ENDING:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
