import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ml_assets.demo import summary
from ml_assets.demo.graph import AssetState, CheckState, RunState, Snapshot
from ml_assets.demo.questions import Flight

AT = datetime(2013, 5, 1, 10, 30, tzinfo=UTC)
LATE = Flight("UA1 EWR-ORD", AT, {}, 40.0, "+40 min")
ON_TIME = Flight("B62 JFK-BOS", AT, {}, -5.0, "-5 min")
CANCELLED = Flight("EV3 LGA-RIC", AT, {}, None, "cancelled")


def test_metrics_keep_their_intervals_and_those_without_are_left_out():
    found = summary.metrics(
        {"roc_auc": 0.72, "roc_auc_low": 0.71, "roc_auc_high": 0.73, "pr_auc": 0.5, "n_rows": 9, "brier": 0.1}
    )
    assert [str(metric) for metric in found] == ["ROC AUC 0.720 [0.710, 0.730]"]


def test_examples_put_each_answer_beside_its_flight():
    answers = [{"score": 0.8, "version": "3"}, {"score": 0.1, "version": "3"}]
    late, on_time = summary.examples([LATE, ON_TIME], answers)
    assert (late["flight"], late["score"], late["late"]) == ("UA1 EWR-ORD", 0.8, True)
    assert (on_time["score"], on_time["late"], on_time["arrival_delay_minutes"]) == (0.1, False, -5.0)


def test_an_answer_too_few_is_an_error_not_a_shorter_table():
    with pytest.raises(ValueError, match="shorter"):
        summary.examples([LATE, ON_TIME], [{"score": 0.8, "version": "3"}])


def test_a_flight_that_never_arrived_is_neither_late_nor_on_time():
    assert CANCELLED.late is None
    assert Flight("x", AT, {}, 15.0, "").late is False, "15 minutes are not more than 15"


def test_answers_are_shown_beside_what_happened():
    shown = summary.examples([LATE, CANCELLED], [{"score": 0.834, "version": "1"}, {"score": 0.2, "version": "1"}])
    console = Console(file=io.StringIO(), width=100)
    console.print(summary.answers_table(shown))
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ["UA1", "EWR-ORD", "2013-05-01", "10:30", "83%", "+40", "min"]
    assert lines[2].split()[-2:] == ["20%", "cancelled"]


def test_counts_tell_this_session_from_the_ones_before():
    checks = (CheckState("a", True), CheckState("b", False), CheckState("c", False, True))
    snapshot = Snapshot(
        {
            "raw/old": AssetState("raw/old", True, 50.0, 7, checks=checks),
            "raw/new": AssetState("raw/new", False, 150.0),
            "models/none": AssetState("models/none", False),
        },
        [RunState("1", "SUCCESS", (), 40.0, 50.0), RunState("2", "FAILURE", (), 140.0, 150.0)],
    )
    assert summary.counts(snapshot, since=100.0) == {
        "assets": 3,
        "assets_materialized": 2,
        "assets_materialized_in_this_session": 1,
        "partitions_materialized": 7,
        "checks_passed": 1,
        "checks_failed": 1,
        "checks_warned": 1,
        "runs": 1,
        "runs_failed": 1,
    }


def test_only_models_that_were_computed_since_count_as_trainings():
    models = {
        "models/a": [{"at": 120.0, "reused": False}, {"at": 110.0, "reused": True}, {"at": 90.0, "reused": False}],
        "models/b": [{"at": 130.0}],
    }
    assert summary.trainings(models, since=100.0) == 2
    assert summary.trainings(models, since=140.0) == 0


def test_the_summary_is_json_and_replaced_whole(tmp_path):
    path = tmp_path / "demo" / "summary.json"
    summary.write(path, {"a": 1, "long": "x" * 1000})
    summary.write(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [each.name for each in path.parent.iterdir()] == ["summary.json"]
