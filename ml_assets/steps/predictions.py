"""Predictions and outcomes: what the endpoint answered, by day, and later what happened."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.deployment import held_lock, predict
from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.adapters.prediction_log import expand, read
from ml_assets.engine import connect, quote
from ml_assets.errors import EndpointError, FeatureError, RequestError, shorten
from ml_assets.records import Finding, Produced, StepResult, unchanged
from ml_assets.serving.request import RequestContract
from ml_assets.steps import catalogue, evaluation, release, training_set, view_versions
from ml_assets.steps.arrow import among
from ml_assets.steps.days import shift, start_of
from ml_assets.steps.endpoint import BY_THE_GRAPH, local
from ml_assets.steps.frames import as_requests
from ml_assets.steps.memo import Memo, Work, by_day, digest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import AHEAD_DAYS, DAY, EndpointSpec
from ml_assets.tables.outline import outline

if TYPE_CHECKING:
    import pyarrow as pa

    from ml_assets.serving.bundle import ViewRef

_ENOUGH, _DAYS_SAID = 0.9, 3
_PATIENCE_SECONDS = 300
_UNTIL = "known until"


def materialize(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Ask the endpoint about every row of the spine that is due and was not asked yet; keep the log by day.

    Days before the champion's test rows hold what it learnt from and are not asked about; days whose features are
    not computed, and hours that nothing is known of yet, wait: a row is asked about once and would keep an answer
    from stale features.
    """
    released = release.latest(spec.model, run.lake)
    if released is None:
        raise EndpointError(f"Model '{spec.model.name}' has no release yet: nothing can answer.")
    result, abandoned = _answered(spec, run, released), _abandoned(spec, run, released)
    if abandoned and all(finding.passed for finding in result.findings):
        result = replace(result, findings=(Finding(catalogue.ANSWERED.name, False, abandoned, warn=True),))
    return {spec.predictions: result}


def _answered(spec: EndpointSpec, run: Run, released: release.Release) -> StepResult:
    due, until = due_days(spec, run, released, run.partitions), training_set.known_until(spec.model, run.lake)
    memo, inputs = _work(spec, run, due, until)
    if reused := _already(memo, inputs):
        return reused
    asked = _due_rows(spec, run, due, until) if due else []
    refused = _ask(spec, run, released.version, asked) if asked else {}
    grown = _log_size(spec, run)  # before the log is read: what a client asks meanwhile is new to the next run
    kept, answered = _keep(spec, run)
    judged = _judged(spec, asked, answered, refused)
    produced = {}
    for day in {*kept, *due}:
        made = kept.get(day, Produced(""))  # a day may have no rows
        state, findings = _state(spec, run, day, grown, until), [judged[day]] if day in judged else []
        entry = memo.write(day, state, made.data_version, made.metadata, findings)
        produced[day] = replace(entry.produced(), reused=made.reused)
    return StepResult({day: produced[day] for day in kept}, _together(judged, len(asked)))


