"""The endpoint: the released version in a running server, proven to answer as training did before it gets traffic."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ml_assets.adapters.deployment import EndpointStatus, LocalEndpoint, ServerRecord, is_held
from ml_assets.errors import EndpointError
from ml_assets.records import Finding, Markdown, Produced, StepResult, Url
from ml_assets.serving.bundle import Bundle
from ml_assets.steps import catalogue, evaluation, parity, release
from ml_assets.steps.memo import digest
from ml_assets.steps.parity import Proof
from ml_assets.steps.release import Release
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec

BY_THE_GRAPH = "ml_assets"  # the request id of questions that predictions/<name> asks itself


def materialize(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Start or update the server; a version takes traffic once it is proven to answer as the lake says.

    A version that fails leaves what serves where it is: another version, or none, which answers 503. One that has
    the traffic already keeps it, since nothing could take its place; its check says what is wrong.
    """
    released = release.latest(spec.model, run.lake)
    if released is None:
        raise EndpointError(f"Model '{spec.model.name}' has no release yet. Materialize {spec.model.release} first.")
    endpoint, version = local(spec, run), released.version
    packed = evaluation.fetch(spec.model, run, version)
    before, served = endpoint.status(), endpoint.served()
    status = _beside(endpoint, served, version, evaluation.bundle_folder(spec.model, run, version))
    proof = parity.prove(spec, run, packed, version, status.url or "")
    if not proof.certificate.passed and version not in served:
        return {spec.endpoint: StepResult({}, (_serving(status, released), proof.finding()))}
    status = endpoint.apply({version: 1.0})
    run.log(f"{spec.endpoint}: version {version} answers at {status.url} (generation {status.generation})")
    produced = Produced(
        f"{version}:{status.digests.get(version, '')}",
        _metadata(status, version, packed, proof),
        reused=status.generation == before.generation,
    )
    return {spec.endpoint: StepResult({"": produced}, (_serving(status, released), proof.finding()))}


def _beside(endpoint: LocalEndpoint, served: Mapping[str, float], version: str, bundle: Path) -> EndpointStatus:
    """Load a version beside what serves, without traffic unless it has that already."""
    try:
        return endpoint.apply({version: 0.0, **served}, {version: bundle})
    except EndpointError:
        if set(served) <= {version} or endpoint.status().weights:
            raise
        return endpoint.apply({version: 0.0}, {version: bundle})  # what served before cannot be loaded any more


def _metadata(status: EndpointStatus, version: str, packed: Bundle, proof: Proof) -> dict[str, Any]:
    return {
        "address": Url(status.url or ""),
        "version": version,
        "generation": status.generation,
        "weights": dict(status.weights),
        "pid": status.pid,
        "example": Markdown(_example(status, packed)),
        "parity": f"{proof.certificate.sentence} Certificate {proof.certificate.digest[:12]}; why: {proof.why}.",
    }


def local(spec: EndpointSpec, run: Run) -> LocalEndpoint:
    """The server of this installation."""
    return LocalEndpoint(run.settings.endpoints / spec.name, name=spec.name, online_store=run.settings.online_store)


def gone(spec: EndpointSpec, run: Run) -> str | None:
    """The server that ran last, by its instance, when it is not alive any more."""
    folder = local(spec, run).folder
    record = ServerRecord.read(folder)
    return record.instance if record and not is_held(folder / "server.lock") else None


def unread(spec: EndpointSpec, run: Run, seen: Mapping[str, int]) -> tuple[dict[str, int], dict[str, str]]:
    """Sizes of the log's segments, and the days asked about in what they grew by, by a digest of these sizes."""
    folder = Path(local(spec, run).config.log)
    paths = sorted(folder.glob("*.jsonl*")) if folder.is_dir() else []
    sizes: dict[str, int] = {}
    days: set[str] = set()
    for path in paths:
        name = path.name.removesuffix(".open")
        lines = _complete_lines(path if path.exists() else path.with_name(name), seen.get(name, 0))
        sizes[name] = seen.get(name, 0) + len(lines)
        days |= days_asked(lines)
    content = digest({name: size for name, size in sizes.items() if size != seen.get(name, 0)})
    return sizes, dict.fromkeys(sorted(days), content)


def _complete_lines(path: Path, first: int) -> bytes:
    """What a segment holds from a byte on, without a line that is being written."""
    with path.open("rb") as segment:
        segment.seek(first)
        content = segment.read()
    return content[: content.rfind(b"\n") + 1]


def days_asked(lines: bytes) -> set[str]:
    """The days of the prediction times in log lines that were answered for clients."""
    found = set()
    for line in lines.split(b"\n")[:-1]:
        record = msgspec.json.decode(line, type=_Asked)
        asked_by_client = record.purpose == "serve" and record.request_id != BY_THE_GRAPH
        if record.at and record.status == "ok" and asked_by_client:
            found.add(record.at.date().isoformat())
    return found


class _Asked(msgspec.Struct):
    request_id: str
    at: datetime | None
    purpose: str
    status: str


def _serving(status: EndpointStatus, released: Release) -> Finding:
    right = status.weights.get(released.version, 0) > 0 and not status.refused
    return Finding(
        catalogue.SERVES.name, right, f"Weights {dict(status.weights)}, released version {released.version}."
    )


def _example(status: EndpointStatus, packed: Bundle) -> str:
    body: Any = packed.golden.requests[0] if packed.golden.requests else {}
    text = msgspec.json.encode(body).decode()
    return f"```sh\ncurl {status.url}/predict -H 'content-type: application/json' -d '{text}'\n```"
