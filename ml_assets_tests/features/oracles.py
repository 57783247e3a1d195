"""What windows and the as-of join mean, written as slowly and plainly as possible."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from ml_assets import engine
from ml_assets.features.view import FUNCTIONS, TEXT_FUNCTIONS, Aggregation, FeatureView, window_name

ORIGIN = datetime(2013, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
UTC_TIME = pa.timestamp("us", "UTC")
OUTCOMES = pa.schema(
    [
        ("id", pa.int64()),
        ("leg", pa.int64()),
        ("carrier", pa.string()),
        ("origin", pa.string()),
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


def empty():
    """The one connection of these tests: opening one costs more than most of them."""
    return _shared()


def connection(rows: list[dict[str, Any]]):
    """The same, with these outcomes."""
    con = empty()
    con.register("tables/outcomes", outcomes(rows))
    return con


def delays(*parts: tuple[str, Aggregation], every: timedelta = HOUR, **others) -> FeatureView:
    named = {"entity": ("carrier",), "keys": ("id",), "tables": ("tables/outcomes",)} | others
    return FeatureView("delays", every=every, event_timestamp="happened_at", aggregations=dict(parts), **named)


def happened(row: dict[str, Any]) -> datetime:
    return row["happened_at"] or row["known_at"]


# What a row counts as, in Python: the SQL that it stands for is that of the aggregation of this name.
VALUES = {
    "delay": lambda row: row["delay"],
    "late": lambda row: None if row["delay"] is None else float(row["delay"] > 15),
    "who": lambda row: None if row["delay"] is None else "late" if row["delay"] > 15 else row["carrier"],
    "early": lambda row: row["delay"] if row["delay"] is not None and row["delay"] < 0 else None,
}
WHO = "CASE WHEN delay > 15 THEN 'late' WHEN delay IS NOT NULL THEN carrier END"


def all_functions(*windows: timedelta, **others) -> FeatureView:
    """Every function, of numbers, truth values and text, with and without a filter."""
    numbers = tuple(function for function in FUNCTIONS if function != "rate")
    return delays(
        ("delay", Aggregation("delay", numbers, windows)),
        ("late", Aggregation("delay > 15", ("rate", "count", "last"), windows)),
        ("who", Aggregation(WHO, TEXT_FUNCTIONS, windows)),
        ("early", Aggregation("delay", ("sum", "first", "distinct"), windows[:1], where="delay < 0")),
        **others,
    )


def reduced(function: str, values: list[Any]) -> float | str | None:
    """One number, or text, of the values of a window, in the order in which they happened."""
    if function in ("count", "distinct"):
        return float(len(values if function == "count" else set(values)))
    if not values or (function == "std" and len(values) < 2):
        return None
    if function in ("first", "last"):
        return values[0] if function == "first" else values[-1]
    quantile = {"min": 0.0, "p50": 0.5, "p90": 0.9, "max": 1.0}
    if function in quantile:
        return float(np.quantile(np.array(values), quantile[function]))
    return {"sum": np.sum, "mean": np.mean, "rate": np.mean, "std": lambda v: np.std(v, ddof=1)}[function](values)


def identity(row: dict[str, Any], columns: Iterable[str]) -> tuple:
    return tuple(row.get(column) for column in columns)


def known_versions(view: FeatureView, rows: list[dict[str, Any]], g: datetime) -> list[dict[str, Any]]:
    """Of each key the newest version known at g; versions known at the same moment are told apart by their event."""
    newest: dict[Any, dict[str, Any]] = {}
    for row in sorted((r for r in rows if r["known_at"] <= g), key=lambda row: _age(view, row)):
        newest[identity(row, view.keys)] = row
    return list(newest.values())


def _age(view: FeatureView, row: dict[str, Any]) -> tuple:
    entity = [(value is None, value or "") for value in identity(row, view.entity)]
    return row["known_at"], happened(row), entity, row["delay"] is None, row["delay"] or 0.0


def window_rows(view: FeatureView, rows: list[dict[str, Any]], first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Feature rows for a grid that is aligned to `first`."""
    longest = max(window for part in view.aggregations.values() for window in part.windows)
    entities = {identity(row, view.entity) for row in rows}
    found = []
    for entity in sorted(entity for entity in entities if None not in entity):
        g = first
        while g < last:
            if _inside(view, rows, entity, g, longest) or _inside(view, rows, entity, g - view.every, longest):
                named = dict(zip(view.entity, entity, strict=True)) | {"feature_timestamp": g}
                found.append(named | _features(view, rows, entity, g))
            g += view.every
    return found


def _inside(
    view: FeatureView, rows: list[dict[str, Any]], entity: tuple, g: datetime, window: timedelta
) -> list[dict[str, Any]]:
    """The rows of a window, by event, then by when they were known, then by key."""
    inside = [
        row
        for row in known_versions(view, rows, g)
        if identity(row, view.entity) == entity and g - window < happened(row) <= g
    ]
    return sorted(inside, key=lambda row: (happened(row), row["known_at"], identity(row, view.keys)))


def _features(view: FeatureView, rows: list[dict[str, Any]], entity: tuple, g: datetime) -> dict[str, Any]:
    return {
        f"{name}_{function}_{window_name(window)}": reduced(
            function, [v for row in _inside(view, rows, entity, g, window) if (v := VALUES[name](row)) is not None]
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
