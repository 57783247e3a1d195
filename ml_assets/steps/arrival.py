"""When a row could first be used, where only its arrival tells: a row that comes again was known before."""

from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect, quote
from ml_assets.steps.specs import TableSpec
from ml_assets.tables.schema import Contract

if TYPE_CHECKING:
    import pyarrow as pa


def first_known(spec: TableSpec, lake: Lake, contract: Contract, rows: "pa.Table") -> "pa.Table":
    """Give rows that stand already their earlier `known_at`, in the same order; a row with another value is new.

    Without it a file that is delivered again, compressed otherwise, would make every row look new, and all that is
    downstream of the table would run.
    """
    if spec.known_at or contract.column("known_at") or not lake.exists(spec.table):
        return rows
    partitions = sorted(set(rows["partition_key"].to_pylist())) if spec.daily else None
    with connect() as con:
        con.register("fresh", rows)
        lake.register(con, "stood", spec.table, partitions=partitions)
        same = [column for column in con.table("stood").columns if column != "known_at"]
        if not set(same) <= set(rows.column_names):
            return rows
        added = [column for column in rows.column_names if column not in (*same, "known_at", "partition_key")]
        equal = " AND ".join(f"f.{quote(column)} IS NOT DISTINCT FROM s.{quote(column)}" for column in same)
        null = "".join(f" AND f.{quote(column)} IS NULL" for column in added)
        return con.sql(f"""
            SELECT f.* EXCLUDE (place) REPLACE (least(f.known_at, s.known_at) AS known_at)
            FROM (SELECT *, row_number() OVER () AS place FROM fresh) f LEFT JOIN stood s ON {equal}{null}
            ORDER BY place""").to_arrow_table()
