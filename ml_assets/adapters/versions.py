"""Which versions a table of the lake has, which moment each is of, and which files hold its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ml_assets.adapters.content import PARTITION, WHOLE
from ml_assets.adapters.filesystem import open_location
from ml_assets.adapters.lake import Lake, Version
from ml_assets.errors import LakeError, TableNotFoundError

if TYPE_CHECKING:
    pass

_OBJECTS = "objects"


@dataclass(frozen=True)
class StoredFile:
    """A file of a version: its path in the table never holds other rows."""

    path: str
    partition: str
    n_rows: int
    n_bytes: int


def tables(lake: Lake) -> list[str]:
    """The names `layer/table` of all tables in a lake, sorted; only folders are listed."""
    from pyarrow import fs

    filesystem, root = open_location(lake.uri, lake.storage_options)

    def folders(path: str) -> list[str]:
        found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [info.path for info in found if info.type == fs.FileType.Directory]

    candidates = [path for layer in folders(root) if not layer.endswith(f"/{_OBJECTS}") for path in folders(layer)]
    logs = filesystem.get_file_info([f"{path}/_delta_log" for path in candidates]) if candidates else []
    found = [path for path, log in zip(candidates, logs, strict=True) if log.type == fs.FileType.Directory]
    return sorted("/".join(path.split("/")[-2:]) for path in found)


def moment(text: str) -> datetime:
    """Read a moment such as `2013-03-01`, `2013-03-01T00:00` or `2013-03-01T01:00+01:00`; without zone it is UTC."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise LakeError(f"'{text}' is no moment. Write it as 2013-03-01T14:30, which is UTC.") from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def version_at(lake: Lake, name: str, at: str | int | datetime | None) -> Version:
    """The version of a table that a number or a moment means; None is the newest.

    Raises:
        TableNotFoundError: there is no such version (any more); says which there are.
    """
    known = lake.history(name)
    if at is None:
        return known[0]
    if isinstance(at, int) or (isinstance(at, str) and at.isdecimal()):
        found = next((each for each in known if each.version == int(at)), None)
        said = f"has no version {at}; it has versions {known[-1].version} to {known[0].version}"
    else:
        when = moment(at) if isinstance(at, str) else at
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        found = next((each for each in known if each.committed_at <= when), None)
        said = f"did not exist at {said_moment(when)}"
    if found is None:
        first = known[-1]
        raise TableNotFoundError(
            f"{name} {said}. The first, version {first.version}, is of {said_moment(first.committed_at)}."
        )
    return found


def said_moment(when: datetime) -> str:
    """A moment as messages show it, to the millisecond that Delta keeps."""
    text = when.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    return f"{text.removesuffix('.000')} UTC"


def files(lake: Lake, name: str, version: int | None = None) -> list[StoredFile]:
    """The files of a version, from the log alone."""
    import pyarrow as pa
    from deltalake import DeltaTable

    table = DeltaTable(f"{lake.uri}/{name}", version=version, storage_options=lake.storage_options)
    found: pa.Table = pa.table(table.get_add_actions(flatten=True))  # pyright: ignore[reportArgumentType]
    partition = f"partition.{PARTITION}"
    return [
        StoredFile(row["path"], row.get(partition) or WHOLE, row["num_records"], row["size_bytes"])
        for row in found.select([c for c in found.column_names if c in _COLUMNS or c == partition]).to_pylist()
    ]


_COLUMNS = ("path", "num_records", "size_bytes")


def changed(lake: Lake, name: str, before: int, after: int) -> tuple[str, ...]:
    """The partitions whose files differ between two versions, "" for a table without partitions; no file is read."""
    old, new = _by_partition(files(lake, name, before)), _by_partition(files(lake, name, after))
    return tuple(sorted(p for p in {*old, *new} if old.get(p) != new.get(p)))


def _by_partition(found: list[StoredFile]) -> Mapping[str, set[str]]:
    paths: dict[str, set[str]] = {}
    for file in found:
        paths.setdefault(file.partition, set()).add(file.path)
    return paths
