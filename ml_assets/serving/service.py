"""What an endpoint does with a request, free of HTTP: choose a version, check, score, log, count."""

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from ml_assets import clock
from ml_assets.errors import RequestError, StoreUnavailableError
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.predictor import Scored, ViewState
from ml_assets.serving.record import PredictionRecord, PredictionSink
from ml_assets.serving.request import Row, instant, microseconds
from ml_assets.serving.routing import Arm, Router, RoutingTable

# Up to here a call is cheaper on the event loop than the way to a thread and back (facts/serving.md 3.4).
_INLINE_ROWS = 16
_BATCH_THREADS = 2
_BATCHES_WAITING = 16

Decode = Callable[[Arm, int], tuple[list[Row], list[int]]]


@dataclass(frozen=True)
class Call:
    """Who asks for what: `version` pins an arm, `check` marks our own test requests in the log."""

    request_id: str
    version: str | None = None
    check: bool = False
    started: int = field(default_factory=time.perf_counter_ns)


@dataclass(frozen=True)
class Answer:
    """Scores with their ids, the version and generation that gave them, and the inputs before encoding.

    `ages` are seconds by view, null where no row counted; `missing` says for those why.
    """

    model: str
    version: str
    generation: int
    ids: list[str]
    scores: list[float]
    ages: list[dict[str, float | None]]
    missing: list[dict[str, str]]
    features: list[dict[str, float | str | None]]


class Service:
    """One endpoint: a router, a prediction log and metrics around `predict`."""

    def __init__(self, endpoint: str, router: Router, log: PredictionSink) -> None:
        self.endpoint, self.router, self.log = endpoint, router, log
        self.metrics = Metrics(endpoint, router, log)
        self._pool = ThreadPoolExecutor(_BATCH_THREADS, thread_name_prefix="batch")
        self._room = threading.BoundedSemaphore(_BATCHES_WAITING)

    def table(self) -> RoutingTable:
        """Give the present routing table; a RequestError (503) before the first one."""
        if self.router.table is None:
            raise RequestError("no model version is loaded yet; try again soon", path="endpoint", status=503)
        return self.router.table

    @property
    def ready(self) -> bool:
        """Whether a version takes traffic."""
        return self.router.table is not None and self.router.table.takes_traffic

    def stores(self, version: str | None = None) -> dict[str, ViewState]:
        """What the online store held of the views of a version, or of all that take traffic, a moment ago."""
        arms = (
            [self.table().pinned(version)] if version else self.router.table.arms.values() if self.router.table else ()
        )
        wanted = [arm for arm in arms if version or arm.share > 0]
        return {state.stored: state for arm in wanted for state in arm.predictor.stores().values()}

    async def predict(self, call: Call, decode: Decode) -> Answer:
        """Answer a request that `decode` reads by the contract of the arm chosen for it; logged before it returns."""
        table = self.table()
        arm = table.pinned(call.version) if call.version else table.pick(random.random())  # noqa: S311  traffic, not secrets
        now = clock.now()
        rows, at = decode(arm, microseconds(now))
        work = _Work(self, call, arm, table.generation, now, rows, at)
        if len(rows) <= _INLINE_ROWS:
            return work.done()
        if not self._room.acquire(blocking=False):
            raise RequestError("too many batches wait; try again in a second", path="endpoint", status=503)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work.done)
        finally:
            self._room.release()

    def refuse(self, call: Call, reason: str, *, code: int) -> None:
        """Log and count a request that got no prediction; `reason` must not hold values of the request."""
        status = "failed" if code >= 500 else "rejected"
        record = PredictionRecord(
            prediction_id=uuid.uuid4().hex,
            request_id=call.request_id,
            at=None,
            logged_at=clock.now(),
            endpoint=self.endpoint,
            model="",
            version=call.version,
            generation=None,
            propensity=None,
            purpose="check" if call.check else "serve",
            status=status,
            reason=reason,
            request={},
            features={},
            feature_ages={},
            score=None,
            latency_us=(time.perf_counter_ns() - call.started) // 1000,
        )
        self.log.append([record])
        self.metrics.refused(code)

    def close(self) -> None:
        """Finish the batches under way."""
        self._pool.shutdown()


@dataclass(frozen=True)
class _Work:
    """A decoded request on its way to an answer; runs on the loop or in a thread."""

    service: Service
    call: Call
    arm: Arm
    generation: int
    now: datetime
    rows: list[Row]
    at: list[int]

    def done(self) -> Answer:
        scored = self._scored()
        ids = [uuid.uuid4().hex for _ in self.rows]
        ages = [{view: None if age is None else age / 1e6 for view, age in row.items()} for row in scored.ages_us]
        elapsed = time.perf_counter_ns() - self.call.started
        written = self.service.log.append(self._records(scored, ids, ages, elapsed // 1000))
        metrics, version = self.service.metrics, self.arm.version
        metrics.answered(version, scored, seconds=elapsed / 1e9, ages=ages, log_bytes=written)
        model, generation = self.arm.predictor.schema.model, self.generation
        return Answer(model, version, generation, ids, scored.scores, ages, scored.missing, scored.features)

    def _scored(self) -> Scored:
        try:
            return self.arm.predictor.predict(self.rows, self.at)
        except StoreUnavailableError as error:
            raise RequestError(str(error), path="online store", status=503) from error

    def _records(self, scored: Scored, ids: list[str], ages: list[dict], latency_us: int) -> list[PredictionRecord]:
        call, arm, contract = self.call, self.arm, self.arm.predictor.contract
        return [
            PredictionRecord(
                prediction_id=ids[n],
                request_id=call.request_id,
                at=instant(self.at[n]),
                logged_at=self.now,
                endpoint=self.service.endpoint,
                model=arm.predictor.schema.model,
                version=arm.version,
                generation=self.generation,
                propensity=1.0 if call.version else arm.share,
                purpose="check" if call.check else "serve",
                status="ok",
                reason=None,
                request=contract.named(row),
                features=scored.features[n],
                feature_ages=ages[n],
                score=scored.scores[n],
                latency_us=latency_us,
            )
            for n, row in enumerate(self.rows)
        ]
