"""The proof before traffic: historical rows through the real server and store, bit for bit what the lake gives.

What was proven is a certificate, kept beside the lake and with the registered version. It stands while nothing that
it rests on has changed.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ml_assets import clock
from ml_assets.adapters.deployment import predict
from ml_assets.adapters.registry import ModelVersion
from ml_assets.errors import RegistryUnavailableError
from ml_assets.features.encode import encode
from ml_assets.monitoring.skew import Skew, compare, compare_scores, worst
from ml_assets.records import Finding, Markdown
from ml_assets.serving.bundle import Bundle, ViewRef
from ml_assets.steps import catalogue, offline, online, trained_rows, view_versions
from ml_assets.steps.certificate import Asked, Certificate, Differing, Found, Span
from ml_assets.steps.frames import as_requests
from ml_assets.steps.history import History, history
from ml_assets.steps.memo import Memo
from ml_assets.steps.run import Run
from ml_assets.steps.skews import Ages, Compared
from ml_assets.steps.specs import EndpointSpec
from ml_assets.training import fit

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Proof:
    """A certificate, what to show of it, and why it was made now or stands."""

    certificate: Certificate
    why: str
    table: Markdown | None = None

    def finding(self) -> Finding:
        """What the endpoint's check says; what was not compared makes it a warning."""
        found, asked, learnt = self.certificate, self.certificate.asked, self.certificate.learnt
        otherwise = {**found.differing, **learnt.joined, **learnt.encoding}
        numbers: dict[str, Any] = {
            "rows": asked.rows,
            "as-of times": asked.times,
            "rows of history": asked.history,
            "rows left out": asked.left_out,
            "rows by what they found of a view": msgspec.to_builtins(asked.views),
            "training rows joined anew": learnt.rows,
            "training rows corrected since": learnt.corrected,
            "settings that differ": learnt.settings,
            "different": {name: each.rows for name, each in otherwise.items()},
            "digest": found.digest,
        }
        numbers |= {"inputs that differ": self.table} if self.table else {}
        passed, warned = found.passed, bool(found.warnings())
        return Finding(catalogue.EQUAL_BITS.name, passed and not warned, found.sentence, passed and warned, numbers)


def prove(spec: EndpointSpec, run: Run, packed: Bundle, version: str, url: str) -> Proof:
    """Compare the server's answers with the lake, unless a certificate stands; tell who keeps the evidence.

    Raises:
        EndpointError: the server refuses the rows.
    """
    _put_back(run, packed)
    memo, inputs = _memo(spec, run), _rests_on(spec, run, packed, version)
    entry, known = memo.known(version, inputs), read(spec, run, version)
    if entry and known and entry.data_version == known.digest:  # not that of a later proof, which failed
        return Proof(known, f"not proven again: nothing that it rests on has changed since {entry.made_at[:19]} UTC")
    registered = _registered(spec, run, version)
    certificate, table = _certificate(spec, run, packed, version, url, registered)
    run.lake.replace_object(_place(spec, version), certificate.document())
    if not _attach(run, registered, certificate):
        return Proof(certificate, "the registry could not keep it: proven again at the next run", table)
    if not certificate.passed:
        return Proof(certificate, "it failed: proven again at the next run", table)
    return Proof(certificate, memo.write(version, inputs, certificate.digest, {"rows": certificate.asked.rows}).reason)


def _put_back(run: Run, packed: Bundle) -> None:
    """Put rows online that expired by a shorter `max_age` than that of the version, which is in the routing table."""
    for ref in packed.schema.views:
        if view := view_versions.computed(ref.name, ref.version, run.lake):
            online.complete(view, run, ref.stored)


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
    certificate = Certificate(
        endpoint=spec.name,
        model=schema.model,
        version=version,
        model_hash=schema.model_hash,
        bundle=packed.digest,
        views={ref.name: ref.version for ref in schema.views},
        inputs=len(schema.inputs),
        asked=_asked(spec, asked, compared),
        different=compared.different,
        differing={skew.feature: _differing(skew, compared) for skew in worst(compared.skews)},
        learnt=trained_rows.compared(spec.model, run.lake, packed, registered, asked.rows).certified(schema),
        answers=answers,
        created_at=clock.now().isoformat(),
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


def _differing(skew: Skew, compared: Compared) -> Differing:
    return Differing(skew.different, skew.offline, skew.online, compared.example(skew))


def _asked(spec: EndpointSpec, asked: History, compared: Compared) -> Asked:
    moments = [moment.isoformat() for moment in asked.moments]
    return Asked(
        table=spec.model.spine.table,
        wanted=spec.parity_rows,
        rows=asked.rows.num_rows,
        times=asked.times(),
        history=asked.total,
        spans=[Span(*each) for each in zip(moments, moments[1:], asked.counts(), strict=False)],
        left_out=asked.left_out,
        views={ref.name: _found(ref, compared.ages) for ref in compared.schema.views},
    )


def _found(ref: ViewRef, ages: Ages) -> Found:
    """What the server's answers found of a view."""
    found = sum(age[ref.name] is not None for age in ages)
    without = len(ages) - found
    return Found(found, without if ref.defaults else 0, 0 if ref.defaults else without)


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
    passed = "passed" if certificate.passed else "failed"
    said = f"{passed}: {certificate.asked.rows} rows, {certificate.created_at}"
    try:
        run.registry.attach(
            registered,
            tags={name: said, f"{name}.digest": certificate.digest},
            artifacts={f"parity/{certificate.endpoint}.json": certificate.document()},
        )
    except RegistryUnavailableError:
        return False
    return True
