"""`ml-assets explain`: why an asset stands or would run, in the words that its step would use."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.cli import project
from ml_assets.errors import MlAssetsError, shorten

if TYPE_CHECKING:
    from ml_assets.components.declared import Declared
    from ml_assets.steps.explain import Verdict
    from ml_assets.steps.works import Asset

_OF_TABLE, _OF_VIEW = ("raw", "tables"), ("features",)
_OF_MODEL = ("labels", "training_sets", "models", "evaluations", "releases")
_OF_ENDPOINT = ("endpoints", "predictions", "outcomes", "consistency", "drift", "performance")


class Form(StrEnum):
    """How the explanation is written."""

    TEXT = "text"
    JSON = "json"


def explain(
    asset: Annotated[
        str, typer.Argument(help="tables/flight_outcomes, features/carrier_delays, models/arrival_delay.")
    ],
    partition: Annotated[str | None, typer.Argument(help="A day. [dim]default: all, counted[/dim]")] = None,
    form: Annotated[Form, typer.Option("--format", help="How to write it.")] = Form.TEXT,
) -> None:
    """Say whether an asset would be computed again, and what differs if so; nothing is computed.

    The answer comes from the records that the steps themselves decide by: what stands, what it was made from, and what
    it would be made from now.

    [dim]ml-assets explain features/carrier_delays 2013-01-05[/dim]
    """
    from ml_assets.steps.explain import downstream, one, upstream_due, verdicts
    from ml_assets.steps.run import Run

    declared = assets()
    found, component = _named(asset, declared)
    every = {name: each for name, (each, _) in declared.items()}
    run = Run(Settings.from_environment())
    known = {partition: one(found, run, partition)} if partition is not None else verdicts(found, run)
    said = {
        "asset": found.name,
        "declared": place(component),
        "partitions": {key: _facts(verdict) for key, verdict in known.items()},
        "upstream": upstream_due(found, run, every),
        "downstream": downstream(found, every),
    }
    typer.echo(json.dumps(said, indent=1) if form is Form.JSON else _text(said, known, partition))


def assets() -> "dict[str, tuple[Asset, Declared]]":
    """Every asset of the project by name, with the component that declares it."""
    from ml_assets.components.endpoint import Endpoint
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.components.model import Model
    from ml_assets.components.table import Table
    from ml_assets.steps.works import Asset

    known = project.project()
    kinds = ((Table, _OF_TABLE), (FeatureView, _OF_VIEW), (Model, _OF_MODEL), (Endpoint, _OF_ENDPOINT))
    found: dict[str, tuple[Asset, Declared]] = {}
    for kind, layers in kinds:
        for declared in known.named(kind).values():
            spec = declared.spec() if isinstance(declared, Table) else declared.spec(known)
            found |= {f"{layer}/{declared.name}": (Asset(layer, spec), declared) for layer in layers}
    return found


def _named(name: str, known: "Mapping[str, tuple[Asset, Declared]]") -> "tuple[Asset, Declared]":
    use_case, _, plain = name.partition("/")
    if plain in known and known[plain][1].use_case == use_case:
        name = plain
    if name not in known:
        near = [each for each in known if each.rpartition("/")[2] == name.rpartition("/")[2]]
        meant = f"Did you mean {shorten(near, 10)}?" if near else f"There are: {shorten(sorted(known), 20)}."
        raise MlAssetsError(f"There is no asset '{name}'. {meant}")
    return known[name]


def place(declared: "Declared") -> str:
    """Where a component is declared: file:line."""
    position = declared.error("", "name")
    return f"{position.file}:{position.line}" if position.file else "unknown"


def _facts(verdict: "Verdict") -> dict[str, Any]:
    stands = verdict.stands
    return {
        "decision": verdict.decision.value,
        "sentence": verdict.sentence(),
        "reasons": list(verdict.reasons),
        "data version": stands.data_version if stands else None,
        "made at": stands.made_at if stands else None,
        "why": stands.reason if stands else None,
        "made from": dict(stands.inputs) if stands else {},
        "would be made from": dict(verdict.inputs),
    }


def _text(said: Mapping[str, Any], known: "Mapping[str, Verdict]", partition: str | None) -> str:
    single = partition is not None or len(known) == 1
    head = " ".join(part for part in (said["asset"], partition) if part)
    body = _single(next(iter(known.values()))) if single and known else _summary(known)
    return "\n".join([f"{head}  ({said['declared']})", *body, *_around(said)])


def _single(verdict: "Verdict") -> list[str]:
    lines, stands = [verdict.sentence()], verdict.stands
    if stands:
        lines.append(f"  data version  {stands.data_version}")
    if stands and stands.made_at:
        lines.append(f"  computed      {stands.made_at[:19]} UTC" + (f": {stands.reason}" if stands.reason else ""))
    before = stands.inputs if stands else {}
    changed = [name for name, value in verdict.inputs.items() if before.get(name) != value]
    kept = [name for name in verdict.inputs if name not in changed]
    lines += [f"  now           {name} {verdict.inputs[name]}" for name in changed]
    lines += [f"  unchanged     {shorten(kept, 8)}"] if kept else []
    return lines


def _summary(known: "Mapping[str, Verdict]") -> list[str]:
    from ml_assets.steps.explain import Decision

    by_decision = {decision: [p for p, v in known.items() if v.decision is decision] for decision in Decision}
    lines = []
    for decision, of_it in by_decision.items():
        if of_it:
            word = "stand" if decision is Decision.STANDS else decision.value
            lines.append(f"  {len(of_it):>5} {word:<9}  first {of_it[0] or 'all'}: {known[of_it[0]].sentence()}")
    return lines or ["  Nothing that it is made from has been delivered yet."]


def _around(said: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Before it: {name} would run for {shorten(p or 'all of it' for p in ps)}."
        for name, ps in said["upstream"].items()
    ]
    following = said["downstream"]
    asked = [name for name in following if name.partition("/")[0] in (*_OF_MODEL[1:], *_OF_ENDPOINT)]
    at_once = [name for name in following if name not in asked]
    if at_once:
        lines.append(f"Follow, where its rows change: {shorten(at_once, 20)}.")
    if asked:
        lines.append(f"Follow, after a training or new rows to answer: {shorten(asked, 20)}.")
    return lines
