"""The training set: labelled spine rows with features as of their time, split, and the manifest that pins them."""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.engine import connect
from ml_assets.errors import TrainingError
from ml_assets.records import Finding, StepResult
from ml_assets.steps import catalogue, configuration, leaks, pins, view_versions
from ml_assets.steps.days import shift, start_of
from ml_assets.steps.frames import model_columns, request_schema, spine_with_features
from ml_assets.steps.memo import Memo, Work, digest
from ml_assets.steps.pictures import markdown_table
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ModelSpec
from ml_assets.training.split import assign

if TYPE_CHECKING:
    import pyarrow as pa


def materialize(spec: ModelSpec, run: Run) -> Mapping[str, StepResult]:
    """Join, split and store the rows, unless the same inputs made the set that stands."""
    until, versions = watermark(spec, run.lake), _versions(spec, run.lake)
    views = view_versions.pinned(spec.views, run.lake)
    memo, inputs = _work(spec, run.lake, until, versions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.training_set: StepResult(produced, _found(spec, run))}
    view_versions.require_whole(spec.views, run.lake)
    run.log(f"{spec.training_set}: joining {len(spec.views)} feature views as of each row, labels mature until {until}")
    rows = _rows(spec, run.lake, until, versions)
    commit = run.lake.write(spec.training_set, rows)
    counts = _counts(spec, run.lake)
    manifest = {
        "content": commit.content[""].hash,
        "watermark": until.isoformat(),
        "inputs": inputs[""],
        "versions": versions | {spec.training_set: commit.version},
        "views": views,
        "splits": counts,
        "declaration": configuration.of_training_set(spec),
    }
    place = pins.keep(run.lake, spec.name, manifest)
    metadata = {
        "n_rows": rows.num_rows,
        "watermark": until.isoformat(),
        "manifest": place,
        "lake version": commit.version,
    }
    entry = memo.write("", inputs[""], commit.content[""].hash, metadata)
    split = markdown_table(("split", "rows", "positives", "from", "to"), [list(c.values()) for c in counts])
    numbers = {view: pin["number"] for view, pin in views.items()}
    made = entry.produced({"splits": split, "input versions": versions, "view versions": numbers})
    return {spec.training_set: StepResult({"": made}, _found(spec, run))}


def work(spec: ModelSpec, run: Run) -> Work:
    """The record of the training set, and what it would be made from."""
    view_versions.pinned(spec.views, run.lake)
    return _work(spec, run.lake, watermark(spec, run.lake), _versions(spec, run.lake))


def _work(spec: ModelSpec, lake: Lake, until: datetime, versions: Mapping[str, int]) -> Work:
    memo = Memo(lake, spec.training_set, version=catalogue.TRAINING_SET, config=configuration.of_training_set(spec))
    contents = {name: lake.content(name, version=version) for name, version in versions.items()}
    inputs = {name: digest({p: c.hash for p, c in found.items()}) for name, found in contents.items()}
    return Work(memo, {"": {**inputs, "watermark": until.isoformat()}})


def _versions(spec: ModelSpec, lake: Lake) -> dict[str, int]:
    """The tables as they are now, to be read as one moment and found again later."""
    names = [spec.labels, spec.spine.table, *(view.name for view in spec.views)]
    return {name: lake.version(name) for name in names}


def watermark(spec: ModelSpec, lake: Lake) -> datetime:
    """The instant up to which labels are mature: the horizon before the end of what is known of outcomes."""
    return known_until(spec, lake) - spec.horizon


def known_until(spec: ModelSpec, lake: Lake) -> datetime:
    """The end of the last hour that outcomes tell of, within their newest day: a day can be delivered hour by hour."""
    days = lake.partitions(spec.label_table.table) if lake.exists(spec.label_table.table) else []
    if not days:
        raise TrainingError(f"There are no outcomes in {spec.label_table.table} yet. Land and materialize them first.")
    with connect() as con:
        newest = lake.read(spec.label_table.table, con, partitions=[days[-1]], columns=["known_at"])
        ((known,),) = newest.aggregate("date_trunc('hour', max(known_at)) + INTERVAL 1 HOUR").fetchall()
    return min(known, start_of(days[-1]) + DAY)


def _rows(spec: ModelSpec, lake: Lake, until: datetime, versions: Mapping[str, int]) -> "pa.Table":
    first = (until - spec.window).date().isoformat() if spec.window else None
    span = PartitionRange(first, shift(until.date().isoformat(), spec.horizon_days))
    rows = spine_with_features(
        spec,
        lake,
        span,
        where=f""""at" < TIMESTAMPTZ '{until.isoformat()}'""",
        join=spec.labels,
        versions=versions,
    )
    if rows.num_rows < spec.min_rows:
        raise TrainingError(
            f"{rows.num_rows} labelled rows until {until}, at least {spec.min_rows} are needed. Wait for more data."
        )
    parts = assign(rows["at"].to_numpy(), validation=spec.validation, test=spec.test, gap=spec.gap)
    return rows.append_column("split", [parts.tolist()])


def _counts(spec: ModelSpec, lake: Lake) -> list[dict[str, Any]]:
    with connect() as con:
        lake.register(con, "rows", spec.training_set)
        found = con.sql("""
            SELECT split, count(*) AS n_rows, CAST(sum(label) AS BIGINT) AS positives,
                   CAST(min("at") AS VARCHAR) AS first, CAST(max("at") AS VARCHAR) AS last
            FROM rows GROUP BY split ORDER BY first""")
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def _found(spec: ModelSpec, run: Run) -> tuple[Finding, ...]:
    counts = [c for c in _counts(spec, run.lake) if c["split"] != "gap"]
    ordered = all(a["last"] < b["first"] for a, b in pairwise(counts))
    spans = "; ".join(f"{c['split']} {c['first'][:10]} to {c['last'][:10]}" for c in counts)
    single = [c["split"] for c in counts if c["positives"] in (0, c["n_rows"])]
    rates = ", ".join(f"{c['split']} {c['positives'] / c['n_rows']:.1%} of {c['n_rows']:,}" for c in counts)
    return (
        Finding(catalogue.IN_TIME.name, ordered, spans),
        Finding(catalogue.BOTH.name, not single, f"Positives: {rates}."),
        *leaks.findings(spec, run),
    )


def columns_of(spec: ModelSpec, rows: "pa.Table") -> tuple[dict[str, Any], set[str]]:
    """The model's columns of training set rows, and the request fields that it needs."""
    wanted = [field.name for field in request_schema(spec).request_fields]
    present = [name for name in rows.column_names if name in wanted or name == "at" or "__" in name]
    return model_columns(spec, rows.select(present))


def labels_of(rows: "pa.Table") -> np.ndarray:
    """Labels, 0 or 1, as float64."""
    return rows["label"].to_numpy().astype(np.float64)
