"""Proof that feature rows hold nothing from after their time: compute them again without the future."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from ml_assets import engine
from ml_assets.engine import literal, quote
from ml_assets.errors import FeatureError, shorten
from ml_assets.features.check import stored_type
from ml_assets.features.compute import compute
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

_CUTS = 4
_POISON = 987_654


@dataclass(frozen=True)
class Proof:
    """Whether all rows came out the same, how many were compared, and the first differences in words."""

    identical: bool
    n_rows: int
    differences: tuple[str, ...]


def time_travel(
    con: duckdb.DuckDBPyConnection, view: FeatureView, stored: "pa.Table", first: datetime, last: datetime
) -> Proof:
    """Recompute the stored rows of [first, last) as of moments inside it, blind to what was known only later.

    At four moments, the last of them `last`, rows known later are once removed and once poisoned (numbers and texts
    replaced); every stored row up to that moment must come out equal, bit for bit. `con` holds the tables as for
    `compute`; it may and should hold later rows too. A difference means that the SQL uses a row before its `known_at`,
    or that the stored rows are not those of these tables. Raises FeatureError where a recomputation fails.
    """
    differences: list[str] = []
    with engine.connect() as past:
        for table in view.tables:
            # Batch by batch into a table of its own, which DuckDB can put on disk.
            past.register("_given", con.sql(f"FROM {quote(table)}").to_arrow_reader())
            past.execute(f"CREATE TEMP TABLE {quote(_whole(table))} AS FROM _given")
            past.unregister("_given")
        past.register("_stored", stored)
        step = (last - first) / _CUTS
        for number in range(1, _CUTS + 1):
            cut = first + number * step if number < _CUTS else last
            differences += _differences_at(past, view, first, last, cut)
        inside = (
            ""
            if view.is_static
            else f"WHERE {FEATURE_TIMESTAMP} >= {_sql(first)} AND {FEATURE_TIMESTAMP} < {_sql(last)}"
        )
        row = past.execute(f"SELECT count(*) FROM _stored {inside}").fetchone()
    return Proof(not differences, row[0] if row else 0, tuple(differences[:5]))


def _differences_at(
    past: duckdb.DuckDBPyConnection, view: FeatureView, first: datetime, last: datetime, cut: datetime
) -> Iterator[str]:
    for manner, hide in (("removed", _removed), ("poisoned", _poisoned)):
        for table in view.tables:
            past.execute(f"CREATE OR REPLACE TEMP VIEW {quote(table)} AS {hide(past, table, view, cut)}")
        rows = compute(past, view, first=first, last=min(last, cut + MICROSECOND))
        past.register("_again", rows)
        reach = f"{FEATURE_TIMESTAMP} <= {_sql(cut)} AND {_range(view, first, last)}"
        yield from _differences(past, view, rows.column_names, reach, f"rows known after {cut.isoformat()} {manner}")


def _whole(table: str) -> str:
    return f"_whole {table}"


def _sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ {literal(moment.isoformat())}"


def _range(view: FeatureView, first: datetime, last: datetime) -> str:
    inside = f"{FEATURE_TIMESTAMP} >= {_sql(first)} AND {FEATURE_TIMESTAMP} < {_sql(last)}"
    return "true" if view.is_static else inside


def _removed(past: duckdb.DuckDBPyConnection, table: str, view: FeatureView, cut: datetime) -> str:
    del past, view
    return f"SELECT * FROM {quote(_whole(table))} WHERE known_at <= {_sql(cut)}"


def _poisoned(past: duckdb.DuckDBPyConnection, table: str, view: FeatureView, cut: datetime) -> str:
    whole = quote(_whole(table))
    altered = []
    for name, kind in [row[:2] for row in past.execute(f"DESCRIBE {whole}").fetchall()]:
        if name not in {*view.entity, *view.keys, "partition_key"} and stored_type(kind):
            poison = f"(SELECT max({quote(name)}) FROM {whole})" if stored_type(kind) == "VARCHAR" else str(_POISON)
            poison = f"NOT coalesce({quote(name)}, false)" if kind == "BOOLEAN" else poison
            kept = f"CASE WHEN known_at <= {_sql(cut)} THEN {quote(name)} ELSE TRY_CAST({poison} AS {kind}) END"
            altered.append(f"{kept} AS {quote(name)}")
    replaced = f"REPLACE ({', '.join(altered)})" if altered else ""
    return f"SELECT * {replaced} FROM {whole}"


def _differences(
    past: duckdb.DuckDBPyConnection, view: FeatureView, columns: list[str], reach: str, hidden: str
) -> list[str]:
    identity = [*view.entity, FEATURE_TIMESTAMP]
    try:
        rows = past.execute(_comparison(identity, columns, reach)).fetchall()
    except duckdb.BinderException as error:
        raise FeatureError(
            f"The stored rows of '{view.name}' lack a column of the view: {shorten(columns)}."
        ) from error
    return [_sentence(view, row, hidden) for row in rows]


def _comparison(identity: list[str], columns: list[str], reach: str) -> str:
    """At most five rows: identity, whether stored and recomputed, and the features that differ."""
    features = [name for name in columns if name not in {*identity, "partition_key"}]
    named = ", ".join(f"coalesce(s.{quote(name)}, a.{quote(name)})" for name in identity)
    equal = " AND ".join(f"s.{quote(name)} = a.{quote(name)}" for name in identity)
    unequal = [f"s.{quote(name)} IS DISTINCT FROM a.{quote(name)}" for name in features]
    which = ", ".join(
        f"CASE WHEN {test} THEN {literal(name)} END" for name, test in zip(features, unequal, strict=True)
    )
    present = f"s.{FEATURE_TIMESTAMP} IS NULL OR a.{FEATURE_TIMESTAMP} IS NULL"
    return f"""
        SELECT {named}, s.{FEATURE_TIMESTAMP} IS NOT NULL, a.{FEATURE_TIMESTAMP} IS NOT NULL,
            list_filter([{which}], lambda name: name IS NOT NULL)
        FROM (FROM _stored WHERE {reach}) s FULL JOIN (FROM _again WHERE {reach}) a ON {equal}
        WHERE {" OR ".join([present, *unequal])} ORDER BY ALL LIMIT 5"""


def _sentence(view: FeatureView, row: tuple, hidden: str) -> str:
    *entity, moment = row[: len(view.entity) + 1]
    named = ", ".join(f"{name}={value}" for name, value in zip(view.entity, entity, strict=True))
    is_stored, is_again, features = row[-3:]
    what = "is stored but not recomputed" if not is_again else "is recomputed but not stored"
    if is_stored and is_again:
        what = f"has other values in {shorten(features)}"
    return f"{named} at {moment.isoformat()} {what} with {hidden}"
