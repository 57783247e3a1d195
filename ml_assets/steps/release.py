"""The release: the decision which version may serve, and why."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.registry import CHAMPION
from ml_assets.errors import RegistryError
from ml_assets.records import Finding, Produced, StepResult
from ml_assets.steps import catalogue, evaluation
from ml_assets.steps.model import candidate
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec


@dataclass(frozen=True)
class Release:
    """The version that may serve, with what the endpoint and the retrain policy need to know about it."""

    version: str
    model_hash: str
    previous: str | None
    watermark: str
    roc_auc: float | None
    reason: str
    released_at: str


def materialize(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Make the candidate champion if every gate passed; a version that is champion already stays."""
    version = candidate(spec, run)
    judged = evaluation.read(spec, run, version.version)
    gates = judged.gates(spec)
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        raise RegistryError(
            f"Version {version.version} of '{spec.name}' is not released: {failed[0].name}: {failed[0].sentence}"
        )
    champion = run.registry.version(spec.name, CHAMPION)
    standing = latest(spec, run.lake)
    if champion and standing and champion.version == version.version == standing.version:
        return {
            spec.release: StepResult(
                {"": Produced(_identity(standing), asdict(standing), True)}, _found(spec, run, standing)
            )
        }
    reason = "; ".join(f"{gate.name}: {gate.sentence}" for gate in gates) or "no gates are declared"
    run.registry.promote(spec.name, version.version, reason=reason, expect=judged.champion)
    auc = judged.evaluation.metrics["roc_auc"]
    released = Release(
        version=version.version,
        model_hash=version.model_hash,
        previous=judged.champion,
        watermark=version.tags["watermark"],
        roc_auc=auc.value if auc else None,
        reason=reason,
        released_at=clock.now().isoformat(),
    )
    run.lake.replace_object(_place(spec), json.dumps(asdict(released)).encode())
    run.log(f"{spec.release}: version {version.version} is champion; before it: {judged.champion or 'none'}")
    return {
        spec.release: StepResult({"": Produced(_identity(released), asdict(released))}, _found(spec, run, released))
    }


def latest(spec: ModelSpec, lake: Lake) -> Release | None:
    """The release in force, if there is one."""
    place = _place(spec)
    return Release(**json.loads(lake.get_object(place))) if lake.has_object(place) else None


def _identity(released: Release) -> str:
    return f"{released.version}:{released.model_hash}"


def _found(spec: ModelSpec, run: Run, released: Release) -> tuple[Finding, ...]:
    champion = run.registry.version(spec.name, CHAMPION)
    right = champion is not None and (champion.version, champion.model_hash) == (released.version, released.model_hash)
    named = f"version {champion.version}" if champion else "nothing"
    return (
        Finding(
            catalogue.IN_FORCE.name, right, f"Released: version {released.version}; the registry's champion: {named}."
        ),
    )


def _place(spec: ModelSpec) -> str:
    return f"{spec.release}.json"
