"""The profile of one partition as a picture, and what all pictures of profiles are made of."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.tables.profile import ROWS

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS, _ACROSS = 20, 4
LARGEST = 1e100  # what matplotlib can still put on an axis
INK, SOFT, PALE, RED, GREY = "#1f5c7a", "#7fb0c8", "#d3e5ee", "#b3261e", "#666666"


def plot_portrait(profile: "pa.Table") -> bytes:
    """One partition as a PNG, a panel for each of the first 20 columns: its histogram, or its most frequent values.

    The same profile gives the same bytes.
    """
    columns = [row for row in profile.to_pylist() if row["column"] != ROWS]
    figure, panels = panels_for(len(columns))
    for row in columns[:MOST_PANELS]:
        _draw_column(next(panels), row)
    return png(figure, panels)


def panels_for(n: int) -> "tuple[Figure, Iterator[Axes]]":
    """A figure as wide as the dialog that shows it, with a panel for each of `n` columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = min(max(1, n), MOST_PANELS)
    across = min(_ACROSS, n)
    down = math.ceil(n / across)
    wide, high = 2.25 * max(across, 2), 1.25 * down
    figure = Figure(figsize=(wide, high), dpi=100)
    figure.subplots_adjust(0.42 / wide, 0.22 / high, 1 - 0.08 / wide, 1 - 0.22 / high, wspace=0.27, hspace=0.58)
    FigureCanvasAgg(figure)
    return figure, iter(figure.subplots(down, across, squeeze=False).flat)


def png(figure: "Figure", unused: "Iterator[Axes]") -> bytes:
    """The picture in 64 colours, a fifth of the bytes; the same figure gives the same ones."""
    from PIL import Image

    for axes in unused:
        axes.set_axis_off()
    plain_png, image = io.BytesIO(), io.BytesIO()
    figure.savefig(plain_png, format="png")
    Image.open(plain_png).convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        image, "png", optimize=True
    )
    return image.getvalue()


def _draw_column(axes: "Axes", row: Mapping[str, Any]) -> None:
    style(axes, row["column"], f"{row['nulls'] / row['n']:.1%} null" if row["nulls"] else "")
    axes.set_yticks([])
    if row["type"].startswith(("TIMESTAMP", "DATE")) or not (row["top"] or _drawable(row["histogram"])):
        _write(axes, row)
    elif row["top"]:
        _draw_top(axes, row["top"])
    else:
        bins = row["histogram"]
        widths = [max(bin_["high"] - bin_["low"], 1e-9) for bin_ in bins]
        heights = [bin_["n"] / width for bin_, width in zip(bins, widths, strict=True)]
        axes.bar([bin_["low"] for bin_ in bins], heights, widths, align="edge", color=SOFT)
        beside = (row["quantiles"][-1] - row["quantiles"][0]) / 4 or 1.0  # a far outlier must not hide the rest
        left, right = row["quantiles"][0] - beside, row["quantiles"][-1] + beside
        axes.set_xlim(max(left, bins[0]["low"] - beside / 9), min(right, bins[-1]["high"] + beside / 9))


def _drawable(bins: Sequence[Mapping[str, Any]]) -> bool:
    return bool(bins) and max(-bins[0]["low"], bins[-1]["high"]) < LARGEST


def style(axes: "Axes", title: str, remark: str) -> None:
    """Give a panel its title, a remark to the right of it, and small ticks."""
    axes.text(1, 1.05, remark, fontsize=7, ha="right", va="bottom", transform=axes.transAxes, color=GREY)
    axes.set_title(plain(title, 34 - len(remark)), x=-0.17, fontsize=8, loc="left", pad=6)
    axes.tick_params(labelsize=7, length=2, pad=1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_top(axes: "Axes", top: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(top), 0, -1)
    axes.barh(list(places), [one["n"] for one in top], color=PALE, height=0.85)
    for place, one in zip(places, top, strict=True):
        axes.text(0, place, f" {plain(one['value'], 24)}", fontsize=7, va="center")


def _write(axes: "Axes", row: Mapping[str, Any]) -> None:
    words = "no values"
    if row["minimum"] is not None:
        words = f"{row['distinct']:,} distinct\n{plain(row['minimum'], 28)} to\n{plain(row['maximum'], 28)}"
    axes.text(0, 0.5, words, fontsize=7, va="center", transform=axes.transAxes)
    axes.set_axis_off()
    axes.title.set_visible(True)


def plain(value: object, most: int) -> str:
    """Text that matplotlib draws as it is."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")
