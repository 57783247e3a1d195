"""Labels: what happened to each row of the spine, and when that became known."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.engine import connect, quote
from ml_assets.records import Finding, StepResult, unchanged
from ml_assets.steps import catalogue, configuration
from ml_assets.steps.days import shift
from ml_assets.steps.memo import Memo, Work, by_day
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ENOUGH = 0.5


def materialize(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Label the spine rows of the partitions whose spine or outcomes changed."""
    memo, inputs = work(spec, run, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.labels: StepResult(produced, unchanged(catalogue.LATER.name, catalogue.LABELLED.name))}
    with connect() as con:
        rows, findings = _label(con, spec, run, due)
    commit = run.lake.write(spec.labels, rows, partitions=due)
    for partition in due:
        content = commit.content[partition]
        metadata = {"n_rows": content.n_rows, "lake version": commit.version}
        produced[partition] = memo.write(partition, inputs[partition], content.hash, metadata).produced()
    return {spec.labels: StepResult(produced, findings)}


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
) -> tuple["pa.Table", tuple[Finding, ...]]:
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
    ((n_labels, n_early, n_spine),) = con.execute(
        """SELECT count(*), count(*) FILTER (label_known_at <= "at"), (SELECT count(*) FROM spine) FROM labels"""
    ).fetchall()
    rows = con.table("labels").to_arrow_table()
    return rows, _findings(n_labels, n_early, n_spine)


def _findings(n_labels: int, n_early: int, n_spine: int) -> tuple[Finding, ...]:
    covered = n_labels / n_spine if n_spine else 1.0
    return (
        Finding(
            catalogue.LATER.name, n_early == 0, f"{n_early} of {n_labels} labels were known before the prediction."
        ),
        Finding(
            catalogue.LABELLED.name,
            covered >= _ENOUGH,
            f"{n_labels} of {n_spine} rows of the spine have a label ({covered:.1%}; at least {_ENOUGH:.0%}).",
            warn=True,
            numbers={"coverage": covered},
        ),
    )
