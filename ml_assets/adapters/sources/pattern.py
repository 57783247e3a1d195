"""Patterns of delivered files: which paths match, what a file is called, and which day it belongs to."""

import re
from collections.abc import Sequence
from datetime import date
from os.path import commonprefix

from ml_assets.errors import DeclarationError, DeliveryError

DAY = "{partition}"
_DATE = r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)"
_TOKEN = re.compile(r"((?<![^/])\*\*/|(?<![^/])\*\*$|\*+|\?|\[!?[^\]/]+\]|\{partition\})")
_ANY_DEPTH = 1000


class Pattern:
    """A pattern such as `landing/weather/*.parquet` or `events/{partition}/*.json`.

    `*`, `?` and `[abc]` do not cross a folder, `**/` does. `{partition}` is the day of the file; without it the day
    stands in the file's name. Hidden files, `_*` and `*.tmp` do not match: they are not delivered yet.
    """

    def __init__(self, text: str, *, daily: bool) -> None:
        if ".." in text.split("/"):
            raise DeclarationError(f"The pattern {text} holds `..`. Write the path that it leads to.")
        if DAY in text and not daily:
            raise DeclarationError(f"The pattern {text} holds {DAY}, but the table has no partitions.")
        self.text, self.daily = text, daily
        self.folder = self.prefix().rpartition("/")[0]
        try:
            self._regex = re.compile(_regex(text))
        except re.error as error:
            raise DeclarationError(f"The pattern {text} is none: {error}.") from error

    def prefix(self, days: Sequence[str] = ()) -> str:
        """What the paths of these days begin with; without days, all paths."""
        return commonprefix([self._fixed(day) for day in days or (DAY,)])  # noqa: RUF071  not of folders

    def depth_below(self, folder: str) -> int:
        """How many levels of folders below one may hold files."""
        return _ANY_DEPTH if "**" in self.text else self.text.count("/") - folder.count("/")

    def matches(self, path: str) -> bool:
        """Whether a path is that of a delivered file."""
        parts = self.name(path).split("/")
        unfinished = any(part.startswith((".", "_")) and part != ".." for part in parts) or path.endswith(".tmp")
        return not unfinished and self._regex.fullmatch(path) is not None

    def name(self, path: str) -> str:
        """The path below the pattern's folder, since two folders may hold files of one name."""
        return path.removeprefix(f"{self.folder}/")

    def partition(self, path: str) -> str:
        """The day of a file that matches; "" without partitions. Raises DeliveryError where there is none."""
        if not self.daily:
            return ""
        found = self._regex.fullmatch(path) if DAY in self.text else re.search(_DATE, path.rpartition("/")[2])
        if found is None:
            raise DeliveryError("no day in the file name. Deliver it with one, such as weather-2013-01-05.parquet.")
        day = found["day"] if DAY in self.text else found[0]
        try:
            return date.fromisoformat(day).isoformat()
        except ValueError as error:
            raise DeliveryError(f"{day} is not a day. Deliver the file under its right name.") from error

    def _fixed(self, day: str) -> str:
        text = self.text.replace(DAY, day)
        token = _TOKEN.search(text)
        return text[: token.start()] if token else text


def _regex(text: str) -> str:
    found, days = "", 0
    for n, part in enumerate(_TOKEN.split(text)):
        if part == DAY:
            found, days = found + (r"(?P=day)" if days else rf"(?P<day>{_DATE})"), days + 1
        else:
            found += _wildcard(part) if n % 2 else re.escape(part)
    return f"(?s:{found})"


def _wildcard(token: str) -> str:
    if not token.startswith("["):
        return {"**/": "(?:[^/]+/)*", "**": ".*", "?": "[^/]"}.get(token, "[^/]*")
    negated, members = token[1] == "!", token[1:-1].removeprefix("!")
    escaped = re.sub(r"[\\^\[&~|]|--+", lambda found: re.escape(found[0]), members)
    return f"(?!/)[{'^' if negated else ''}{escaped}]"
