"""Labels that do not depend on which other days are labelled with them."""

from datetime import timedelta

import pyarrow as pa

from ml_assets.steps import explain, ingest, labels, pending
from ml_assets.steps.specs import ModelSpec
from ml_assets.steps.works import Asset
from ml_assets_tests.flights import finding
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


BAD = "2013-01-02"


def early(project: Project) -> ModelSpec:
    """A model that predicts flights with a long delay only after they have landed."""
    table = project.table("flights")
    at = "CASE WHEN delay > 500 THEN arrived_at + INTERVAL 1 HOUR ELSE arrived_at - INTERVAL 1 HOUR END"
    return ModelSpec("late", table, at, table, "delay > 50", views=())


def test_labels_that_were_known_too_early_stay_out_and_stay_failed_until_something_changes(project):
    for day in days(FIRST, LAST):
        project.land(f"{day}.parquet", flights(day, delay=550.0 if day == BAD else 10.0))
    table, spec = project.table("flights"), early(project)
    ingest.ingest(table, project.step(FIRST, LAST))
    first = labels.materialize(spec, project.step(FIRST, LAST))[spec.labels]
    again = labels.materialize(spec, project.step(BAD))[spec.labels]
    for result in (first, again):
        assert BAD not in result.produced
        said = finding(result, "labels_become_known_after_the_prediction")
        assert not said.passed
        assert said.sentence.startswith("16 of ")
        assert BAD in said.sentence
    assert sorted({row["partition_key"] for row in project.rows(spec.labels)}) == sorted({*days(FIRST, LAST)} - {BAD})
    verdict = explain.one(Asset("labels", spec), project.step(), BAD)
    assert verdict.decision is explain.Decision.REFUSED
    assert "16 of 16 labels were known before the prediction" in verdict.sentence()
    assert pending.of_labels(spec, project.step()) == {}
    project.land(f"{BAD}.parquet", flights(BAD, delay=10.0))
    ingest.ingest(table, project.step(BAD))
    mended = labels.materialize(spec, project.step(FIRST, LAST))[spec.labels]
    assert BAD in mended.produced
    assert all(each.passed for each in mended.findings)
