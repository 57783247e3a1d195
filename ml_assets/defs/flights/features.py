"""What is computed from a request itself: one function, whole columns in training and one row when serving."""

from collections.abc import Mapping
from datetime import UTC
from zoneinfo import ZoneInfo

import numpy as np

_NEW_YORK = ZoneInfo("America/New_York")
_HOUR = np.timedelta64(1, "h")
_MINUTE = np.timedelta64(1, "m")


def request_features(flights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features that need nothing but the schedule of the flight; times are datetime64[us] in UTC."""
    departure, arrival = flights["scheduled_departure_at"], flights["scheduled_arrival_at"]
    local = departure + _offset_to_utc(departure)
    days = local.astype("datetime64[D]")
    return {
        "carrier": flights["carrier"],
        "origin": flights["origin"],
        "destination": flights["destination"],
        "departure_hour_local": (local - days) / _HOUR,
        "weekday": (days.astype(np.int64) + 3) % 7 * 1.0,  # 1970-01-01 was a Thursday; Monday is 0
        "scheduled_minutes": (arrival - departure) / _MINUTE,
        "distance_miles": flights["distance_miles"],
    }


def _offset_to_utc(instants: np.ndarray) -> np.ndarray:
    hours, position = np.unique(instants.astype("datetime64[h]"), return_inverse=True)
    offsets = [h.astype("datetime64[s]").item().replace(tzinfo=UTC).astimezone(_NEW_YORK).utcoffset() for h in hours]
    return np.array(offsets, dtype="timedelta64[us]")[position]
