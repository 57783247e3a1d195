"""Labels that do not depend on which other days are labelled with them."""

from datetime import timedelta

import pyarrow as pa

from ml_assets.steps import ingest, labels
from ml_assets.steps.specs import ModelSpec
from ml_assets_tests.project import Project, days, flights

FIRST, *_, LAST = days("2013-01-01", "2013-01-05")


def labelled(project: Project, *wanted: str) -> dict[str, dict]:
    table = project.table("flights")
    spec = ModelSpec("late", table, "arrived_at - INTERVAL 1 HOUR", table, "delay > 50", views=())
    labels.materialize(spec, project.step(*wanted))
    return {row["flight_id"]: row for row in project.rows(spec.labels) if row["partition_key"] == FIRST}


def test_an_outcome_that_is_restated_after_the_horizon_leaves_the_label_as_it_was(project):
    for day in days(FIRST, LAST):
        project.land(f"{day}.parquet", flights(day, delay=10.0))
    restated = flights(FIRST, delay=99.0).slice(0, 1)
    known = [at + timedelta(days=4) for at in restated["known_at"].to_pylist()]
    restated = restated.set_column(
        restated.column_names.index("known_at"), "known_at", pa.array(known, pa.timestamp("us", "UTC"))
    )
    project.land(f"{LAST}-restated.parquet", restated)
    ingest.ingest(project.table("flights"), project.step(FIRST, LAST))
    alone = labelled(project, FIRST, FIRST)
    assert (len(alone), {row["label"] for row in alone.values()}) == (16, {0.0})
    project.lake.replace_object(
        f"memo/labels/late/{FIRST}.json", b'{"fingerprint": "", "inputs": {}, "data_version": ""}'
    )
    assert labelled(project, FIRST, LAST) == alone
