"""Local files by pattern."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ml_assets.adapters.sources.listed import Entry, Listed
from ml_assets.errors import SourceUnavailableError

_ATTEMPTS = 3


class LocalSource(Listed):
    """Files below a local folder, by a pattern with an absolute path.

    Links are followed within that folder. One that leads out of it is left out and named: who may deliver into a
    folder must not be able to make the platform read others.
    """

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The files below the folder of a prefix, as deep as the pattern reaches."""
        folder = prefix.rpartition("/")[0]
        root = os.path.realpath(self.pattern.folder or "/")
        try:
            if _leads_out(folder, root):
                yield _outside(folder)
            elif Path(folder or "/").is_dir():
                for path in _walk(folder, self.pattern.depth_below(folder)):
                    yield from self._entry(path, root)
        except OSError as error:
            raise SourceUnavailableError(f"{self.label} cannot be listed: {error}.") from error

    def read(self, entry: Entry) -> tuple[bytes, Entry]:
        """Read a file whole, and again when it was written meanwhile."""
        try:
            for attempt in range(_ATTEMPTS):
                time.sleep(0.05 * attempt)
                content, state = _read(entry.path)
                if state == _stat(entry.path):
                    return content, state
        except FileNotFoundError as error:
            raise SourceUnavailableError(f"{entry.path} is gone since it was listed.") from error
        except OSError as error:
            raise SourceUnavailableError(f"{entry.path} cannot be read: {error}.") from error
        advice = "Write files under a name that ends in .tmp, and rename them when they are whole."
        raise SourceUnavailableError(f"{entry.path} is being written while it is read. {advice}")

    def _entry(self, path: str, root: str) -> Iterator[Entry]:
        file, meant = Path(path), self.pattern.matches(path)
        if file.is_symlink() and (meant or file.is_dir()) and _leads_out(path, root):
            yield _outside(path)
        elif meant and file.is_file():
            yield _stat(path)


def _walk(folder: str, depth: int) -> Iterator[str]:
    """Files and links below a folder; linked folders are not entered, since their files are found where they are."""
    with os.scandir(folder) as listed:
        for found in sorted(listed, key=lambda found: found.name):
            if found.name.startswith((".", "_")):
                continue
            if not found.is_dir() or (found.is_symlink() and depth > 1):
                yield found.path
            elif depth > 1:
                yield from _walk(found.path, depth - 1)


def _leads_out(path: str, root: str) -> bool:
    return os.path.commonpath([root, os.path.realpath(path or "/")]) != root


def _outside(path: str) -> Entry:
    advice = "Deliver the file itself, or name its real folder in `source.files`."
    return Entry(path, 0, "", problem=f"a link that leads out of its folder, to {os.path.realpath(path)}. {advice}")


def _stat(path: str) -> Entry:
    return _entry_of(path, Path(path).stat())


def _read(path: str) -> tuple[bytes, Entry]:
    with Path(path).open("rb") as file:
        before = _entry_of(path, os.fstat(file.fileno()))
        return file.read(), before


def _entry_of(path: str, found: os.stat_result) -> Entry:
    # With the time of the last change of the inode, a file of the same size and an old date is seen to be another.
    stat = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
    return Entry(path, found.st_size, stat, written=found.st_ctime_ns)
