"""Messages to people, by the addresses in `ML_ASSETS_ALERT_URLS`: anything that Apprise reaches, separated by commas.

Addresses hold tokens and passwords, some where others have the host: only the scheme is ever shown.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

VARIABLE = "ML_ASSETS_ALERT_URLS"


@dataclass(frozen=True)
class Sent:
    """What became of a message: the schemes of the addresses that took it, and of those that did not."""

    reached: tuple[str, ...]
    failed: tuple[str, ...]

    def __str__(self) -> str:
        """As a sentence for a log."""
        if not self.reached and not self.failed:
            return f"No address is configured ({VARIABLE}): nobody was told."
        said = f"Sent to {', '.join(self.reached)}." if self.reached else "Sent to nobody."
        return said + (f" Not taken by {', '.join(self.failed)}: check {VARIABLE}." if self.failed else "")


def send(title: str, body: str) -> Sent:
    """Send one message to every configured address; an address that fails hinders no other."""
    import apprise
    from apprise.utils.parse import parse_urls

    reached, failed = [], []
    with _silent():
        for address in parse_urls(os.environ.get(VARIABLE, "")):
            messenger = apprise.Apprise()
            took = messenger.add(address) and messenger.notify(
                title=title, body=body, notify_type=apprise.NotifyType.FAILURE
            )
            (reached if took else failed).append(_shown(address))
    return Sent(tuple(reached), tuple(failed))


def _shown(address: str) -> str:
    scheme, separator, _ = address.partition("://")
    return f"{scheme}://…" if separator else "an address without scheme"


@contextmanager
def _silent() -> Iterator[None]:
    """Both name what they send to, tokens included, in their own logs; Apprise imports modules that are deprecated."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
