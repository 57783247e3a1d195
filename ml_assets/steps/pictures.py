"""Pictures and tables for the user interface, small enough to live in an event log."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.engine import connect
from ml_assets.records import Markdown
from ml_assets.tables.profile import QUANTILES, ROWS, profile_partitions
from ml_assets.tables.profile_plot import plot_portrait
from ml_assets.tables.trend import Step, together
from ml_assets.tables.trend_plot import plot_trends

if TYPE_CHECKING:
    import pyarrow as pa


def picture(png: bytes, title: str) -> Markdown:
    """A PNG as Markdown that carries it."""
    return Markdown(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markdown:
    """A table; floats with four digits, nothing for None."""
    text = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in text))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else " ".join(str(value).replace("|", "\\|").splitlines())


def profile_metadata(rows: "pa.Table", *, label: str) -> Mapping[str, Any]:
    """Column statistics of rows, all partitions together, as a table and as a picture."""
    whole = rows.drop_columns([name for name in ("partition_key",) if name in rows.column_names])
    with connect() as con:
        return trend_metadata(profile_partitions(con, whole), label=label)


def trend_metadata(
    profiles: "pa.Table", history: "pa.Table | None" = None, *, flagged: Sequence[Step] = (), label: str = ""
) -> Mapping[str, Any]:
    """What to show of the newest partition of `profiles`: its statistics, a picture, and what of it is out of line.

    The picture shows the trend over the partitions in both tables, of which `profiles` counts where both have one, or
    the one partition that there is. `flagged` is what `steps_out_of_line` found, of any partitions.
    """
    known = together(history, profiles) if history else profiles
    newest = max(profiles["partition_key"].to_pylist(), default="")
    drawn = plot_trends(known, flagged) if len(set(known["partition_key"].to_pylist())) > 1 else plot_portrait(profiles)
    shown = {"profile": picture(drawn, "profile"), "statistics": _statistics(profiles, newest)}
    unusual = [f"- {step.sentence}" for step in flagged if step.partition == newest]
    shown |= {"out of line": Markdown("\n".join(unusual))} if unusual else {}
    return {**shown, "profile of": label} if label else shown


def _statistics(profiles: "pa.Table", partition: str) -> Markdown:
    header = ("column", "type", "nulls", "distinct", "minimum", "median", "maximum")
    cells = [
        (row["column"], row["type"], row["nulls"], row["distinct"], row["minimum"], _median(row), row["maximum"])
        for row in profiles.to_pylist()
        if row["partition_key"] == partition and row["column"] != ROWS
    ]
    return markdown_table(header, cells)


def _median(row: Mapping[str, Any]) -> float | None:
    numeric = row["mean"] is not None and row["quantiles"]
    return row["quantiles"][QUANTILES.index(0.5)] if numeric else None
