"""The source system of the flights example: lands what an airline's systems would have delivered, as Parquet files.

`timetable` says how the times come about and when each row became known; this module says which file a row is in:

    <root>/flight_schedules/2013-01-05.parquet      by UTC day of scheduled departure; lands the day before
    <root>/flight_outcomes/2013-01-05[T14].parquet  by the UTC hour in which the outcome became known
    <root>/weather/2013-01-05[T14].parquet          by the UTC hour of the observation
    <root>/aircraft/aircraft.parquet, <root>/airports/airports.parquet      whole

The data is delivered as published: a wind of 1,048 mph, the doubled hour at the end of daylight saving (two UTC hours),
hours without weather, aircraft and airports without a record.
"""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ml_assets.errors import MlAssetsError
from ml_assets.feeds import timetable

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2014, 1, 1)  # the flights of New Year's Eve land after midnight UTC

Grain = Literal["hour", "day"]

_DATED_BY = {
    "flight_schedules": "scheduled_departure_at",
    "flight_outcomes": "known_at",
    "weather": "observed_at",
}


def land(root: str, *, since: date = FIRST_DAY, until: date, grain: Grain = "day") -> list[Path]:
    """Bring `root` to what was delivered in the UTC days since..until, both whole; give the files written or changed.

    Schedules reach one day further, since they land the day before. Same arguments, same bytes: a file that is already
    there is not touched, and the others appear whole. Hours without rows have no file. Days beyond the data (2013-01-01
    to 2014-01-01) have no rows; `MlAssetsError` when no day is in the data.
    """
    if since > until or since > LAST_DAY or until < FIRST_DAY:
        raise MlAssetsError(
            f"No flights from {since} until {until}: choose days from {FIRST_DAY} to {LAST_DAY}, the first one first."
        )
    rows = timetable.tables(_midnight(since), _midnight(until) + timedelta(days=1))
    written = [_write(Path(root, name), content) for name, content in _files(rows, grain)]
    return [path for path in written if path]


def landed_until(root: str) -> date | None:
    """Give the newest UTC day of which outcomes have landed under `root`; None before the first delivery."""
    names = [path.name for path in Path(root, "flight_outcomes").glob("[0-9]*.parquet")]
    return date.fromisoformat(max(names)[:10]) if names else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _files(rows: dict[str, "pa.Table"], grain: Grain) -> Iterator[tuple[str, bytes]]:
    for table, content in rows.items():
        if table not in _DATED_BY:
            yield f"{table}/{table}.parquet", _parquet(content)
            continue
        by_day = grain == "day" or table == "flight_schedules"
        for period, part in _periods(content, _DATED_BY[table], "D" if by_day else "h"):
            yield f"{table}/{period}.parquet", _parquet(part)


def _periods(rows: "pa.Table", column: str, unit: Literal["D", "h"]) -> Iterator[tuple[str, "pa.Table"]]:
    """Cut rows that are sorted by `column` into its UTC days or hours, named `2013-01-05` or `2013-01-05T14`."""
    import numpy as np

    periods = rows[column].to_numpy().astype(f"datetime64[{unit}]")
    names, starts, lengths = np.unique(periods, return_index=True, return_counts=True)
    for name, start, length in zip(names, starts.tolist(), lengths.tolist(), strict=True):
        yield str(name), rows.slice(start, length)


def _parquet(rows: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def _write(path: Path, content: bytes) -> Path | None:
    """Put the file in place by a rename; None when it is there already."""
    if path.exists() and path.read_bytes() == content:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    beside.replace(path)
    return path
