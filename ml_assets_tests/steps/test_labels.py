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
    assert "16 of 16 labels were known at or before the moment of the prediction" in verdict.sentence()
    assert pending.of_labels(spec, project.step()) == {}
    project.land(f"{BAD}.parquet", flights(BAD, delay=10.0))
    ingest.ingest(table, project.step(BAD))
    mended = labels.materialize(spec, project.step(FIRST, LAST))[spec.labels]
    assert BAD in mended.produced
    assert all(each.passed for each in mended.findings)


def test_a_label_known_at_the_very_moment_of_the_prediction_is_refused_with_an_example_and_the_way_out(project):
    project.land(f"{BAD}.parquet", flights(BAD, carriers=["UA"], delay=10.0))
    table = project.table("flights")
    last = f"flight_id = 'UA-{BAD}-21'"
    at = f"CASE WHEN {last} THEN arrived_at + INTERVAL 30 MINUTE ELSE arrived_at + INTERVAL 29 MINUTE END"
    spec = ModelSpec("late", table, at, table, "delay > 50", views=())
    ingest.ingest(table, project.step(BAD))
    said = finding(labels.materialize(spec, project.step(BAD))[spec.labels], "labels_become_known_after_the_prediction")
    sentence = (
        f"1 of 8 labels were known at or before the moment of the prediction ({BAD}), such as flight_id=UA-{BAD}-21:"
        f" predicted at {BAD} 21:30:00 UTC, known at {BAD} 21:30:00 UTC. Move `spine.time` earlier, or the `known_at`"
        " of 'flights' later if that is when it is truly known."
    )
    assert (said.passed, said.sentence) == (False, sentence)
    assert sentence.rstrip(".") in explain.one(Asset("labels", spec), project.step(), BAD).sentence()


def test_of_labels_that_were_known_too_early_the_earliest_is_shown(project):
    for day in (BAD, LAST):
        project.land(f"{day}.parquet", flights(day, carriers=["UA"], delay=10.0))
    table = project.table("flights")
    worst = f"CASE WHEN flight_id = 'UA-{LAST}-06' THEN INTERVAL 9 HOUR ELSE INTERVAL 1 HOUR END"
    spec = ModelSpec("late", table, f"arrived_at + {worst}", table, "delay > 50", views=())
    ingest.ingest(table, project.step(BAD, LAST))
    result = labels.materialize(spec, project.step(BAD, LAST))[spec.labels]
    said = finding(result, "labels_become_known_after_the_prediction").sentence
    assert f"flight_id=UA-{LAST}-06: predicted at {LAST} 15:00:00 UTC, known at {LAST} 06:30:00 UTC." in said
