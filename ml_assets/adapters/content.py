"""What rows are, whatever their order, their files or the order of their columns: a hash and a count per partition."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING

from ml_assets.engine import literal, quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PARTITION = "partition_key"
WHOLE = ""
"""The key of the content of a table without partitions."""

# DuckDB promises hash() only within a version, so the version is part of every hash.
ALGORITHM = "rows1-duckdb" + ".".join(version("duckdb").split(".")[:2])


@dataclass(frozen=True)
class Content:
    """What a partition holds: `hash` is equal for equal rows, as a multiset, and for nothing else."""

    hash: str
    n_rows: int


def content_of(
    con: "duckdb.DuckDBPyConnection", rows: "str | pa.Table | duckdb.DuckDBPyRelation", *, by_partition: bool
) -> dict[str, Content]:
    """Hash the rows of a view, Arrow table or relation in one scan, per `partition_key` or all under `""`.

    The hash knows names, types and values of all columns that are not null: neither the order of rows or columns
    nor a further column that is null everywhere changes it. -0.0 equals 0.0, and all NaN are equal.
    """
    relation = relation_of(con, rows)
    key = quote(PARTITION) if by_partition else literal(WHOLE)
    hashed = relation.project(f"{key} AS k, {_row_hash(relation)} AS h")
    found = hashed.aggregate("k, count(*) AS n, sum(h) AS s, bit_xor(h) AS x", "k").order("k").fetchall()
    contents = {key: Content(_digest(n, total, mix), n) for key, n, total, mix in found}
    return contents if by_partition else contents or {WHOLE: EMPTY}


def relation_of(
    con: "duckdb.DuckDBPyConnection", rows: "str | pa.Table | duckdb.DuckDBPyRelation"
) -> "duckdb.DuckDBPyRelation":
    """Give a relation for the name of a view, an Arrow object, or a relation."""
    import duckdb

    if isinstance(rows, duckdb.DuckDBPyRelation):
        return rows
    return con.sql(f"FROM {quote(rows)}") if isinstance(rows, str) else con.from_arrow(rows)


def _row_hash(relation: "duckdb.DuckDBPyRelation") -> str:
    combined = "0::UBIGINT"
    for name, kind in zip(relation.columns, relation.types, strict=True):
        combined = f"xor({combined}, {_cell_hash(name, str(kind))})"
    return f"hash({combined})"


def _cell_hash(name: str, kind: str) -> str:
    # hash(value, salt) is linear in its parts: without the outer hash two columns with swapped values were equal
    salted = f"hash(hash({quote(name)}, {literal(f'{name}:{kind}')}))"
    return f"CASE WHEN {quote(name)} IS NULL THEN 0::UBIGINT ELSE {salted} END"


def _digest(n_rows: int, total: int, mix: int) -> str:
    return f"{ALGORITHM}:{sha256(f'{n_rows}:{total}:{mix}'.encode()).hexdigest()[:32]}"


EMPTY = Content(_digest(0, 0, 0), 0)
