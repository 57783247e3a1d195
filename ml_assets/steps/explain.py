"""Why an asset stands or would run: the decision that its step would come to now, with what differed.

Nothing is decided here. `works` gives the record and the inputs that the step itself looks at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

from ml_assets.errors import DeclarationError, MlAssetsError, RegistryError, shorten
from ml_assets.records import LAYERS
from ml_assets.steps import endpoint, evaluation, ingest, leaks, model, pending, refusals, release, view_needs
from ml_assets.steps.memo import Entry, Memo, Work
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec
from ml_assets.steps.works import BY_LAYER, Asset


class Decision(StrEnum):
    """What a run would do with a partition."""

    STANDS = "stands"
    WOULD_RUN = "would run"
    MISSING = "missing"
    REFUSED = "refused"
    WAITS = "waits"


_SENTENCES = {
    Decision.STANDS: "Stands: a run would compute nothing",
    Decision.WOULD_RUN: "Would run, since ",
    Decision.MISSING: "Would run for the first time",
    Decision.REFUSED: "Refused: ",
    Decision.WAITS: "Waits: ",
}


@dataclass(frozen=True)
class Verdict:
    """The decision on one partition, what stands of it, and what it would be made from now."""

    decision: Decision
    reasons: tuple[str, ...] = ()
    stands: Entry | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether a run would compute it."""
        return self.decision in (Decision.WOULD_RUN, Decision.MISSING)

    def sentence(self) -> str:
        """The decision in words."""
        return _SENTENCES[self.decision] + shorten(self.reasons) + ("" if "".join(self.reasons).endswith(".") else ".")


def verdicts(asset: Asset, run: Run) -> dict[str, Verdict]:
    """The decision on every partition that the asset could have by now, sorted; "" is a whole."""
    try:
        found = _BESIDE[asset.layer](asset, run) if asset.layer in _BESIDE else dict(_by_memo(asset, run))
    except MlAssetsError as error:
        if isinstance(error, DeclarationError | RegistryError):
            raise
        return {"": Verdict(Decision.WAITS, (str(error),))}
    stop = _stopped(asset, run) if any(verdict.runs for verdict in found.values()) else ""
    held = {p: replace(v, decision=Decision.WAITS, reasons=(stop,)) for p, v in found.items() if stop and v.runs}
    return dict(sorted((found | held).items()))


def _stopped(asset: Asset, run: Run) -> str:
    """What a failed check stops between the training set and an asset of the same model; empty where none does."""
    if asset.layer not in _BEFORE:
        return ""
    before = Asset(_BEFORE[asset.layer], asset.spec)
    verdict = one(before, run, "")
    said = f"{before.name} is refused: {shorten(verdict.reasons)}" if verdict.decision is Decision.REFUSED else ""
    return said or _stopped(before, run)


def one(asset: Asset, run: Run, partition: str) -> Verdict:
    """The decision on one partition; one that nothing is known of waits for what it is made from.

    Raises MlAssetsError where the asset cannot have such a partition.
    """
    found = verdicts(asset, run)
    if partition not in found:
        _require_partition(asset, partition)
    upstream = shorten(asset.upstream()) or "its source"
    nothing = Verdict(Decision.WAITS, (f"{upstream} has nothing for {partition or 'it'} yet",))
    return found.get(partition) or next((v for v in found.values() if v.decision is Decision.WAITS), nothing)


def _require_partition(asset: Asset, partition: str) -> None:
    days = asset.days()
    if not days:
        raise MlAssetsError(f"{asset.name} has no partitions: ask without {partition}.")
    first, last = days
    until = last.isoformat() if last else "today, and on"
    try:
        day = date.fromisoformat(partition)
    except ValueError:
        day = None
    if day is None or partition != day.isoformat() or day < first or (last and day > last):
        raise MlAssetsError(f"{partition} is no partition of {asset.name}: its days are {first} .. {until}.")


def upstream_due(asset: Asset, run: Run, every: Mapping[str, Asset]) -> dict[str, list[str]]:
    """What would run before it: assets that it is made from, directly or not, with the partitions that they miss."""
    ancestors = dict.fromkeys(_ancestors(asset, every))
    due = {name: [p for p, verdict in verdicts(every[name], run).items() if verdict.runs] for name in ancestors}
    return {name: partitions for name, partitions in due.items() if partitions}


def downstream(asset: Asset, every: Mapping[str, Asset]) -> list[str]:
    """The names of all that is made from it, directly or not, in the order of the graph.

    A table that refers to another is not made from its rows: it is judged by what the other holds at the time.
    """
    found = [each for each in every.values() if asset.name in set(_ancestors(each, every))]
    found = [each for each in found if (asset.layer, each.layer) != ("tables", "tables")]
    return [each.name for each in sorted(found, key=lambda each: (LAYERS.index(each.layer), each.name))]


def _ancestors(asset: Asset, every: Mapping[str, Asset]) -> Iterator[str]:
    for name in asset.upstream():
        yield from _ancestors(every[name], every)
        yield name


