"""The endpoint: the released version in a running server, proven to answer as training did before it gets traffic."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ml_assets.adapters.deployment import EndpointStatus, LocalEndpoint, ServerRecord, is_held, predict
from ml_assets.adapters.lake import PartitionRange
from ml_assets.errors import EndpointError
from ml_assets.features.encode import encode
from ml_assets.records import Finding, Markdown, Produced, StepResult, Url
from ml_assets.serving.bundle import Bundle
from ml_assets.steps import catalogue, evaluation, release
from ml_assets.steps.days import shift
from ml_assets.steps.frames import as_requests, model_columns, spine_with_features
from ml_assets.steps.memo import digest
from ml_assets.steps.release import Release
from ml_assets.steps.run import Run
from ml_assets.steps.specs import EndpointSpec
from ml_assets.training import fit

BY_THE_GRAPH = "ml_assets"  # the request id of questions that predictions/<name> asks itself
_DAYS = 10


def materialize(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Start or update the server; a version that answers otherwise than offline takes no traffic from another.

    The first version of all has no other to leave the traffic to: it serves, and its check says what is wrong.
    """
    released = release.latest(spec.model, run.lake)
    if released is None:
        raise EndpointError(f"Model '{spec.model.name}' has no release yet. Materialize {spec.model.release} first.")
    endpoint, version = local(spec, run), released.version
    packed = evaluation.fetch(spec.model, run, version)
    bundles = {version: evaluation.bundle_folder(spec.model, run, version)}
    before = endpoint.status()
    others = {v: w for v, w in before.weights.items() if v != version and w > 0} if before.alive else {}
    status = endpoint.apply({**others, version: 0.0} if others else {version: 1.0}, bundles)
    parity = _parity(spec, run, packed, status, version)
    if not parity.passed and others:
        return _refused(spec, status, released, parity)
    status = endpoint.apply({version: 1.0}, bundles)
    run.log(f"{spec.endpoint}: version {version} answers at {status.url} (generation {status.generation})")
    metadata = {
        "address": Url(status.url or ""),
        "version": version,
        "generation": status.generation,
        "weights": dict(status.weights),
        "pid": status.pid,
        "example": Markdown(_example(status, packed)),
    }
    produced = {
        "": Produced(
            f"{version}:{status.digests.get(version, '')}", metadata, reused=status.generation == before.generation
        )
    }
    return {spec.endpoint: StepResult(produced, (_serving(status, released), parity))}


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


def _refused(
    spec: EndpointSpec, status: EndpointStatus, released: Release, parity: Finding
) -> Mapping[str, StepResult]:
    return {spec.endpoint: StepResult({}, (parity, _serving(status, released)))}


def _serving(status: EndpointStatus, released: Release) -> Finding:
    right = status.weights.get(released.version, 0) > 0 and not status.refused
    return Finding(
        catalogue.SERVES.name, right, f"Weights {dict(status.weights)}, released version {released.version}."
    )


def _parity(spec: EndpointSpec, run: Run, packed: Bundle, status: EndpointStatus, version: str) -> Finding:
    """Send rows of the newest days through the real server, pinned to the version, and compare with the lake."""
    model = spec.model
    days = run.lake.partitions(model.spine.table)
    newest = min((run.lake.partitions(view.name)[-1] for view in model.views if view.daily), default=days[-1])
    span = PartitionRange(shift(newest, -_DAYS), min(days[-1], shift(newest, 1)))
    until = datetime.fromisoformat(newest) + timedelta(days=1)
    rows = spine_with_features(model, run.lake, span, where=f"\"at\" < TIMESTAMPTZ '{until.isoformat()}+00:00'")
    chosen = np.unique(np.linspace(0, rows.num_rows - 1, min(spec.parity_rows, rows.num_rows)).astype(int))
    rows = rows.take(chosen.tolist())
    columns, _ = model_columns(model, rows)
    offline = fit.predict(packed.model_text, encode(columns, packed.schema.inputs))
    names = [*(field.name for field in packed.schema.request_fields), "at"]
    answers = predict(status.url or "", as_requests(rows.select(names)), version=version, check=True)
    online = np.array([answer["score"] for answer in answers])
    differ = np.flatnonzero(online != offline)
    worst = float(np.max(np.abs(online - offline), initial=0.0))
    sentence = f"{len(chosen) - len(differ)} of {len(chosen)} rows from {span.first} to {newest} have equal bits"
    sentence += f"; largest difference {worst:.3g}, first at {rows['at'][int(differ[0])]}." if len(differ) else "."
    return Finding(
        catalogue.EQUAL_BITS.name,
        not len(differ),
        sentence,
        numbers={"rows": len(chosen), "different": len(differ), "largest": worst},
    )


def _example(status: EndpointStatus, packed: Bundle) -> str:
    body: Any = packed.golden.requests[0] if packed.golden.requests else {}
    text = msgspec.json.encode(body).decode()
    return f"```sh\ncurl {status.url}/predict -H 'content-type: application/json' -d '{text}'\n```"
