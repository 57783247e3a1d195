"""Tests of the evaluation as a whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ml_assets.errors import TrainingError
from ml_assets.evaluation.evaluate import Evaluation, evaluate
from ml_assets.training.statistics import delong, log_loss, roc_auc
from ml_assets_tests.evaluation.worlds import BEGIN, data

DATA = data()


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(DATA)


def test_it_survives_the_way_through_json(evaluation):
    stored = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert Evaluation.from_dict(stored) == evaluation


def test_the_same_rows_give_the_same_numbers(evaluation):
    assert evaluate(data()) == evaluation


def test_the_champion_is_compared_on_the_same_rows(evaluation):
    assert evaluation.champion.difference["roc_auc"] == delong(DATA.y, DATA.score, DATA.champion_score)
    difference = log_loss(DATA.y, DATA.score).value - log_loss(DATA.y, DATA.champion_score).value
    assert evaluation.champion.difference["log_loss"].value == pytest.approx(difference)
    assert evaluation.champion.metrics["roc_auc"] == roc_auc(DATA.y, DATA.champion_score)


def test_every_row_is_in_one_slice_of_each_column_and_null_is_a_slice(evaluation):
    for column in ("origin", "carrier"):
        assert sum(each.n_rows for each in evaluation.slices if each.column == column) == len(DATA.y)
    assert {each.value for each in evaluation.slices if each.column == "origin"} == {"EWR", "JFK", "null"}


def test_a_slice_is_evaluated_on_its_own_rows(evaluation):
    [jfk] = [each for each in evaluation.slices if each.value == "JFK"]
    rows = np.array([origin == "JFK" for origin in DATA.slices["origin"]])
    assert jfk.roc_auc == roc_auc(DATA.y[rows], DATA.score[rows])
    assert jfk.vs_champion == delong(DATA.y[rows], DATA.score[rows], DATA.champion_score[rows])


def test_a_slice_with_few_of_a_class_is_underpowered():
    slices = {"rare": np.where(np.arange(len(DATA.y)) < 40, "yes", "no")}
    found = {each.value: each.underpowered for each in evaluate(replace(DATA, slices=slices)).slices}
    assert found == {"yes": True, "no": False}


def test_weeks_begin_on_monday():
    at = np.array([BEGIN, BEGIN + np.timedelta64(7, "D") - np.timedelta64(1, "us"), BEGIN + np.timedelta64(7, "D")])
    at = np.repeat(at, [1000, 1000, 1000])
    weeks = evaluate(replace(DATA, at=at)).weeks
    assert [(each.begin, each.n_rows) for each in weeks] == [("2013-04-15", 2000), ("2013-04-22", 1000)]


def test_one_class_leaves_ranks_undefined_but_not_the_losses():
    found = evaluate(replace(DATA, y=np.zeros(len(DATA.y))))
    assert found.metrics["roc_auc"] is None
    assert found.metrics["log_loss"].value > 0
    json.dumps(found.as_dict(), allow_nan=False)


def test_without_rivals_there_is_no_comparison():
    found = evaluate(data(champion=None, baseline=False, slices=False))
    assert (found.champion, found.baseline, found.slices) == (None, None, [])


def test_constant_scores_are_no_obstacle():
    found = evaluate(replace(DATA, score=np.full(len(DATA.y), 0.3)))
    assert found.metrics["roc_auc"].value == 0.5


@pytest.mark.parametrize(("change", "problem"), [
    ({"score": DATA.score[:-1]}, r"score \(2999\)"), ({"slices": {"a": [1]}}, r"slice a \(1\)"),
    ({"champion_score": DATA.score[:5]}, "champion_score"),
])  # fmt: skip
def test_columns_of_different_length_are_named(change, problem):
    with pytest.raises(TrainingError, match=problem):
        replace(DATA, **change)
