"""What windows and the as-of join mean, written as slowly and plainly as possible."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from ml_assets import engine
from ml_assets.features.view import Aggregation, FeatureView, window_name

ORIGIN = datetime(2013, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
UTC_TIME = pa.timestamp("us", "UTC")
OUTCOMES = pa.schema(
    [
        ("id", pa.int64()),
        ("carrier", pa.string()),
        ("happened_at", UTC_TIME),
        ("known_at", UTC_TIME),
        ("delay", pa.float64()),
    ]
)


def outcomes(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, OUTCOMES)


@lru_cache(maxsize=1)
def _shared():
    return engine.connect(threads=1)


def connection(rows: list[dict[str, Any]]):
    """The one connection of these tests, with other rows: opening one costs more than most of them."""
    con = _shared()
    con.register("tables/outcomes", outcomes(rows))
    return con


def delays(*parts: tuple[str, Aggregation], every: timedelta = HOUR, **others) -> FeatureView:
    return FeatureView(
        "delays", ("carrier",), every, ("tables/outcomes",), keys=("id",), event_timestamp="happened_at",
        aggregations=dict(parts), **others,
    )  # fmt: skip


def reduced(function: str, values: list[float]) -> float | None:
    if function == "count":
        return float(len(values))
    if not values or (function == "std" and len(values) < 2):
        return None
    quantile = {"min": 0.0, "p50": 0.5, "p90": 0.9, "max": 1.0}
    if function in quantile:
        return float(np.quantile(np.array(values), quantile[function]))
    return {"sum": np.sum, "mean": np.mean, "std": lambda v: np.std(v, ddof=1)}[function](values)


def known_versions(rows: list[dict[str, Any]], g: datetime) -> list[dict[str, Any]]:
    """Of each id the newest version known at g; versions known at the same moment are told apart by their event."""
    newest: dict[Any, dict[str, Any]] = {}
    for row in sorted((r for r in rows if r["known_at"] <= g), key=_age):
        newest[row["id"]] = row
    return list(newest.values())


def _age(row: dict[str, Any]) -> tuple:
    carrier, delay = row["carrier"], row["delay"]
    happened = row["happened_at"] or row["known_at"]
    return row["known_at"], happened, carrier is None, carrier or "", delay is None, delay or 0.0


def window_rows(view: FeatureView, rows: list[dict[str, Any]], first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Feature rows for a grid that is aligned to `first`."""
    longest = max(window for part in view.aggregations.values() for window in part.windows)
    found = []
    for carrier in sorted({row["carrier"] for row in rows if row["carrier"] is not None}):
        g = first
        while g < last:
            if _inside(rows, carrier, g, longest) or _inside(rows, carrier, g - view.every, longest):
                found.append({"carrier": carrier, "feature_timestamp": g} | _features(view, rows, carrier, g))
            g += view.every
    return found


def _inside(rows: list[dict[str, Any]], carrier: str, g: datetime, window: timedelta) -> list[dict[str, Any]]:
    return [
        row
        for row in known_versions(rows, g)
        if row["carrier"] == carrier and g - window < (row["happened_at"] or row["known_at"]) <= g
    ]


def _features(view: FeatureView, rows: list[dict[str, Any]], carrier: str, g: datetime) -> dict[str, float | None]:
    return {
        f"{name}_{function}_{window_name(window)}": reduced(
            function, [row["delay"] for row in _inside(rows, carrier, g, window) if row["delay"] is not None]
        )
        for name, part in view.aggregations.items()
        for window in part.windows
        for function in part.functions
    }


def as_of(view: FeatureView, features: list[dict[str, Any]], entity: str | None, at: datetime | None) -> dict | None:
    """The feature row that a spine row gets, by trying all."""
    servable = [
        row
        for row in features
        if entity is not None and at is not None and row["carrier"] == entity
        and row["feature_timestamp"] + view.delay <= at
    ]  # fmt: skip
    newest = max(servable, key=lambda row: row["feature_timestamp"], default=None)
    if newest and view.max_age is not None and at - newest["feature_timestamp"] > view.max_age:
        return None
    return newest
