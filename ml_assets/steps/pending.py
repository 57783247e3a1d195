"""What should be computed and is not: the level that the reconciling schedule looks at, where conditions see edges."""

import json
from collections.abc import Mapping, Sequence

from ml_assets.adapters.landing import Landing
from ml_assets.steps import catalogue, endpoint, features, ingest, labels, predictions, release, watching
from ml_assets.steps.days import holds
from ml_assets.steps.memo import Memo
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec, ModelSpec, TableSpec, ViewSpec
from ml_assets.tables import contract as contracts


def of_table(spec: TableSpec, run: Run) -> Mapping[str, str]:
    """Partitions with files that are not stored or not judged, by the digest of what was delivered."""
    landing = Landing(run.settings.landing(spec.files), daily=spec.daily)
    delivered = {p: state for p, state in landing.content().items() if not spec.daily or holds(spec, p)}
    kept = ingest.deliveries(spec, run.lake, list(delivered))
    stored = {(file.partition_key, file.sha256) for file in kept}
    known = {partition for partition, _ in stored}
    missing = {p: state.digest for p, state in delivered.items() if p not in known}
    for delivery in landing.deliveries():
        partition = delivery.partition or ""
        if partition in known and partition in delivered and partition not in missing:
            name = ingest.name_of(landing, delivery)
            sizes = {file.size_bytes for file in kept if file.partition_key == partition and file.name == name}
            if delivery.size not in sizes:
                missing[partition] = delivered[partition].digest
    return {**_unjudged(spec, run, kept), **missing}


def _unjudged(spec: TableSpec, run: Run, kept: Sequence[ingest.Stored]) -> dict[str, str]:
    """Stored partitions that today's contract neither let in nor refused, by fingerprint."""
    made, refused = ingest.memos(spec, run.lake, contracts.load(spec.contract, keys=spec.keys))
    inputs = ingest.inputs_of(spec, kept, sorted({file.partition_key for file in kept}))
    return {p: f for p, f in _unknown(made, inputs).items() if refused.known(p, inputs[p]) is None}


def of_view(spec: ViewSpec, run: Run) -> Mapping[str, str]:
    """Partitions whose inputs are not those that the rows were computed from, by fingerprint."""
    main = spec.tables[0].table
    days = run.lake.partitions(main) if run.lake.exists(main) and spec.daily else [""]
    memo = Memo(run.lake, spec.name, version=catalogue.FEATURES, config=spec.view)
    return _unknown(memo, features.inputs_of(spec, run.lake, days)) if days else {}


def of_labels(spec: ModelSpec, run: Run) -> Mapping[str, str]:
    """Partitions whose spine or outcomes are not those that were labelled."""
    if not run.lake.exists(spec.spine.table):
        return {}
    days = run.lake.partitions(spec.spine.table)
    return _unknown(labels.memo(spec, run), labels.inputs_of(spec, run.lake, days)) if days else {}


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
    known = run.lake.exists(spec.predictions) and run.lake.exists(spec.model.labels)
    return _unknown(*predictions.outcome_work(spec, run.lake, run.lake.partitions(spec.predictions))) if known else {}


def of_drift(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose answers are not those that were compared."""
    days = run.lake.partitions(spec.predictions) if run.lake.exists(spec.predictions) else []
    return _unknown(*watching.drift_work(spec, run.lake, days)) if days else {}


def of_performance(spec: EndpointSpec, run: Run) -> Mapping[str, str]:
    """Days whose outcomes are not those that were judged, or were not mature then."""
    days = run.lake.partitions(spec.outcomes) if run.lake.exists(spec.outcomes) else []
    return _unknown(*watching.performance_work(spec, run.lake, days)) if days else {}


def _unknown(memo: Memo, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {p: memo.fingerprint(hashes) for p, hashes in inputs.items() if memo.known(p, hashes) is None}


def seen_twice(group: str, run: Run, missing: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Of what is missing now, what was missing for the same reason at the last look; remembers this look."""
    place = f"reconcile/{group}.json"
    before = json.loads(run.lake.get_object(place)) if run.lake.has_object(place) else {}
    run.lake.replace_object(place, json.dumps({name: dict(found) for name, found in missing.items()}).encode())
    return {
        name: {p: reason for p, reason in found.items() if before.get(name, {}).get(p) == reason}
        for name, found in missing.items()
    }
