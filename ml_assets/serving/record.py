"""One line of the prediction log, and what serving needs of the log that keeps it."""

from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec


class PredictionRecord(msgspec.Struct, frozen=True):
    """One answered row, or one request that was refused.

    `request` holds the decoded fields, `features` the model's inputs by name before encoding, `feature_ages` seconds
    by view (null: no row counted). A refused request has status `rejected` (or `failed`: our fault), the place and
    rule in `reason`, and none of its values. `purpose` is `serve` for traffic, `check` for our own test requests.
    """

    prediction_id: str
    request_id: str
    at: datetime | None
    logged_at: datetime
    endpoint: str
    model: str
    version: str | None
    generation: int | None
    propensity: float | None
    purpose: Literal["serve", "check"]
    status: Literal["ok", "rejected", "failed"]
    reason: str | None
    request: dict[str, Any]
    features: dict[str, Any]
    feature_ages: dict[str, float | None]
    score: float | None
    latency_us: int


class PredictionSink(Protocol):
    """A log that never raises: what it cannot keep it counts."""

    def append(self, records: list[PredictionRecord], /) -> int:
        """Write the records in one go before the answer leaves; gives the bytes written, 0 when they were dropped."""
        ...

    @property
    def dropped(self) -> int:
        """Records that could not be written since the start."""
        ...
