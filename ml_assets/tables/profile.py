"""A small statistical portrait of a table: numbers for every column, from one pass, and one picture."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from ml_assets import engine

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_MOST_CATEGORIES, _MOST_PANELS = 1000, 20
_NUMERIC = ("BIGINT", "DOUBLE", "INTEGER", "FLOAT", "HUGEINT", "DECIMAL", "SMALLINT", "TINYINT")


@dataclass(frozen=True)
class ColumnProfile:
    """Statistics of a column; None where they need numbers and there are none. NaN and infinity count as null.

    `distinct` is an estimate (within a few percent). `minimum` and `maximum` are numbers, or text for other types.
    `top` holds up to five most frequent values with their counts, for text and booleans whose values repeat.
    """

    name: str
    type: str
    n: int
    nulls: int
    distinct: int
    minimum: float | str | None
    maximum: float | str | None
    mean: float | None
    p01: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p99: float | None
    top: tuple[tuple[str, int], ...]

    @property
    def null_rate(self) -> float:
        """Share of nulls, 0 for no rows."""
        return self.nulls / self.n if self.n else 0.0


def profile(con: duckdb.DuckDBPyConnection, rows: "pa.Table | str") -> list[ColumnProfile]:
    """Profile an Arrow table, or a view or table of `con` by name, in the order of its columns; quantiles are exact."""
    if not isinstance(rows, str):
        con.register("rows_to_profile", rows)
        try:
            return profile(con, "rows_to_profile")
        finally:
            con.unregister("rows_to_profile")
    source = engine.quote(rows)
    described = con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {name: str(kind) for name, kind, *_ in described}
    statistics = [_aggregates(name, kind) for name, kind in types.items()]
    found = con.execute(f"SELECT count(*), {', '.join(statistics)} FROM {source}").fetchall()[0]
    profiles = [
        _read(name, kind, found[0], values) for (name, kind), values in zip(types.items(), found[1:], strict=True)
    ]
    return _with_top(con, source, profiles)


def _is_number(kind: str) -> bool:
    return kind.startswith(_NUMERIC)


def _aggregates(name: str, kind: str) -> str:
    """One struct of statistics, so that all columns come from a single scan."""
    column = engine.quote(name)
    if not _is_number(kind):
        text = f"CAST(min({column}) AS VARCHAR), high := CAST(max({column}) AS VARCHAR)"
        return f"struct_pack(n := count({column}), distincts := approx_count_distinct({column}), low := {text})"
    value = f"CAST({column} AS DOUBLE)"
    value = f"CASE WHEN isfinite({value}) THEN {value} END"
    return (
        f"struct_pack(n := count({value}), distincts := approx_count_distinct({value}), low := min({value}), "
        f"high := max({value}), mean := avg({value}), quantiles := quantile_cont({value}, {list(QUANTILES)}))"
    )


def _read(name: str, kind: str, n: int, values: dict[str, Any]) -> ColumnProfile:
    p01, p25, p50, p75, p99 = values.get("quantiles") or [None] * len(QUANTILES)
    return ColumnProfile(
        name=name,
        type=kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"),
        n=n,
        nulls=n - values["n"],
        distinct=min(values["distincts"], values["n"]),
        minimum=values["low"],
        maximum=values["high"],
        mean=values.get("mean"),
        p01=p01,
        p25=p25,
        p50=p50,
        p75=p75,
        p99=p99,
        top=(),
    )


def _repeats(column: ColumnProfile) -> bool:
    return 0 < column.distinct <= min(_MOST_CATEGORIES, max(5, column.n // 2))


def _with_top(con: duckdb.DuckDBPyConnection, source: str, profiles: list[ColumnProfile]) -> list[ColumnProfile]:
    """Add the most frequent values, of all categorical columns in one statement; ties in order of value."""
    chosen = [p for p in profiles if p.type in ("VARCHAR", "BOOLEAN") and _repeats(p)]
    if not chosen:
        return profiles
    counted = " UNION ALL ".join(
        f"(SELECT {engine.literal(p.name)} AS name, CAST({engine.quote(p.name)} AS VARCHAR) AS value, count(*) AS n "
        f"FROM {source} WHERE {engine.quote(p.name)} IS NOT NULL GROUP BY ALL ORDER BY n DESC, value LIMIT 5)"
        for p in chosen
    )
    top: dict[str, list[tuple[str, int]]] = {}
    for name, value, n in con.execute(f"SELECT * FROM ({counted}) ORDER BY name, n DESC, value").fetchall():
        top.setdefault(name, []).append((value, n))
    return [ColumnProfile(**{**vars(p), "top": tuple(top.get(p.name, ()))}) for p in profiles]


def plot(profiles: Sequence[ColumnProfile]) -> bytes:
    """A small PNG, one panel a column: box of quantiles, or the most frequent values, and the share of nulls.

    The same profiles give the same bytes. Beyond 20 columns only the first are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(profiles[:_MOST_PANELS])
    across = min(4, max(1, len(shown)))
    down = max(1, math.ceil(len(shown) / across))
    figure = Figure(figsize=(2.4 * across, 0.9 * down + 0.2), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Iterator[Axes] = iter(figure.subplots(down, across, squeeze=False).flat)
    for column in shown:
        _draw(next(panels), column)
    for empty in panels:
        empty.set_axis_off()
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _draw(axes: "Axes", column: ColumnProfile) -> None:
    nulls = f"{column.null_rate:.1%} null" if column.nulls else "no nulls"
    axes.set_title(f"{_short(column.name, 26)}  ({nulls})".replace("$", r"\$"), fontsize=6, loc="left", pad=2)
    axes.set_yticks([])
    axes.tick_params(labelsize=5, length=2, pad=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if column.p50 is not None:
        _draw_box(axes, column)
    elif column.top:
        _draw_top(axes, column)
    else:
        words = "nothing to show"
        if column.minimum is not None:
            words = f"{column.distinct:,} distinct\n{_short(column.minimum, 30)} to\n{_short(column.maximum, 30)}"
        axes.text(0, 0.5, words.replace("$", r"\$"), fontsize=5.5, va="center", transform=axes.transAxes)
        axes.set_xticks([])


def _draw_box(axes: "Axes", column: ColumnProfile) -> None:
    axes.bxp(
        [{"whislo": column.p01, "q1": column.p25, "med": column.p50, "q3": column.p75, "whishi": column.p99}],
        orientation="horizontal",
        showfliers=False,
        widths=0.6,
    )
    axes.set_yticks([])


def _draw_top(axes: "Axes", column: ColumnProfile) -> None:
    counts = [n for _, n in column.top]
    places = range(len(counts), 0, -1)
    axes.barh(list(places), counts, color="#7aa6c2", height=0.85)
    for place, (value, _) in zip(places, column.top, strict=True):
        axes.text(0, place, f" {_short(value, 24)}".replace("$", r"\$"), fontsize=5, va="center")


def _short(value: object, most: int) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= most else text[: most - 1] + "…"
