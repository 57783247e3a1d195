"""Real flights of the day after the newest delivery: what the endpoint says, and what happened."""

import http.client
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ml_assets.adapters.deployment import predict
from ml_assets.demo.endpoints import request_fields
from ml_assets.engine import connect
from ml_assets.errors import EndpointError
from ml_assets.feeds.flights import LAST_DAY, land
from ml_assets.steps.frames import as_requests

N_FLIGHTS = 10
_LEAD = timedelta(hours=2)  # as declared in `defs/flights`
_LATE_MINUTES = 15
_FLIGHTS = """
SELECT s.*, s.scheduled_departure_at - to_seconds($lead) AS "at", o.arrival_delay_minutes, o.cancelled, o.diverted
FROM read_parquet($schedules) s JOIN read_parquet($outcomes) o USING (flight_id)
WHERE s.scheduled_departure_at < $until
ORDER BY row_number() OVER (PARTITION BY coalesce(o.arrival_delay_minutes > $late, false) ORDER BY md5(flight_id)),
    md5(flight_id) LIMIT $n  -- as many late ones as others: of all flights of a morning, few are late
"""


@dataclass(frozen=True)
class Flight:
    """A question and the truth: minutes of arrival delay, None for a flight that never arrived as planned."""

    label: str
    scheduled_departure_at: datetime
    request: dict[str, Any]
    delay_minutes: float | None
    fate: str

    @property
    def late(self) -> bool | None:
        """Whether it arrived more than 15 min late."""
        return None if self.delay_minutes is None else self.delay_minutes > _LATE_MINUTES


@dataclass(frozen=True)
class Latency:
    """Of single requests over one connection, in milliseconds, as the client sees it."""

    p50_ms: float
    p99_ms: float
    n_requests: int


def flights(day: date, *, n: int = N_FLIGHTS) -> list[Flight]:
    """Some flights of a UTC day's first 14 hours, the same ones each time.

    Later ones would be asked about with old weather: nothing of the day itself has been delivered. How they ended is
    landed in a folder of its own, where no sensor looks.
    """
    day = min(day, LAST_DAY - timedelta(days=1))
    with tempfile.TemporaryDirectory() as folder, connect() as con:
        land(folder, since=day, until=day + timedelta(days=1))
        found = con.sql(
            _FLIGHTS,
            params={
                "lead": _LEAD.total_seconds(),
                "schedules": str(Path(folder, "flight_schedules", f"{day}.parquet")),
                "outcomes": str(Path(folder, "flight_outcomes", "*.parquet")),
                "until": datetime.fromisoformat(f"{day}T14:00:00+00:00"),
                "n": n,
                "late": _LATE_MINUTES,
            },
        ).to_arrow_table()
    rows = [_flight(row, request) for row, request in zip(found.to_pylist(), as_requests(found), strict=True)]
    return sorted(rows, key=lambda flight: flight.scheduled_departure_at)


def ask(endpoint: Path, url: str, asked: Sequence[Flight]) -> list[dict[str, Any]]:
    """The endpoint's answers, in order; marked as a check, so that they are no part of what is watched."""
    return predict(url, _requests(endpoint, asked), check=True)


def latency(endpoint: Path, url: str, asked: Sequence[Flight], *, n_requests: int = 400) -> Latency:
    """Send single requests one after the other over one connection and time them, after a few to warm up."""
    bodies = [msgspec.json.encode({"instances": [request]}) for request in _requests(endpoint, asked)]
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        times = [_timed(connection, bodies[i % len(bodies)]) for i in range(20 + n_requests)][20:]
    except OSError as error:
        raise EndpointError(f"{url} does not answer: {error}.") from error
    finally:
        connection.close()
    times.sort()
    return Latency(times[len(times) // 2], times[int(len(times) * 0.99)], n_requests)


def _timed(connection: http.client.HTTPConnection, body: bytes) -> float:
    started = time.perf_counter()
    connection.request("POST", "/predict", body, {"content-type": "application/json", "x-request-purpose": "check"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise EndpointError(f"The endpoint answers {answer.status}.")
    return (time.perf_counter() - started) * 1000


def _requests(endpoint: Path, asked: Sequence[Flight]) -> list[dict[str, Any]]:
    names = [*request_fields(endpoint), "at"]
    return [{name: flight.request[name] for name in names} for flight in asked]


def _flight(row: dict[str, Any], request: dict[str, Any]) -> Flight:
    fate = "cancelled" if row["cancelled"] else "diverted" if row["diverted"] else ""
    delay = row["arrival_delay_minutes"]
    if delay is not None:
        fate = f"{delay:+.0f} min"
    label = f"{row['carrier']}{row['flight_number']} {row['origin']}-{row['destination']}"
    return Flight(label, row["scheduled_departure_at"], request, delay, fate)
