"""HINDSIGHT: whether the newest rows of a view come out the same without later data, in a run and when asked again."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from ml_assets.engine import quote
from ml_assets.errors import shorten
from ml_assets.features.prove import time_travel
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.records import Finding
from ml_assets.steps import catalogue
from ml_assets.steps.days import start_of
from ml_assets.steps.specs import DAY, TableSpec, ViewSpec
from ml_assets.tables import event
from ml_assets.tables.contract import outline

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def finding(con: "duckdb.DuckDBPyConnection", spec: ViewSpec, rows: "pa.Table", day: str) -> Finding:
    """What the check says of the rows of a day, or ("") of all rows of a static view; `con` holds the view's tables.

    The proof takes `known_at` of the tables for true, so rows that are said to be known before their event fail it.
    """
    early = [said for table in spec.tables if isinstance(table, TableSpec) for said in _known_too_early(con, table)]
    if early:
        return Finding(catalogue.HINDSIGHT.name, False, " ".join(early), numbers={"compared": 0})
    span = (start_of(day), start_of(day) + DAY) if day else _known_from_to(con, spec, rows)
    of_what = f"of {day}" if day else "of a static view"
    if span is None:
        return _nothing(of_what)
    proof = time_travel(con, spec.view, rows, *span)
    if not proof.identical:
        said = shorten(proof.differences) + (f". {proof.advice}" if proof.advice else "")
        numbers = {"compared": proof.n_rows, "values": [asdict(each) for each in proof.values]}
        return Finding(catalogue.HINDSIGHT.name, False, said, numbers=numbers)
    same = f"{proof.n_rows:,} rows {of_what} came out the same."
    numbers = {"compared": proof.n_rows}
    return Finding(catalogue.HINDSIGHT.name, True, same, numbers=numbers) if proof.n_rows else _nothing(of_what)


def _nothing(of_what: str) -> Finding:
    return Finding(
        catalogue.HINDSIGHT.name, True, f"There are no rows {of_what}: nothing was compared.", numbers={"compared": 0}
    )


def _known_too_early(con: "duckdb.DuckDBPyConnection", table: TableSpec) -> list[str]:
    """What is wrong with a table in a sentence, if anything; its rows may have come into the lake by any way."""
    rows = quote(table.name)
    there = {name for name, *_ in con.execute(f"DESCRIBE {rows}").fetchall()}
    columns = [column for column in outline(table.contract) if column.name in there]
    times = event.times(columns, table.event_timestamp, table.known_at)
    if not times:
        return []
    named = ("known_at", *times)
    early = f"FROM {rows} WHERE NOT ({event.is_kept(columns, times, 'known_at')})"
    shown = ", ".join(map(quote, named))
    found = con.execute(f"SELECT count(*) OVER (), {shown} {early} ORDER BY ALL LIMIT 1").fetchall()
    return [_sentence(table.name, n, dict(zip(named, example, strict=True))) for n, *example in found]


def _sentence(table: str, n_rows: int, example: dict[str, datetime | None]) -> str:
    such = ", ".join(f"{name} {at:%Y-%m-%d %H:%M}" for name, at in example.items() if at)
    said = f"{n_rows:,} rows of {table} are known before their event, such as one with {such}"
    return f"{said}: outcomes count before they were there. Correct `known_at` of {table} and materialize it again."


def _known_from_to(
    con: "duckdb.DuckDBPyConnection", spec: ViewSpec, rows: "pa.Table"
) -> tuple[datetime, datetime] | None:
    """When the first row of a static view's tables could be used, and until when these or its own rows change."""
    tables = " UNION ALL ".join(f"SELECT known_at FROM {quote(table.name)}" for table in spec.tables)
    ((first, last),) = con.sql(f"SELECT min(known_at), max(known_at) FROM ({tables})").fetchall()
    con.register("_rows", rows)
    ((newest,),) = con.sql(f"SELECT max({FEATURE_TIMESTAMP}) FROM _rows").fetchall()
    con.unregister("_rows")
    return (first, max(last, newest or last)) if first else None
