"""Older versions of a feature view: computed beside the declared one until no model needs them any more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ml_assets.errors import DeclarationError, FeatureError, LakeError, shorten
from ml_assets.records import Finding, StepResult
from ml_assets.steps import catalogue, view_needs, view_versions
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.turns import alone
from ml_assets.steps.view_moves import make_room
from ml_assets.steps.view_needs import Needs
from ml_assets.steps.view_versions import KEPT, ViewVersion

Compute = Callable[[ViewSpec, Run], Mapping[str, StepResult]]


def beside(spec: ViewSpec, run: Run, compute: Compute) -> Mapping[str, StepResult]:
    """Compute for the same partitions each older version of a view that a model needs, then the declared one.

    Older ones come first: an edit that cannot be computed must not starve what is served. What of them fails is said
    by a check and stops nothing: a new model must be able to take their model's place.
    """
    with alone(spec.view.name, run):  # runs of other days may find the same edit at the same moment
        make_room(spec, run.lake)
    older = _older(spec, run)
    needs = view_needs.of_view(spec.view.name, older, run)
    problems = [_computed(each, spec, run, compute) for each in older if each.number in needs]
    _forget(spec, run, [each.number for each in older if each.number not in needs])
    view_versions.require_read(spec, run.lake)
    results = compute(spec, run)
    result, said = results[spec.name], {"version": view_versions.current(spec, run.lake), **_said(needs)}
    produced = {p: replace(made, metadata={**made.metadata, **said}) for p, made in result.produced.items()}
    finding = _finding(needs, [text for text in problems if text])
    return {**results, spec.name: StepResult(produced, (*result.findings, finding))}


def _older(spec: ViewSpec, run: Run) -> list[ViewVersion]:
    number = view_versions.current(spec, run.lake)
    return [v for v in view_versions.versions(spec.view.name, run.lake) if v.state == KEPT and v.number != number]


def _computed(version: ViewVersion, spec: ViewSpec, run: Run, compute: Compute) -> str:
    """What is wrong with an older version, if anything."""
    name = f"{spec.name}@{version.number}"
    run.log(f"{spec.name}: version {version.number} is needed and computed as well")
    try:
        own = view_versions.as_it_read(version.spec(spec.tables), run.lake)
        (result,) = compute(own, run).values()
    except (DeclarationError, FeatureError, LakeError) as error:  # a contract that it was declared with may be gone
        return f"{name}: {error}"
    return shorten(
        [f"{name}: {each.check}: {each.sentence}" for each in result.findings if not (each.passed or each.warn)]
    )


def _forget(spec: ViewSpec, run: Run, numbers: Sequence[int]) -> None:
    """Take versions that no model needs out of the online store; their rows in the lake stay readable."""
    stored = {f"{spec.view.name}@{number}" for number in numbers} & set(run.online_store.views() if numbers else ())
    for name in sorted(stored):
        run.log(f"{spec.name}: no model needs {name} any more: it leaves the online store")
        run.online_store.drop(name)


def _said(needs: Needs) -> dict[str, str]:
    return {"older versions": "; ".join(_line(n, who) for n, who in needs.items())} if needs else {}


def _line(number: int, who: Sequence[str]) -> str:
    return f"version {number} for {shorten(who)}"


def _finding(needs: Needs, problems: Sequence[str]) -> Finding:
    served = "; ".join(_line(n, who) for n, who in needs.items()) or "no model needs an older version"
    more = "" if not problems else f" Not computed: {shorten(problems)} Train and release on the declared version."
    return Finding(catalogue.RETAINED.name, not problems, f"{served[0].upper()}{served[1:]}.{more}")
