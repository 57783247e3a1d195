"""The point-in-time join: each spine row gets what was servable at its time, from every view."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from ml_assets.engine import literal, quote
from ml_assets.errors import FeatureError, shorten
from ml_assets.features.check import stored_type
from ml_assets.features.statements import complaint
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

_SPINE, _ROW, _AT, _G, _SINCE = (f"_ml_assets_{name}" for name in ("spine", "row", "at", "g", "since"))
_KNOWN = "known_at"


def join_as_of(
    con: duckdb.DuckDBPyConnection,
    spine: str,
    views: Sequence[FeatureView],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> "pa.Table":
    """Give the spine's columns and `<view>__<feature>` of each view, in the spine's order, row for row.

    `spine` names a table in `con` with every view's entity columns and `at`; the feature rows are read from the table
    that `sources` gives for the view's name, else from `features/<view>`. A feature row at g counts for `at` when
    `g + delay <= at` and `at - g <= max_age`; the newest counts. Rows that have a `known_at` count from then on, if
    that is later than g, and of several for one entity and g the one that was known last. Where none counts, as for
    an entity that is null or unknown, features are what the view's `defaults` say, else null.

    DuckDB's part stays within its memory limit; beside it there are the result and, in turn, each view's share of it.
    Raises FeatureError for a missing table or column, and where feature rows of one entity share their times.
    """
    try:
        return _joined(con, spine, views, sources)
    except duckdb.Error as error:
        raise FeatureError(f"The spine '{spine}' cannot be joined: {complaint(error)[0]}") from error
    finally:
        con.unregister(_SPINE)


def _joined(
    con: duckdb.DuckDBPyConnection, spine: str, views: Sequence[FeatureView], sources: Mapping[str, str]
) -> "pa.Table":
    available = _types(con, spine)
    joined = con.sql(f"FROM {quote(spine)}").to_arrow_table()
    narrow = np.int32 if len(joined) < 2**31 else np.int64  # what is sorted along costs by its width
    numbered = joined.append_column(_ROW, [np.arange(len(joined), dtype=narrow)])
    # One join at a time: memory grows manifold with many ASOF joins in one query (duckdb#17001).
    for view in views:
        source = sources.get(view.name, f"features/{view.name}")
        found = _types(con, source)
        _require_entity(view, spine, available, source, found)
        _require_one_each(con, view, source, found)
        con.register(_SPINE, numbered.select([*view.entity, "at", _ROW]))
        joined = _beside(joined, con.sql(_match(view, source, found)).to_arrow_table())
    return joined


def _beside(joined: "pa.Table", matched: "pa.Table") -> "pa.Table":
    """Put matched rows beside those they are numbered by; in NumPy, since to sort them costs as much as half a join."""
    row = matched[_ROW].to_numpy()
    for name in matched.column_names[1:]:
        joined = joined.append_column(name, _placed(matched[name], row))
    return joined


def _placed(column: "pa.ChunkedArray", row: np.ndarray) -> "pa.Array | pa.ChunkedArray":
    """Values at the rows that they are numbered by; numbers at a third of what `take` costs, where a null is no NaN."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        position = np.empty(len(row), np.int64)
        position[row] = np.arange(len(row))
        return column.take(position)
    values, null = np.empty(len(row), column.type.to_pandas_dtype()), np.empty(len(row), bool)
    values[row], null[row] = column.to_numpy(), column.is_null().to_numpy()
    return pa.array(values, mask=null)


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


def _require_one_each(con: duckdb.DuckDBPyConnection, view: FeatureView, source: str, found: dict[str, str]) -> None:
    identity, rows = f"{_entity(view)}, {FEATURE_TIMESTAMP}", quote(source)
    if _KNOWN in found:
        identity += f", greatest({_KNOWN}, {FEATURE_TIMESTAMP})"
        rows += f" WHERE {_KNOWN} IS NOT NULL"
    hashes = con.sql(f"SELECT hash({identity}) AS h FROM {rows}").to_arrow_table()["h"].to_numpy()
    hashes = np.sort(hashes)
    if not (hashes[1:] == hashes[:-1]).any():  # equal rows have equal hashes, and numbers are sorted in no time
        return
    doubled = con.execute(f"SELECT {identity} FROM {rows} GROUP BY ALL HAVING count(*) > 1 LIMIT 6").fetchall()
    if doubled:
        named = shorten(", ".join(str(value) for value in row) for row in doubled)
        raise FeatureError(f"{source} has several rows for one entity and time: {named}. Materialize it again.")


def _match(view: FeatureView, source: str, found: dict[str, str]) -> str:
    """One row per spine row; an unmatched one has a null age, which no limit admits.

    Moments are compared as numbers of microseconds that are made once, not at every comparison.
    """
    features = [name for name in found if name not in {*view.entity, FEATURE_TIMESTAMP, _KNOWN, "partition_key"}]
    late, delay = _KNOWN in found, view.delay // MICROSECOND
    age = f"s.{_AT} - f.{_G}"
    fresh = f"{age} IS NOT NULL" if view.max_age is None else f"{age} <= {view.max_age // MICROSECOND - delay}"
    values = [
        f"CASE WHEN {fresh} THEN f.{quote(n)} ELSE {_default(view, n)} END AS {quote(f'{view.name}__{n}')}"
        for n in features
    ]
    equal = " AND ".join(f"s.{quote(column)} = f.{quote(column)}" for column in view.entity)
    spine = f'(SELECT {_ROW}, {_entity(view)}, epoch_us("at") - {delay} AS {_AT} FROM {_SPINE})'
    rows = _rows(view, source, features, late=late)
    return f"""SELECT {", ".join([f"s.{_ROW}", *values])} FROM {spine} s
        ASOF LEFT JOIN ({rows}) f ON {equal} AND s.{_AT} >= f.{_SINCE if late else _G}"""


def _rows(view: FeatureView, source: str, features: Sequence[str], *, late: bool) -> str:
    """The feature rows; where rows may be `late` without those that were known only after something newer.

    Then the row known last, which ASOF finds, is the newest.
    """
    columns = ", ".join([_entity(view), *map(quote, features), f"epoch_us({FEATURE_TIMESTAMP}) AS {_G}"])
    if not late:
        return f"SELECT {columns} FROM {quote(source)}"
    newest = f"max({_G}) OVER (PARTITION BY {_entity(view)} ORDER BY {_SINCE})"
    return f"""SELECT {columns}, greatest(epoch_us({_KNOWN}), {_G}) AS {_SINCE} FROM {quote(source)}
        WHERE {_KNOWN} IS NOT NULL QUALIFY {_G} >= {newest}"""


def _entity(view: FeatureView) -> str:
    return ", ".join(map(quote, view.entity))


def _default(view: FeatureView, feature: str) -> str:
    value = view.defaults.get(feature)
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else f"'{float(value)!r}'::DOUBLE"
