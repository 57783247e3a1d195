"""How late rows really arrive, against what is declared: `known_at` of the tables and `delay` of the view.

A feature row at g is made from rows with `known_at <= g` and is served from `g + delay` on. So a row is in time when it
arrived by the first grid time that its `known_at` allows, plus the delay; off any grid, by `known_at + delay`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.engine import quote, scratch
from ml_assets.features.view import MICROSECOND, FeatureView, grid_time, window_name
from ml_assets.records import Finding
from ml_assets.steps import catalogue
from ml_assets.steps.days import start_of
from ml_assets.steps.deliver import Stored, content_digest, deliveries, distinct
from ml_assets.steps.live import RHYTHM, SOON, live_days
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, TableSpec, ViewSpec
from ml_assets.tables.schema import RELEASED

if TYPE_CHECKING:
    import pyarrow as pa

_RECENT_DAYS = 28  # so that one day without a source is less than the share that may be late
_MAY_BE_LATE = 0.05
_NICE = tuple(timedelta(minutes=m) for m in (1, 5, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 4320))
_DIGEST = b"deliveries"


@dataclass(frozen=True)
class Lag:
    """How far rows of a table that came live were behind the moment they were declared for; in minutes, below 0 early.

    `needed` is the delay that 95 of 100 rows would keep.
    """

    table: str
    n_rows: int
    late: float
    p50: float
    p95: float
    needed: timedelta

    @property
    def keeps(self) -> bool:
        """Whether few enough rows were late."""
        return self.late <= _MAY_BE_LATE


def findings(spec: ViewSpec, run: Run, rows: "pa.Table | None", days: Sequence[str]) -> tuple[Finding, ...]:
    """ARRIVES: whether rows of the daily inputs that came live were there when the view says that it serves them."""
    del rows
    newest = max((day for day in days if day), default="")
    return (arrives(spec, run, newest),)


def arrives(spec: ViewSpec, run: Run, newest: str = "") -> Finding:
    """The finding for the last 28 live days up to a day, by default with the newest that was delivered."""
    judged, told = [], []
    for table in (t for t in spec.tables if isinstance(t, TableSpec) and t.daily):
        live = _live(table, run, newest)
        if lag := _lag(spec.view, table, run, live):
            judged.append(lag)
        else:
            told.append(table.name)
    late = [lag for lag in judged if not lag.keeps]
    numbers = {lag.table: {"rows": lag.n_rows, "late": lag.late, "p50": lag.p50, "p95": lag.p95} for lag in judged}
    compared = {"compared": sum(lag.n_rows for lag in judged)}
    sentences = [_sentence(lag, spec.view) for lag in late or judged]
    if not late and told:
        sentences.append(_nothing(told))
    said = " ".join(sentences) or _no_table(spec)
    return Finding(catalogue.ARRIVES.name, not late, said, numbers=numbers | compared)


def _no_table(spec: ViewSpec) -> str:
    if views := " and ".join(view.name for view in spec.reads):
        return f"It reads no table that comes by day, only {views}: what arrived late for it is judged there."
    return "No input comes by day: nothing was judged."


def _nothing(tables: Sequence[str]) -> str:
    return (
        f"No live rows of {' and '.join(tables)}: nothing was judged. What there is came as history, many days at once"
        f" or long after them. It is judged as soon as a day comes by itself within {SOON.days} days, or {RHYTHM}"
        " deliveries in their rhythm."
    )


def _sentence(lag: Lag, view: FeatureView) -> str:
    said = f"{lag.late:.1%} of {lag.n_rows:,} live rows of {lag.table} came later than declared"
    spread = f"(half of them within {lag.p50:.0f} minutes of it, 95 of 100 within {lag.p95:.0f})"
    if lag.keeps:
        return f"{said} {spread}."
    delay = f"`delay: {window_name(lag.needed)}`"
    now = window_name(view.delay) if view.delay else "0s"
    return (
        f"{said} {spread}; at most {_MAY_BE_LATE:.0%} may. In training they count as known, when serving they are not"
        f" there yet. Declare {delay} in place of {now}, correct `known_at` of {lag.table}, or deliver sooner."
    )


def _live(spec: TableSpec, run: Run, newest: str) -> dict[str, list[Stored]]:
    """The deliveries of the last days that came live, by day; what a day is given long after is left out.

    The rhythm is that of all stored days: a feed may be slower than four weeks.
    """
    if not run.lake.exists(spec.raw):
        return {}
    stored = [day for day in run.lake.partitions(spec.raw) if not newest or day <= newest]
    of_day: dict[str, list[Stored]] = {}
    for file in distinct(deliveries(spec, run.lake, stored)):
        if not file.name.startswith(RELEASED):
            of_day.setdefault(file.partition_key, []).append(file)
    first = {day: files[0].arrived_at for day, files in of_day.items()}
    until = {day: max(at, start_of(day) + DAY) + SOON for day, at in first.items()}
    live = sorted(live_days(first))[-_RECENT_DAYS:]
    return {day: [file for file in of_day[day] if file.arrived_at <= until[day]] for day in live}


def _lag(view: FeatureView, spec: TableSpec, run: Run, live: Mapping[str, Sequence[Stored]]) -> Lag | None:
    import pyarrow as pa

    parts = [_arrivals(spec, run, day, files) for day, files in live.items()]
    if not parts or not (rows := pa.concat_tables(parts)).num_rows:
        return None
    with scratch() as con:
        con.register("arrivals", rows)
        known = "epoch_us(known_at)"
        promised = grid_time(known, view.every // MICROSECOND) if view.every else known
        found = con.execute(f"SELECT epoch_us(arrived_at) - {promised} AS behind FROM arrivals").fetchnumpy()
    behind = np.asarray(found["behind"]).astype(np.float64) * 1e-6 / 60
    late = behind - view.delay.total_seconds() / 60
    middle, high = np.quantile(late, [0.5, 0.95])
    needed = timedelta(minutes=float(np.quantile(behind, 0.95)))
    share = round(float((late > 0).mean()), 4)
    return Lag(spec.name, len(late), share, round(float(middle), 1), round(float(high), 1), _nice(needed))


def _nice(needed: timedelta) -> timedelta:
    return next((step for step in _NICE if step >= needed), -(-needed // DAY) * DAY)


def _arrivals(spec: TableSpec, run: Run, day: str, files: Sequence[Stored]) -> "pa.Table":
    """When each row of a day was known and when it first arrived; kept beside the lake until something is delivered."""
    import pyarrow.parquet as pq

    place, content = f"arrivals/{spec.name}/{day}.parquet", content_digest(files).encode()
    if run.lake.has_object(place):
        kept = pq.read_table(BytesIO(run.lake.get_object(place)))
        if (kept.schema.metadata or {}).get(_DIGEST) == content:
            return kept.replace_schema_metadata(None)
    found, sink = _read_arrivals(spec, run, files), BytesIO()
    pq.write_table(found.replace_schema_metadata({_DIGEST: content}), sink, compression="zstd")
    run.lake.replace_object(place, sink.getvalue())
    return found


def _read_arrivals(spec: TableSpec, run: Run, files: Sequence[Stored]) -> "pa.Table":
    from ml_assets.tables.delivery import DeliveredFile, gather

    contract = spec.loaded()
    given = [DeliveredFile(f.name, run.lake.get_object(f.object), f.partition_key, f.arrived_at) for f in files]
    delivered = gather(given, contract, spec.format, spec.schema_drift).rows
    known_at = "known_at" if contract.column("known_at") else spec.known_at or "_arrived_at"
    same = ", ".join(quote(name) for name in contract.names())
    with scratch() as con:
        con.register("delivered", delivered)
        return con.sql(f"""
            SELECT ({known_at}) AS known_at, min(_arrived_at) AS arrived_at FROM delivered
            WHERE ({known_at}) IS NOT NULL GROUP BY ({known_at}), {same}""").to_arrow_table()
