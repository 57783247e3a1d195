"""What should be computed and is not: the level that the reconciling schedule looks at, where conditions see edges."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256

from ml_assets.errors import SourceUnavailableError
from ml_assets.steps import deliver, endpoint, ingest, predictions, refusals, release, works
from ml_assets.steps.days import holds
from ml_assets.steps.memo import Work
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec, ModelSpec, TableSpec, ViewSpec


def of_table(spec: TableSpec, run: Run) -> Mapping[str, str]:
    """Partitions with content that is not stored or not judged, by the digest of what the source has."""
    days = run.lake.partitions(spec.raw) if run.lake.exists(spec.raw) else []
    kept = deliver.deliveries(spec, run.lake, [day for day in days if holds(spec, day)])
    try:
        missing = _not_stored(spec, run, kept)
    except SourceUnavailableError as error:
        run.log(f"{spec.table}: {error}")
        missing = {}
    return {**_unjudged(spec, run, kept), **missing}


def _not_stored(spec: TableSpec, run: Run, kept: Sequence[deliver.Stored]) -> dict[str, str]:
    source = deliver.source_of(spec, run)
    states = {p: state for p, state in source.look({}).states.items() if not spec.daily or holds(spec, p)}
    stored = {(file.partition_key, file.sha256) for file in kept}
    known = {partition for partition, _ in stored} & set(states)
    missing = set(states) - known
    if deliver.polled(spec.source):
        missing = {partition for partition in missing if not deliver.known_empty(spec, run.lake, partition)}
    else:
        positions = {p: position for p, position in deliver.positions(kept).items() if p in known}
        fetched = source.fetch(sorted(known), positions)
        missing |= {f.partition for f in fetched if (f.partition, sha256(f.content).hexdigest()) not in stored}
    return {partition: states[partition].digest for partition in missing}


def _unjudged(spec: TableSpec, run: Run, kept: Sequence[deliver.Stored]) -> dict[str, str]:
    """Stored partitions that today's contract neither let in nor refused, by fingerprint."""
    made, refused = ingest.memos(spec, run.lake, spec.loaded())
    inputs = ingest.inputs_of(spec, run.lake, kept, sorted({file.partition_key for file in kept}))
    return {p: f for p, f in Work(made, inputs).unknown().items() if refused.known(p, inputs[p]) is None}


def of_view(spec: ViewSpec, run: Run) -> Mapping[str, str]:
    """Partitions whose inputs are not those that the rows were computed from, by fingerprint."""
    return works.of_view(spec, run).unknown()


def of_labels(spec: ModelSpec, run: Run) -> Mapping[str, str]:
    """Partitions whose spine or outcomes are not those that were labelled, or whose labels were refused."""
    work, refused = works.of_labels(spec, run), refusals.record(spec, run.lake)
    return {p: f for p, f in work.unknown().items() if refused.known(p, work.inputs[p]) is None}


def of_endpoint(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """The released version, when the server does not answer with it."""
    released = release.latest(spec.model, run.lake)
    served = endpoint.local(spec, run).status().weights if released else {}
    return {"": released.version} if released and not served.get(released.version) else {}


def of_predictions(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days that can be answered, and were not, or not to their end."""
    released = release.latest(spec.model, run.lake)
    days = run.lake.partitions(spec.model.spine.table) if released else []
    return predictions.incomplete(spec, run, predictions.due_days(spec, run, released, days)) if released else {}


def of_outcomes(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose answers or labels are not those that were joined."""
    return works.of_outcomes(spec, run).unknown()


def of_consistency(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose answers, or the feature rows that count for them, are not those that were compared."""
    return works.of_consistency(spec, run).unknown()


def of_drift(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose answers are not those that were compared."""
    return works.of_drift(spec, run).unknown()


def of_performance(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose outcomes are not those that were judged, or were not mature then."""
    return works.of_performance(spec, run).unknown()


def seen_twice(group: str, run: Run, missing: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Of what is missing now, what was missing for the same reason at the last look; remembers this look."""
    place = f"reconcile/{group}.json"
    before = json.loads(run.lake.get_object(place)) if run.lake.has_object(place) else {}
    run.lake.replace_object(place, json.dumps({name: dict(found) for name, found in missing.items()}).encode())
    return {
        name: {p: reason for p, reason in found.items() if before.get(name, {}).get(p) == reason}
        for name, found in missing.items()
    }
