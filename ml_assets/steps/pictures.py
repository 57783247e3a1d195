"""Pictures and tables for the user interface, small enough to live in an event log."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.engine import connect
from ml_assets.records import Markdown
from ml_assets.tables.profile import QUANTILES, ROWS, profile_partitions
from ml_assets.tables.profile_plot import plot_portrait

if TYPE_CHECKING:
    import pyarrow as pa


def picture(png: bytes, title: str) -> Markdown:
    """A PNG as Markdown that carries it."""
    return Markdown(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markdown:
    """A table; floats with four digits."""
    lines = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    text = [header, ["---"] * len(header), *lines]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in text))


def profile_metadata(rows: "pa.Table", *, label: str) -> Mapping[str, Any]:
    """Column statistics of rows, all partitions together, as a table and as a picture."""
    whole = rows.drop_columns([name for name in ("partition_key",) if name in rows.column_names])
    with connect() as con:
        profile = profile_partitions(con, whole)
    shown = {"profile": picture(plot_portrait(profile), "profile"), "statistics": _statistics(profile)}
    return {**shown, "profile of": label} if label else shown


def _statistics(profile: "pa.Table") -> Markdown:
    header = ("column", "type", "nulls", "distinct", "minimum", "median", "maximum")
    cells = [
        (row["column"], row["type"], row["nulls"], row["distinct"], row["minimum"], _median(row), row["maximum"])
        for row in profile.to_pylist()
        if row["column"] != ROWS
    ]
    return markdown_table(header, cells)


def _median(row: Mapping[str, Any]) -> float | None:
    numeric = row["mean"] is not None and row["quantiles"]
    return row["quantiles"][QUANTILES.index(0.5)] if numeric else None
