"""Views in plain SQL: each selected row holds for its entity from the grid time on at which it was known."""

from typing import TYPE_CHECKING

import duckdb

from ml_assets.engine import quote
from ml_assets.features.check import stored_value
from ml_assets.features.doubled import require_one_each
from ml_assets.features.statements import require_one_select
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView, grid_time

if TYPE_CHECKING:
    import pyarrow as pa

_SELECTED, _CHOSEN = "_ml_assets_selected", "_ml_assets_chosen"
_ADVICE = "Select an `event_timestamp` that orders them, or one row per entity and time."


def select_events(con: duckdb.DuckDBPyConnection, view: FeatureView, first: int, last: int) -> "pa.Table":
    """Give the feature rows of an SQL view; of several at one grid time the newest event, then the newest known.

    A row is left out when a newer event of its entity was already known, as far back as `view.history`. `first` and
    `last` are microseconds since 1970. Raises DuplicateRowsError, naming entities and times, where rows that differ are
    equally new.
    """
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_SELECTED} AS {require_one_select(view.sql or '')}")
        types = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {_SELECTED}").fetchall()}
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_CHOSEN} AS {_newest(view, types, first, last)}")
        require_one_each(con, view, _CHOSEN, {"_g": "at"}, _ADVICE)
        return con.sql(_output(view, types)).to_arrow_table()
    finally:
        con.execute(f"DROP TABLE IF EXISTS {_SELECTED}")
        con.execute(f"DROP TABLE IF EXISTS {_CHOSEN}")


def _newest(view: FeatureView, types: dict[str, str], first: int, last: int) -> str:
    """The newest row of each entity and grid time; where several are equally new and differ, all of them."""
    every = max(view.every // MICROSECOND, 1)
    back = max(view.history, view.every) // MICROSECOND
    entity = ", ".join(f"e{i}" for i in range(len(view.entity)))
    known = "" if view.is_static else f"AND _known BETWEEN {first - every - back} AND {last}"
    asked = "" if view.is_static else f"WHERE _g >= {first} AND _g < {last}"
    return f"""
        WITH found AS (SELECT {_columns(view, types)}, {grid_time("_known", every)} AS _g FROM {_SELECTED}
            WHERE {" AND ".join(f"{quote(column)} IS NOT NULL" for column in view.entity)} {known}),
        fresh AS (SELECT DISTINCT * FROM found QUALIFY _happened >= max(_happened) OVER (
            PARTITION BY {entity} ORDER BY _known RANGE BETWEEN {back} PRECEDING AND CURRENT ROW))
        SELECT * FROM fresh {asked}
        QUALIFY rank() OVER (PARTITION BY {entity}, _g ORDER BY _happened DESC, _known DESC) = 1"""


def _columns(view: FeatureView, types: dict[str, str]) -> str:
    happened = "coalesce(event_timestamp, known_at)" if "event_timestamp" in types else "known_at"
    columns = [f"{quote(name)} AS e{i}" for i, name in enumerate(view.entity)]
    features = enumerate(_features(view, types))
    columns += [f"{stored_value(quote(name), types[name])} AS f{i}" for i, name in features]
    return ", ".join([*columns, "epoch_us(known_at) AS _known", f"epoch_us({happened}) AS _happened"])


def _features(view: FeatureView, types: dict[str, str]) -> list[str]:
    return [name for name in types if name not in {*view.entity, "known_at", "event_timestamp"}]


def _output(view: FeatureView, types: dict[str, str]) -> str:
    entity = ", ".join(f"e{i} AS {quote(name)}" for i, name in enumerate(view.entity))
    features = ", ".join(f"f{i} AS {quote(name)}" for i, name in enumerate(_features(view, types)))
    day = "" if view.is_static else "strftime(make_timestamptz(_g), '%Y-%m-%d') AS partition_key,"
    order = ", ".join(f"e{i}" for i in range(len(view.entity)))
    return f"""SELECT {entity}, make_timestamptz(_g) AS {FEATURE_TIMESTAMP}, {day} {features}
        FROM {_CHOSEN} ORDER BY {order}, _g"""
