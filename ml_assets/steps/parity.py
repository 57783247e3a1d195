"""The proof before traffic: historical rows through the real server and store, bit for bit what the lake gives.

What was proven is a certificate, kept beside the lake and with the registered version. It stands while nothing that
it rests on has changed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ml_assets import clock
from ml_assets.adapters.deployment import predict
from ml_assets.adapters.registry import ModelVersion
from ml_assets.errors import RegistryUnavailableError, shorten
from ml_assets.features.encode import encode
from ml_assets.monitoring.skew import Skew, compare, compare_scores, worst
from ml_assets.records import Finding, Markdown
from ml_assets.serving.bundle import Bundle
from ml_assets.steps import catalogue, offline, trained_rows
from ml_assets.steps.frames import as_requests
from ml_assets.steps.history import History, history
from ml_assets.steps.memo import Memo
from ml_assets.steps.run import Run
from ml_assets.steps.skews import Compared
from ml_assets.steps.specs import EndpointSpec
from ml_assets.training import fit

if TYPE_CHECKING:
    import pyarrow as pa


class Differing(msgspec.Struct, frozen=True):
    """An input that differs: in how many rows, and the first of them."""

    rows: int
    offline: float | str | None
    online: float | str | None
    first: str


class Span(msgspec.Struct, frozen=True):
    """As-of times from `since` to before `until`, and how many rows were asked as of one of them."""

    since: str
    until: str
    rows: int


class Certificate(msgspec.Struct, frozen=True):
    """What was compared, and what came out.

    `views` are the versions of the feature views, `rows` how many were asked for, of the `wanted` ones. `differing`
    names the inputs, and `score`, that are not equal in all of them; `encoding` those that the bundle encodes otherwise
    than the rows that it was trained with. `answers` is the sha256 of the inputs and scores of the lake, `digest` that
    of the whole certificate without it.
    """

    endpoint: str
    model: str
    version: str
    model_hash: str
    bundle: str
    views: dict[str, int]
    wanted: int
    rows: int
    as_of_times: int
    spans: list[Span]
    inputs: int
    differing: dict[str, Differing]
    encoding: dict[str, Differing]
    encoded_again: int
    answers: str
    created_at: str
    sentence: str
    digest: str = ""

    @property
    def passed(self) -> bool:
        """Whether anything was proven, and nothing differed."""
        return self.rows > 0 and not self.differing and not self.encoding

    def sealed(self) -> "Certificate":
        """The same with its digest."""
        content = msgspec.json.encode(msgspec.structs.replace(self, digest=""))
        return msgspec.structs.replace(self, digest=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Proof:
    """A certificate, what to show of it, and why it was made now or stands."""

    certificate: Certificate
    why: str
    table: Markdown | None = None

    def finding(self) -> Finding:
        """What the endpoint's check says."""
        found = self.certificate
        numbers: dict[str, Any] = {"rows": found.rows, "as-of times": found.as_of_times, "digest": found.digest}
        numbers |= {"different": {name: each.rows for name, each in {**found.differing, **found.encoding}.items()}}
        numbers |= {"inputs that differ": self.table} if self.table else {}
        return Finding(catalogue.EQUAL_BITS.name, found.passed, found.sentence, numbers=numbers)


def prove(spec: EndpointSpec, run: Run, packed: Bundle, version: str, url: str) -> Proof:
    """Compare the server's answers with the lake, unless a certificate stands; tell who keeps the evidence.

    Raises:
        EndpointError: the server refuses the rows.
    """
    memo, inputs = _memo(spec, run), _rests_on(spec, run, packed, version)
    if (entry := memo.known(version, inputs)) and (known := read(spec, run, version)):
        return Proof(known, f"not proven again: nothing that it rests on has changed since {entry.made_at[:19]} UTC")
    registered = _registered(spec, run, version)
    certificate, table = _certificate(spec, run, packed, version, url, registered)
    run.lake.replace_object(_place(spec, version), msgspec.json.format(msgspec.json.encode(certificate), indent=1))
    if not _attach(run, registered, certificate):
        return Proof(certificate, "the registry could not keep it: proven again at the next run", table)
    if not certificate.passed:
        return Proof(certificate, "it failed: proven again at the next run", table)
    return Proof(certificate, memo.write(version, inputs, certificate.digest, {"rows": certificate.rows}).reason)


def read(spec: EndpointSpec, run: Run, version: str) -> Certificate | None:
    """The certificate of a version, if one was made."""
    place = _place(spec, version)
    found = run.lake.get_object(place) if run.lake.has_object(place) else None
    return msgspec.json.decode(found, type=Certificate) if found else None


def _place(spec: EndpointSpec, version: str) -> str:
    return f"certificates/{spec.name}/{version}.json"


def _memo(spec: EndpointSpec, run: Run) -> Memo:
    config = {"parity.rows": spec.parity_rows, "parity.moments": spec.parity_moments}
    return Memo(run.lake, f"certificates/{spec.name}", version=catalogue.ENDPOINT, config=config)


