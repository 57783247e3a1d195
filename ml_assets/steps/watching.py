"""Watching what serves: drift of its inputs and scores, and performance once labels are mature."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.monitoring.drift import ColumnDrift, Thresholds, drift, worst
from ml_assets.monitoring.evidently_report import html
from ml_assets.monitoring.performance import Maturity, Performance, Scored, performance, recent
from ml_assets.monitoring.profile import Profile
from ml_assets.records import Finding, StepResult
from ml_assets.steps import catalogue, release, training_set
from ml_assets.steps.arrow import as_table
from ml_assets.steps.days import start_of
from ml_assets.steps.memo import Memo, Work, by_day
from ml_assets.steps.pictures import markdown_table
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, EndpointSpec

if TYPE_CHECKING:
    import pyarrow as pa

RECENT_DAYS = 14
_SAMPLE = 2000


def watch_drift(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Compare the inputs of each day with the training reference of the version that answered."""
    lake = run.lake
    memo, inputs = drift_work(spec, lake, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {
            spec.drift: StepResult(produced, tuple(_steady(day, _stored(spec, run, day)) for day in [*produced][-1:]))
        }
    drifts = {day: _drift_of(spec, run, day) for day in due}
    commit, newest = lake.write(spec.drift, _drift_rows(drifts), partitions=due), due[-1]
    for day in due:
        verdict, sentence = worst(drifts[day])
        metadata = {"verdict": verdict, "worst": sentence, "columns": len(drifts[day]), "lake version": commit.version}
        entry = memo.write(day, inputs[day], commit.content[day].hash, metadata)
        produced[day] = entry.produced(_shown(spec, run, day, drifts[day]) if day == newest else {})
    return {spec.drift: StepResult(produced, (_steady(newest, drifts[newest]),))}


def watch_performance(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Judge each day's predictions by the labels that have come in."""
    lake = run.lake
    memo, inputs = performance_work(spec, lake, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.performance: StepResult(produced, (_holds(spec, run),))}
    judged = performance(_scored(spec, run, due), maturity(spec, run))
    commit = lake.write(spec.performance, _performance_rows(judged), partitions=due)
    for day in due:
        own = next(p for p in reversed(judged) if p.first_day == day)
        metadata = {k: v for k, v in asdict(own).items() if k not in ("first_day", "last_day", "n") and v is not None}
        metadata |= {"n_rows": own.n, "lake version": commit.version}
        produced[day] = memo.write(day, inputs[day], commit.content[day].hash, metadata).produced()
    return {spec.performance: StepResult(produced, (_holds(spec, run),))}


def drift_work(spec: EndpointSpec, lake: Lake, days: Sequence[str]) -> Work:
    """The record of the drift figures, and what those of each day are made from."""
    limits = {"drift.warn": spec.drift_warn, "drift.fail": spec.drift_fail}
    memo = Memo(lake, spec.drift, version=catalogue.DRIFT, config=limits)
    found = lake.content(spec.predictions, partitions=list(days)) if lake.exists(spec.predictions) else {}
    hashes = {day: content.hash for day, content in found.items() if content.n_rows}
    return Work(memo, {day: by_day(spec.predictions, hashes, [day]) for day in hashes})


def performance_work(spec: EndpointSpec, lake: Lake, days: Sequence[str]) -> Work:
    """The record of the performance figures, and what each day is made from: labels mature without changing."""
    memo = Memo(lake, spec.performance, version=catalogue.PERFORMANCE, config=None)
    found = lake.content(spec.outcomes, partitions=list(days)) if lake.exists(spec.outcomes) else {}
    until = training_set.known_until(spec.model, lake) - spec.model.horizon if found else None
    hashes = {day: content.hash for day, content in found.items() if content.n_rows}
    mature = {day: {"mature": str(until and start_of(day) + DAY <= until)} for day in hashes}
    inputs = {day: by_day(spec.outcomes, hashes, [day]) | mature[day] for day in hashes}
    return Work(memo, inputs)


def maturity(spec: EndpointSpec, run: Run) -> Maturity:
    """Labels of a day are mature the label's horizon after its end, counted on the clock of the data."""
    return Maturity(as_of=training_set.known_until(spec.model, run.lake), wait=spec.model.horizon)


def recent_performance(spec: EndpointSpec, run: Run, version: str) -> Performance | None:
    """The newest mature days of a version, judged together."""
    if not run.lake.exists(spec.outcomes):
        return None
    days = run.lake.partitions(spec.outcomes)[-2 * RECENT_DAYS :]
    return recent(_scored(spec, run, days), maturity(spec, run), version=version, days=RECENT_DAYS) if days else None


def newest_drift(spec: EndpointSpec, run: Run) -> list[ColumnDrift]:
    """The drift figures of the newest day."""
    days = run.lake.partitions(spec.drift) if run.lake.exists(spec.drift) else []
    return _stored(spec, run, days[-1]) if days else []


def _stored(spec: EndpointSpec, run: Run, day: str) -> list[ColumnDrift]:
    rows = run.lake.dataset(spec.drift, partitions=[day]).to_table().drop_columns(["partition_key"]).to_pylist()
    return [ColumnDrift(**{**row, "new_categories": dict(row["new_categories"] or [])}) for row in rows]


def _reference(spec: EndpointSpec, run: Run, version: str) -> Profile:
    return Profile.from_json(run.lake.get_object(f"references/{spec.model.name}/{version}.json").decode())


def _drift_of(spec: EndpointSpec, run: Run, day: str) -> list[ColumnDrift]:
    with connect() as con:
        run.lake.register(con, "answered", spec.predictions, partitions=[day])
        ((version,),) = con.execute(
            "SELECT version FROM answered GROUP BY version ORDER BY count(*) DESC, version DESC LIMIT 1"
        ).fetchall()
        rows = con.sql(f"SELECT * FROM answered WHERE version = '{version}'").to_arrow_table()
        con.register("current", rows)
        limits = Thresholds(warn=spec.drift_warn, fail=spec.drift_fail)
        return drift(con, "current", _reference(spec, run, version), limits)


def _drift_rows(drifts: Mapping[str, Sequence[ColumnDrift]]) -> "pa.Table":
    import pyarrow as pa

    rows = [
        {**asdict(column), "new_categories": list(column.new_categories.items()), "partition_key": day}
        for day, columns in drifts.items()
        for column in columns
    ]
    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    fields = {name: kinds.get(type(value), pa.float64()) for name, value in rows[0].items()}
    fields["new_categories"] = pa.map_(pa.string(), pa.float64())
    return pa.Table.from_pylist(rows, pa.schema(list(fields.items())))


def _shown(spec: EndpointSpec, run: Run, day: str, columns: Sequence[ColumnDrift]) -> dict[str, Any]:
    return {"drift": _drift_table(columns), "evidently report": _evidently(spec, run, day)}


def _drift_table(columns: Sequence[ColumnDrift]) -> Any:
    moved = sorted(columns, key=lambda c: -c.psi)[:15]
    return markdown_table(
        ("column", "PSI", "noise", "usual", "nulls", "verdict"),
        [(c.column, c.psi, c.noise, c.usual or 0.0, c.null_rate, c.verdict) for c in moved],
    )


def _steady(day: str, columns: Sequence[ColumnDrift]) -> Finding:
    verdict, sentence = worst(columns)
    numbers = {"largest psi": max(c.psi for c in columns), "columns": len(columns)}
    return Finding(
        catalogue.STEADY.name, verdict == "PASS", f"{day}: {sentence}", warn=verdict == "WARN", numbers=numbers
    )


def _evidently(spec: EndpointSpec, run: Run, day: str) -> Path:
    """Evidently's own page on a sample, beside our numbers: alone it does not see a null rate that moves."""
    rows = run.lake.dataset(spec.model.training_set).to_table()
    reference, _ = training_set.columns_of(spec.model, rows.take(_spread(rows.num_rows)))
    current = run.lake.dataset(spec.predictions, partitions=[day]).to_table()
    profile = {column.name: column.kind for column in _columns(spec, run)}
    names = {name: kind for name, kind in profile.items() if name in current.column_names and name in reference}
    page = html(as_table({name: reference[name] for name in names}), current.select(list(names)), names)
    path = run.settings.reports / spec.name / f"drift-{day}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    return path


def _columns(spec: EndpointSpec, run: Run) -> Sequence[Any]:
    released = release.latest(spec.model, run.lake)
    return _reference(spec, run, released.version).columns if released else ()


def _spread(n: int) -> list[int]:
    return list(range(0, n, max(1, n // _SAMPLE)))[:_SAMPLE]


def _scored(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Scored:
    rows = run.lake.dataset(spec.outcomes, partitions=list(days)).to_table()
    return Scored.of(*(rows[name].to_pylist() for name in ("label", "score", "partition_key", "version")))


def _performance_rows(judged: Sequence[Performance]) -> "pa.Table":
    import pyarrow as pa

    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("first_day", "last_day", "version", "partition_key")),
            *((name, pa.int64()) for name in ("n", "n_labelled")),
            *(
                (name, pa.float64())
                for name in (
                    "coverage",
                    "roc_auc",
                    "roc_auc_low",
                    "roc_auc_high",
                    "log_loss",
                    "positive_rate",
                    "mean_score",
                )
            ),
            ("mature", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist([{**asdict(p), "partition_key": p.first_day} for p in judged], schema)


def _holds(spec: EndpointSpec, run: Run) -> Finding:
    released = release.latest(spec.model, run.lake)
    found = recent_performance(spec, run, released.version) if released else None
    if released is None or found is None or found.roc_auc is None or released.roc_auc is None:
        return Finding(catalogue.HOLDS.name, True, "No day of the released version has mature labels yet.")
    floor = released.roc_auc - spec.performance_drop
    dropped = found.roc_auc < floor and (found.roc_auc_high or 0) < released.roc_auc
    sentence = (
        f"ROC AUC {found.roc_auc:.3f} ({found.roc_auc_low:.3f} to {found.roc_auc_high:.3f}) on {found.n_labelled:,}"
        f" labelled predictions of {found.first_day} to {found.last_day}; released with {released.roc_auc:.3f}."
    )
    return Finding(
        catalogue.HOLDS.name, not dropped, sentence, warn=True, numbers={"roc_auc": found.roc_auc, "floor": floor}
    )
