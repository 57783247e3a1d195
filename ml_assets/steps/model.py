"""The model: searched and fitted from a manifest, recorded as one MLflow run and one registered version."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.registry import Candidate, ModelVersion
from ml_assets.engine import connect
from ml_assets.errors import MlAssetsError, TrainingError, shorten
from ml_assets.features import meaning
from ml_assets.features.encode import Input, encode, fit_inputs
from ml_assets.monitoring.calibrate import calibrated
from ml_assets.monitoring.profile import Kind, Profile, reference
from ml_assets.records import Finding, Markdown, StepResult
from ml_assets.serving import bundle
from ml_assets.steps import (
    catalogue,
    categories,
    configuration,
    pins,
    training_set,
    usefulness,
    view_needs,
    view_versions,
)
from ml_assets.steps.arrow import as_table
from ml_assets.steps.environment import lineage_tags
from ml_assets.steps.frames import admissible, as_requests, input_names, request_schema
from ml_assets.steps.memo import Entry, Memo, Work, flat
from ml_assets.steps.pictures import markdown_table, picture
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec
from ml_assets.training.fit import FitSpec, Fitted, fit, predict
from ml_assets.training.matrix import Matrix
from ml_assets.training.search import SearchResult, SearchSpec, Trial, search

if TYPE_CHECKING:
    import pyarrow as pa

_GOLDEN_ROWS = 24


@dataclass(frozen=True)
class Frame:
    """A training set in memory: its rows, the model's columns of them, and the request fields that these need."""

    rows: "pa.Table"
    columns: Mapping[str, Any]
    request_fields: set[str]
    inputs: tuple[Input, ...]

    @classmethod
    def load(cls, spec: ModelSpec, lake: Lake, *, version: int) -> "Frame":
        """Read a version of the training set."""
        return cls.of(spec, lake.dataset(spec.training_set, version=version).to_table())

    @classmethod
    def of(cls, spec: ModelSpec, rows: "pa.Table") -> "Frame":
        """Take rows in any order; kinds and categories of the inputs are learnt from the training split only."""
        rows = rows.sort_by([("at", "ascending"), *((k, "ascending") for k in spec.spine.keys)])
        columns, fields = training_set.columns_of(spec, rows)
        learnt = rows.filter(cls._in(rows, "train"))
        names = input_names(spec, learnt)
        return cls(rows, columns, fields, fit_inputs(_learnt(spec, learnt, names), names))

    @staticmethod
    def _in(rows: "pa.Table", part: str) -> np.ndarray:
        return rows["split"].to_numpy(zero_copy_only=False) == part

    def part(self, name: str) -> np.ndarray:
        """Which rows belong to a split."""
        return self._in(self.rows, name)

    @cached_property
    def encoded(self) -> np.ndarray:
        """The inputs of all rows, `[n_rows, n_inputs]`."""
        return encode(self.columns, self.inputs)

    def matrix(self, part: str) -> Matrix:
        """The rows of a split as the estimator sees them."""
        mask = self.part(part)
        categorical = tuple(i.name for i in self.inputs if i.kind == "categorical")
        names = tuple(i.name for i in self.inputs)
        return Matrix(self.encoded[mask], training_set.labels_of(self.rows)[mask], names, categorical)


def _learnt(spec: ModelSpec, rows: "pa.Table", names: Sequence[str]) -> "pa.Table":
    """The inputs of training rows: features as they are stored, since a column of nulls alone has no type by itself."""
    stored = [name for view in spec.views for name in view.view.qualified_features()]
    columns, _ = training_set.columns_of(spec, rows)
    known = rows.select(stored)
    for name in names:
        known = known if name in stored else known.append_column(name, as_table({name: columns[name]})[name])
    return known


