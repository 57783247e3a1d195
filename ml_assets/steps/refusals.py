"""Rows that were made and never came into the lake: of which partitions, and what the check or the error said."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ml_assets.adapters.lake import Lake
from ml_assets.errors import shorten
from ml_assets.records import Finding
from ml_assets.steps import catalogue, configuration
from ml_assets.steps.memo import Entry, Memo
from ml_assets.steps.specs import ModelSpec, ViewSpec


def record(spec: ViewSpec | ModelSpec, lake: Lake) -> Memo:
    """What was refused of a view, or of a model's labels; another definition, or expectation, is a new question."""
    if isinstance(spec, ModelSpec):
        return Memo(lake, f"refused/{spec.labels}", version=catalogue.LABELS, config=configuration.of_labels(spec))
    config = configuration.of_view(spec) | {"expectations": {each.check: asdict(each) for each in spec.expectations}}
    return Memo(lake, f"refused/{spec.name}", version=catalogue.FEATURES, config=config)


def keep(
    spec: ViewSpec | ModelSpec, lake: Lake, refused: Mapping[str, Mapping[str, str]], reasons: Sequence[str]
) -> None:
    """Remember why partitions, given with their inputs, were refused."""
    kept = record(spec, lake)
    for partition, inputs in refused.items():
        kept.write(partition, inputs, "", {"because": shorten(reasons)})


def failed(findings: Sequence[Finding]) -> list[str]:
    """What the checks say that let nothing pass."""
    return [f"{each.check}: {each.sentence}" for each in findings if not each.passed and not each.warn]


def standing(spec: ViewSpec, lake: Lake) -> dict[str, Entry]:
    """The refused partitions, sorted, that were not computed since."""
    refused, made = record(spec, lake), Memo(lake, spec.name, version=catalogue.FEATURES, config=None)
    folder = f"memo/refused/{spec.name}/"
    names = [place.removeprefix(folder).removesuffix(".json") for place in lake.objects(folder)]
    found: dict[str, Entry] = {}
    for partition in sorted("" if name == "whole" else name for name in names):
        entry, since = refused.read(partition), made.read(partition)
        if entry and not (since and since.made_at > entry.made_at):
            found[partition] = entry
    return found


def said(entry: Entry) -> str:
    """Why, and when."""
    return f"{entry.metadata['because'].rstrip('.')} (at {entry.made_at[:19]} UTC)"
