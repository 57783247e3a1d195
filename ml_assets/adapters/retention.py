"""What of a table is deleted and when: files that no version needs any more, and what killed writers left."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ml_assets.adapters.filesystem import open_location
from ml_assets.errors import TableNotFoundError, shorten

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

UNFINISHED_HOURS = 24
"""How long a file that is in no version may belong to a writer at work."""


def compact(table: "DeltaTable") -> None:
    """Merge the small files of partitions that have several; rows and their order stay.

    A writer that replaces such a partition meanwhile comes first: the next maintenance tries again.
    """
    from deltalake.exceptions import CommitFailedError

    if len(table.file_uris()) == len(table.partitions() or [{}]):
        return
    try:
        table.optimize.compact()
    except CommitFailedError:
        table.update_incremental()


def removed_files(
    table: "DeltaTable",
    retain_hours: int,
    keep_versions: Collection[int],
    storage_options: Mapping[str, str] | None,
    *,
    dry_run: bool,
) -> list[str]:
    """Delete what was replaced more than `retain_hours` ago, and what is in no version and old; give the paths.

    Deleting makes two versions of the table of its own, so that it is not asked for where there is nothing to delete.
    """
    from deltalake.exceptions import CommitFailedError

    kept = sorted(version for version in keep_versions if version <= table.version()) or None

    def vacuum(hours: int, *, everything: bool, dry_run: bool = True) -> set[str]:
        return set(
            table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=everything, keep_versions=kept)
        )

    def delete(hours: int, *, everything: bool) -> None:
        with suppress(CommitFailedError):  # of a writer that came first; what is left goes with the next maintenance
            vacuum(hours, everything=everything, dry_run=False)

    old = max(retain_hours, UNFINISHED_HOURS)
    stored = _stored(table, storage_options)  # Delta names files that are gone already too
    replaced = vacuum(retain_hours, everything=False) & stored
    unknown = vacuum(old, everything=True) & stored - replaced
    if replaced and not dry_run:
        delete(retain_hours, everything=False)
    if unknown and not dry_run:
        delete(old, everything=True)
    found = replaced | unknown
    return sorted(found - _stored(table, storage_options) if found and not dry_run else found)


def _stored(table: "DeltaTable", storage_options: Mapping[str, str] | None) -> set[str]:
    from pyarrow import fs

    filesystem, root = open_location(table.table_uri.rstrip("/"), storage_options)
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    return {info.path.removeprefix(f"{root}/") for info in found if info.is_file}


def require_files(dataset: "ds.Dataset", name: str, version: int) -> None:
    """Say that an old version is not whole any more, where reading it would say that some file is not there.

    Raises:
        TableNotFoundError: files of it were deleted.
    """
    from pyarrow import fs

    files = [fragment.path for fragment in dataset.get_fragments()]
    gone = [info.path for info in dataset.filesystem.get_file_info(files) if info.type == fs.FileType.NotFound]
    if gone:
        raise TableNotFoundError(
            f"Version {version} of {name} is not whole any more: maintenance deleted {len(gone)} of its {len(files)}"
            f" files ({shorten(gone, 1)}). Read a newer one; ML_ASSETS_RETAIN_HOURS says how long versions are kept."
        )
