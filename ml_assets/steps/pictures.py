"""Pictures and tables for the user interface, small enough to live in an event log."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.engine import connect
from ml_assets.records import Markdown
from ml_assets.tables.profile import plot, profile

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
    """Column statistics of rows, as a table and as a plot."""
    shown = rows.drop_columns([name for name in ("partition_key",) if name in rows.column_names])
    with connect() as con:
        profiles = profile(con, shown)
    header = ("column", "type", "nulls", "distinct", "minimum", "median", "maximum")
    cells = [(p.name, p.type, p.nulls, p.distinct, p.minimum, p.p50, p.maximum) for p in profiles]
    shown = {"profile": picture(plot(profiles), "profile"), "statistics": markdown_table(header, cells)}
    return {**shown, "profile of": label} if label else shown
