"""The Prometheus metrics of an endpoint, with children bound once: a `labels()` call costs more than an observation."""

from collections.abc import Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ml_assets.serving.predictor import Scored
from ml_assets.serving.record import PredictionSink
from ml_assets.serving.routing import Router

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SCORES = tuple(step / 10 for step in range(1, 10))
_AGES = (300, 900, 3600, 3 * 3600, 6 * 3600, 86400, 2 * 86400, 7 * 86400)


class Metrics:
    """What one server counts; each instance has a registry of its own."""

    def __init__(self, endpoint: str, router: Router, log: PredictionSink) -> None:
        registry = self._registry = CollectorRegistry()
        by_version = {"labelnames": ("endpoint", "version"), "registry": registry}
        self._endpoint, self._router = endpoint, router
        self._requests = Counter(
            "inference_requests", "Requests answered", ("endpoint", "version", "code"), registry=registry
        )
        self._seconds = Histogram(
            "inference_request_duration_seconds", "Time to an answer", buckets=_SECONDS, **by_version
        )
        self._rows = Counter("inference_rows", "Rows scored", **by_version)
        self._scores = Histogram("inference_score", "Scores given", buckets=_SCORES, **by_version)
        self._rejected = Counter("inference_rejected", "Requests refused", ("endpoint", "code"), registry=registry)
        self._ages = Histogram(
            "inference_feature_age_seconds",
            "Age of the feature row used",
            ("endpoint", "view"),
            buckets=_AGES,
            registry=registry,
        )
        self._missing = Counter(
            "inference_feature_rows_missing",
            "Look-ups without a row",
            ("endpoint", "view", "reason"),
            registry=registry,
        )
        self._log_bytes = Counter("prediction_log_bytes", "Bytes written to the prediction log", registry=registry)
        self._bound, self._view, self._reason = cache(self._bind), cache(self._bind_view), cache(self._bind_reason)
        self._gauges(router, log)

    def answered(
        self, version: str, scored: Scored, *, seconds: float, ages: Sequence[Mapping], log_bytes: int
    ) -> None:
        """Count one answered request; ages are seconds by view, one mapping a row."""
        requests, duration, rows, score = self._bound(version)
        requests.inc()
        duration.observe(seconds)
        rows.inc(len(scored.scores))
        for value in scored.scores:
            score.observe(value)
        for by_view in ages:
            self._observe_ages(by_view)
        for reasons in scored.missing:
            for view, reason in reasons.items():
                self._reason(view, reason.partition(":")[0]).inc()
        self._log_bytes.inc(log_bytes)

    def refused(self, code: int) -> None:
        """Count one refused or failed request by its HTTP status."""
        self._rejected.labels(self._endpoint, str(code)).inc()
        self._requests.labels(self._endpoint, "", str(code)).inc()

    def text(self) -> bytes:
        """Give the exposition format."""
        self._show_stores()
        return generate_latest(self._registry)

    def _show_stores(self) -> None:
        self._reached.clear()
        self._newest.clear()
        table = self._router.table
        for arm in table.arms.values() if table else ():
            for state in arm.predictor.stores().values():
                self._reached.labels(self._endpoint, state.stored).set(state.unreachable is None)
                if state.newest is not None:
                    self._newest.labels(self._endpoint, state.stored).set(state.newest / 1e6)

    def _observe_ages(self, by_view: Mapping[str, float | None]) -> None:
        for view, age in by_view.items():
            if age is not None:
                self._view(view).observe(age)

    def _bind(self, version: str) -> tuple:
        labels = self._endpoint, version
        return (
            self._requests.labels(*labels, "200"),
            self._seconds.labels(*labels),
            self._rows.labels(*labels),
            self._scores.labels(*labels),
        )

    def _bind_view(self, view: str) -> Histogram:
        return self._ages.labels(self._endpoint, view)

    def _bind_reason(self, view: str, reason: str) -> Counter:
        return self._missing.labels(self._endpoint, view, reason)

    def _gauges(self, router: Router, log: PredictionSink) -> None:
        generation = Gauge("routing_generation", "Generation of the routing table", registry=self._registry)
        generation.set_function(lambda: router.table.generation if router.table else 0)
        dropped = Gauge(
            "prediction_log_dropped", "Records that could not be logged since the start", registry=self._registry
        )
        dropped.set_function(lambda: log.dropped)
        by_view = {"labelnames": ("endpoint", "view"), "registry": self._registry}
        self._reached = Gauge("online_store_reached", "Whether the online store answered a moment ago", **by_view)
        self._newest = Gauge("online_store_newest_timestamp_seconds", "Time of the newest feature row", **by_view)
        self._weights = Gauge("routing_weight", "Share of the traffic", ("version",), registry=self._registry)

    def routed(self, shares: Mapping[str, float]) -> None:
        """Show the shares of a new routing table."""
        self._weights.clear()
        for version, share in shares.items():
            self._weights.labels(version).set(share)
