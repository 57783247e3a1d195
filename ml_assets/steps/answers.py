"""Answers to real requests, by version and day, compared with what the lake gives for the same requests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ml_assets.adapters.lake import Lake
from ml_assets.errors import DeclarationError, shorten
from ml_assets.features import meaning
from ml_assets.features.encode import encode
from ml_assets.monitoring.skew import SCORE, Skew, compare, compare_scores, worst
from ml_assets.serving.bundle import Bundle, ServingSchema
from ml_assets.serving.request import RequestContract
from ml_assets.steps import evaluation, offline
from ml_assets.steps.arrow import among
from ml_assets.steps.run import Run
from ml_assets.steps.skews import Compared
from ml_assets.steps.specs import EndpointSpec
from ml_assets.training import fit

if TYPE_CHECKING:
    import pyarrow as pa

_TYPES = {"VARCHAR": "string", "BIGINT": "int64", "DOUBLE": "float64", "BOOLEAN": "bool_"}


@dataclass(frozen=True)
class Answered:
    """The answers of one version on one day, compared, but for the inputs that are `left_out`."""

    day: str
    version: str
    compared: Compared
    left_out: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many there are."""
        return self.compared.rows.num_rows

    @property
    def rate(self) -> float:
        """The share of answers in which the worst input differs."""
        return max((skew.rate for skew in self.compared.skews), default=0.0)

    def late(self, skew: Skew) -> str:
        """How many of those that differ were answered too early, in words."""
        late = self.compared.late(skew)
        return f" {late:,} of them were answered before the row that counts was online." if late else ""

    def sentence(self) -> str:
        """What differs, the worst input first."""
        found = worst(self.compared.skews)
        late = self.late(found[0]) if found else ""
        said = f"{self.day}, {self.n:,} answers of version {self.version}: {self.compared.sentence()}.{late}"
        return f"{said} {self.not_compared()}".rstrip()

    def not_compared(self) -> str:
        """The inputs that were left out, and why."""
        if not self.left_out:
            return ""
        edited = f"the code of the request function is not what version {self.version} was trained with"
        return f"Not compared, since {edited}: {shorten([f'`{name}`' for name in self.left_out], 12)}."


def compared(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Iterator[Answered]:
    """Compute the inputs of the answers of some days again, by the bundle of the version that answered."""
    rows = run.lake.dataset(spec.predictions, partitions=list(days)).to_table().sort_by("at")
    for version in sorted(rows["version"].unique().to_pylist(), key=lambda version: (len(version), version)):
        own = among(rows, "version", [version])
        packed, left_out = comparable(evaluation.fetch(spec.model, run, version))
        asked = _requests(packed.schema, own)
        columns = _given(packed, run.lake, asked)
        whose = np.array(own["partition_key"].to_pylist())
        for day in sorted(set(whose)):
            places = np.flatnonzero(whose == day).tolist()
            offered = {name: [values[n] for n in places] for name, values in columns.items()}
            found = _of_day(run.lake, packed, asked.take(places), own.take(places), offered)
            yield Answered(day, version, found, left_out)


def of_one(packed: Bundle, lake: Lake, logged: "pa.Table") -> tuple[Answered, dict[str, Any]]:
    """One answer of a version, compared, with the inputs and the score that the lake gives, but for those left out."""
    compared_with, left_out = comparable(packed)
    asked = _requests(packed.schema, logged)
    columns = _given(compared_with, lake, asked)
    (row,) = logged.select(["at", "version"]).to_pylist()
    found = _of_day(lake, compared_with, asked, logged, columns)
    return Answered(row["at"].date().isoformat(), row["version"], found, left_out), columns


def _given(packed: Bundle, lake: Lake, asked: "pa.Table") -> dict[str, Any]:
    """The inputs of requests by name and, where the bundle has its model, the score that they get."""
    columns = offline.inputs_of(packed.schema, lake, asked)
    if packed.model_text:
        columns[SCORE] = fit.predict(packed.model_text, encode(columns, packed.schema.inputs))
    return columns


def _of_day(
    lake: Lake, packed: Bundle, asked: "pa.Table", logged: "pa.Table", columns: Mapping[str, Sequence[Any]]
) -> Compared:
    inputs = packed.schema.inputs
    skews = compare(inputs, columns, {i.name: logged[i.name].to_pylist() for i in inputs})
    if SCORE in columns:
        skews = *skews, compare_scores(np.array(columns[SCORE]), logged["score"].to_pylist())
    return Compared(packed.schema, lake, asked, _ages(logged), skews, logged["logged_at"].to_pylist())


def _ages(logged: "pa.Table") -> list[dict[str, float | None]]:
    """The ages of the rows that were used, by view; unknown for answers that an earlier release kept."""
    if "feature_ages" not in logged.column_names:
        return [{}] * logged.num_rows
    return [json.loads(text or "{}") for text in logged["feature_ages"].to_pylist()]


def comparable(packed: Bundle) -> tuple[Bundle, tuple[str, ...]]:
    """The bundle without what a request function gives that was edited since the training, and what that is."""
    schema = packed.schema
    if not schema.request_features or _code(schema.request_features) == schema.request_features_code:
        return packed, ()
    stored = {f"{ref.name}__{feature}" for ref in schema.views for feature in ref.features}
    kept = tuple(wanted for wanted in schema.inputs if wanted.name in stored)
    left_out = *(wanted.name for wanted in schema.inputs if wanted.name not in stored), SCORE
    schema = msgspec.structs.replace(schema, inputs=kept, request_features=None)
    return Bundle("", schema, packed.golden, packed.digest), left_out


def _code(function: str) -> str | None:
    """The hash of a function's code; None where it was renamed, moved or taken away since."""
    try:
        return meaning.of_function(function)
    except DeclarationError:
        return None


def _requests(schema: ServingSchema, logged: "pa.Table") -> "pa.Table":
    """Logged requests as columns of their types, with the time that they were answered for."""
    import pyarrow as pa

    decode = msgspec.json.Decoder(RequestContract(schema).instance).decode
    decoded = [decode(text) for text in logged["request"].to_pylist()]
    columns = {
        field.name: pa.array(
            [getattr(each, field.name) for each in decoded],
            getattr(pa, _TYPES[field.type])() if field.type in _TYPES else pa.timestamp("us", "UTC"),
        )
        for field in schema.request_fields
    }
    return pa.table({**columns, "at": logged["at"]})
