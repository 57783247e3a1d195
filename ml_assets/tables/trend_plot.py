"""The profiles of a table's newest partitions as a picture: small multiples that show the trend of each column."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ml_assets.tables.panels import (
    GREY,
    INK,
    LARGEST,
    MOST_PANELS,
    PALE,
    RED,
    SOFT,
    Panel,
    Picture,
    number,
    plain,
    span,
)
from ml_assets.tables.profile import QUANTILES, ROWS

if TYPE_CHECKING:
    import pyarrow as pa

    from ml_assets.tables.trend import Step

SHOWN = 60  # partitions
_DRAWN = ("partition_key", "column", "type", "n", "nulls", "distinct", "mean", "quantiles", "top")
_P05, _P25, _P50, _P75, _P95 = (QUANTILES.index(at) for at in (0.05, 0.25, 0.5, 0.75, 0.95))
_BANDS = (INK, "#4f8cab", SOFT, "#a9cbdc", PALE)
_HOUR = 3600
_FAINT_RED = RED + "26"  # 15 % of it
_ROOM = 0.12  # of the height, for a word

Rows = Sequence[Mapping[str, Any] | None]  # one for each partition, None for those without the column


def plot_trends(profiles: "pa.Table", flagged: "Sequence[Step]" = ()) -> bytes:
    """Draw the last 60 partitions as a PNG: the number of rows, and each of the first 19 columns of the newest.

    Numbers show their median, the middle half and the middle 90 % of the values; booleans the share that is true; text
    the shares of its most frequent values, or how many are distinct; dates and times how many hours they are after the
    start of their partition's day. A red area is the share of nulls (the whole height is all), an
    upright red line a flagged partition. The same input
    gives the same bytes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = sorted(set(profiles["partition_key"].to_pylist()))[-SHOWN:]
    shown = pc.is_in(profiles["partition_key"], pa.array(keys, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]  made at run time
    by_column: dict[str, dict[str, dict[str, Any]]] = {}
    for row in profiles.select(_DRAWN).filter(shown).to_pylist():
        by_column.setdefault(row["column"], {})[row["partition_key"]] = row
    names = [name for name, rows in by_column.items() if keys[-1] in rows][:MOST_PANELS]
    picture, places = Picture.of(len(names)), _places(keys)
    for panel, name in zip(picture.panels, names, strict=False):
        panel.across = places[0] - 0.7, places[-1] + 0.7
        _draw(panel, name, places, [by_column[name].get(key) for key in keys])
        steps = {step.partition for step in flagged if step.column == name}
        for place in (place for place, key in zip(places, keys, strict=True) if key in steps):
            panel.mark(place)
        panel.frame()
        panel.ends(plain(keys[0], 16), plain(keys[-1], 16))
    return picture.png()


def _places(keys: Sequence[str]) -> list[float]:
    """Days lie on a calendar, so that a gap is seen; other partitions side by side."""
    days = [_day(key) for key in keys]
    return [float(day.toordinal()) for day in days if day] if all(days) else [float(n) for n in range(len(keys))]


def _day(key: str) -> date | None:
    try:
        return date.fromisoformat(key)
    except ValueError:
        return None


def _draw(panel: Panel, name: str, places: Sequence[float], rows: Rows) -> None:
    newest = next(row for row in reversed(rows) if row)
    if name == ROWS:
        panel.title("rows", f"{newest['n']:,}")
        _draw_rows(panel, places, [row["n"] if row else 0 for row in rows])
        return
    nulls = [row["nulls"] / row["n"] if row and row["n"] else 0.0 for row in rows]
    panel.title(name, f"{nulls[-1]:.1%} null" if any(nulls) else "")
    if newest["quantiles"]:
        _draw_band(panel, places, rows)
    elif newest["type"] == "BOOLEAN":
        _draw_line(panel, places, [row["mean"] if row else None for row in rows], "{x:.1%} true")
    elif newest["top"]:
        _draw_shares(panel, places, rows)
    else:
        _draw_line(panel, places, [row["distinct"] if row else None for row in rows], "{x:,.0f} distinct")
    if any(nulls):
        panel.band(places, [0.0] * len(nulls), nulls, _FAINT_RED, share=True)
        panel.line(places, nulls, colour=RED, dots=False, share=True)


def _draw_rows(panel: Panel, places: Sequence[float], counts: Sequence[int]) -> None:
    panel.up = 0.0, max(*counts, 1) * 1.05
    for place, n in zip(places, counts, strict=True):
        panel.box((place - 0.4, place + 0.4), (0.0, n), SOFT)
    panel.scale(number)


def _draw_line(panel: Panel, places: Sequence[float], values: Sequence[float | None], words: str) -> None:
    """A line from zero up, with its newest value in words."""
    known = [math.nan if value is None else value for value in values]
    panel.up = 0.0, max([value for value in known if value > 0], default=1.0) * 1.25
    panel.line(places, known)
    panel.say(4, 2, words.format(x=known[-1]), GREY, "lt")
    share = "{:.0%}" if panel.up[1] > 0.05 else "{:.1%}"
    panel.scale(share.format if "%" in words else "{:,.0f}".format)


def _draw_band(panel: Panel, places: Sequence[float], rows: Rows) -> None:
    quantiles = [_quantiles(row) for row in rows]
    at = [[each[place] for each in quantiles] for place in range(len(QUANTILES))]
    panel.up = span([*at[_P05], *at[_P95]])
    panel.band(places, at[_P05], at[_P95], PALE)
    panel.band(places, at[_P25], at[_P75], SOFT)
    panel.line(places, at[_P50])
    hours = any(row and row["mean"] is None and row["quantiles"] and _day(row["partition_key"]) for row in rows)
    panel.scale("{:,.4g} h".format if hours else number)


def _quantiles(row: Mapping[str, Any] | None) -> list[float]:
    """Times are in hours after the start of the partition's day, where it has one."""
    if not row or not row["quantiles"]:
        return [math.nan] * len(QUANTILES)
    day = _day(row["partition_key"]) if row["mean"] is None else None
    if day is None:
        return [min(max(value, -LARGEST), LARGEST) for value in row["quantiles"]]
    start = datetime.combine(day, time(), tzinfo=UTC).timestamp()
    return [(value - start) / _HOUR for value in row["quantiles"]]


def _draw_shares(panel: Panel, places: Sequence[float], rows: Rows) -> None:
    """Stack the shares of the values that are most frequent over all, the largest lowest; name those with room."""
    counted = sorted((one["value"], one["n"]) for row in rows if row for one in row["top"])
    totals = {value: sum(n for _, n in each) for value, each in groupby(counted, key=lambda one: one[0])}
    values = sorted(totals, key=lambda value: -totals[value])[: len(_BANDS)]
    below, words = [0.0] * len(rows), ("white", "white", "black", "black", "black")
    for value, band, colour in zip(values, _BANDS, words, strict=False):
        above = [low + _share(row, value) for low, row in zip(below, rows, strict=True)]
        panel.band(places, below, above, band)
        if above[0] - below[0] >= _ROOM:
            panel.say_at(places[0], (below[0] + above[0]) / 2, plain(value, 20), colour)
        below = above
    panel.scale("{:.0%}".format)


def _share(row: Mapping[str, Any] | None, value: str) -> float:
    counts = {one["value"]: one["n"] for one in row["top"]} if row else {}
    return counts.get(value, 0) / row["n"] if row and row["n"] else 0.0
