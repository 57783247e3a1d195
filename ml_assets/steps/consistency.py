"""Consistency: what real traffic was answered with, day by day, against what the lake gives for the same requests.

The proof before traffic is about history; this is about what happened: a server that read late, stale or other rows
than training will is found here, by feature and by version.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ml_assets.adapters.lake import Lake
from ml_assets.errors import shorten
from ml_assets.features import meaning
from ml_assets.features.encode import encode
from ml_assets.monitoring.skew import Skew, compare, compare_scores, worst
from ml_assets.records import Finding, StepResult, unchanged
from ml_assets.serving.bundle import Bundle, ServingSchema
from ml_assets.serving.request import RequestContract
from ml_assets.steps import catalogue, evaluation, offline
from ml_assets.steps.arrow import among, as_table
from ml_assets.steps.days import shift
from ml_assets.steps.memo import Memo, Work, by_day, digest
from ml_assets.steps.run import Run
from ml_assets.steps.skews import Compared
from ml_assets.steps.specs import DAY, EndpointSpec, ViewSpec, keep_default
from ml_assets.training import fit

if TYPE_CHECKING:
    import pyarrow as pa

_DAYS_AT_ONCE = 14
_TYPES = {"VARCHAR": "string", "BIGINT": "int64", "DOUBLE": "float64", "BOOLEAN": "bool_"}


@dataclass(frozen=True)
class Answered:
    """The answers of one version on one day, compared."""

    day: str
    version: str
    compared: Compared

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
        return f"{self.day}, {self.n:,} answers of version {self.version}: {self.compared.sentence()}.{late}"


def materialize(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Compute the inputs of each day's answers again, and compare them and the scores bit for bit."""
    memo, inputs = work(spec, run, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.consistency: StepResult(produced, unchanged(catalogue.CONSISTENT.name))}
    found = [
        each for n in range(0, len(due), _DAYS_AT_ONCE) for each in _compared(spec, run, due[n : n + _DAYS_AT_ONCE])
    ]
    commit = run.lake.write(spec.consistency, _rows(found), partitions=due)
    for day in due:
        own = [each for each in found if each.day == day]
        entry = memo.write(
            day, inputs[day], commit.content[day].hash, _metadata(own) | {"lake version": commit.version}
        )
        tables = {f"version {each.version}": each.compared.table() for each in own if not each.compared.equal}
        produced[day] = entry.produced(tables)
    return {spec.consistency: StepResult(produced, (_finding(spec, found),))}