def _by_memo(asset: Asset, run: Run) -> Iterator[tuple[str, Verdict]]:
    work = BY_LAYER[asset.layer](asset.spec, run)
    refused = _refusals(asset, run)
    edit = view_needs.edit_of(asset.spec, run) if asset.layer == "features" else ""
    for partition, inputs in work.inputs.items():
        verdict = _judged(work, partition, inputs)
        before = refused.known(partition, inputs) if refused and verdict.runs else None
        verdict = _AFTER_REFUSAL[asset.layer](verdict, before) if before else verdict
        verdict = replace(verdict, reasons=(edit, *verdict.reasons)) if edit and verdict.stands else verdict
        verdict = _learnt(verdict) if asset.layer == "models" else verdict
        yield partition, _proven(asset.spec, run, verdict) if asset.layer == "training_sets" else verdict
    if asset.layer == "models" and not work.unknown() and not model.is_registered(asset.spec, run):
        yield "", Verdict(Decision.WOULD_RUN, ("the registry does not have the model",), work.memo.read())


def _learnt(verdict: Verdict) -> Verdict:
    """A model whose blocking checks failed when it was trained, and would fail again."""
    failed = refusals.failed(verdict.stands.findings()) if verdict.stands and not verdict.runs else []
    if not failed:
        return verdict
    said = f"it stands and goes no further: {shorten(failed)}"
    return replace(verdict, decision=Decision.REFUSED, reasons=(said,))


def _proven(spec: ModelSpec, run: Run, verdict: Verdict) -> Verdict:
    """Whether rows that stand are proven, by what `leaks` of the model says now."""
    again, failed = leaks.standing(spec, run)
    if verdict.runs or not (again or failed):
        return verdict
    if again:
        return replace(verdict, decision=Decision.WOULD_RUN, reasons=(again,))
    return replace(
        verdict, decision=Decision.REFUSED, reasons=(f"its rows stand, and no model may have them: {failed}",)
    )


def _judged(work: Work, partition: str, inputs: Mapping[str, str]) -> Verdict:
    entry = work.memo.read(partition)
    if work.memo.known(partition, inputs):
        return Verdict(Decision.STANDS, (), entry, inputs)
    if entry is None:
        return Verdict(Decision.MISSING, (), None, inputs)
    return Verdict(Decision.WOULD_RUN, tuple(work.memo.changes(entry, inputs)), entry, inputs)


def _refusals(asset: Asset, run: Run) -> Memo | None:
    """What came of inputs that were refused; a layer without such a record has None."""
    if asset.layer == "tables":
        return ingest.memos(asset.spec, run.lake, asset.spec.loaded())[1]
    return refusals.record(asset.spec, run.lake) if asset.layer in _AFTER_REFUSAL else None


def _for_good(verdict: Verdict, refused: Entry) -> Verdict:
    """What was refused is refused again while it is made from the same."""
    return replace(
        verdict, decision=Decision.REFUSED, reasons=(f"{refusals.said(refused)}; what was there before stays",)
    )


def _of_view(verdict: Verdict, refused: Entry) -> Verdict:
    """What the last run said that refused these very inputs; the next one tries again."""
    reasons = (f"its last run was refused: {refusals.said(refused)}", *verdict.reasons)
    return replace(verdict, decision=Decision.WOULD_RUN, reasons=reasons)


_AFTER_REFUSAL = {"tables": _for_good, "features": _of_view, "labels": _for_good}


def _of_raw(asset: Asset, run: Run) -> dict[str, Verdict]:
    """Deliveries that are not stored, told from those that are not judged by the reason why they are pending."""
    spec = asset.spec
    unjudged = BY_LAYER["tables"](spec, run).unknown()
    due = {p for p, reason in pending.of_table(spec, run).items() if unjudged.get(p) != reason}
    found = dict.fromkeys(BY_LAYER["tables"](spec, run).inputs, Verdict(Decision.STANDS))
    new = Verdict(Decision.WOULD_RUN, ("the source has deliveries that are not stored",))
    return found | {p: new if p in found else Verdict(Decision.MISSING) for p in due}


def _of_release(asset: Asset, run: Run) -> dict[str, Verdict]:
    """By the gates that are declared now; a version that is released already goes on serving where it fails them."""
    version, standing = model.candidate(asset.spec, run).version, release.latest(asset.spec, run.lake)
    stands = Entry("", {}, standing.version, made_at=standing.released_at) if standing else None
    is_released = standing is not None and standing.version == version
    failed = [gate for gate in evaluation.read(asset.spec, run, version).gates(asset.spec) if not gate.passed]
    if failed:
        said = (
            f"version {version}{' is released and' if is_released else ''} fails {failed[0].name}: {failed[0].sentence}"
        )
        return {"": Verdict(Decision.REFUSED, (said,), stands)}
    if is_released:
        return {"": Verdict(Decision.STANDS, (), stands)}
    before = standing.version if standing else "none"
    return {"": Verdict(Decision.WOULD_RUN, (f"the candidate changed: version {before} → {version}",))}


def _of_endpoint(asset: Asset, run: Run) -> dict[str, Verdict]:
    released = release.latest(asset.spec.model, run.lake)
    if released is None:
        return {}
    weights = endpoint.local(asset.spec, run).status().weights
    served = ", ".join(f"version {version}" for version, share in weights.items() if share) or "nothing"
    if pending.of_endpoint(asset.spec, run):
        return {"": Verdict(Decision.WOULD_RUN, (f"version {released.version} is released and {served} is served",))}
    return {"": Verdict(Decision.STANDS, (), Entry("", {}, released.version))}


_BEFORE = {"models": "training_sets", "evaluations": "models", "releases": "evaluations"}
_BESIDE = {"raw": _of_raw, "releases": _of_release, "endpoints": _of_endpoint}
