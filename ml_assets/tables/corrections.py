"""Refused rows, typed and corrected again: which of them keep the contract now, and as what they are delivered.

A value as delivered may be text that is not of its column's type (the reader of a CSV could not read it). Such a value
is never lost on the way: without a correction, its row stays refused.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from ml_assets import engine
from ml_assets.errors import MlAssetsError, shorten
from ml_assets.tables.format import Format
from ml_assets.tables.schema import Column, Contract
from ml_assets.tables.validate import validate

if TYPE_CHECKING:
    import pyarrow as pa

RECORD = "_record"
_FILE = "released"
_ZONED = r".*\d{2}:\d{2}.*([zZ]|[+-]\d{2}(:?\d{2})?)"
# What a text must look like so that a cast loses nothing.
_LOOKS = {"BIGINT": r"\s*[+-]?\d+\s*", "TIMESTAMPTZ": _ZONED, "DATE": r"\d{4}-\d{2}-\d{2}"}


@dataclass(frozen=True)
class Judged:
    """`good`: partition_key, _file and _row of the refused row, then the contract's columns; `breaking` by rule."""

    good: "pa.Table"
    breaking: Mapping[str, int]
    replacing: int


@dataclass(frozen=True)
class Rows:
    """What a judgement needs to know of the table."""

    contract: Contract
    known_at: str | None
    partition_column: str | None
    standing: "pa.Table | None"  # rows that are in the table: they may hold the same keys or unique values


def judge(con: duckdb.DuckDBPyConnection, chosen: str, rows: Rows, corrections: Mapping[str, str]) -> Judged:
    """Type and correct the refused rows of the view `chosen`, and validate them among those that stand."""
    _check_names(rows.contract, corrections)
    try:
        con.execute(f"CREATE TEMP TABLE _typed AS {_typed(chosen, rows.contract, corrections)}")
    except duckdb.Error as error:
        said = str(error).splitlines()[0].rstrip(".!")
        raise MlAssetsError(f"--set: {said}. Write SQL over the row; {RECORD}->>'column' is text.") from error
    broken = _broken(con, rows)
    con.register("_broken", broken)
    breaking = Counter[str]()
    for rules in [*broken["rules"].to_pylist(), *_untyped_by_row(con)]:
        breaking.update(rules)
    good = con.sql(f"""
        SELECT partition_key, _file, _row, {_columns(rows.contract)} FROM _typed
        WHERE _untyped = [] AND _number NOT IN (SELECT row FROM _broken) ORDER BY partition_key, _file, _row""")
    return Judged(good.to_arrow_table(), dict(breaking), _replacing(con, rows))


def lines(con: duckdb.DuckDBPyConnection, good: "pa.Table", contract: Contract) -> dict[str, bytes]:
    """The rows as JSON lines, by partition."""
    con.register("_to_deliver", good)
    values = ", ".join(f"{engine.literal(c.name)}, {_json_value(c)}" for c in contract.columns)
    found = con.sql(f"""
        SELECT partition_key,
            string_agg(CAST(json_object({values}) AS VARCHAR), chr(10) ORDER BY _file, _row) || chr(10)
        FROM _to_deliver GROUP BY ALL ORDER BY ALL""").fetchall()
    return {partition: text.encode() for partition, text in found}


def _check_names(contract: Contract, corrections: Mapping[str, str]) -> None:
    if unknown := [name for name in corrections if contract.column(name) is None]:
        raise MlAssetsError(f"--set: no column {shorten(unknown)}, but: {shorten(contract.names(), 50)}.")


def _columns(contract: Contract) -> str:
    return ", ".join(engine.quote(name) for name in contract.names())


