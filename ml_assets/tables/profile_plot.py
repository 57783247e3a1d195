"""The profile of one partition as a picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.tables.panels import LARGEST, MOST_PANELS, PALE, SOFT, Panel, Picture, plain
from ml_assets.tables.profile import ROWS

if TYPE_CHECKING:
    import pyarrow as pa


def plot_portrait(profile: "pa.Table") -> bytes:
    """One partition as a PNG, a panel for each of the first 20 columns: its histogram, or its most frequent values.

    The same profile gives the same bytes.
    """
    columns = [row for row in profile.to_pylist() if row["column"] != ROWS]
    picture = Picture.of(len(columns))
    for panel, row in zip(picture.panels, columns[:MOST_PANELS], strict=False):
        _draw(panel, row)
    return picture.png()


def _draw(panel: Panel, row: Mapping[str, Any]) -> None:
    panel.title(row["column"], f"{row['nulls'] / row['n']:.1%} null" if row["nulls"] else "")
    if row["type"].startswith(("TIMESTAMP", "DATE")) or not (row["top"] or _drawable(row["histogram"])):
        _write(panel, row)
    elif row["top"]:
        _draw_top(panel, row["top"])
    else:
        _draw_histogram(panel, row)


def _drawable(bins: Sequence[Mapping[str, Any]]) -> bool:
    return bool(bins) and max(-bins[0]["low"], bins[-1]["high"]) < LARGEST


def _draw_histogram(panel: Panel, row: Mapping[str, Any]) -> None:
    bins = row["histogram"]
    widths = [max(one["high"] - one["low"], 1e-9) for one in bins]
    heights = [one["n"] / width for one, width in zip(bins, widths, strict=True)]
    beside = (row["quantiles"][-1] - row["quantiles"][0]) / 4 or 1.0  # a far outlier must not hide the rest
    left, right = row["quantiles"][0] - beside, row["quantiles"][-1] + beside
    panel.across = max(left, bins[0]["low"] - beside / 9), min(right, bins[-1]["high"] + beside / 9)
    panel.up = 0.0, max(heights) * 1.05
    shown = [(one, width, high) for one, width, high in zip(bins, widths, heights, strict=True) if one["n"]]
    for one, width, high in shown:
        if one["low"] < panel.across[1] and one["low"] + width > panel.across[0]:
            panel.box((one["low"], one["low"] + width), (0.0, high), SOFT)
    panel.frame(left=False)
    panel.ends(f"{panel.across[0]:.4g}", f"{panel.across[1]:.4g}")


def _draw_top(panel: Panel, top: Sequence[Mapping[str, Any]]) -> None:
    panel.across, panel.up = (0.0, max(one["n"] for one in top) * 1.05), (0.0, float(len(top)))
    for place, one in enumerate(reversed(top)):
        panel.box((0.0, one["n"]), (place + 0.08, place + 0.92), PALE)
        panel.say_at(0.0, place + 0.5, plain(one["value"], 24), "black")
    panel.frame()


def _write(panel: Panel, row: Mapping[str, Any]) -> None:
    words = ["no values"]
    if row["minimum"] is not None:
        words = [f"{row['distinct']:,} distinct", f"{plain(row['minimum'], 28)} to", plain(row["maximum"], 28)]
    for line, text in enumerate(words):
        panel.say(0, 40 + 13 * (line - len(words) // 2), text)
