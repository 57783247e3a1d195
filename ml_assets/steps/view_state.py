"""Whether the rows of a view are those of its declaration; if not, why: an edit, a check that refused, no run yet."""

from collections.abc import Sequence
from typing import NamedTuple

from ml_assets.adapters.lake import Lake
from ml_assets.errors import shorten
from ml_assets.steps import catalogue, configuration, features, refusals, view_versions
from ml_assets.steps.memo import Memo
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ViewSpec

STANDS, EDITED, REFUSED, EMPTY = "stands", "edited", "refused", "no rows yet"


class State(NamedTuple):
    """In a word, and a sentence for each thing that is not as it should be."""

    word: str
    sentences: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """All that is not as it should be, in one text."""
        return " ".join(self.sentences)


def of(spec: ViewSpec, lake: Lake, place: str, days: Sequence[str] | None = None) -> State:
    """The state of some partitions of a view, by default of the newest; `place` says where it is declared."""
    if days is None:
        days = lake.partitions(spec.name)[-1:] if spec.daily and lake.exists(spec.name) else [""]
    refusal, old = refused(spec, lake), edited(spec, lake, place, days)
    if refusal:  # to materialize it as it is would be refused again
        return State(REFUSED, tuple(filter(None, (refusal, old.removesuffix(f" {advice(spec)}")))))
    found = {EDITED: old, EMPTY: missing(spec, lake)}
    return next((State(word, (said,)) for word, said in found.items() if said), State(STANDS))


def missing(spec: ViewSpec, lake: Lake) -> str:
    """Why no row of a view is in the lake; empty where there are some."""
    if has_rows(spec, lake):
        return ""
    return refused(spec, lake) or f"{spec.name} holds nothing yet: no run of it has succeeded. {advice(spec)}"


def has_rows(spec: ViewSpec, lake: Lake) -> bool:
    """Whether any row of a view is in the lake."""
    return lake.exists(spec.name) and lake.dataset(spec.name).count_rows() > 0


def refused(spec: ViewSpec, lake: Lake) -> str:
    """What the run said that refused partitions which were not computed since; empty where none did."""
    found = refusals.standing(spec, lake)
    stands = _standing(spec, lake, list(found))
    found = {partition: entry for partition, entry in found.items() if partition not in stands}
    if not found:
        return ""
    newest = max(found)
    which = f" of {newest}" if spec.daily else ""
    more = f" So were {shorten(list(found)[:-1], 3)}." if len(found) > 1 else ""
    then = advice(spec).replace("Materialize", "Put that right and materialize")
    return f"The rows of {spec.name}{which} were refused: {refusals.said(found[newest])}.{more} {then}"


def edited(spec: ViewSpec, lake: Lake, place: str, days: Sequence[str]) -> str:
    """That rows of some partitions are of an older definition; empty where they are not."""
    old = view_versions.older_days(spec, lake, days)
    if not old:
        return ""
    which = f" of {shorten(old, 3)}" if spec.daily else ""
    return f"The rows of {spec.name}{which} are of the definition before your edit of {place}. {advice(spec)}"


def overdue(spec: ViewSpec, run: Run, days: Sequence[str]) -> list[str]:
    """Of some partitions those whose rows were made by another definition, or from other rows, than stand now."""
    memo, inputs = features.work(spec, run, days)
    entries = {day: memo.read(day) for day in inputs}
    return [day for day, entry in entries.items() if entry and entry.fingerprint != memo.fingerprint(inputs[day])]


def _standing(spec: ViewSpec, lake: Lake, partitions: Sequence[str]) -> set[str]:
    """Of some partitions those whose rows are what a run would make now: an edit or a delivery was taken back."""
    inputs = features.inputs_of(spec, lake, partitions) if partitions else {}
    memo = Memo(lake, spec.name, version=catalogue.FEATURES, config=configuration.of_view(spec))
    return {partition for partition, made_from in inputs.items() if memo.known(partition, made_from)}


def advice(spec: ViewSpec) -> str:
    """The command that computes a view."""
    return f"Materialize it: ml-assets materialize +{spec.name}"
