"""Attributes that change slowly: a row holds from when it is known and valid on, until it no longer is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from ml_assets.engine import quote
from ml_assets.features.check import stored_value
from ml_assets.features.doubled import require_one_each
from ml_assets.features.order_statistics import covering
from ml_assets.features.view import FEATURE_TIMESTAMP, FeatureView, Lookup

if TYPE_CHECKING:
    import pyarrow as pa

_END_OF_TIME = 7_258_118_400_000_000  # 2200, in microseconds: no request asks beyond it, and 9999 stands for no end
_HELD, _MOMENTS, _CHANGES = "_ml_assets_held", "_ml_assets_moments", "_ml_assets_changes"
_ADVICE = "A lookup needs one row per entity, `valid_from` and `known_at`."


def look_up(con: duckdb.DuckDBPyConnection, view: FeatureView, lookup: Lookup) -> "pa.Table":
    """Give a feature row for each moment at which another row of the table holds, with nulls where none does any more.

    A row holds for `at` when `known_at <= at` and `valid_from <= at < valid_until`; of several the one with the newest
    `valid_from`. A row of the same entity and `valid_from` that is known later replaces it from then on. A null
    `valid_from` is the `known_at`; a `valid_until` from 2200 on is a null.

    Raises:
        DuplicateRowsError: rows that differ are equally new; it names entities and times.
    """
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_HELD} AS {_held(con, view, lookup)}")
        require_one_each(con, view, _HELD, {"since": "valid from", "known": "known at"}, _ADVICE)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_MOMENTS} AS {_moments()}")
        con.register(_CHANGES, _changes(con))
        return con.sql(_output(view, lookup)).to_arrow_table()
    finally:
        con.unregister(_CHANGES)
        for table in (_HELD, _MOMENTS):
            con.execute(f"DROP TABLE IF EXISTS {table}")


def _entity(view: FeatureView) -> str:
    return ", ".join(f"e{i}" for i in range(len(view.entity)))


def _held(con: duckdb.DuckDBPyConnection, view: FeatureView, lookup: Lookup) -> str:
    """The rows with when each begins and ends to hold; `row_no` goes by entity, then from the oldest to the newest."""
    entity, columns = _entity(view), ", ".join(_columns(con, view, lookup))
    end = f"epoch_us({quote(lookup.valid_until)})" if lookup.valid_until else "NULL::BIGINT"
    until = f"CASE WHEN {end} < {_END_OF_TIME} THEN {end} END"
    return f"""
        WITH found AS (SELECT DISTINCT {columns}, epoch_us(known_at) AS known,
                coalesce(epoch_us({quote(lookup.valid_from)}), epoch_us(known_at)) AS since, {until} AS until
            FROM {quote(view.tables[0])}),
        versions AS (SELECT *, lead(known) OVER (PARTITION BY {entity}, since ORDER BY known) AS replaced FROM found
            WHERE {" AND ".join(f"e{i} IS NOT NULL" for i in range(len(view.entity)))})
        SELECT *, greatest(known, since) AS enter, least(until, replaced) AS ended,
            CASE WHEN ended IS NOT NULL THEN greatest(enter, ended) END AS leave,
            dense_rank() OVER (ORDER BY {entity}) AS entity_no,
            row_number() OVER (ORDER BY {entity}, since, known) - 1 AS row_no
        FROM versions"""


def _columns(con: duckdb.DuckDBPyConnection, view: FeatureView, lookup: Lookup) -> Iterator[str]:
    values = ", ".join(f"({sql}) AS {quote(name)}" for name, sql in lookup.columns.items())
    described = con.execute(f"DESCRIBE SELECT {values} FROM {quote(view.tables[0])}").fetchall()
    yield from (f"{quote(column)} AS e{i}" for i, column in enumerate(view.entity))
    for i, (sql, (_, kind, *_)) in enumerate(zip(lookup.columns.values(), described, strict=True)):
        yield f"{stored_value(sql, kind)} AS f{i}"


def _moments() -> str:
    """All moments at which what holds for an entity can change, numbered by entity and time."""
    return f"""
        SELECT *, row_number() OVER (ORDER BY entity_no, g) - 1 AS position FROM (
            SELECT entity_no, enter AS g FROM {_HELD} UNION SELECT entity_no, leave FROM {_HELD} WHERE leave > enter)"""


def _changes(con: duckdb.DuckDBPyConnection) -> "pa.Table":
    """The moments at which another row holds than before, with its `row_no`; null: none any more."""
    import pyarrow as pa

    found = con.execute(f"""
        SELECT m.position AS enter, coalesce(l.position, e.after) AS leave FROM {_HELD} h
        JOIN {_MOMENTS} m ON m.entity_no = h.entity_no AND m.g = h.enter
        LEFT JOIN {_MOMENTS} l ON l.entity_no = h.entity_no AND l.g = h.leave
        JOIN (SELECT entity_no, max(position) + 1 AS after FROM {_MOMENTS} GROUP BY 1) e ON e.entity_no = h.entity_no
        ORDER BY h.row_no""").fetchnumpy()
    ((n_moments,),) = con.execute(f"SELECT count(*) FROM {_MOMENTS}").fetchall()
    entity = np.asarray(con.execute(f"SELECT entity_no FROM {_MOMENTS} ORDER BY position").fetchnumpy()["entity_no"])
    row = covering(np.asarray(found["enter"]), np.asarray(found["leave"]), n_moments)
    before = np.where(np.diff(entity, prepend=0) == 0, np.roll(row, 1), -1)
    changed = np.flatnonzero(row != before)
    return pa.table({"position": changed, "row_no": pa.array(row[changed], mask=row[changed] < 0)})


def _output(view: FeatureView, lookup: Lookup) -> str:
    entity = ", ".join(f"n.e{i} AS {quote(column)}" for i, column in enumerate(view.entity))
    features = ", ".join(f"h.f{i} AS {quote(name)}" for i, name in enumerate(lookup.columns))
    return f"""
        SELECT {entity}, make_timestamptz(m.g) AS {FEATURE_TIMESTAMP}, {features}
        FROM {_CHANGES} c JOIN {_MOMENTS} m USING (position)
        JOIN (SELECT DISTINCT entity_no, {_entity(view)} FROM {_HELD}) n USING (entity_no)
        LEFT JOIN {_HELD} h USING (row_no) ORDER BY position"""
