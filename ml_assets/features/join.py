"""The point-in-time join: each spine row gets what was servable at its time, from every view."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import duckdb

from ml_assets.engine import literal, quote
from ml_assets.errors import FeatureError, shorten
from ml_assets.features.check import stored_type
from ml_assets.features.statements import complaint
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

_SPINE, _ROW = "_ml_assets_spine", "_ml_assets_row"


def join_as_of(
    con: duckdb.DuckDBPyConnection,
    spine: str,
    views: Sequence[FeatureView],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> "pa.Table":
    """Give the spine's columns and `<view>__<feature>` of each view, in the spine's order, row for row.

    `spine` names a table in `con` with every view's entity columns and `at`; the feature rows are read from the table
    that `sources` gives for the view's name, else from `features/<view>`. A feature row at g counts for `at` when
    `g + delay <= at` and `at - g <= max_age`; the newest counts. Where none counts, as for an entity that is null or
    unknown, features are what the view's `defaults` say, else null. Raises FeatureError for a missing table or column,
    and where feature rows of one entity share a time.
    """
    try:
        numbered = f"SELECT row_number() OVER () AS {_ROW}, * FROM {quote(spine)}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_SPINE} AS {numbered}")
        return _joined(con, spine, views, sources)
    except duckdb.Error as error:
        raise FeatureError(f"The spine '{spine}' cannot be joined: {complaint(error)[0]}") from error
    finally:
        con.execute(f"DROP TABLE IF EXISTS {_SPINE}")
        for number in range(len(views)):
            con.execute(f"DROP TABLE IF EXISTS {_part(number)}")


def _part(number: int) -> str:
    return f"_ml_assets_joined_{number}"


def _joined(
    con: duckdb.DuckDBPyConnection, spine: str, views: Sequence[FeatureView], sources: Mapping[str, str]
) -> "pa.Table":
    available = _types(con, _SPINE)
    for number, view in enumerate(views):
        source = sources.get(view.name, f"features/{view.name}")
        found = _types(con, source)
        _require_entity(view, spine, available, source, found)
        _require_one_each(con, view, source)
        # One join at a time: memory grows manifold with many ASOF joins in one query (duckdb#17001).
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_part(number)} AS {_match(view, source, found)}")
    parts = "".join(
        f" POSITIONAL JOIN (SELECT * EXCLUDE ({_ROW}) FROM {_part(number)} ORDER BY {_ROW})"
        for number in range(len(views))
    )
    return con.sql(f"SELECT * EXCLUDE ({_ROW}) FROM (FROM {_SPINE} ORDER BY {_ROW}){parts}").to_arrow_table()


def _types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {quote(table)}").fetchall()}


def _require_entity(
    view: FeatureView, spine: str, available: dict[str, str], source: str, found: dict[str, str]
) -> None:
    absent = [column for column in (*view.entity, "at") if column not in available]
    if absent:
        raise FeatureError(f"The spine '{spine}' lacks {shorten(absent)}, which the feature view '{view.name}' needs.")
    for column in view.entity:
        mine, theirs = available[column], found.get(column, "missing")
        if (stored_type(mine) or mine) != (stored_type(theirs) or theirs):
            raise FeatureError(
                f"'{column}' is {mine} in the spine '{spine}' and {theirs} in {source}. Make them one type."
            )


def _require_one_each(con: duckdb.DuckDBPyConnection, view: FeatureView, source: str) -> None:
    identity = ", ".join(quote(column) for column in (*view.entity, FEATURE_TIMESTAMP))
    doubled = con.execute(f"""
        SELECT {identity} FROM {quote(source)} GROUP BY ALL HAVING count(*) > 1 LIMIT 6""").fetchall()
    if doubled:
        rows = shorten(", ".join(str(value) for value in row) for row in doubled)
        raise FeatureError(f"{source} has several rows for one entity and time: {rows}. Materialize it again.")


def _match(view: FeatureView, source: str, found: dict[str, str]) -> str:
    """One row per spine row; an unmatched one has a null age, which no limit admits."""
    features = [name for name in found if name not in {*view.entity, FEATURE_TIMESTAMP, "partition_key"}]
    age = f"epoch_us(s.at) - epoch_us(f.{FEATURE_TIMESTAMP})"
    fresh = f"{age} IS NOT NULL" if view.max_age is None else f"{age} <= {view.max_age // MICROSECOND}"
    values = [
        f"CASE WHEN {fresh} THEN f.{quote(n)} ELSE {_default(view, n)} END AS {quote(f'{view.name}__{n}')}"
        for n in features
    ]
    equal = " AND ".join(f"s.{quote(column)} = f.{quote(column)}" for column in view.entity)
    servable = f"epoch_us(s.at) - {view.delay // MICROSECOND} >= epoch_us(f.{FEATURE_TIMESTAMP})"
    return f"""SELECT s.{_ROW}, {", ".join(values)} FROM {_SPINE} s
        ASOF LEFT JOIN {quote(source)} f ON {equal} AND {servable}"""


def _default(view: FeatureView, feature: str) -> str:
    value = getattr(view, "defaults", {}).get(feature)  # TODO view.defaults
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else f"'{float(value)!r}'::DOUBLE"
