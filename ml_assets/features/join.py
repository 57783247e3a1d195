"""The point-in-time join: each spine row gets what was servable at its time, from every view."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb

from ml_assets.engine import quote
from ml_assets.errors import FeatureError, shorten
from ml_assets.features.statements import complaint
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

_SPINE = "_ml_assets_spine"


def join_as_of(con: duckdb.DuckDBPyConnection, spine: str, views: Sequence[FeatureView]) -> "pa.Table":
    """Give the spine's columns and `<view>__<feature>` of each view, in the spine's order, row for row.

    `spine` names a table in `con` with every view's entity columns and `at`; the feature rows are read from
    `features/<view>`. A feature row at g counts for `at` when `g + delay <= at` and `at - g <= max_age`; the newest
    counts. An entity that is null or unknown gets nulls. Raises FeatureError for a missing table or column, and where
    feature rows of one entity share a time.
    """
    try:
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {_SPINE} AS SELECT row_number() OVER () AS _row, * FROM {quote(spine)}"
        )
        return _joined(con, spine, views)
    except duckdb.Error as error:
        raise FeatureError(f"The spine '{spine}' cannot be joined: {complaint(error)[0]}") from error
    finally:
        con.execute(f"DROP TABLE IF EXISTS {_SPINE}")
        for number in range(len(views)):
            con.execute(f"DROP TABLE IF EXISTS {_part(number)}")


def _part(number: int) -> str:
    return f"_ml_assets_joined_{number}"


def _joined(con: duckdb.DuckDBPyConnection, spine: str, views: Sequence[FeatureView]) -> "pa.Table":
    available = _columns(con, _SPINE)
    for number, view in enumerate(views):
        _require(view, spine, available)
        # One join at a time: memory grows manifold with many ASOF joins in one query (duckdb#17001).
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_part(number)} AS {_match(con, view)}")
    parts = "".join(
        f" POSITIONAL JOIN (SELECT * EXCLUDE (_row) FROM {_part(n)} ORDER BY _row)" for n in range(len(views))
    )
    return con.sql(f"SELECT * EXCLUDE (_row) FROM (FROM {_SPINE} ORDER BY _row){parts}").to_arrow_table()


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in con.execute(f"DESCRIBE {quote(table)}").fetchall()]


def _require(view: FeatureView, spine: str, available: list[str]) -> None:
    absent = [column for column in (*view.entity, "at") if column not in available]
    if absent:
        raise FeatureError(f"The spine '{spine}' lacks {shorten(absent)}, which the feature view '{view.name}' needs.")


def _match(con: duckdb.DuckDBPyConnection, view: FeatureView) -> str:
    """One row per spine row; entity columns are compared in the type of the feature rows."""
    source = quote(f"features/{view.name}")
    around = {*view.entity, FEATURE_TIMESTAMP, "partition_key"}
    names = [name for name in _columns(con, f"features/{view.name}") if name not in around]
    age = f"epoch_us(s.at) - epoch_us(f.{FEATURE_TIMESTAMP})"
    fresh = (
        f"{age} <= {view.max_age // MICROSECOND}" if view.max_age is not None else f"f.{FEATURE_TIMESTAMP} IS NOT NULL"
    )
    features = [f"CASE WHEN {fresh} THEN f.{quote(n)} END AS {quote(f'{view.name}__{n}')}" for n in names]
    equal = " AND ".join(f"s.{quote(column)} = f.{quote(column)}" for column in view.entity)
    servable = f"epoch_us(s.at) - {view.delay // MICROSECOND} >= epoch_us(f.{FEATURE_TIMESTAMP})"
    return f"SELECT s._row, {', '.join(features)} FROM {_SPINE} s ASOF LEFT JOIN {source} f ON {equal} AND {servable}"
