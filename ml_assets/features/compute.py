"""Feature rows of a view for a range of grid times; the same bits whatever the range."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from ml_assets.engine import quote
from ml_assets.errors import FeatureError
from ml_assets.features.check import stored_type
from ml_assets.features.events import select_events
from ml_assets.features.lookup import look_up
from ml_assets.features.statements import complaint
from ml_assets.features.view import MICROSECOND, TEXT_FUNCTIONS, FeatureView
from ml_assets.features.windows import Plan, aggregate, forget

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def compute(con: duckdb.DuckDBPyConnection, view: FeatureView, *, first: datetime, last: datetime) -> "pa.Table":
    """Give the feature rows with `first <= feature_timestamp < last`, sorted by entity and time.

    Reads the tables named in `view.tables` from `con`; they must hold `view.lookback()` before `first`, and more
    changes nothing. Columns: entity, `feature_timestamp`, `partition_key` (the UTC day; not for a static view),
    features as DOUBLE or VARCHAR. A static view gives all its rows, whatever the range.

    Aggregations at g see rows with `known_at <= g` and `g - window < event_timestamp <= g`, of each key only the
    newest version known at g. NaN and infinity count as null, and null as no value: `first` and `last` pass over it.
    These go by event time, then by when a row was known, then by the row itself. `std` is of the sample. An entity has
    a row at each g while its longest window holds any row, then one closing row with counts of 0. Raises FeatureError.

    Memory: tables, sums and joins are DuckDB's, bounded by `ML_ASSETS_MEMORY_LIMIT`, and go to disk beyond it; numpy
    takes half a million rows at a time, or those of one entity (`ordered`). Only the result is whole in memory.
    """
    if first.tzinfo is None or last.tzinfo is None:
        raise FeatureError(f"Feature view '{view.name}' needs a range with time zones, got {first} to {last}.")
    try:
        if view.lookup:
            return look_up(con, view, view.lookup)
        if view.aggregations:
            return _aggregated(con, plan_of(con, view, first, last))
        return select_events(con, view, _microseconds(first), _microseconds(last))
    except duckdb.Error as error:
        raise FeatureError(f"Feature view '{view.name}' cannot be computed: {complaint(error)[0]}") from error


def plan_of(
    con: duckdb.DuckDBPyConnection,
    view: FeatureView,
    first: datetime,
    last: datetime,
    *,
    carried: tuple[str, ...] = (),
) -> Plan:
    """The statements for a view of aggregations, for grid times from `first` to before `last`."""
    every = view.every // MICROSECOND
    start, end = (-(-_microseconds(moment) // every) * every for moment in (first, last))
    return Plan(view, start, end, _texts(con, view), carried)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // MICROSECOND


def _aggregated(con: duckdb.DuckDBPyConnection, plan: Plan) -> "pa.Table":
    try:
        return aggregate(con, plan).to_arrow_table()
    finally:
        forget(con)


def _texts(con: duckdb.DuckDBPyConnection, view: FeatureView) -> set[str]:
    """The aggregations whose values are text."""
    able = {name: part for name, part in (view.aggregations or {}).items() if set(part.functions) <= {*TEXT_FUNCTIONS}}
    if not able:
        return set()
    values = ", ".join(f"{part.condition} AS {quote(name)}" for name, part in able.items())
    described = con.execute(f"DESCRIBE SELECT {values} FROM {quote(view.tables[0])}").fetchall()
    return {name for name, kind, *_ in described if stored_type(kind) == "VARCHAR"}