def train(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Search, fit and register, unless a version was made from this very training set."""
    manifest = _manifest(spec, run)
    memo, inputs = work(spec, run)
    fingerprint = memo.fingerprint(inputs[""])
    if (known := memo.known("", inputs[""])) and is_registered(spec, run):
        run.log(f"{spec.model}: version {known.metadata['version']} was trained from the same rows and settings")
        return {
            spec.model: StepResult(
                {"": known.produced(reused=True)}, known.findings(*(check.name for check in catalogue.TRAINED))
            )
        }
    _require_as_declared(spec, manifest)
    run.registry.require()
    frame = Frame.load(spec, run.lake, version=manifest.metadata["lake version"])
    searched, fitted = _train(spec, run, frame)
    version = _record(spec, run, frame, (searched, fitted), manifest, fingerprint)
    metadata = {
        "version": version.version,
        "model hash": fitted.model_hash,
        "mlflow run": version.run_id,
        "rounds": fitted.best_iteration,
        "trials": len(searched.trials),
        "watermark": manifest.metadata["watermark"],
        "n_rows": int(frame.part("train").sum()),
    }
    findings = _findings(spec, frame, fitted)
    entry = memo.write("", inputs[""], fitted.model_hash, metadata, findings)
    return {spec.model: StepResult({"": entry.produced(_pictures(fitted, searched))}, findings)}


def work(spec: ModelSpec, run: Run) -> Work:
    """The record of the model, and the training set that it is made from."""
    memo = Memo(run.lake, spec.model, version=catalogue.MODEL, config=configuration.of_model(spec))
    return Work(memo, {"": {spec.training_set: _manifest(spec, run).data_version}})


def is_registered(spec: ModelSpec, run: Run) -> bool:
    """Whether the registry has the model that would be made now."""
    memo, inputs = work(spec, run)
    return run.registry.find(spec.name, memo.fingerprint(inputs[""])) is not None


def _manifest(spec: ModelSpec, run: Run) -> Entry:
    manifest = Memo(run.lake, spec.training_set, version=catalogue.TRAINING_SET, config=None).read()
    if manifest is None:
        raise TrainingError(f"There is no training set {spec.training_set}. Materialize it first.")
    return manifest


def _require_as_declared(spec: ModelSpec, manifest: Entry) -> None:
    """Refuse rows that were joined by other settings: the bundle would hold those of now, and serve other features."""
    declared = flat(configuration.of_training_set(spec))
    changed = sorted(name for name in {*declared, *manifest.config} if declared.get(name) != manifest.config.get(name))
    if changed:
        problem = f"was made by another declaration: {shorten(changed)} changed since"
        raise TrainingError(f"{spec.training_set} {problem}. Materialize it first.")


def _train(spec: ModelSpec, run: Run, frame: Frame) -> tuple[SearchResult, Fitted]:
    budget = spec.budget
    journal = run.settings.home / "search" / f"{spec.name}.journal"
    journal.parent.mkdir(parents=True, exist_ok=True)
    base = FitSpec(rounds=budget.rounds, num_threads=budget.threads)
    searching = SearchSpec(fit=base, trials=budget.trials, journal=str(journal))

    def report(trial: Trial) -> None:
        reached = f"log loss {trial.value:.5f} in {trial.rounds} rounds"
        run.log(f"trial {trial.number + 1} of {budget.trials}: {trial.state}, {reached}")

    learning, tuning = frame.matrix("train"), frame.matrix("validation")
    found = search(learning, tuning, searching, seed=budget.seed, report=report)
    return found, fit(learning, found.fit, seed=budget.seed, validation=tuning)


def _record(
    spec: ModelSpec, run: Run, frame: Frame, trained: tuple[SearchResult, Fitted], manifest: Entry, fingerprint: str
) -> ModelVersion:
    found, fitted = trained
    numbers = view_versions.claim(pins.views(run.lake, manifest.metadata["manifest"]), run.lake)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bundle"
        write_bundle(place, spec, frame, fitted, numbers)
        profile = reference_profile(frame, predict(fitted.model_text, frame.encoded))
        example = {i.name: frame.encoded[:5, n].tolist() for n, i in enumerate(frame.inputs)}
        candidate = Candidate(
            name=spec.name,
            fingerprint=fingerprint,
            run_key=f"{run.run_id}/{spec.model}/{fingerprint}",
            model_text=fitted.model_text,
            model_hash=fitted.model_hash,
            example=example,
            bundle=place,
            params={**fitted.params, "rounds": fitted.best_iteration, "trials": len(found.trials)},
            metrics={
                name.replace("/", "_"): values[fitted.best_iteration - 1] for name, values in fitted.curves.items()
            },
            curves=fitted.curves,
            tags=lineage_tags(spec, run, manifest) | {view_needs.VERSIONS_TAG: view_needs.tag_of(numbers)},
            artifacts={
                "reference.json": profile.to_json().encode(),
                "importance.json": msgspec.json.encode(fitted.importance),
            },
        )
        version = run.registry.record(candidate)
    run.lake.replace_object(f"references/{spec.name}/{version.version}.json", profile.to_json().encode())
    run.lake.replace_object(f"importance/{spec.name}/{version.version}.json", msgspec.json.encode(fitted.importance))
    categories.remember_training(spec, run.lake, version.version, frame.inputs)
    return version


def write_bundle(
    place: Path, spec: ModelSpec, frame: Frame, fitted: Fitted, numbers: Mapping[str, int] = MappingProxyType({})
) -> str:
    """Write what serves the model: text, schema, and test rows with the scores that they must get.

    `numbers` are the versions of the views that it was trained with.
    """
    schema = msgspec.structs.replace(
        request_schema(spec, sorted(frame.request_fields), numbers),
        model_hash=fitted.model_hash,
        inputs=frame.inputs,
        request_features_code=meaning.of_function(spec.request_features) if spec.request_features else "",
    )
    rows = np.flatnonzero(frame.part("test") & admissible(schema.request_fields, frame.rows))
    if not len(rows):
        problem = f"No test row of {spec.training_set} keeps the contract {spec.spine.contract} of a request"
        raise TrainingError(f"{problem}. Materialize {spec.spine.table} and what is made from it again.")
    chosen = rows[np.linspace(0, len(rows) - 1, _GOLDEN_ROWS).astype(int)]
    matrix = frame.encoded[chosen]
    names = [*(field.name for field in schema.request_fields), "at"]
    requests = as_requests(frame.rows.take(chosen.tolist()).select(names))
    golden = bundle.Golden.of(matrix, predict(fitted.model_text, matrix, num_threads=1), requests)
    return bundle.write(place, model_text=fitted.model_text, schema=schema, golden=golden)


def reference_profile(frame: Frame, scores: np.ndarray) -> Profile:
    """What was usual when the model was made, with the movement that is usual from day to day.

    Inputs are those of the training split. The score is that of the validation split: on rows that it learnt from a
    model is surer than it will ever be again. Test rows count for neither.
    """
    inputs = _profile(frame, "train", {i.name: frame.columns[i.name] for i in frame.inputs})
    score = _profile(frame, "validation", {"score": scores})
    return Profile(inputs.n, (*inputs.columns, *score.columns))


def _profile(frame: Frame, part: str, values: Mapping[str, Any]) -> Profile:
    kinds: dict[str, Kind] = {i.name: i.kind for i in frame.inputs if i.name in values} or {"score": "numeric"}
    days = frame.rows["at"].to_numpy().astype("datetime64[D]").astype(str).tolist()
    rows = as_table(values).append_column("day", [days]).filter(frame.part(part))
    with connect() as con:
        con.register("rows", rows)
        return calibrated(con, "rows", reference(con, "rows", kinds), block="day")


def _findings(spec: ModelSpec, frame: Frame, fitted: Fitted) -> tuple[Finding, ...]:
    scores = predict(fitted.model_text, frame.encoded)
    finite = bool(np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all())
    labels = training_set.labels_of(frame.rows)[frame.part("validation")]
    rate = float(labels.mean())
    constant = float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))
    reached = fitted.curves["validation/binary_logloss"][fitted.best_iteration - 1]
    return (
        Finding(
            catalogue.FINITE.name, finite, f"{len(scores):,} scores between {scores.min():.4f} and {scores.max():.4f}."
        ),
        Finding(
            catalogue.LEARNT.name,
            reached < constant,
            f"Validation log loss {reached:.4f}; the constant rate has {constant:.4f}.",
        ),
        usefulness.finding(fitted, frame.matrix("validation"), seed=spec.budget.seed, threads=spec.budget.threads),
    )


def _pictures(fitted: Fitted, found: SearchResult) -> dict[str, Markdown]:
    from ml_assets.evaluation.plots import importance, learning, png

    top = list(fitted.importance.items())[:12]
    trials = [(t.number + 1, t.state, t.value, t.rounds) for t in found.trials]
    return {
        "importance": picture(png(importance(fitted.importance)), "importance"),
        "learning curve": picture(png(learning(fitted.curves, "binary_logloss")), "learning curve"),
        "most important inputs": markdown_table(("input", "share of gain"), top),
        "search": markdown_table(("trial", "state", "log loss", "rounds"), trials),
    }


def candidate(spec: ModelSpec, run: Run) -> ModelVersion:
    """The newly trained version."""
    found = run.registry.version(spec.name, "candidate")
    if found is None:
        raise MlAssetsError(f"Model '{spec.name}' has no candidate yet. Materialize {spec.model} first.")
    return found