def work(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Work:
    """The record of the answers, and what those of each day that is due depend on."""
    released = release.latest(spec.model, run.lake)
    due = due_days(spec, run, released, days) if released else []
    return _work(spec, run, due, training_set.known_until(spec.model, run.lake))


def _work(spec: EndpointSpec, run: Run, due: Sequence[str], until: datetime) -> Work:
    grown = _log_size(spec, run)
    return Work(_memo(spec, run), {day: _state(spec, run, day, grown, until) for day in due})


def due_days(spec: EndpointSpec, run: Run, released: release.Release, days: Sequence[str]) -> list[str]:
    """Those of the days whose rows the released version has not learnt from, and whose features are computed."""
    return sorted(_with_features(spec, run, released, _unlearnt(spec, released, days)))


def _unlearnt(spec: EndpointSpec, released: release.Release, days: Sequence[str]) -> list[str]:
    first = (datetime.fromisoformat(released.watermark) - spec.model.test).date().isoformat()
    return [day for day in days if day >= first]


def incomplete(spec: EndpointSpec, run: Run, days: Sequence[str]) -> dict[str, str]:
    """Days that were never asked about, or not as far as is known by now, by the moment until which they can be."""
    memo, until = _memo(spec, run), training_set.known_until(spec.model, run.lake)
    wanted = {day: _until(day, until) for day in days}
    entries = {day: memo.read(day) for day in days}
    return {d: said for d, said in wanted.items() if not (e := entries[d]) or e.inputs.get(_UNTIL) != said}


def outcomes(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Join the labels that have come in to the predictions of each day."""
    lake = run.lake
    if not (lake.exists(spec.predictions) and lake.exists(spec.model.labels)):
        return {spec.outcomes: StepResult({}, unchanged(catalogue.COVERED.name))}
    memo, inputs = outcome_work(spec, lake, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.outcomes: StepResult(produced, unchanged(catalogue.COVERED.name))}
    rows = _with_labels(spec, run, due)
    commit = lake.write(spec.outcomes, rows, partitions=due)
    for partition in due:
        content = commit.content[partition]
        metadata = {"n_rows": content.n_rows, "lake version": commit.version}
        produced[partition] = memo.write(partition, inputs[partition], content.hash, metadata).produced()
    return {spec.outcomes: StepResult(produced, (_covered(rows),))}


def _already(memo: Memo, inputs: Mapping[str, Mapping[str, str]]) -> StepResult | None:
    """What stands, when neither spine nor log nor what is known has grown since for any of the days."""
    known, due = memo.survey(inputs)
    if not inputs or due:
        return None
    produced = {day: made for day, made in known.items() if made.data_version}
    entries = {day: entry for day in sorted(inputs) if (entry := memo.read(day))}
    failed = {day: found for day, entry in entries.items() for found in entry.findings() if not found.passed}
    return StepResult(produced, _together(failed, 0) if failed else unchanged(catalogue.ANSWERED.name))


def _judged(
    spec: EndpointSpec, asked: Sequence[Mapping[str, Any]], answered: set[tuple], refused: Mapping[str, Sequence[str]]
) -> dict[str, Finding]:
    """Of each day whether its rows have an answer: a day does not fail because of another one of the same run."""
    days: dict[str, list[bool]] = {}
    for row in asked:
        days.setdefault(_day(row), []).append(_key(spec, row) in answered)
    found = {}
    for day, each in days.items():
        why = f" {len(refused[day]):,} rows were not asked about, {refused[day][0]}." if day in refused else ""
        said = f"{day}: {sum(each):,} of {len(each):,} rows have an answer.{why}"
        found[day] = Finding(catalogue.ANSWERED.name, all(each), said)
    return found


def _together(judged: Mapping[str, Finding], n_rows: int) -> tuple[Finding, ...]:
    """What is said of several days: those that failed, the first few in words."""
    failed = [found.sentence for _, found in sorted(judged.items()) if not found.passed]
    if not failed:
        return (Finding(catalogue.ANSWERED.name, True, f"{n_rows:,} of {n_rows:,} rows have an answer."),)
    more = f" {len(failed) - _DAYS_SAID} more days have rows without an answer." if len(failed) > _DAYS_SAID else ""
    return (Finding(catalogue.ANSWERED.name, False, " ".join(failed[:_DAYS_SAID]) + more),)


def _state(spec: EndpointSpec, run: Run, day: str, log_size: str, until: datetime) -> dict[str, str]:
    spine = run.lake.content(spec.model.spine.table, partitions=[day, shift(day, AHEAD_DAYS)])
    rows = by_day(spec.model.spine.table, {d: c.hash for d, c in spine.items()}, spine)
    return {**rows, "log": log_size, _UNTIL: _until(day, until)}


def _until(day: str, until: datetime) -> str:
    return min(until, start_of(day) + DAY).isoformat()


def _memo(spec: EndpointSpec, run: Run) -> Memo:
    return Memo(run.lake, spec.predictions, version=catalogue.PREDICTIONS, config=None)


def _log_size(spec: EndpointSpec, run: Run) -> str:
    log = Path(local(spec, run).config.log)
    return digest(sorted((path.name.removesuffix(".open"), path.stat().st_size) for path in log.glob("*.jsonl*")))


def _with_features(spec: EndpointSpec, run: Run, released: release.Release, days: Sequence[str]) -> set[str]:
    """By the versions of the views that the released model reads: an edit of a view holds nothing up."""
    views = evaluation.fetch(spec.model, run, released.version).schema.views if days else ()
    return set(days).intersection(*(_computed(ref, run.lake, days) for ref in views))


def _computed(ref: "ViewRef", lake: Lake, days: Sequence[str]) -> set[str]:
    """Those of some days that the version of a view has rows of; all of them where its rows have no days."""
    try:
        held = view_versions.days_in(view_versions.table_of(ref.name, ref.version, lake), lake)
    except FeatureError:  # its rows are being moved back
        return set()
    return set(days) if held is None else set(days).intersection(held)


def _abandoned(spec: EndpointSpec, run: Run, released: release.Release) -> str:
    """Which view of the released model nothing computes any more, with the days that wait for it."""
    declared = {view.view.name for view in spec.model.views}
    days, said = _unlearnt(spec, released, run.partitions), []
    for ref in evaluation.fetch(spec.model, run, released.version).schema.views if days else ():
        waiting = sorted(set(days) - _computed(ref, run.lake, days)) if ref.name not in declared else []
        if waiting:
            said.append(
                f"Version {released.version} of '{spec.model.name}' reads version {ref.version} of the feature view"
                f" '{ref.name}', which the model does not declare any more and which has no rows of {shorten(waiting)}:"
                f" these days are not answered. Declare '{ref.name}' and materialize features/{ref.name}, until a"
                " version that does without it is released."
            )
    return " ".join(said)


def _due_rows(spec: EndpointSpec, run: Run, days: Sequence[str], until: datetime) -> list[dict[str, Any]]:
    model = spec.model
    with connect() as con:
        span = PartitionRange(days[0], shift(days[-1], AHEAD_DAYS))
        run.lake.register(con, "spine", model.spine.table, partitions=span)
        wanted = ", ".join(f"'{day}'" for day in days)
        return as_requests(
            con.sql(f"""
                SELECT * FROM (SELECT * EXCLUDE (partition_key), ({model.at}) AS "at" FROM spine)
                WHERE CAST(CAST("at" AS DATE) AS VARCHAR) IN ({wanted}) AND "at" < TIMESTAMPTZ '{until.isoformat()}'
                ORDER BY "at", {", ".join(model.spine.keys)}
                """).to_arrow_table()
        )


def _key(spec: EndpointSpec, row: Mapping[str, Any]) -> tuple:
    kinds = _key_kinds(spec.model.spine.contract, spec.model.spine.keys)
    return tuple(_typed(row.get(name), kind) for name, kind in kinds.items())


@cache
def _key_kinds(contract: str, keys: tuple[str, ...]) -> dict[str, str]:
    kinds = {column.name: column.type for column in outline(contract)}
    return {key: kinds[key] for key in keys}


def _typed(value: Any, kind: str) -> Any:
    """A value of a request, where instants are text."""
    return datetime.fromisoformat(value) if kind == "TIMESTAMPTZ" and isinstance(value, str) else value


def _log(spec: EndpointSpec, run: Run) -> set[tuple]:
    """The keys that were answered already, whichever version did."""
    return {_key(spec, json.loads(text)) for text in _answers(spec, run)["request"].to_pylist()}


def _answers(spec: EndpointSpec, run: Run) -> "pa.Table":
    rows = read(Path(local(spec, run).config.log))
    return among(among(rows, "purpose", ["serve"]), "status", ["ok"])


def _ask(spec: EndpointSpec, run: Run, released: str, rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Ask whatever version has the traffic about the rows that nobody asked about; one run at a time.

    Gives why rows were left out, by day: such as break the contract that the version was trained with.
    """
    server = local(spec, run)
    server.folder.mkdir(parents=True, exist_ok=True)
    with held_lock(server.folder / "asking.lock", wait=_PATIENCE_SECONDS):
        logged = _log(spec, run)
        if missing := [row for row in rows if _key(spec, row) not in logged]:
            status = server.status()
            version = max(status.weights, key=lambda each: status.weights[each], default=released)
            run.log(f"{spec.predictions}: asking {status.url} about {len(missing):,} rows")
            good, refused = _requests(spec, run, version, missing)
            predict(status.url or "", good, request_id=BY_THE_GRAPH)
            return refused
    return {}


def _requests(
    spec: EndpointSpec, run: Run, version: str, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """The rows as requests that a version takes, and of each that it would refuse, by day, the rule that it breaks."""
    schema = evaluation.fetch(spec.model, run, version).schema
    names, contract = [*(field.name for field in schema.request_fields), "at"], RequestContract(schema)
    good, refused = [], {}
    for row in ({name: row[name] for name in names} for row in rows):
        try:
            contract.convert([row], now_us=0, path="$")
            good.append(row)
        except RequestError as error:
            why = f"version {version} takes no such request: {error.path.removeprefix('$.')}: {error.problem}"
            refused.setdefault(_day(row), []).append(why)
    return good, refused


def _day(request: Mapping[str, Any]) -> str:
    return request["at"][:10]


def _keep(spec: EndpointSpec, run: Run) -> tuple[dict[str, Produced], set[tuple]]:
    """Write what the log has of the days; gives these with rows, and the keys of the rows."""
    rows = _by_day(spec, run)
    days = sorted(set(rows["partition_key"].to_pylist()) & set(run.partitions))
    if not days:
        return {}, set()
    chosen = among(rows, "partition_key", days)
    commit = run.lake.write(spec.predictions, chosen, partitions=days)
    produced = {
        day: Produced(
            commit.content[day].hash,
            {"n_rows": commit.content[day].n_rows, "lake version": commit.version},
            reused=day not in commit.changed,
        )
        for day in days
    }
    return produced, {_key(spec, row) for row in chosen.select(list(spec.model.spine.keys)).to_pylist()}


def _by_day(spec: EndpointSpec, run: Run) -> "pa.Table":
    """The answered requests with keys, the inputs of every version that answered, and the day of their time."""
    import pyarrow as pa

    rows = _answers(spec, run)
    bundles = [evaluation.fetch(spec.model, run, version) for version in rows["version"].unique().to_pylist()]
    inputs = list({wanted.name: wanted for found in bundles for wanted in found.schema.inputs}.values())
    found = [_key(spec, json.loads(text)) for text in rows["request"].to_pylist()]
    days = [at.date().isoformat() for at in rows["at"].to_pylist()]
    kinds = _key_kinds(spec.model.spine.contract, spec.model.spine.keys)
    keys = {key: pa.array([k[n] for k in found], _arrow(kind)) for n, (key, kind) in enumerate(kinds.items())}
    wide = expand(rows.drop_columns(["status", "reason", "purpose"]), inputs)
    clashing = [name for name in keys if name in wide.column_names]
    wide = wide.drop_columns(clashing) if clashing else wide
    for name, values in {**keys, "partition_key": pa.array(days, pa.string())}.items():
        wide = wide.append_column(name, values)
    return wide


def _arrow(kind: str) -> "pa.DataType":
    import pyarrow as pa

    kinds = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}
    return pa.timestamp("us", "UTC") if kind == "TIMESTAMPTZ" else kinds.get(kind, pa.string())


def outcome_work(spec: EndpointSpec, lake: Lake, days: Sequence[str]) -> Work:
    """The record of the outcomes, and what those of each day are made from."""
    memo = Memo(lake, spec.outcomes, version=catalogue.OUTCOMES, config=None)
    asked = {d: c.hash for d, c in lake.content(spec.predictions, partitions=list(days)).items() if c.n_rows}
    if not asked:
        return Work(memo, {})
    ahead = PartitionRange(min(asked), shift(max(asked), AHEAD_DAYS))
    labels = {day: content.hash for day, content in lake.content(spec.model.labels, partitions=ahead).items()}
    inputs = {
        day: by_day(spec.predictions, asked, [day]) | by_day(spec.model.labels, labels, (day, shift(day, AHEAD_DAYS)))
        for day in asked
        if day in labels
    }
    return Work(memo, inputs)


def _with_labels(spec: EndpointSpec, run: Run, days: list[str]) -> "pa.Table":
    """Every answer with the label of its row; one without a label keeps a null."""
    keys = ", ".join(quote(key) for key in spec.model.spine.keys)
    with connect() as con:
        run.lake.register(con, "predictions", spec.predictions, partitions=days)
        run.lake.register(
            con, "labels", spec.model.labels, partitions=PartitionRange(days[0], shift(days[-1], AHEAD_DAYS))
        )
        return con.sql(f"""
            WITH answered AS (
                SELECT {keys}, prediction_id, "at", model, version, score, partition_key FROM predictions
                QUALIFY row_number() OVER (PARTITION BY {keys}, prediction_id ORDER BY logged_at DESC) = 1
            )
            SELECT a.*, l.label, l.label_known_at
            FROM answered a LEFT JOIN (SELECT {keys}, label, label_known_at FROM labels) l USING ({keys})
            ORDER BY "at", prediction_id""").to_arrow_table()


def _covered(rows: "pa.Table") -> Finding:
    known = rows.num_rows - rows["label"].null_count
    share = known / rows.num_rows if rows.num_rows else 1.0
    sentence = f"{known:,} of {rows.num_rows:,} predictions have a label ({share:.1%}; at least {_ENOUGH:.0%})."
    return Finding(catalogue.COVERED.name, share >= _ENOUGH, sentence, warn=True, numbers={"coverage": share})
