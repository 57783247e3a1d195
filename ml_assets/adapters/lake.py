"""The lake: Delta tables whose partitions are replaced atomically and read as of a version, and objects beside them.

A table `layer/name` with a `partition_key` column is partitioned by it. Readers see a commit whole or not at all;
what a killed writer leaves behind is invisible and goes with `maintain`.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ml_assets.adapters import snapshots
from ml_assets.adapters.content import EMPTY, PARTITION, WHOLE, Content, content_of
from ml_assets.adapters.files import PartitionRange, Partitions, dataset_of, files_of
from ml_assets.adapters.objects import Objects
from ml_assets.adapters.replacement import (
    Replacement,
    changed_partitions,
    checked,
    fit,
    is_partitioned,
    keys_of,
    rows_of,
)
from ml_assets.adapters.retention import compact, removed_files, require_files
from ml_assets.adapters.snapshots import Place
from ml_assets.engine import literal, quote, scratch
from ml_assets.errors import LakeConflictError, LakeError, TableNotFoundError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

__all__ = ["EMPTY", "WHOLE", "Commit", "Content", "Lake", "PartitionRange", "Version", "content_of"]

_ATTEMPTS = 10
_PARTITIONS = "ml_assets.partitions"
# Training sets name versions of tables, so the log outlives Delta's default of 30 days.
_CONFIGURATION = {"delta.logRetentionDuration": "interval 3650 days", "delta.checkpointInterval": "20"}


@dataclass(frozen=True)
class Version:
    """One commit of a table: `partitions` are those that it replaced, None where that is not known or was no write."""

    version: int
    committed_at: datetime
    operation: str
    partitions: tuple[str, ...] | None


@dataclass(frozen=True)
class Commit:
    """What a write left: the version that holds it, the content of its partitions, and those that changed."""

    name: str
    version: int
    content: dict[str, Content]
    changed: tuple[str, ...]


class Lake(Objects):
    """Delta tables and objects under one URI, a local folder or `s3://bucket/path`; cheap to make and to pickle."""

    def __repr__(self) -> str:
        return f"Lake({self.uri!r})"

    def write(
        self,
        name: str,
        rows: "pa.Table | duckdb.DuckDBPyRelation",
        *,
        partitions: Sequence[str] | None = None,
        base_version: int | None = None,
    ) -> Commit:
        """Replace exactly these partitions by the rows, or the whole of an unpartitioned table, in one commit.

        A listed partition without rows becomes empty. Partitions whose content is the same are not rewritten, and
        without any change there is no commit. Columns that are new to the table are added to it, missing ones null.

        `base_version` is the version that the rows were computed from (-1: there was no table yet): what another
        writer changed after it is a conflict. Without it, that holds from the begin of this call, and only for what
        differs from these rows.

        Raises:
            LakeError: a row of another partition, or types that the table cannot hold.
            LakeConflictError: another writer replaced one of these partitions meanwhile: read and compute again.
        """
        keys = None if partitions is None else tuple(sorted(set(partitions)))
        stored = checked(name, _arrow(rows), keys)
        with scratch() as con:
            seen = None if base_version is None else self._content_at(con, name, keys, base_version)
            for attempt in range(_ATTEMPTS):
                table = snapshots.opened(self._place(name)) if self.exists(name) else None
                replacement = fit(con, name, stored, keys, table)
                current = {} if table is None else self._content(con, table, name, keys)
                changed = changed_partitions(replacement, current, seen, derived=base_version is not None)
                seen = current if seen is None else seen
                version = table.version() if table and not changed else self._commit(table, replacement, changed)
                if version is not None:
                    if table is not None:
                        snapshots.remember(self._place(name), table)
                    return Commit(name, version, replacement.content, changed)
                time.sleep(0.01 * 2 ** min(attempt, 5))
        raise LakeConflictError(f"{name}: {_ATTEMPTS} commits lost against other writers. Run the step again.")

    def read(
        self,
        name: str,
        con: "duckdb.DuckDBPyConnection",
        *,
        partitions: Partitions = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> "duckdb.DuckDBPyRelation":
        """Give a lazy relation over partitions of a table; DuckDB pushes projections and filters into the scan.

        `as_of` is a moment of commit: the newest version no younger than it. Nothing is read before the relation is.
        """
        relation = con.from_arrow(self.dataset(name, partitions=partitions, version=version, as_of=as_of))
        return relation.project(", ".join(quote(column) for column in columns)) if columns else relation

    def register(
        self,
        con: "duckdb.DuckDBPyConnection",
        view: str,
        name: str,
        *,
        partitions: Partitions = None,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> None:
        """Make a table known to SQL in this connection under a name, in place of what had that name before."""
        con.register(view, self.dataset(name, partitions=partitions, version=version, as_of=as_of))

    def dataset(
        self, name: str, *, partitions: Partitions = None, version: int | None = None, as_of: datetime | None = None
    ) -> "ds.Dataset":
        """Give the Arrow dataset behind `read`; only the files of these partitions are in it."""
        return self._opened(name, partitions, version, as_of)[1]

    def exists(self, name: str) -> bool:
        """Tell whether a table has been written."""
        try:
            self._table(name)
        except TableNotFoundError:
            return False
        return True

    def version(self, name: str) -> int:
        """Give the newest version of a table, to read it later as it is now."""
        return self._table(name).version()

    def history(self, name: str, *, limit: int | None = None) -> list[Version]:
        """The commits of a table, the newest first."""
        return [_entry(found) for found in self._table(name).history(limit)]

    def partitions(self, name: str, *, version: int | None = None) -> list[str]:
        """List the partitions that hold rows, sorted; none for an unpartitioned table."""
        table = self._table(name, version)
        return sorted(keys_of(table)) if is_partitioned(table) else []

    def n_rows(self, name: str, *, partitions: Partitions = None) -> int | None:
        """Count rows by what the log says of files, without a look at them; None where it does not say."""
        counts = [n for _, _, n in files_of(self._table(name), partitions)]
        return None if None in counts else sum(n or 0 for n in counts)

    def content(self, name: str, *, partitions: Partitions = None, version: int | None = None) -> dict[str, Content]:
        """Hash the stored rows in one scan, per partition (listed ones without rows too) or under `""`."""
        table, rows = self._opened(name, partitions, version)
        with scratch() as con:
            found = content_of(con, rows, by_partition=is_partitioned(table))
        listed = [] if partitions is None or isinstance(partitions, PartitionRange) else partitions
        return {key: EMPTY for key in sorted(listed)} | found

    def maintain(
        self, name: str, *, retain_hours: int = 24 * 30, keep_versions: Collection[int] = (), dry_run: bool = False
    ) -> list[str]:
        """Merge small files, write a checkpoint, and delete the files that nobody needs; give their paths.

        Needed are those of the newest version, of a kept one, and what was replaced in the last hours. What is in no
        version, which a writer at work or a killed one left, stays for a day at least.
        """
        table = snapshots.opened(self._place(name))
        if not dry_run:
            compact(table)
            table.create_checkpoint()
        return removed_files(table, retain_hours, keep_versions, self.storage_options, dry_run=dry_run)

    def _place(self, name: str) -> Place:
        return Place.of(self.uri, name, self.storage_options)

    def _table(self, name: str, version: int | None = None, as_of: datetime | None = None) -> "DeltaTable":
        """A version of a table to read, by default the newest."""
        newest = snapshots.newest(self._place(name))
        wanted = version if as_of is None else _version_as_of(newest, name, as_of)
        return newest if wanted in (None, newest.version()) else self._as_version(name, wanted)

    def _as_version(self, name: str, version: int) -> "DeltaTable":
        table = snapshots.opened(self._place(name))
        if not 0 <= version <= table.version():
            raise TableNotFoundError(f"{name} has no version {version}; its newest is {table.version()}.")
        with snapshots.said(self._place(name)):
            table.load_as_version(version)
        return table

    def _opened(
        self, name: str, partitions: Partitions, version: int | None, as_of: datetime | None = None
    ) -> tuple["DeltaTable", "ds.Dataset"]:
        table = self._table(name, version, as_of)
        rows = self._dataset(table, name, partitions)
        if version is not None or as_of is not None:
            require_files(rows, name, table.version())
        return table, rows

    def _dataset(self, table: "DeltaTable", name: str, partitions: Partitions) -> "ds.Dataset":
        return dataset_of(table, f"{self.uri}/{name}", self.storage_options, partitions)

    def _content(
        self, con: "duckdb.DuckDBPyConnection", table: "DeltaTable", name: str, partitions: Partitions
    ) -> dict[str, Content]:
        return content_of(con, self._dataset(table, name, partitions), by_partition=is_partitioned(table))

    def _content_at(
        self, con: "duckdb.DuckDBPyConnection", name: str, keys: tuple[str, ...] | None, version: int
    ) -> dict[str, Content]:
        return {} if version < 0 else self._content(con, self._table(name, version), name, keys)

    def _commit(self, table: "DeltaTable | None", replacement: Replacement, changed: tuple[str, ...]) -> int | None:
        """Write and give the version; None when another writer came first, so that the caller looks again."""
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        arguments = _arguments(replacement, changed, create=table is None)
        wrote = CommitProperties(custom_metadata={_PARTITIONS: json.dumps(changed)})
        target = f"{self.uri}/{replacement.name}" if table is None else table
        try:
            write_deltalake(
                target,
                data=rows_of(replacement, changed),
                storage_options=self.storage_options,
                commit_properties=wrote,
                **arguments,
            )
        except CommitFailedError:
            return None
        except DeltaError as error:
            if table is None and self.exists(replacement.name):
                return None
            raise LakeError(f"{replacement.name}: Delta refused the rows: {error}") from error
        return table.version() if table is not None else 0


def _arrow(rows: "pa.Table | duckdb.DuckDBPyRelation") -> "pa.Table":
    import duckdb

    return rows.to_arrow_table() if isinstance(rows, duckdb.DuckDBPyRelation) else rows


def _arguments(replacement: Replacement, changed: tuple[str, ...], *, create: bool) -> dict[str, Any]:
    if create:
        partition_by = None if replacement.keys is None else [PARTITION]
        return {"mode": "error", "partition_by": partition_by, "configuration": _CONFIGURATION}
    arguments: dict[str, Any] = {"mode": "overwrite", "schema_mode": replacement.schema_mode}
    if replacement.keys is None or replacement.schema_mode == "overwrite":
        return arguments
    return arguments | {"predicate": f"{PARTITION} IN ({', '.join(map(literal, changed))})"}


def _entry(found: Mapping[str, Any]) -> Version:
    committed = datetime.fromtimestamp(found["timestamp"] / 1000, UTC)
    partitions = found.get(_PARTITIONS)
    return Version(
        found["version"], committed, found["operation"], None if partitions is None else tuple(json.loads(partitions))
    )


def _version_as_of(table: "DeltaTable", name: str, as_of: datetime) -> int:
    # Delta's own search gives the first version for any moment before it.
    commits = {entry.version: entry.committed_at for entry in map(_entry, table.history())}
    versions = [version for version, committed in commits.items() if committed <= as_of]
    if not versions:
        raise TableNotFoundError(f"{name} did not exist at {as_of}; its first version is of {min(commits.values())}.")
    return max(versions)
