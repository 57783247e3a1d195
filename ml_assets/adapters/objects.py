"""Objects of the lake: bytes under a path, written atomically, on a local disk or an object store."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from ml_assets.adapters.filesystem import absolute, open_location
from ml_assets.errors import LakeConflictError, TableNotFoundError

if TYPE_CHECKING:
    from pyarrow import fs

_UNFINISHED = ".tmp"


class Objects:
    """Bytes below `uri`/objects; readers see an object whole or not at all."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = absolute(str(uri))
        self.storage_options = dict(storage_options) if storage_options else None

    def put_object(self, path: str, content: bytes) -> str:
        """Store bytes for good under `path`, atomically, and give their URI; the same bytes again do nothing.

        Raises:
            LakeConflictError: other bytes are there already; objects are immutable.
        """
        filesystem, place = self._object(path)
        if not self.has_object(path):
            _write_atomically(filesystem, place, content)
        elif self.get_object(path) != content:
            raise LakeConflictError(f"Object {path} holds other bytes. Name objects by the hash of their content.")
        return f"{self.uri}/objects/{path}"

    def replace_object(self, path: str, content: bytes) -> None:
        """Store bytes under `path`, atomically, in place of what was there."""
        _write_atomically(*self._object(path), content)

    def get_object(self, path: str) -> bytes:
        """Read the bytes of an object."""
        filesystem, place = self._object(path)
        try:
            with filesystem.open_input_stream(place, compression=None) as stream:  # not by the name, .csv.gz
                return stream.read()
        except FileNotFoundError as error:
            raise TableNotFoundError(
                f"No object {path} in {self.uri}. Materialize the asset that stores it."
            ) from error

    def has_object(self, path: str) -> bool:
        """Tell whether an object is stored."""
        filesystem, place = self._object(path)
        return filesystem.get_file_info(place).is_file

    def objects(self, prefix: str) -> list[str]:
        """The paths of all objects that begin with a prefix, sorted."""
        _, root = open_location(f"{self.uri}/objects", self.storage_options)
        found = [info.path for info in self._below(prefix) if not _is_unfinished(info)]
        return sorted(path.removeprefix(f"{root}/") for path in found)

    def object_names(self, prefix: str) -> list[str]:
        """The paths of the objects that begin with a prefix, sorted."""
        _, root = open_location(f"{self.uri}/objects", self.storage_options)
        whole = [info.path for info in self._below(prefix) if not _is_unfinished(info)]
        return sorted(path.removeprefix(f"{root}/") for path in whole)

    def remove_objects(self, prefix: str, *, before: datetime | None = None, dry_run: bool = False) -> list[str]:
        """Remove the objects whose path begins with a prefix, and were written `before`; give their paths."""
        return self._remove([info for info in self._below(prefix) if not _is_unfinished(info)], before, dry_run=dry_run)

    def sweep_objects(self, *, before: datetime, dry_run: bool = False) -> list[str]:
        """Remove what writers that were killed `before` left half-written, which no reader sees; give the paths."""
        return self._remove([info for info in self._below("") if _is_unfinished(info)], before, dry_run=dry_run)

    def _object(self, path: str) -> tuple["fs.FileSystem", str]:
        return open_location(f"{self.uri}/objects/{path}", self.storage_options)

    def _below(self, prefix: str) -> list["fs.FileInfo"]:
        from pyarrow import fs

        filesystem, root = open_location(f"{self.uri}/objects", self.storage_options)
        folder = f"{root}/{prefix}".rpartition("/")[0]
        found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        return [info for info in found if info.is_file and info.path.startswith(f"{root}/{prefix}")]

    def _remove(self, found: list["fs.FileInfo"], before: datetime | None, *, dry_run: bool) -> list[str]:
        filesystem, root = open_location(f"{self.uri}/objects", self.storage_options)
        old = sorted(info.path for info in found if before is None or (info.mtime and info.mtime < before))
        for path in [] if dry_run else old:
            with suppress(FileNotFoundError):  # who else removes them may come first
                filesystem.delete_file(path)
        return [path.removeprefix(f"{root}/") for path in old]


def _is_unfinished(info: "fs.FileInfo") -> bool:
    return info.path.endswith(_UNFINISHED)


def _write_atomically(filesystem: "fs.FileSystem", place: str, content: bytes) -> None:
    """Write beside and move; an object store shows an object only when it is complete, and has no cheap move."""
    local = filesystem.type_name == "local"
    filesystem.create_dir(place.rpartition("/")[0], recursive=True)
    target = f"{place}.{uuid4().hex}{_UNFINISHED}" if local else place
    with filesystem.open_output_stream(target, compression=None) as stream:
        stream.write(content)
    if local:
        filesystem.move(target, place)
