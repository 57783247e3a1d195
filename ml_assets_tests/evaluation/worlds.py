"""Test rows with a known truth, and models of known skill on them."""

import numpy as np

from ml_assets.evaluation.evaluate import EvaluationData

BEGIN = np.datetime64("2013-04-15T00:00", "us")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def data(seed=0, *, n=3000, noise=0.3, champion=0.6, baseline=True, slices=True):
    """Smaller noise is a better model; `champion` is the champion's, or None."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    y = (random.random(n) < sigmoid(1.5 * x - 1)).astype(float)
    scored = lambda of: sigmoid(1.5 * (x + of * random.normal(size=n)) - 1)  # noqa: E731
    model = scored(noise)
    origin, carrier = random.choice(["EWR", "JFK", None], n), random.integers(0, 4, n)
    return EvaluationData(
        y=y, score=model, at=BEGIN + (np.sort(random.random(n)) * 14 * 86400e6).astype("timedelta64[us]"),
        slices={"origin": origin, "carrier": carrier} if slices else {},
        champion_score=None if champion is None else scored(champion),
        baseline_score=np.full(n, y.mean()) + 0.05 * np.sign(x) * (random.random(n) < 0.3) if baseline else None,
    )  # fmt: skip
