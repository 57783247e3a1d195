"""`ml-assets leaks`: proves on what is in the lake that features and training sets hold nothing of the future."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.cli import project
from ml_assets.cli.explain import place
from ml_assets.cli.output import note, show
from ml_assets.errors import FeatureError, MlAssetsError, shorten

if TYPE_CHECKING:
    from ml_assets.components.declared import Declared
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.components.model import Model
    from ml_assets.records import Finding
    from ml_assets.steps.run import Run
    from ml_assets.steps.specs import ModelSpec, ViewSpec

GOOD, LEAK, WARNING, NOTHING = "holds", "LEAK", "warning", "nothing yet"
_BY_TYPE = "columns_known_after_the_event_are_refused"


@dataclass(frozen=True)
class Proof:
    """One proof of one asset: its verdict, and the evidence in a sentence and in numbers."""

    proof: str
    asset: str
    verdict: str
    evidence: str
    numbers: dict[str, Any]

    @classmethod
    def of(cls, asset: str, finding: "Finding") -> "Proof":
        """A finding as a proof; one that had no row to look at proves nothing."""
        looked = finding.numbers.get("compared") != 0
        passed = GOOD if looked else NOTHING
        verdict = passed if finding.passed else WARNING if finding.warn else LEAK
        return cls(finding.check, asset, verdict, finding.sentence, dict(finding.numbers))


def leaks(
    name: Annotated[str, typer.Argument(help="A use case (flights) or a model. [dim]default: everything[/dim]")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all numbers.")] = False,
) -> None:
    """Prove that features and training sets hold nothing that was not known at their time.

    The proofs run now, on the rows that are in the lake, whoever wrote them:

    [b]recomputed_without_later_data_it_is_the_same[/b]  the newest rows of a view, without and with poisoned later data
    [b]rows_arrive_as_soon_as_declared[/b]  the observed lag of live deliveries against `known_at` and `delay`
    [b]rows_come_out_the_same_without_later_data[/b]  training rows, made again from tables that end at their time
    [b]no_feature_echoes_the_label[/b]  features and pairs that tell the label implausibly well
    [b]no_row_is_in_two_splits[/b]  copies across the split, duplicates, resampling before it
    [b]columns_known_after_the_event_are_refused[/b]  columns of class `after_event`, when the declarations load

    Exit code 1 when a leak is found. No table is changed.

    [dim]ml-assets leaks flights
    ml-assets leaks arrival_delay --json[/dim]
    """
    from ml_assets.steps.run import Run

    models, views = _wanted(name)
    found = list(_proofs(models, views, Run(Settings.from_environment())))
    if as_json:
        typer.echo(json.dumps([vars(proof) for proof in found], indent=1, default=str))
    else:
        show(("verdict", "asset", "proof", "evidence"), [(p.verdict, p.asset, p.proof, p.evidence) for p in found])
        for proof in found:
            _show_values(proof)
        _summarize(found)
    if any(proof.verdict == LEAK for proof in found):
        raise typer.Exit(1)


def _wanted(name: str) -> "tuple[list[Model], list[FeatureView]]":
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.components.model import Model

    known = project.project()
    every_model, every_view = known.named(Model), known.named(FeatureView)
    models = [model for model in every_model.values() if _is_meant(model, name)]
    used = _with_upstream({view for model in models for view in model.features}, every_view)
    views = [view for key, view in every_view.items() if key in used or view.use_case == name or not name]
    if not models and not views:
        there = sorted({each.use_case for each in every_model.values()} | set(every_model))
        raise MlAssetsError(f"There is no use case and no model '{name}'. There are: {shorten(there, 20) or 'none'}.")
    return models, views


def _with_upstream(used: set[str], every: "Mapping[str, FeatureView]") -> set[str]:
    """Views, and the views that they read."""
    found, new = set[str](), used
    while new:
        found |= new
        read = {table for key in new & set(every) for table in every[key].spec(project.project()).view.tables}
        new = (read & set(every)) - found
    return found


def _is_meant(declared: "Declared", name: str) -> bool:
    return not name or name in (declared.use_case, declared.name, f"{declared.use_case}/{declared.name}")


def _proofs(models: "list[Model]", views: "list[FeatureView]", run: "Run") -> Iterator[Proof]:
    from ml_assets.steps import arrival_lag, view_state

    known = project.project()
    for view in views:
        spec = view.spec(known)
        if view_state.has_rows(spec, run.lake):
            yield _hindsight(spec, run, place(view))
            yield Proof.of(spec.name, arrival_lag.arrives(spec, run))
        elif refused := view_state.refused(spec, run.lake):
            yield Proof("", spec.name, WARNING, refused, {})
        else:
            yield _missing(spec.name)
    for model in models:
        spec = model.spec(known)
        yield _by_type(model)
        if not run.lake.exists(spec.training_set):
            yield _missing(spec.training_set)
            continue
        yield from _of_training_set(spec, run)


def _of_training_set(spec: "ModelSpec", run: "Run") -> Iterator[Proof]:
    from ml_assets.steps import leaks as proofs

    try:
        found = proofs.prove(spec, run)
    except FeatureError as error:
        yield Proof("", spec.training_set, WARNING, str(error), {})
    else:
        yield from (Proof.of(spec.training_set, finding) for finding in found)


def _hindsight(spec: "ViewSpec", run: "Run", where: str) -> Proof:
    """Rows that are no longer those of the declaration, or of the tables, tell nothing by being different."""
    from ml_assets.steps import catalogue, view_state
    from ml_assets.steps import leaks as proofs

    days = run.lake.partitions(spec.name)[-1:] if spec.daily else [""]
    try:
        found = Proof.of(spec.name, proofs.of_view(spec, run))
    except FeatureError as error:
        found = Proof(catalogue.HINDSIGHT.name, spec.name, WARNING, f"{error} Materialize {spec.name} again.", {})
    because = view_state.edited(spec, run.lake, where, days)
    if not because and view_state.overdue(spec, run, days):
        because = f"The tables of {spec.name} have changed since {days[0]} was computed. Materialize it."
    claimed = found.verdict == LEAK and found.numbers.get("compared") == 0  # known before their event: no row is needed
    if found.verdict == GOOD or claimed or not because:
        return found
    return replace(found, verdict=WARNING, evidence=f"Not computed since, so it cannot be judged. {because}")


def _missing(asset: str) -> Proof:
    return Proof("", asset, NOTHING, f"Nothing is in the lake yet. Materialize it: ml-assets materialize +{asset}", {})


def _by_type(model: "Model") -> Proof:
    """That the declarations have loaded is the proof; what they would do otherwise is an error at its line."""
    from ml_assets.components import availability
    from ml_assets.components.table import Table

    tables = project.project().named(Table).values()
    late = {table.name: names for table in tables if (names := availability.late(table.columns()))}
    listed = "; ".join(f"{table}: {shorten(names, 8)}" for table, names in late.items())
    if not late:
        mark = 'Mark columns that exist only after the event in the contract: `metadata={"available": "after_event"}`.'
        said = f"No contract marks a column as `after_event`: nothing was refused. {mark}"
        return Proof(_BY_TYPE, f"models/{model.name}", NOTHING, said, {"columns": late, "compared": 0})
    return Proof(_BY_TYPE, f"models/{model.name}", GOOD, f"Only as outcomes are used {listed}.", {"columns": late})


def _show_values(proof: Proof) -> None:
    """The rows that came out otherwise, with what is stored and what it is without later data."""
    values = proof.numbers.get("values") if proof.verdict == LEAK else None
    if values:
        typer.echo(f"\n{proof.asset}, {proof.proof}: the first values that differ")
        show(("row", "feature", "as stored", "without later data"), [tuple(value.values()) for value in values])


def _summarize(found: list[Proof]) -> None:
    by_verdict = {verdict: sum(p.verdict == verdict for p in found) for verdict in (GOOD, LEAK, WARNING, NOTHING)}
    words = {GOOD: "hold", LEAK: "found a leak", WARNING: "could not be decided", NOTHING: "had nothing to prove yet"}
    note("; ".join(f"{n} {words[verdict]}" for verdict, n in by_verdict.items() if n) + ".")
