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

_SPINE, _ROW, _SINCE = "_ml_assets_spine", "_ml_assets_row", "_ml_assets_since"
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
    numbered = joined.append_column(_ROW, [np.arange(len(joined))])
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
    position = np.full(len(joined), -1)
    position[matched[_ROW].to_numpy()] = np.arange(len(matched))
    for name in matched.column_names[1:]:
        joined = joined.append_column(name, matched[name].take(position))
    return joined


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
    rows, since = _known(source, found)
    identity = ", ".join(dict.fromkeys([*map(quote, view.entity), FEATURE_TIMESTAMP, since]))
    hashes = con.sql(f"SELECT hash({identity}) AS h FROM {rows}").to_arrow_table()["h"].to_numpy()
    hashes = np.sort(hashes)
    if not (hashes[1:] == hashes[:-1]).any():  # equal rows have equal hashes, and numbers are sorted in no time
        return
    doubled = con.execute(f"SELECT {identity} FROM {rows} GROUP BY ALL HAVING count(*) > 1 LIMIT 6").fetchall()
    if doubled:
        named = shorten(", ".join(str(value) for value in row) for row in doubled)
        raise FeatureError(f"{source} has several rows for one entity and time: {named}. Materialize it again.")


def _known(source: str, found: dict[str, str]) -> tuple[str, str]:
    """The rows as SQL, and the column that says from when on each of them counts."""
    if _KNOWN not in found:
        return quote(source), FEATURE_TIMESTAMP
    since = f"greatest({_KNOWN}, {FEATURE_TIMESTAMP}) AS {_SINCE}"
    return f"(SELECT *, {since} FROM {quote(source)} WHERE {_KNOWN} IS NOT NULL)", _SINCE


def _match(view: FeatureView, source: str, found: dict[str, str]) -> str:
    """One row per spine row; an unmatched one has a null age, which no limit admits."""
    features = [name for name in found if name not in {*view.entity, FEATURE_TIMESTAMP, _KNOWN, "partition_key"}]
    age = f"epoch_us(s.at) - epoch_us(f.{FEATURE_TIMESTAMP})"
    fresh = f"{age} IS NOT NULL" if view.max_age is None else f"{age} <= {view.max_age // MICROSECOND}"
    values = [
        f"CASE WHEN {fresh} THEN f.{quote(n)} ELSE {_default(view, n)} END AS {quote(f'{view.name}__{n}')}"
        for n in features
    ]
    equal = " AND ".join(f"s.{quote(column)} = f.{quote(column)}" for column in view.entity)
    rows, since = _known(source, found)
    newest = rows if since == FEATURE_TIMESTAMP else _newest(view, rows)
    servable = f"epoch_us(s.at) - {view.delay // MICROSECOND} >= epoch_us(f.{since})"
    return f"""SELECT {", ".join([f"s.{_ROW}", *values])} FROM {_SPINE} s
        ASOF LEFT JOIN {newest} f ON {equal} AND {servable}"""


def _newest(view: FeatureView, rows: str) -> str:
    """Leave out what was known only after something newer: then the row known last, which ASOF finds, is the newest."""
    entity = ", ".join(quote(column) for column in view.entity)
    newest = f"max({FEATURE_TIMESTAMP}) OVER (PARTITION BY {entity} ORDER BY {_SINCE})"
    return f"(FROM {rows} QUALIFY {FEATURE_TIMESTAMP} >= {newest})"


def _default(view: FeatureView, feature: str) -> str:
    value = view.defaults.get(feature)
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else f"'{float(value)!r}'::DOUBLE"
