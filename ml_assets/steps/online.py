"""The online store: the newest feature rows of every entity, as they stand in the lake."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.online.base import OnlineStore, ViewSchema, microseconds
from ml_assets.adapters.online.rows import decode, encode, encoded
from ml_assets.engine import quote, scratch
from ml_assets.errors import StoreUnavailableError, shorten
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND
from ml_assets.records import Finding, unchanged
from ml_assets.steps import catalogue, view_versions
from ml_assets.steps.arrow import among
from ml_assets.steps.days import shift, start_of
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

_ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_COMPARED = 200
_LAST = "_ml_assets_last"


def stored_name(spec: ViewSpec, lake: Lake) -> str:
    """The name of a view's rows in the online store."""
    return f"{spec.view.name}@{view_versions.current(spec, lake)}"


def findings(spec: ViewSpec, run: Run, rows: "pa.Table | None", days: Sequence[str]) -> tuple[Finding, ...]:
    """Put the rows just computed online and compare what is there with the lake.

    A store that has lost the view, or lags, or holds other values, gets the newest days from the lake; where no rows
    are fresh (None) that is said as a warning. Raises StoreUnavailableError when fresh rows have nowhere to go.
    """
    if not (days and run.lake.exists(spec.name)):
        return unchanged(catalogue.ONLINE.name)
    try:
        return (_settled(spec, run, rows, days),)
    except StoreUnavailableError as error:
        if rows is not None:
            raise
        return (Finding(catalogue.ONLINE.name, passed=False, sentence=str(error)),)


def keep(spec: ViewSpec, store: OnlineStore, name: str, rows: "pa.Table", days: Sequence[str]) -> None:
    """Write rows of a view under a name of the store, in place of all that was there of these days.

    Day by day, since Redis answers nobody during a write; days that would expire at once are left out.
    """
    entity = spec.view.entity
    if name in store.views() and store.schema(name).entity != entity:
        store.drop(name)  # a version that no model uses was edited in place
    features = [feature for feature in spec.view.features() if feature in rows.column_names]
    columns = [*entity, FEATURE_TIMESTAMP, *features]
    if not spec.daily:  # all of them, so that an entity that has left the table leaves the store as well
        always = {"first": _ALWAYS[0], "last": _ALWAYS[1]}
        store.replace(name, entity, features, rows.select(columns), keep=None, **always)
    for day in _lasting(spec, store.newest(name), rows, days) if spec.daily else ():
        part = among(rows, "partition_key", [day]).select(columns)
        span = {"first": start_of(day), "last": start_of(day) + DAY - timedelta(microseconds=1)}
        store.replace(name, entity, features, part, keep=spec.keep, **span)


def _lasting(spec: ViewSpec, newest: int | None, rows: "pa.Table", days: Sequence[str]) -> list[str]:
    last = max([newest or 0, *(microseconds(start_of(day)) for day in set(rows["partition_key"].to_pylist()))])
    oldest = last - spec.keep // MICROSECOND
    return [day for day in sorted(days) if microseconds(start_of(day) + DAY) > oldest]


def _settled(spec: ViewSpec, run: Run, rows: "pa.Table | None", days: Sequence[str]) -> Finding:
    """Say what was wrong with the stored rows, and put it right; where rows are fresh, what is wrong after that."""
    store, name = run.online_store, stored_name(spec, run.lake)
    if rows is not None and name in store.views():
        keep(spec, store, name, rows, days)
    newest = _of_newest_day(spec, run.lake)
    found = _compared(spec, store, name, newest)
    if found.passed:
        return found
    run.log(f"{spec.name}: {found.sentence}")
    keep(spec, store, name, *_newest_days(spec, run.lake))
    again = _compared(spec, store, name, newest)
    if rows is not None or not again.passed:
        return again
    sentence = f"{found.sentence} The newest days were taken from the lake again: {again.sentence}"
    return replace(found, warn=True, sentence=sentence)


def _newest_days(spec: ViewSpec, lake: Lake) -> tuple["pa.Table", list[str]]:
    days = sorted(lake.partitions(spec.name)) if spec.daily else []
    days = [day for day in days if day >= shift(days[-1], -(spec.keep // DAY))]
    return lake.dataset(spec.name, partitions=days or None).to_table(), days


def _of_newest_day(spec: ViewSpec, lake: Lake) -> "pa.Table":
    """The newest row of some entities in the newest partition with rows."""
    entity = ", ".join(map(quote, spec.view.entity))
    known = " AND ".join(f"{quote(column)} IS NOT NULL" for column in spec.view.entity)
    query = f"""
        SELECT *, max({FEATURE_TIMESTAMP}) OVER () AS {_LAST} FROM rows WHERE {known}
        QUALIFY row_number() OVER (PARTITION BY {entity} ORDER BY {FEATURE_TIMESTAMP} DESC) = 1
        ORDER BY hash({entity}) LIMIT {_COMPARED}"""
    found = None
    for day in sorted(lake.partitions(spec.name), reverse=True) if spec.daily else [""]:
        with scratch() as con:
            lake.register(con, "rows", spec.name, partitions=[day] if day else None)
            found = con.sql(query).to_arrow_table()
        if found.num_rows:
            break
    return found if found is not None else lake.dataset(spec.name).head(0)


def _compared(spec: ViewSpec, store: OnlineStore, name: str, newest: "pa.Table") -> Finding:
    """Hold the store against the newest rows of some entities."""
    if not newest.num_rows:
        return _finding(True, "The lake holds no row of an entity yet.", rows=0)
    last, held = newest[_LAST][0].as_py(), store.newest(name)
    if held is None:
        return _finding(False, f"The online store holds nothing of {name}.", rows=0)
    lag = (microseconds(last) - held) / 1e6
    if lag > 0:
        return _finding(False, f"The online store holds {name} to {lag:,.0f} s before the lake's {last}.", lag=lag)
    differing = _differing(spec, store, name, newest)
    n = newest.num_rows
    sentence = f"{n} of {n} newest rows of {name} are online to the bit; the newest is of {last}."
    if differing:
        sentence = f"{len(differing)} of {n} newest rows of {name} are others online: {shorten(differing)}."
    return _finding(not differing, sentence, rows=n, differing=len(differing), lag=lag)


def _differing(spec: ViewSpec, store: OnlineStore, name: str, newest: "pa.Table") -> list[str]:
    """The keys whose row online is another one, or holds another bit."""
    stored = store.schema(name)
    if stored.entity != spec.view.entity:
        return [f"stored by {', '.join(stored.entity)}"]
    features = tuple(f for f in spec.view.features() if f in newest.column_names and f in stored.features)
    places = [stored.features.index(feature) for feature in features]
    wanted = encoded(ViewSchema(stored.entity, features), newest)
    keys, last = [tuple(decode(key)) for key, _, _ in wanted], microseconds(newest[_LAST][0].as_py())
    found = store.lookup_many(name, keys, [last] * len(keys))
    rows = [row and (row[0], encode([row[1][place] for place in places])) for row in found]
    return [
        ", ".join(map(str, key))
        for key, row, (_, *row_of_lake) in zip(keys, rows, wanted, strict=True)
        if row != tuple(row_of_lake)
    ]


def _finding(passed: bool, sentence: str, *, rows: int = 0, differing: int = 0, lag: float | None = None) -> Finding:
    numbers = {"rows": rows, "differing": differing} | ({} if lag is None else {"lag_seconds": lag})
    return Finding(catalogue.ONLINE.name, passed, sentence, numbers=numbers)
