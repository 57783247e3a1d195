"""Profiles as pictures: small multiples of a table's columns, over its partitions or for one of them."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.tables.profile import ROWS

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS, _ACROSS = 20, 4
_INK, _SOFT, _PALE = "#1f5c7a", "#7fb0c8", "#d3e5ee"


def plot_portrait(profile: "pa.Table") -> bytes:
    """One partition as a PNG, a panel for each of the first 20 columns: its histogram, or its most frequent values.

    The same profile gives the same bytes.
    """
    columns = [row for row in profile.to_pylist() if row["column"] != ROWS]
    figure, panels = _panels(len(columns))
    for row in columns[:_MOST_PANELS]:
        _draw_column(next(panels), row)
    return _png(figure, panels)


def _panels(n: int) -> "tuple[Figure, Iterator[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = min(max(1, n), _MOST_PANELS)
    across = min(_ACROSS, n)
    down = math.ceil(n / across)
    figure = Figure(figsize=(2.25 * across if across > 1 else 4, 1.25 * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, iter(figure.subplots(down, across, squeeze=False).flat)


def _png(figure: "Figure", unused: "Iterator[Axes]") -> bytes:
    for axes in unused:
        axes.set_axis_off()
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _draw_column(axes: "Axes", row: Mapping[str, Any]) -> None:
    _style(axes, row["column"])
    nulls = f"{row['nulls'] / row['n']:.1%} null" if row["nulls"] else ""
    axes.text(1, 1.02, nulls, fontsize=7, ha="right", va="bottom", transform=axes.transAxes, color="#a33")
    axes.set_yticks([])
    if row["type"].startswith(("TIMESTAMP", "DATE")) or not (row["top"] or row["histogram"]):
        _write(axes, row)
    elif row["top"]:
        _draw_top(axes, row["top"])
    else:
        bins = row["histogram"]
        widths = [max(bin_["high"] - bin_["low"], 1e-9) for bin_ in bins]
        heights = [bin_["n"] / width for bin_, width in zip(bins, widths, strict=True)]
        axes.bar([bin_["low"] for bin_ in bins], heights, widths, align="edge", color=_SOFT)


def _style(axes: "Axes", title: str) -> None:
    axes.set_title(_plain(title, 24), fontsize=8, loc="left", pad=3)
    axes.tick_params(labelsize=7, length=2, pad=1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_top(axes: "Axes", top: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(top), 0, -1)
    axes.barh(list(places), [one["n"] for one in top], color=_PALE, height=0.85)
    for place, one in zip(places, top, strict=True):
        axes.text(0, place, f" {_plain(one['value'], 24)}", fontsize=7, va="center")


def _write(axes: "Axes", row: Mapping[str, Any]) -> None:
    words = "no values"
    if row["minimum"] is not None:
        words = f"{row['distinct']:,} distinct\n{_plain(row['minimum'], 28)} to\n{_plain(row['maximum'], 28)}"
    axes.text(0, 0.5, words, fontsize=7, va="center", transform=axes.transAxes)
    axes.set_axis_off()
    axes.title.set_visible(True)


def _plain(value: object, most: int) -> str:
    """Text that matplotlib draws as it is."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")