def _rests_on(spec: EndpointSpec, run: Run, packed: Bundle, version: str) -> dict[str, str]:
    """The bundle, the tables of the lake by version, and the store by its newest rows."""
    schema, store = packed.schema, run.online_store
    tables = {spec.model.spine.table, *offline.tables_of(schema, run.lake).values()}
    newest = {f"online {name}": str(store.newest(name)) for name in (ref.stored for ref in schema.views)}
    versions = {name: f"version {run.lake.version(name)}" for name in sorted(tables)}
    return {"version": version, "bundle": packed.digest, "store": str(run.settings.online_store), **versions, **newest}


def _certificate(
    spec: EndpointSpec, run: Run, packed: Bundle, version: str, url: str, registered: ModelVersion | None
) -> tuple[Certificate, Markdown | None]:
    schema = packed.schema
    asked = history(spec.model, run, schema, rows=spec.parity_rows, moments=spec.parity_moments)
    run.log(f"{spec.endpoint}: asking version {version} about {asked.rows.num_rows:,} rows of history")
    compared, answers = _compared(run, packed, version, url, asked.rows)
    trained, encoding = trained_rows.encoded_again(spec.model, run.lake, packed, registered)
    certificate = Certificate(
        endpoint=spec.name,
        model=schema.model,
        version=version,
        model_hash=schema.model_hash,
        bundle=packed.digest,
        views={ref.name: ref.version for ref in schema.views},
        wanted=spec.parity_rows,
        rows=asked.rows.num_rows,
        as_of_times=asked.times(),
        spans=_spans(asked),
        inputs=len(schema.inputs),
        differing={skew.feature: _differing(skew, compared.example(skew)) for skew in worst(compared.skews)},
        encoding={skew.feature: _differing(skew, trained_rows.example(skew)) for skew in worst(encoding)},
        encoded_again=trained,
        answers=answers,
        created_at=clock.now().isoformat(),
        sentence=_sentence(spec, asked, compared, encoding, trained),
    )
    return certificate.sealed(), None if compared.equal else compared.table()


def _compared(run: Run, packed: Bundle, version: str, url: str, rows: "pa.Table") -> tuple[Compared, str]:
    """Ask the server about the rows and compare; also gives the sha256 of what the lake says."""
    schema = packed.schema
    columns = offline.inputs_of(schema, run.lake, rows) if rows.num_rows else {i.name: [] for i in schema.inputs}
    matrix = encode(columns, schema.inputs)
    scores = fit.predict(packed.model_text, matrix) if rows.num_rows else np.array([])
    answers = predict(url, as_requests(rows), version=version, check=True)
    given = {i.name: [answer["features"][i.name] for answer in answers] for i in schema.inputs}
    skews = *compare(schema.inputs, columns, given), compare_scores(scores, [each["score"] for each in answers])
    ages = [answer["feature_ages"] for answer in answers]
    digest = hashlib.sha256(matrix.tobytes() + scores.tobytes()).hexdigest()
    return Compared(schema, run.lake, rows, ages, skews), digest


def _differing(skew: Skew, first: str) -> Differing:
    return Differing(skew.different, skew.offline, skew.online, first)


def _spans(asked: History) -> list[Span]:
    moments = [moment.isoformat() for moment in asked.moments]
    return [Span(*each) for each in zip(moments, moments[1:], asked.counts(), strict=False)]


def _sentence(spec: EndpointSpec, asked: History, compared: Compared, encoding: Sequence[Skew], trained: int) -> str:
    n, (since, *_, until) = asked.rows.num_rows, (moment.isoformat(sep=" ")[:16] for moment in asked.moments)
    if not n:
        return f"{spec.model.spine.table} has no rows from {since} to {until} to prove anything with."
    only = f" (of {spec.parity_rows:,} wanted: history has no more)" if n < spec.parity_rows else ""
    asked_for = f"{n:,} rows{only} as of {asked.times():,} times from {since} to {until}"
    if wrong := worst(encoding):
        named = f"the bundle encodes `{wrong[0].feature}` otherwise than the rows that the model was trained with"
        more = shorten([f"`{skew.feature}`" for skew in wrong[1:]])
        return f"{asked_for}; {named}: {trained_rows.example(wrong[0])}{f'; also {more}' if more else ''}."
    differ = "" if compared.equal else f"{compared.different:,} of "
    return f"{differ}{asked_for}{' differ' if differ else ''}: {compared.sentence()}{_checked(trained)}."


def _checked(trained: int) -> str:
    return f"; {trained} training rows are encoded as they were then" if trained else ""


def _registered(spec: EndpointSpec, run: Run, version: str) -> ModelVersion | None:
    try:
        return run.registry.version(spec.model.name, version)
    except RegistryUnavailableError as error:
        run.log(f"{spec.endpoint}: {error} The rows that the model was trained with are not looked at.")
        return None


def _attach(run: Run, registered: ModelVersion | None, certificate: Certificate) -> bool:
    """Keep the certificate with the registered version; False where that is not possible."""
    if registered is None:
        return False
    name = f"parity.{certificate.endpoint}"
    said = f"{'passed' if certificate.passed else 'failed'}: {certificate.rows} rows, {certificate.created_at}"
    content = msgspec.json.format(msgspec.json.encode(certificate), indent=1)
    try:
        run.registry.attach(
            registered,
            tags={name: said, f"{name}.digest": certificate.digest},
            artifacts={f"parity/{certificate.endpoint}.json": content},
        )
    except RegistryUnavailableError:
        return False
    return True
