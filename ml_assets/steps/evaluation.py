"""The evaluation: how good the candidate is on the newest rows, and what the gates say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.adapters.registry import CHAMPION, ModelVersion
from ml_assets.errors import ArtefactError, FeatureError
from ml_assets.evaluation import baseline
from ml_assets.evaluation.evaluate import Evaluation, EvaluationData, evaluate
from ml_assets.evaluation.gates import Gate, judge
from ml_assets.evaluation.report import ReportContext, html, summary
from ml_assets.features.encode import encode
from ml_assets.records import Finding, StepResult
from ml_assets.serving import bundle
from ml_assets.steps import catalogue, configuration, offline, training_set
from ml_assets.steps.memo import Memo, Work
from ml_assets.steps.model import Frame, candidate
from ml_assets.steps.pictures import markdown_table, picture
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec
from ml_assets.training.fit import predict

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Judged:
    """An evaluation with the versions that it compares, as it is kept beside the lake."""

    version: str
    champion: str | None
    evaluation: Evaluation

    def gates(self, spec: ModelSpec) -> list[Gate]:
        """The verdicts by today's declaration."""
        return judge(self.evaluation, spec.gates)


def materialize(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Score the test rows with candidate, champion and baseline; write the report; judge."""
    version, champion = candidate(spec, run), run.registry.version(spec.name, CHAMPION)
    rival = _rival(spec, run, version, champion)
    memo, inputs = _work(spec, run, version, rival)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.evaluation: StepResult(produced, _findings(read(spec, run, version.version), spec))}
    rows, data = _score(spec, run, version, rival)
    judged = Judged(version.version, rival.version if rival else None, evaluate(data))
    commit = run.lake.write(spec.evaluation, rows)
    _keep(spec, run, judged)
    page = _report(spec, run, version, judged)
    numbers = {"n_rows": judged.evaluation.n_rows, "version": version.version, "lake version": commit.version}
    entry = memo.write("", inputs[""], commit.content[""].hash, _numbers(judged) | numbers)
    made = entry.produced({"report": page, "gates": _table(judged, spec), **_plots(judged.evaluation)})
    return {spec.evaluation: StepResult({"": made}, _findings(judged, spec))}


def work(spec: ModelSpec, run: Run) -> Work:
    """The record of the evaluation, and the versions that it compares."""
    version = candidate(spec, run)
    return _work(spec, run, version, _rival(spec, run, version, run.registry.version(spec.name, CHAMPION)))


def _work(spec: ModelSpec, run: Run, version: ModelVersion, rival: ModelVersion | None) -> Work:
    memo = Memo(run.lake, spec.evaluation, version=catalogue.EVALUATION, config=configuration.of_evaluation(spec))
    return Work(memo, {"": {spec.model: version.version, "champion": rival.version if rival else "none"}})


def _rival(spec: ModelSpec, run: Run, version: ModelVersion, champion: ModelVersion | None) -> ModelVersion | None:
    """The champion; once the candidate itself is champion, the one that it was compared with."""
    if champion is None or champion.version != version.version:
        return champion
    known = run.lake.has_object(_place(spec, version.version))
    before = read(spec, run, version.version).champion if known else None
    return run.registry.version(spec.name, before) if before else None


def read(spec: ModelSpec, run: Run, version: str) -> Judged:
    """The kept evaluation of a version."""
    stored = json.loads(run.lake.get_object(_place(spec, version)))
    return Judged(stored["version"], stored["champion"], Evaluation.from_dict(stored["evaluation"]))


def fetch(spec: ModelSpec, run: Run, version: str) -> bundle.Bundle:
    """The bundle of a version, from this installation's copy or the registry."""
    return bundle.read(bundle_folder(spec, run, version))


def bundle_folder(spec: ModelSpec, run: Run, version: str) -> Path:
    """The folder of a version's bundle, taken from the registry once."""
    folder = run.settings.home / "bundles" / spec.name / version
    if not folder.exists():
        run.registry.bundle(spec.name, version, folder)
    return folder


def _score(
    spec: ModelSpec, run: Run, version: ModelVersion, champion: ModelVersion | None
) -> tuple["pa.Table", EvaluationData]:
    frame = _frame(spec, run, version)
    test, labels = frame.part("test"), training_set.labels_of(frame.rows)
    known = spec.baseline or spec.spine.keys[:1]  # without a declaration the overall rate, for as many rows
    train = frame.part("train")
    rates = baseline.fit(_only(frame.columns, known, train), labels[train], spec.baseline)
    score = _scores(spec, run, frame, version)[test]
    data = EvaluationData(
        y=labels[test],
        score=score,
        at=frame.rows["at"].to_numpy()[test],
        slices=_only(frame.columns, spec.slices, test),
        champion_score=_champion(spec, run, frame, champion, test),
        baseline_score=rates.predict(_only(frame.columns, known, test)),
    )
    kept = frame.rows.filter(test).select([*spec.spine.keys, "at", "label"])
    return kept.append_column("score", [score]).append_column("baseline_score", [data.baseline_score]), data


def _frame(spec: ModelSpec, run: Run, version: ModelVersion) -> Frame:
    try:
        return Frame.load(spec, run.lake, version=_trained_on(spec, run, version))
    except KeyError as error:
        raise ArtefactError(
            f"Version {version.version} of '{spec.name}' was trained with other columns than are declared now:"
            f" {error.args[0]}. Materialize {spec.training_set} and {spec.model} first."
        ) from error


def _trained_on(spec: ModelSpec, run: Run, version: ModelVersion) -> int:
    """The training set of a version, though another has been made since: only its test rows are new to the version."""
    newest = run.lake.version(spec.training_set)
    same = run.lake.content(spec.training_set, version=newest)[""].hash == version.tags["training_set"]
    return newest if same else int(version.tags["training_set.lake_version"])


def _scores(spec: ModelSpec, run: Run, frame: Frame, version: ModelVersion) -> np.ndarray:
    packed = fetch(spec, run, version.version)
    return predict(packed.model_text, encode(frame.columns, packed.schema.inputs))


def _champion(
    spec: ModelSpec, run: Run, frame: Frame, champion: ModelVersion | None, test: np.ndarray
) -> np.ndarray | None:
    """Its scores of the test rows, from the versions of the views that it was trained with."""
    if champion is None:
        return None
    packed = fetch(spec, run, champion.version)
    fields = {field.name for field in packed.schema.request_fields} | {packed.schema.time_field}
    rows = frame.rows.filter(test)
    rows = rows.select([name for name in rows.column_names if name in fields])
    try:
        columns = offline.inputs_of(packed.schema, run.lake, rows)
        return predict(packed.model_text, encode(columns, packed.schema.inputs))
    except (FeatureError, KeyError) as error:
        raise ArtefactError(
            f"Champion version {champion.version} of '{spec.name}' cannot score these rows: {error}"
            " Keep what it reads declared until a new version is released."
        ) from error


def _only(columns: Mapping[str, Any], names: tuple[str, ...], mask: np.ndarray) -> dict[str, Any]:
    return {name: np.asarray(columns[name], dtype=object)[mask] for name in names}


def _keep(spec: ModelSpec, run: Run, judged: Judged) -> None:
    stored = {"version": judged.version, "champion": judged.champion, "evaluation": judged.evaluation.as_dict()}
    run.lake.replace_object(_place(spec, judged.version), json.dumps(stored).encode())


def _place(spec: ModelSpec, version: str) -> str:
    return f"evaluations/{spec.name}/{version}.json"


def _report(spec: ModelSpec, run: Run, version: ModelVersion, judged: Judged) -> Path:
    importance = json.loads(run.lake.get_object(f"importance/{spec.name}/{version.version}.json"))
    context = ReportContext(
        model=spec.name,
        version=version.version,
        label=spec.label,
        gates=judged.gates(spec),
        champion_version=judged.champion,
        importance=importance,
        lineage=version.tags,
    )
    page = html(judged.evaluation, context).encode()
    path = run.settings.reports / spec.name / f"version-{version.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    run.registry.attach(version, metrics=_numbers(judged), artifacts={"report.html": page})
    run.log(summary(judged.evaluation, context))
    return path


def _numbers(judged: Judged) -> dict[str, float]:
    found = {}
    for name, interval in judged.evaluation.metrics.items():
        if interval:
            found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _table(judged: Judged, spec: ModelSpec) -> Any:
    return markdown_table(("gate", "verdict", "why"), [(g.name, g.verdict, g.sentence) for g in judged.gates(spec)])


def _plots(evaluation: Evaluation) -> dict[str, Any]:
    from ml_assets.evaluation.plots import plots

    return {name: picture(png, name) for name, png in plots(evaluation).items()}


def _findings(judged: Judged, spec: ModelSpec) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            gate.name,
            gate.passed,
            gate.sentence,
            numbers={
                "verdict": gate.verdict,
                "value": gate.value,
                "threshold": gate.threshold,
                "interval": list(gate.interval) if gate.interval else None,
                "rows": gate.n_rows,
            },
        )
        for gate in judged.gates(spec)
    )
