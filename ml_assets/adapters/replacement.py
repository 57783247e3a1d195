"""Rows that are to replace partitions of a table: checked, brought to its schema, compared with what is there."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from ml_assets.adapters.arrow_types import aligned, require_typed, storable, widens
from ml_assets.adapters.content import EMPTY, PARTITION, Content, content_of
from ml_assets.errors import LakeConflictError, LakeError, shorten

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable

SchemaMode = Literal["merge", "overwrite"] | None


class Replacement(NamedTuple):
    """Rows that are to replace partitions, brought to the schema of the table they meet."""

    name: str
    rows: "pa.Table"
    keys: tuple[str, ...] | None  # None: the whole of an unpartitioned table
    schema_mode: SchemaMode
    content: dict[str, Content]


def checked(name: str, rows: "pa.Table", keys: tuple[str, ...] | None) -> "pa.Table":
    """Bring rows to stored types and require that they name the partitions that are written, and only those."""
    stored = storable(rows, name)
    if keys is None:
        if PARTITION in stored.column_names:
            raise LakeError(f"{name}: rows with {PARTITION} are written with `partitions=`, the partitions to replace.")
        return stored
    if "" in keys or PARTITION not in stored.column_names:
        raise LakeError(f"{name}: partitioned rows need a {PARTITION} column of text, and partitions a name.")
    strange = [key for key in stored[PARTITION].unique().to_pylist() if key not in set(keys)]
    if strange:
        raise LakeError(f"{name}: rows of partitions that are not written here: {shorten(sorted(map(str, strange)))}.")
    return stored


def fit(
    con: "duckdb.DuckDBPyConnection",
    name: str,
    rows: "pa.Table",
    keys: tuple[str, ...] | None,
    table: "DeltaTable | None",
) -> Replacement:
    """Bring checked rows to the schema of the table as it is now (None: not yet there), and hash them."""
    schema_mode = None
    if table is not None:
        rows, schema_mode = _fitted(name, rows, keys, table)
    require_typed(rows.schema, name)
    content = content_of(con, rows, by_partition=keys is not None)
    return Replacement(name, rows, keys, schema_mode, dict.fromkeys(keys or (), EMPTY) | content)


def _fitted(
    name: str, rows: "pa.Table", keys: tuple[str, ...] | None, table: "DeltaTable"
) -> tuple["pa.Table", SchemaMode]:
    """Bring rows to the schema of a table, or say that they replace it, which whoever writes all of it may."""
    import pyarrow as pa

    if is_partitioned(table) != (keys is not None):
        raise LakeError(f"{name}: a table cannot become partitioned, or unpartitioned. Write it under another name.")
    schema = pa.schema(table.schema().to_arrow())
    if keys is None:
        same = set(schema.names) == set(rows.column_names) and widens(rows.schema, schema)
        return (aligned(rows, schema, name), None) if same else (rows, "overwrite")
    if not widens(rows.schema, schema) and set(keys) >= keys_of(table):
        return rows, "overwrite"
    return aligned(rows, schema, name), "merge" if set(rows.column_names) - set(schema.names) else None


def changed_partitions(
    replacement: Replacement, current: dict[str, Content], seen: dict[str, Content] | None, *, derived: bool
) -> tuple[str, ...]:
    """Name the partitions to rewrite, all when only the schema is new or the whole table gets another.

    Another writer's rows that are the same as these are no conflict, unless these were `derived` from what was seen:
    of two that count one up from the same number, each would have to come after the other.

    Raises:
        LakeConflictError: they were replaced since `seen`, by something else than these rows.
    """
    wanted = replacement.content
    differing = tuple(key for key in wanted if current.get(key, EMPTY) != wanted[key])
    watched = tuple(wanted) if derived else differing
    moved = [] if seen is None else [key for key in watched if current.get(key, EMPTY) != seen.get(key, EMPTY)]
    if moved:
        raise LakeConflictError(
            f"{replacement.name}: another writer replaced {shorten(map(repr, moved))} during the write. Run it again."
        )
    all_of_them = replacement.schema_mode == "overwrite" or (replacement.schema_mode == "merge" and not differing)
    return tuple(wanted) if all_of_them else differing


def rows_of(replacement: Replacement, changed: tuple[str, ...]) -> "pa.Table":
    """Give the rows of the partitions that changed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if replacement.keys is None or len(changed) == len(replacement.keys):
        return replacement.rows
    return replacement.rows.filter(pc.field(PARTITION).isin(pa.array(changed, pa.string())))


def is_partitioned(table: "DeltaTable") -> bool:
    """Tell whether a table is partitioned, which is always by `partition_key`."""
    return table.metadata().partition_columns == [PARTITION]


def keys_of(table: "DeltaTable") -> set[str]:
    """Give the partitions that hold rows in the version that is open."""
    import pyarrow as pa

    added: pa.Table = pa.table(table.get_add_actions(flatten=True))  # pyright: ignore[reportArgumentType]
    return set(added[f"partition.{PARTITION}"].to_pylist())
