"""FULL: whether the days of a table that are in the lake fill the windows of a view over it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.engine import literal, scratch
from ml_assets.errors import shorten
from ml_assets.features.view import FEATURE_TIMESTAMP, window_name
from ml_assets.records import Finding
from ml_assets.steps import catalogue
from ml_assets.steps.days import runs_of, shift, start_of
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

_LONG = 7 * DAY


def findings(spec: ViewSpec, run: Run, rows: "pa.Table | None") -> tuple[Finding, ...]:
    """The check of a view with windows, on the newest day in the lake; `rows` that were just computed are counted."""
    if not spec.view.aggregations:
        return ()
    days = run.lake.partitions(spec.tables[0].table) if run.lake.exists(spec.tables[0].table) else []
    return (_finding(spec, rows, days) if days else _nothing(spec),)


def _nothing(spec: ViewSpec) -> Finding:
    return Finding(catalogue.FULL.name, True, f"{spec.tables[0].table} has no day yet: nothing was compared.")


def _finding(spec: ViewSpec, rows: "pa.Table | None", days: Sequence[str]) -> Finding:
    windows = sorted({window for part in (spec.view.aggregations or {}).values() for window in part.windows})
    start, end, longest, table = start_of(days[0]), start_of(days[-1]) + DAY, windows[-1], spec.tables[0].table
    full, missing = start + longest, _missing(days, longest)
    short = _before(rows, full) if rows is not None else 0
    numbers = {
        "days of history": (end - start) // DAY,
        "longest window in days": longest / DAY,
        "days missing": len(missing),
        "rows before": short,
    }
    counted = f" {short:,} of {rows.num_rows:,} rows now computed are of before." if rows is not None and short else ""
    but = f", but for {_days(len(missing) * DAY)} without rows ({shorten(missing)})" if missing else ""
    whole = f"windows of {window_name(longest)} are full from {full:%Y-%m-%d %H:%M} UTC on{but}"
    since = f"{table} begins on {days[0]}: {whole}.{counted}"
    if problem := _problem(table, [window for window in windows if window > end - start], end - start, missing):
        return Finding(catalogue.FULL.name, False, f"{problem} {since}", warn=True, numbers=numbers)
    return Finding(catalogue.FULL.name, True, since, numbers=numbers)


def _problem(table: str, longer: Sequence[timedelta], history: timedelta, missing: Sequence[str]) -> str:
    """What makes windows mean less than they say; single days without rows may be weekends, a week of them is not."""
    if longer:
        named = ", ".join(map(window_name, longer))
        return (
            f"The windows {named} are longer than the history of {table}, {_days(history)}: they mean less than they"
            " say. Deliver more history, shorten them, or wait."
        )
    first, last = max(runs_of(missing), key=lambda run: start_of(run[1]) - start_of(run[0]), default=("", ""))
    if first and start_of(last) - start_of(first) + DAY >= _LONG:
        return (
            f"{table} has no row from {first} to {last}: windows over these days mean less than they say. Deliver them."
        )
    return ""


def _missing(days: Sequence[str], longest: timedelta) -> list[str]:
    """The days without rows that the longest window reaches, when it ends with the newest day."""
    end = start_of(days[-1]) + DAY
    reached = max(start_of(days[0]), end - longest)
    n_days = (end - reached) // DAY
    return sorted({shift(days[-1], -back) for back in range(n_days)} - {*days})


def _before(rows: "pa.Table", moment: datetime) -> int:
    with scratch() as con:
        con.register("rows", rows)
        where = f"{FEATURE_TIMESTAMP} < TIMESTAMPTZ {literal(moment.isoformat())}"
        ((found,),) = con.execute(f"SELECT count(*) FROM rows WHERE {where}").fetchall()
    return found


def _days(span: timedelta) -> str:
    return f"{span // DAY} days" if span > DAY else "1 day"
