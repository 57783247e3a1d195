"""How far a graph has come, and whether it is done: pure functions of what was seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from ml_assets.demo.graph import AssetState, Snapshot
from ml_assets.records import LAYERS

# Labels, and what needs them, come days after the data of their day.
_CURRENT = {"raw", "tables", "features", "predictions", "drift"}


@dataclass(frozen=True)
class LayerRow:
    """One layer, counted. `running` names the assets that a run is making now."""

    layer: str
    n_assets: int
    n_done: int
    n_partitions: int
    newest: str
    n_passed: int
    n_failed: int
    n_warned: int
    running: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether every asset of it has been materialized."""
        return self.n_done == self.n_assets


def rows(snapshot: Snapshot) -> list[LayerRow]:
    """The layers from raw to performance; one that is not among the usual ones comes last."""
    found = {state.layer for state in snapshot.assets.values()}
    order = [layer for layer in LAYERS if layer in found] + sorted(found.difference(LAYERS))
    running = {asset for run in snapshot.runs if run.status in {"STARTING", "STARTED"} for asset in run.assets}
    return [_row(layer, [s for s in snapshot.assets.values() if s.layer == layer], running) for layer in order]


def missing(snapshot: Snapshot, day: date) -> list[str]:
    """What has to come before the graph is complete: each asset once, and the newest delivered day where it shows."""
    return list(_missing(snapshot, day.isoformat()))


def restless(snapshot: Snapshot, since: float) -> list[str]:
    """What goes on: runs, backfills, and sensors that have not looked, in vain, since the last run ended."""
    active = [f"{_shown(run.assets)} ({run.status.lower()})" for run in snapshot.runs if not run.is_over]
    backfills = [f"{snapshot.n_backfills} backfills"] if snapshot.n_backfills else []
    changed = max([since, *(run.ended_at for run in snapshot.runs if run.ended_at)])
    looking = [t.sensor for t in snapshot.ticks if t.at is None or t.at <= changed or t.status != "SKIPPED"]
    return active + backfills + ([f"the look of {_shown(looking)}"] if looking else [])


def failed_ticks(snapshot: Snapshot) -> list[str]:
    """Sensors whose latest look failed, with what they said."""
    return [f"{tick.sensor}: {tick.said}" for tick in snapshot.ticks if tick.status == "FAILURE"]


def _missing(snapshot: Snapshot, day: str) -> Iterator[str]:
    for key, state in sorted(snapshot.assets.items()):
        if state.materialized_at is None:
            yield key
        elif state.partitioned and state.layer in _CURRENT and state.newest < day:
            yield f"{key} of {day}"


def _row(layer: str, states: Sequence[AssetState], running: set[str]) -> LayerRow:
    checks = [check for state in states for check in state.checks]
    return LayerRow(
        layer,
        n_assets=len(states),
        n_done=sum(state.materialized_at is not None for state in states),
        n_partitions=sum(state.n_partitions for state in states),
        newest=max((state.newest for state in states), default=""),
        n_passed=sum(check.passed is True for check in checks),
        n_failed=sum(check.passed is False and not check.warns for check in checks),
        n_warned=sum(check.passed is False and check.warns for check in checks),
        running=tuple(sorted(state.key.partition("/")[2] for state in states if state.key in running)),
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
