"""FULL: whether the days of a table that are in the lake reach back as far as the windows of a view over it."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.engine import connect, literal
from ml_assets.features.view import FEATURE_TIMESTAMP, window_name
from ml_assets.records import Finding
from ml_assets.steps import catalogue
from ml_assets.steps.days import start_of
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa


def findings(spec: ViewSpec, run: Run, rows: "pa.Table | None") -> tuple[Finding, ...]:
    """The check of a view with windows, on the newest day in the lake; `rows` that were just computed are counted."""
    if not spec.view.aggregations:
        return ()
    days = run.lake.partitions(spec.tables[0].table) if run.lake.exists(spec.tables[0].table) else []
    return (_finding(spec, rows, days[0], days[-1]) if days else _nothing(spec),)


def _nothing(spec: ViewSpec) -> Finding:
    return Finding(catalogue.FULL.name, True, f"{spec.tables[0].table} has no day yet: nothing was compared.")


def _finding(spec: ViewSpec, rows: "pa.Table | None", first: str, newest: str) -> Finding:
    windows = {window for part in (spec.view.aggregations or {}).values() for window in part.windows}
    longest, history = max(windows), start_of(newest) + DAY - start_of(first)
    full = start_of(first) + longest
    short = _before(rows, full) if rows is not None else 0
    numbers = {"days of history": history // DAY, "longest window in days": longest / DAY, "rows before": short}
    table, when = spec.tables[0].table, f"{full:%Y-%m-%d %H:%M} UTC"
    counted = f" {short:,} of {rows.num_rows:,} rows now computed are of before." if rows is not None and short else ""
    since = f"{table} begins on {first}: windows of {window_name(longest)} are full from {when} on.{counted}"
    if longest <= history:
        return Finding(catalogue.FULL.name, True, since, numbers=numbers)
    named = ", ".join(window_name(window) for window in sorted(windows) if window > history)
    problem = (
        f"The windows {named} are longer than the history of {table}, {_days(history)}: they mean less than they say"
    )
    advice = "Deliver more history, shorten them, or wait"
    return Finding(catalogue.FULL.name, False, f"{problem}. {since} {advice}.", warn=True, numbers=numbers)


def _before(rows: "pa.Table", moment: datetime) -> int:
    with connect() as con:
        con.register("rows", rows)
        where = f"{FEATURE_TIMESTAMP} < TIMESTAMPTZ {literal(moment.isoformat())}"
        ((found,),) = con.execute(f"SELECT count(*) FROM rows WHERE {where}").fetchall()
    return found


def _days(span: timedelta) -> str:
    return f"{span // DAY} days" if span > DAY else "1 day"
