"""What a version should have answered: the inputs of request rows as of their time, from the lake alone.

All that counts is in the bundle: the versions of the views, how they are joined, and the request function.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.engine import connect, quote
from ml_assets.features.join import join_as_of
from ml_assets.features.view import FEATURE_TIMESTAMP, FeatureView
from ml_assets.serving.bundle import ServingSchema, ViewRef
from ml_assets.serving.request import table_columns
from ml_assets.steps.days import shift
from ml_assets.steps.frames import as_array, function
from ml_assets.steps.view_versions import table_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ASKED = "asked"
_NEWEST: Mapping[str, int] = MappingProxyType({})


def inputs_of(
    schema: ServingSchema, lake: Lake, rows: "pa.Table", pinned: Mapping[str, int] = _NEWEST
) -> dict[str, Any]:
    """Columns by input, before encoding, for rows that hold the request's fields and its time.

    With `pinned`, versions by table, features are read from what `features/<view>` held then, whatever it holds now.

    Raises:
        FeatureError: the rows of a view's version are not in the lake.
    """
    with _opened(schema, lake, rows, pinned) as (con, tables):
        joined = join_as_of(con, _ASKED, [_view(ref) for ref in schema.views], tables)
    return columns_of(schema, joined)


def columns_of(schema: ServingSchema, rows: "pa.Table") -> dict[str, Any]:
    """Columns by input, before encoding, for rows with the request's fields, its time, and joined features."""
    given = table_columns(schema, rows)
    made = dict(function(schema.request_features)(given)) if schema.request_features else {}
    offered = {f"{ref.name}__{feature}" for ref in schema.views for feature in ref.features}
    joined = {name: as_array(rows[name]) for name in offered.intersection(rows.column_names)}
    columns = {**joined, **given, **made}
    return {wanted.name: columns[wanted.name] for wanted in schema.inputs}


def row_times(schema: ServingSchema, lake: Lake, rows: "pa.Table") -> dict[str, list[datetime | None]]:
    """By view, the time of the feature row that counts for each request row; None where none does."""
    with _opened(schema, lake, rows) as (con, tables):
        return {ref.name: [t for (t,) in con.execute(_times(ref, tables[ref.name])).fetchall()] for ref in schema.views}


def tables_of(schema: ServingSchema, lake: Lake) -> dict[str, str]:
    """The lake table of each view, as the version reads it."""
    return {ref.name: table_of(ref.name, ref.version, lake) for ref in schema.views}


@contextmanager
def _opened(
    schema: ServingSchema, lake: Lake, rows: "pa.Table", pinned: Mapping[str, int] = _NEWEST
) -> Iterator[tuple["duckdb.DuckDBPyConnection", Mapping[str, str]]]:
    tables = {ref.name: f"features/{ref.name}" for ref in schema.views} if pinned else tables_of(schema, lake)
    with connect() as con:
        con.register(_ASKED, rows)
        for ref in schema.views:
            table, columns = tables[ref.name], [*ref.entity, FEATURE_TIMESTAMP, *ref.features]
            needed, version = _needed(ref, lake, table, rows), pinned.get(table)
            lake.read(table, con, columns=columns, partitions=needed, version=version).create_view(table)
        yield con, tables


def _needed(ref: ViewRef, lake: Lake, table: str, rows: "pa.Table") -> PartitionRange | None:
    """The days whose rows may count; a day more on either side, since a grid time may lie on the border of two."""
    import pyarrow.compute as pc

    if not lake.partitions(table):
        return None
    first, last = pc.min_max(rows["at"]).as_py().values()  # pyright: ignore[reportAttributeAccessIssue]  made at run time
    back = None if ref.max_age_us is None else first - timedelta(microseconds=ref.max_age_us)
    return PartitionRange(back and shift(back.date().isoformat(), -1), shift(last.date().isoformat(), 1))


def _view(ref: ViewRef) -> FeatureView:
    """As much of a view as the join needs: how its rows were computed does not matter to it."""
    return FeatureView(
        name=ref.name,
        entity=ref.entity,
        every=timedelta(0),
        tables=(ref.name,),
        delay=timedelta(microseconds=ref.delay_us),
        max_age=None if ref.max_age_us is None else timedelta(microseconds=ref.max_age_us),
        sql=f"SELECT {', '.join(map(quote, (*ref.entity, 'known_at', *ref.features)))}",
        defaults=ref.defaults,
    )


def _times(ref: ViewRef, table: str) -> str:
    equal = " AND ".join(f"s.{quote(column)} = f.{quote(column)}" for column in ref.entity)
    at, grid = 'epoch_us(s."at")', f"epoch_us(f.{FEATURE_TIMESTAMP})"
    fresh = "true" if ref.max_age_us is None else f"{at} - {grid} <= {ref.max_age_us}"
    return f"""
        SELECT CASE WHEN {fresh} THEN f.{FEATURE_TIMESTAMP} END
        FROM (SELECT row_number() OVER () AS _row, * FROM {_ASKED}) s
        ASOF LEFT JOIN {quote(table)} f ON {equal} AND {at} - {ref.delay_us} >= {grid}
        ORDER BY _row"""