def work(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Work:
    """The record of the comparisons, and what those of each day are made from: answers, and the feature rows now."""
    lake, limits = run.lake, {"consistency.tolerate": spec.tolerated_skew}
    memo = Memo(lake, spec.consistency, version=catalogue.CONSISTENCY, config=limits)
    found = lake.content(spec.predictions, partitions=list(days)) if lake.exists(spec.predictions) else {}
    hashes = {day: content.hash for day, content in found.items() if content.n_rows}
    views = {view.name: _Rows(view, lake) for view in spec.model.views}
    features = {day: {name: rows.as_of(day) for name, rows in views.items()} for day in hashes}
    return Work(memo, {day: by_day(spec.predictions, hashes, [day]) | features[day] for day in hashes})


class _Rows:
    """What is known of the content of a view's rows, from the record of its computation: no row is read."""

    def __init__(self, view: ViewSpec, lake: Lake) -> None:
        self._view, self._hashes = view, dict[str, str]()
        self._memo = Memo(lake, view.name, version=catalogue.FEATURES, config=None)

    def as_of(self, day: str) -> str:
        """A hash over all days whose rows may count for requests of a day."""
        oldest = self._view.view.max_age or keep_default(None)
        back = ceil(oldest / DAY) + 1
        days = [shift(day, -n) for n in range(-1, back + 1)] if self._view.daily else [""]
        return digest([self._hash(each) for each in days])

    def _hash(self, day: str) -> str:
        if day not in self._hashes:
            entry = self._memo.read(day)
            self._hashes[day] = entry.data_version if entry else ""
        return self._hashes[day]


def _compared(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Iterator[Answered]:
    rows = run.lake.dataset(spec.predictions, partitions=list(days)).to_table().sort_by("at")
    for version in sorted(rows["version"].unique().to_pylist(), key=lambda version: (len(version), version)):
        own, packed = among(rows, "version", [version]), comparable(evaluation.fetch(spec.model, run, version))
        asked = _requests(packed.schema, own)
        columns = offline.inputs_of(packed.schema, run.lake, asked)
        whose = np.array(own["partition_key"].to_pylist())
        for day in sorted(set(whose)):
            places = np.flatnonzero(whose == day).tolist()
            offered = {name: [values[n] for n in places] for name, values in columns.items()}
            yield Answered(day, version, _of_day(run, packed, asked.take(places), own.take(places), offered))


def _of_day(
    run: Run, packed: Bundle, asked: "pa.Table", logged: "pa.Table", columns: Mapping[str, Sequence[Any]]
) -> Compared:
    inputs = packed.schema.inputs
    skews = compare(inputs, columns, {i.name: logged[i.name].to_pylist() for i in inputs})
    if packed.model_text:
        scores = fit.predict(packed.model_text, encode(columns, inputs))
        skews = *skews, compare_scores(scores, logged["score"].to_pylist())
    return Compared(packed.schema, run.lake, asked, _ages(logged), skews)


def _ages(logged: "pa.Table") -> list[dict[str, float | None]]:
    """The ages of the rows that were used, by view; unknown for answers that an earlier release kept."""
    if "feature_ages" not in logged.column_names:
        return [{}] * logged.num_rows
    return [json.loads(text or "{}") for text in logged["feature_ages"].to_pylist()]


def comparable(packed: Bundle) -> Bundle:
    """The bundle, without what comes from a request function that is not any more what the version was trained with."""
    schema = packed.schema
    if not schema.request_features or meaning.of_function(schema.request_features) == schema.request_features_code:
        return packed
    stored = {f"{ref.name}__{feature}" for ref in schema.views for feature in ref.features}
    kept = tuple(wanted for wanted in schema.inputs if wanted.name in stored)
    schema = msgspec.structs.replace(schema, inputs=kept, request_features=None)
    return Bundle("", schema, packed.golden, packed.digest)


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


def _rows(found: Sequence[Answered]) -> "pa.Table":
    """A row for each feature of each version on each day."""
    lines = [
        {
            "feature": skew.feature,
            "version": each.version,
            "n": len(skew.differs),
            "mismatches": skew.different,
            "rate": skew.rate,
            "late": each.compared.late(skew),
            "example": each.compared.example(skew),
            "partition_key": each.day,
        }
        for each in found
        for skew in each.compared.skews
    ]
    return as_table({name: [line[name] for line in lines] for name in lines[0]})


def _metadata(found: Sequence[Answered]) -> dict[str, Any]:
    return {
        "n_rows": sum(each.n for each in found),
        "answers that differ": sum(each.compared.different for each in found),
        "worst rate": max(each.rate for each in found),
        "said": shorten([each.sentence() for each in found]),
    }


def _finding(spec: EndpointSpec, found: Sequence[Answered]) -> Finding:
    guilty = sorted((each for each in found if each.rate > spec.tolerated_skew), key=lambda each: -each.rate)
    n, days = sum(each.n for each in found), len({each.day for each in found})
    numbers = {
        "answers": n,
        "answers that differ": sum(each.compared.different for each in found),
        "worst rate": max(each.rate for each in found),
        "tolerated": spec.tolerated_skew,
    }
    if guilty:
        more = f" And {len(guilty) - 1} more days or versions." if len(guilty) > 1 else ""
        return Finding(catalogue.CONSISTENT.name, False, guilty[0].sentence() + more, numbers=numbers)
    within = "" if not numbers["answers that differ"] else f", but for {numbers['answers that differ']:,} answers,"
    said = f"{n:,} answers of {days} days{within} have the inputs and the scores that the lake gives, bit for bit."
    return Finding(catalogue.CONSISTENT.name, True, said, numbers=numbers)
