"""Feature rows of a view for a range of grid times; the same bits whatever the range."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from ml_assets.errors import FeatureError
from ml_assets.features.events import select_events
from ml_assets.features.statements import complaint
from ml_assets.features.view import MICROSECOND, FeatureView
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
    newest version known at g. NaN and infinity count as null. `std` is of the sample. An entity has a row at each g
    while its longest window holds any row, then one closing row with counts of 0. Raises FeatureError.
    """
    if first.tzinfo is None or last.tzinfo is None:
        raise FeatureError(f"Feature view '{view.name}' needs a range with time zones, got {first} to {last}.")
    start, end = (first - _EPOCH) // MICROSECOND, (last - _EPOCH) // MICROSECOND
    try:
        return _aggregated(con, view, start, end) if view.aggregations else select_events(con, view, start, end)
    except duckdb.Error as error:
        raise FeatureError(f"Feature view '{view.name}' cannot be computed: {complaint(error)[0]}") from error


def _aggregated(con: duckdb.DuckDBPyConnection, view: FeatureView, start: int, end: int) -> "pa.Table":
    every = view.every // MICROSECOND
    plan = Plan(view, -(-start // every) * every, -(-end // every) * every)
    try:
        return aggregate(con, plan).to_arrow_table()
    finally:
        forget(con, plan)
