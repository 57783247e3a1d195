"""Which versions answer and with what share: an immutable table, replaced by one assignment, that follows a file.

A table counts only as a whole: when one of its versions cannot be loaded, the table before it goes on serving.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

import msgspec

from ml_assets.errors import ArtefactError, RequestError
from ml_assets.serving.predictor import Predictor


class Routing(msgspec.Struct, frozen=True):
    """The content of `routing.json`: weights are relative shares; a version of weight 0 is loaded and can be pinned.

    When all weights are 0 nothing takes traffic: so a first version waits for its proof.
    """

    generation: int
    weights: dict[str, float]

    def shares(self) -> dict[str, float]:
        """Give weights that sum to 1, or that are all 0; raises ArtefactError for a negative one, and without any."""
        if not self.weights or not all(weight >= 0 for weight in self.weights.values()):
            raise ArtefactError("A routing table must name a version, and no weight of it may be negative.")
        total = sum(self.weights.values())
        return {version: weight / total if total else 0.0 for version, weight in self.weights.items()}


@dataclass(frozen=True)
class Arm:
    """A loaded version and its share of the traffic, between 0 and 1."""

    version: str
    share: float
    predictor: Predictor


@dataclass(frozen=True)
class RoutingTable:
    """The loaded versions of one generation."""

    generation: int
    arms: MappingProxyType[str, Arm]
    _steps: tuple[tuple[float, Arm], ...] = field(repr=False)

    @classmethod
    def of(cls, generation: int, arms: list[Arm]) -> "RoutingTable":
        """Make a table of arms whose shares sum to 1."""
        served = [arm for arm in arms if arm.share > 0]
        steps = tuple(zip(accumulate(arm.share for arm in served), served, strict=True))
        return cls(generation, MappingProxyType({arm.version: arm for arm in arms}), steps)

    @property
    def takes_traffic(self) -> bool:
        """Whether a version may be picked."""
        return bool(self._steps)

    def pick(self, number: float) -> Arm:
        """Choose an arm by a number drawn evenly from [0, 1); a RequestError (503) when none has a share."""
        if not self._steps:
            waiting = f"version {', '.join(self.arms)} is loaded and takes no traffic until its parity is proven"
            raise RequestError(waiting, path="endpoint", status=503)
        return next((arm for step, arm in self._steps if number < step), self._steps[-1][1])

    def pinned(self, version: str) -> Arm:
        """Give the arm of a version whatever its share; a RequestError (404) when it is not loaded."""
        arm = self.arms.get(version)
        if arm is None:
            raise RequestError("is not loaded here", path="version", status=404)
        return arm


class Refusal(msgspec.Struct, frozen=True):
    """A table that was offered and not taken."""

    generation: int | None
    reason: str


class Router:
    """Holds the current table; `load` gives a checked predictor for a version and may take seconds."""

    def __init__(self, load: Callable[[str], Predictor]) -> None:
        self._load = load
        self.table: RoutingTable | None = None
        self.refusal: Refusal | None = None

    def offer(self, content: bytes) -> bool:
        """Take a new `routing.json`, loading what is not loaded yet; False (and `refusal`) when it cannot be taken.

        Not for the event loop. The versions of the present table are reused, never read again.
        """
        generation = None
        try:
            routing = msgspec.json.decode(content, type=Routing)
            generation = routing.generation
            table = RoutingTable.of(generation, [self._arm(v, share) for v, share in routing.shares().items()])
        except Exception as error:  # noqa: BLE001  the border to a project's code: whatever it raises, the old table serves on
            self.refusal = Refusal(generation, f"{type(error).__name__}: {error}")
            return False
        self.table, self.refusal = table, None
        return True

    def _arm(self, version: str, share: float) -> Arm:
        loaded = self.table.arms.get(version) if self.table else None
        return Arm(version, share, loaded.predictor if loaded else self._load(version))

    def status(self) -> dict:
        """Describe the table and the last refusal, as `GET /routing` gives it."""
        table = self.table
        shares = {arm.version: arm.share for arm in table.arms.values()} if table else {}
        digests = {arm.version: arm.predictor.digest for arm in table.arms.values()} if table else {}
        return {
            "generation": table.generation if table else None,
            "weights": shares,
            "digests": digests,
            "refused": msgspec.to_builtins(self.refusal) if self.refusal else None,
        }