def _typed(chosen: str, contract: Contract, corrections: Mapping[str, str]) -> str:
    """The rows with the contract's columns; `_untyped` names those of another type that are not corrected."""
    path = {c.name: f"json_extract_string(record, {engine.literal(_path(c.name))})" for c in contract.columns}
    typed = ", ".join(f"{_cast(path[c.name], c)} AS {engine.quote(c.name)}" for c in contract.columns)
    tests = ", ".join(
        f"CASE WHEN {_is_lost(path[c.name], c)} THEN {engine.literal(f'{c.name} is no {c.type}')} END"
        for c in contract.columns
        if c.name not in corrections
    )
    corrected = ", ".join(
        f"CAST((\n{corrections[c.name]}\n) AS {c.type}) AS {engine.quote(c.name)}"
        if c.name in corrections
        else engine.quote(c.name)
        for c in contract.columns
    )
    return f"""
        SELECT partition_key, _file, _row, _untyped, {corrected},
            row_number() OVER (ORDER BY partition_key, _file, _row) AS _number FROM (
                SELECT partition_key, file AS _file, row AS _row, CAST(record AS JSON) AS {RECORD}, {typed},
                    list_filter([{tests}]::VARCHAR[], lambda rule: rule IS NOT NULL) AS _untyped FROM {chosen})"""


def _path(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'$."{escaped}"'


def _cast(text: str, column: Column) -> str:
    if column.type == "VARCHAR":
        return text
    looks = _LOOKS.get(column.type)
    cast = f"TRY_CAST({text} AS {column.type})"
    if column.type == "DOUBLE":
        return f"nullif({cast}, CAST('nan' AS DOUBLE))"
    return f"CASE WHEN regexp_full_match({text}, {engine.literal(looks)}) THEN {cast} END" if looks else cast


def _is_lost(text: str, column: Column) -> str:
    if column.type == "VARCHAR":
        return "false"
    nulls = ", ".join(map(engine.literal, Format().nulls))
    return f"{text} NOT IN ({nulls}) AND ({_cast(text, column)}) IS NULL"


def _broken(con: duckdb.DuckDBPyConnection, rows: Rows) -> "pa.Table":
    """The quarantine of the typed rows: its `row` is their number. In `validate`, no partition is null."""
    stamped = con.sql(f"""
        SELECT {_columns(rows.contract)}, nullif(partition_key, '') AS partition_key, {engine.literal(_FILE)} AS _file,
            _number AS _row, TIMESTAMPTZ '9999-01-01 00:00:00+00' AS _arrived_at
        FROM _typed WHERE _untyped = []""")
    if rows.standing is not None:
        con.register("_standing", rows.standing)
        stamped = stamped.union(
            con.sql(f"""
            SELECT {_columns(rows.contract)}, nullif(partition_key, '') AS partition_key, '' AS _file,
                row_number() OVER () AS _row, TIMESTAMPTZ '1970-01-01 00:00:00+00' AS _arrived_at FROM _standing""")
        )
    judged = validate(
        con,
        stamped.to_arrow_table(),
        rows.contract,
        known_at=rows.known_at,
        partition_column=rows.partition_column,
    )
    con.register("_judged", judged.quarantine)
    return con.sql(f"FROM _judged WHERE file = {engine.literal(_FILE)}").to_arrow_table()


def _untyped_by_row(con: duckdb.DuckDBPyConnection) -> list[list[str]]:
    return [rules for (rules,) in con.sql("SELECT _untyped FROM _typed WHERE _untyped <> []").fetchall()]


def _replacing(con: duckdb.DuckDBPyConnection, rows: Rows) -> int:
    if rows.standing is None or not rows.contract.keys:
        return 0
    keys = " AND ".join(f"s.{engine.quote(k)} = t.{engine.quote(k)}" for k in ["partition_key", *rows.contract.keys])
    found = con.sql(f"""
        SELECT count(*) FROM _typed t SEMI JOIN _standing s ON {keys}
        WHERE _untyped = [] AND _number NOT IN (SELECT row FROM _broken)""").fetchall()
    return found[0][0]


def _json_value(column: Column) -> str:
    name = engine.quote(column.name)
    if column.type == "TIMESTAMPTZ":
        return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    return f"CAST({name} AS VARCHAR)" if column.type == "DATE" else name
