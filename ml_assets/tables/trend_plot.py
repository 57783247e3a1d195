"""The profiles of a table's newest partitions as a picture: small multiples that show the trend of each column."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ml_assets.tables.profile import QUANTILES, ROWS
from ml_assets.tables.profile_plot import (
    GREY,
    INK,
    LARGEST,
    MOST_PANELS,
    PALE,
    RED,
    SOFT,
    panels_for,
    plain,
    png,
    style,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from ml_assets.tables.trend import Step

SHOWN = 60  # partitions
_P05, _P25, _P50, _P75, _P95 = (QUANTILES.index(at) for at in (0.05, 0.25, 0.5, 0.75, 0.95))
_BANDS = (INK, "#4f8cab", SOFT, "#a9cbdc", PALE)
_HOUR = 3600

Rows = Sequence[Mapping[str, Any] | None]  # one for each partition, None for those without the column


def plot_trends(profiles: "pa.Table", flagged: "Sequence[Step]" = ()) -> bytes:
    """Draw the last 60 partitions as a PNG: the number of rows, and each of the first 19 columns of the newest.

    Numbers show their median, the middle half and the middle 90 % of the values; booleans the share that is true; text
    the shares of its most frequent values, or how many are distinct; dates and times how many hours they are after the
    start of their partition's day. A red area is the share of nulls (the whole height is all), an
    upright red line a flagged partition. The same input
    gives the same bytes.
    """
    keys = sorted(set(profiles["partition_key"].to_pylist()))[-SHOWN:]
    by_column: dict[str, dict[str, dict[str, Any]]] = {}
    for row in profiles.to_pylist():
        if row["partition_key"] in keys:
            by_column.setdefault(row["column"], {})[row["partition_key"]] = row
    names = [name for name, rows in by_column.items() if keys[-1] in rows][:MOST_PANELS]
    figure, panels = panels_for(len(names))
    places = _places(keys)
    for name in names:
        axes = next(panels)
        _draw(axes, name, places, [by_column[name].get(key) for key in keys])
        steps = {step.partition for step in flagged if step.column == name}
        _mark(axes, [place for place, key in zip(places, keys, strict=True) if key in steps])
        _label(axes, keys, places)
    return png(figure, panels)


def _places(keys: Sequence[str]) -> list[float]:
    """Days lie on a calendar, so that a gap is seen; other partitions side by side."""
    days = [_day(key) for key in keys]
    return [float(day.toordinal()) for day in days if day] if all(days) else [float(n) for n in range(len(keys))]


def _day(key: str) -> date | None:
    try:
        return date.fromisoformat(key)
    except ValueError:
        return None


def _draw(axes: "Axes", name: str, places: Sequence[float], rows: Rows) -> None:
    newest = next(row for row in reversed(rows) if row)
    if name == ROWS:
        style(axes, "rows", f"{newest['n']:,}")
        axes.bar(places, [row["n"] if row else 0 for row in rows], color=SOFT, width=0.8)
        return
    nulls = [row["nulls"] / row["n"] if row and row["n"] else 0.0 for row in rows]
    style(axes, name, f"{nulls[-1]:.1%} null" if any(nulls) else "")
    if newest["quantiles"]:
        _draw_band(axes, places, rows)
    elif newest["type"] == "BOOLEAN":
        _draw_line(axes, places, [row["mean"] if row else None for row in rows], "{x:.1%} true")
    elif newest["top"]:
        _draw_shares(axes, places, rows)
    else:
        _draw_line(axes, places, [row["distinct"] if row else None for row in rows], "{x:,.0f} distinct")
    if any(nulls):
        axes.fill_between(places, nulls, color=RED, alpha=0.15, lw=0, zorder=0.5, transform=axes.get_xaxis_transform())
        axes.plot(places, nulls, color=RED, lw=0.6, transform=axes.get_xaxis_transform())


def _draw_line(axes: "Axes", places: Sequence[float], values: Sequence[float | None], words: str) -> None:
    """A line from zero up, with its newest value in words."""
    known = [math.nan if value is None else value for value in values]
    axes.plot(places, known, color=INK, lw=1.2, marker="o", ms=1.5)
    axes.set_ylim(0, max([value for value in known if value > 0], default=1.0) * 1.25)
    axes.text(0.02, 0.95, words.format(x=known[-1]), fontsize=7, va="top", transform=axes.transAxes, color=GREY)
    share = "{x:.0%}" if axes.get_ylim()[1] > 0.05 else "{x:.1%}"
    axes.yaxis.set_major_formatter(share if "%" in words else "{x:,.0f}")


def _draw_band(axes: "Axes", places: Sequence[float], rows: Rows) -> None:
    quantiles = [_quantiles(row) for row in rows]
    at = [[each[place] for each in quantiles] for place in range(len(QUANTILES))]
    axes.fill_between(places, at[_P05], at[_P95], color=PALE, lw=0)
    axes.fill_between(places, at[_P25], at[_P75], color=SOFT, lw=0)
    axes.plot(places, at[_P50], color=INK, lw=1.2, marker="o", ms=1.5)
    if any(row and row["mean"] is None and row["quantiles"] and _day(row["partition_key"]) for row in rows):
        axes.yaxis.set_major_formatter("{x:.0f} h")


def _quantiles(row: Mapping[str, Any] | None) -> list[float]:
    """Times are in hours after the start of the partition's day, where it has one."""
    if not row or not row["quantiles"]:
        return [math.nan] * len(QUANTILES)
    day = _day(row["partition_key"]) if row["mean"] is None else None
    if day is None:
        return [min(max(value, -LARGEST), LARGEST) for value in row["quantiles"]]
    start = datetime.combine(day, time(), tzinfo=UTC).timestamp()
    return [(value - start) / _HOUR for value in row["quantiles"]]


def _draw_shares(axes: "Axes", places: Sequence[float], rows: Rows) -> None:
    """Stack the shares of the values that are most frequent over all, the largest lowest; name those with room."""
    counted = sorted((one["value"], one["n"]) for row in rows if row for one in row["top"])
    totals = {value: sum(n for _, n in each) for value, each in groupby(counted, key=lambda one: one[0])}
    values = sorted(totals, key=lambda value: -totals[value])[: len(_BANDS)]
    shares = [[_share(row, value) for row in rows] for value in values]
    axes.stackplot(places, shares, colors=_BANDS, lw=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
    below = 0.0
    for value, share, colour in zip(values, shares, ("white", "white", "black", "black", "black"), strict=False):
        if share[0] >= 0.12:
            words = f" {plain(value, 20)}"
            axes.text(places[0], below + share[0] / 2, words, fontsize=7, va="center", color=colour)
        below += share[0]


def _share(row: Mapping[str, Any] | None, value: str) -> float:
    counts = {one["value"]: one["n"] for one in row["top"]} if row else {}
    return counts.get(value, 0) / row["n"] if row and row["n"] else 0.0


def _mark(axes: "Axes", places: Sequence[float]) -> None:
    for place in places:
        axes.axvline(place, color=RED, lw=0.8)
        axes.plot([place], [1], color=RED, marker="v", ms=5, clip_on=False, transform=axes.get_xaxis_transform())


def _label(axes: "Axes", keys: Sequence[str], places: Sequence[float]) -> None:
    """Name the first and the last partition."""
    axes.set_xlim(places[0] - 0.7, places[-1] + 0.7)
    axes.set_xticks([places[0], places[-1]], [plain(keys[0], 16), plain(keys[-1], 16)])
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=False):
        label.set_horizontalalignment(side)
    axes.locator_params(axis="y", nbins=4)
