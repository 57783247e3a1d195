"""Labels: what happened to each row of the spine, and when that became known."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.adapters.versions import said_moment
from ml_assets.engine import connect, literal, quote
from ml_assets.errors import shorten
from ml_assets.records import Finding, Produced, StepResult, unchanged
from ml_assets.steps import catalogue, configuration, refusals
from ml_assets.steps.arrow import among
from ml_assets.steps.days import shift
from ml_assets.steps.memo import Memo, Work, by_day
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ENOUGH = 0.5


class _Early(NamedTuple):
    """A label that was known at or before the moment of its prediction; `after` are microseconds, none or below 0."""

    after: int
    key: Mapping[str, Any]
    at: datetime
    known_at: datetime


class _Count(NamedTuple):
    """Rows of the spine of a partition, those that have a label, and those that had it too early with the earliest."""

    n_spine: int
    n_labels: int
    n_early: int
    earliest: _Early | None = None


def materialize(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Label the spine rows of the partitions whose spine or outcomes changed.

    A partition with a label that was known before its prediction keeps what it had, until its inputs change.
    """
    memo, inputs = work(spec, run, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.labels: StepResult(produced, unchanged(catalogue.LATER.name, catalogue.LABELLED.name))}
    with connect() as con:
        rows, counts = _label(con, spec, run, due)
    refused = {partition: _later(spec, {partition: count}) for partition, count in counts.items() if count.n_early}
    for partition, said in refused.items():
        refusals.keep(spec, run.lake, {partition: inputs[partition]}, refusals.failed([said]))
    if good := {partition: inputs[partition] for partition in due if partition not in refused}:
        produced |= _put(spec, run, memo, rows, good)
    return {spec.labels: StepResult(produced, (_later(spec, counts), _labelled(counts)))}


def _put(
    spec: ModelSpec, run: Run, memo: Memo, rows: "pa.Table", inputs: Mapping[str, Mapping[str, str]]
) -> dict[str, Produced]:
    """Write the labels of some partitions, and then what they were made from to the record."""
    commit = run.lake.write(spec.labels, among(rows, "partition_key", list(inputs)), partitions=list(inputs))
    produced = {}
    for partition, made_from in inputs.items():
        content = commit.content[partition]
        metadata = {"n_rows": content.n_rows, "lake version": commit.version}
        produced[partition] = memo.write(partition, made_from, content.hash, metadata).produced()
    return produced


def work(spec: ModelSpec, run: Run, partitions: Sequence[str]) -> Work:
    """The record of the labels, and what those of each partition are made from."""
    memo = Memo(run.lake, spec.labels, version=catalogue.LABELS, config=configuration.of_labels(spec))
    return Work(memo, inputs_of(spec, run.lake, partitions) if partitions else {})


def inputs_of(spec: ModelSpec, lake: Lake, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    """Only days that the spine and the outcomes have both reached; the rest waits for its first label."""
    first, last = min(partitions), max(partitions)
    if not (lake.exists(spec.spine.table) and lake.exists(spec.label_table.table)):
        return {}
    spine = lake.content(spec.spine.table, partitions=list(partitions))
    ahead = PartitionRange(first, shift(last, spec.horizon_days))
    outcomes = {day: content.hash for day, content in lake.content(spec.label_table.table, partitions=ahead).items()}
    return {
        day: by_day(spec.spine.table, {day: content.hash}, [day])
        | by_day(spec.label_table.table, outcomes, (d for d in outcomes if day <= d <= shift(day, spec.horizon_days)))
        for day, content in spine.items()
        if content.n_rows and day in outcomes
    }


def _label(
    con: "duckdb.DuckDBPyConnection", spec: ModelSpec, run: Run, due: list[str]
) -> tuple["pa.Table", dict[str, _Count]]:
    """The newest version of an outcome within the horizon counts, whatever other days are labelled with it.

    A row without one, or whose outcome says nothing, has no label.
    """
    run.lake.register(con, "spine", spec.spine.table, partitions=due)
    ahead = PartitionRange(min(due), shift(max(due), spec.horizon_days))
    run.lake.register(con, "outcomes", spec.label_table.table, partitions=ahead)
    keys = ", ".join(quote(key) for key in spec.spine.keys)
    con.execute(f"""
        CREATE TEMP TABLE labels AS
        WITH told AS (
            SELECT {keys}, CAST(({spec.label}) AS DOUBLE) AS label, known_at AS label_known_at,
                   CAST(partition_key AS DATE) AS told_on FROM outcomes
        ), asked AS (SELECT {keys}, ({spec.at}) AS "at", partition_key, CAST(partition_key AS DATE) AS day FROM spine),
        known AS (
            SELECT * FROM asked JOIN told USING ({keys})
            WHERE told_on BETWEEN day AND day + {spec.horizon_days}
              AND CAST(label_known_at AS DATE) <= day + {spec.horizon_days}
            QUALIFY row_number() OVER (PARTITION BY partition_key, {keys} ORDER BY label_known_at DESC) = 1
        )
        SELECT * EXCLUDE (told_on, day) FROM known WHERE label IS NOT NULL ORDER BY partition_key, {keys}""")
    key = ", ".join(f"{literal(name)}: {quote(name)}" for name in spec.spine.keys)
    counts = con.execute(f"""
        SELECT partition_key, n_spine, count(label), count(*) FILTER (label_known_at <= "at"),
               min(row(epoch_us(label_known_at) - epoch_us("at"), {{{key}}}, "at", label_known_at))
                   FILTER (label_known_at <= "at")
        FROM (SELECT partition_key, count(*) AS n_spine FROM spine GROUP BY ALL) LEFT JOIN labels USING (partition_key)
        GROUP BY ALL ORDER BY ALL""").fetchall()
    found = {
        partition: _Count(n_spine, n_labels, n_early, _Early(*earliest) if earliest else None)
        for partition, n_spine, n_labels, n_early, earliest in counts
    }
    return con.table("labels").to_arrow_table(), found


def _later(spec: ModelSpec, counts: Mapping[str, _Count]) -> Finding:
    early = [partition for partition, count in counts.items() if count.n_early]
    n_labels, n_early = sum(c.n_labels for c in counts.values()), sum(c.n_early for c in counts.values())
    said = f"{n_early} of {n_labels} labels were known at or before the moment of the prediction"
    found = [count.earliest for count in counts.values() if count.earliest]
    if not found:
        return Finding(catalogue.LATER.name, True, f"{said}.")
    one = min(found, key=lambda each: each.after)
    key = " ".join(f"{name}={value}" for name, value in one.key.items())
    said += (
        f" ({shorten(early)}), such as {key}: predicted at {said_moment(one.at)}, known at {said_moment(one.known_at)}."
        f" Move `spine.time` earlier, or the `known_at` of '{spec.label_table.name}' later if that is when it is truly"
        " known."
    )
    return Finding(catalogue.LATER.name, False, said)


def _labelled(counts: Mapping[str, _Count]) -> Finding:
    n_labels, n_spine = sum(c.n_labels for c in counts.values()), sum(c.n_spine for c in counts.values())
    covered = n_labels / n_spine if n_spine else 1.0
    said = f"{n_labels} of {n_spine} rows of the spine have a label ({covered:.1%}; at least {_ENOUGH:.0%})."
    return Finding(catalogue.LABELLED.name, covered >= _ENOUGH, said, warn=True, numbers={"coverage": covered})
