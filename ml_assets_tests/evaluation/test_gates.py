"""Tests of the gates: what passes, what fails, and what cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from ml_assets.evaluation.evaluate import evaluate
from ml_assets.evaluation.gates import BeatsChampion, Gates, judge, names
from ml_assets.training.statistics import delong
from ml_assets_tests.evaluation.worlds import data


def gate(name, evaluation, **declared):
    [found] = [each for each in judge(evaluation, Gates(**declared)) if each.name == name]
    return found


@pytest.fixture(scope="module")
def better():
    return evaluate(data(champion=1.5))


@pytest.fixture(scope="module")
def worse():
    return evaluate(data(noise=1.5, champion=0.2))


@pytest.fixture(scope="module")
def first():
    return evaluate(data(champion=None))


def test_a_better_model_passes_all_gates(better):
    assert [each.verdict for each in judge(better, Gates(roc_auc_at_least=0.7))] == ["passed"] * 4


def test_a_worse_model_does_not_beat_the_champion(worse):
    found = gate("beats_champion", worse)
    assert found.verdict == "failed"
    assert found.interval[1] < 0


@pytest.mark.parametrize(("offset", "verdict"), [(-1e-9, "passed"), (0, "passed"), (1e-9, "failed")])
def test_the_threshold_is_met_at_the_point(better, offset, verdict):
    threshold = better.metrics["roc_auc"].value + offset
    assert gate("roc_auc_at_least", better, roc_auc_at_least=threshold).verdict == verdict


@pytest.mark.parametrize(("offset", "passed"), [(1e-9, True), (-1e-9, False)])
def test_the_lower_end_must_clear_the_margin(worse, offset, passed):
    margin = -worse.champion.difference["roc_auc"].low + offset
    assert gate("beats_champion", worse, beats_champion=BeatsChampion(margin=margin)).passed is passed


def test_a_tie_that_the_rows_cannot_tell_from_a_loss_is_underpowered():
    tie = evaluate(data(3, n=400, noise=0.5, champion=0.5))
    found = gate("beats_champion", tie, beats_champion=BeatsChampion(margin=0.001))
    assert found.verdict == "underpowered"
    assert "Smallest difference these rows would show" in found.sentence


def test_the_same_model_again_is_no_improvement_but_not_worse():
    given = data()
    same = evaluate(replace(given, champion_score=given.score))
    assert gate("beats_champion", same).verdict == "failed"
    assert gate("beats_champion", same, beats_champion=BeatsChampion(margin=0.005)).verdict == "passed"


def test_a_wider_confidence_is_harder_to_pass():
    close = evaluate(data(noise=0.3, champion=0.42))
    found = [gate("beats_champion", close, beats_champion=BeatsChampion(level)).interval[0] for level in (0.8, 0.99)]
    assert found[0] > found[1]


def test_equal_challengers_are_seldom_promoted_as_better(better):
    rows = [data(seed, n=600, noise=0.5, champion=0.5) for seed in range(400)]
    differences = [delong(each.y, each.score, each.champion_score) for each in rows]
    rivals = [replace(better.champion, difference={"roc_auc": difference}) for difference in differences]
    promoted = [gate("beats_champion", replace(better, champion=rival)).passed for rival in rivals]
    assert np.mean(promoted) < 0.045  # 2.5 % and three standard errors


def test_the_first_champion_passes_by_absence(first):
    for name in ("beats_champion", "no_slice_is_worse"):
        found = gate(name, first)
        assert found.passed
        assert "no champion yet" in found.sentence


def test_a_missing_baseline_is_not_beaten():
    found = gate("beats_baseline", evaluate(data(baseline=False)))
    assert (found.verdict, "no baseline" in found.sentence) == ("failed", True)


def test_too_few_rows_leave_every_gate_underpowered():
    found = judge(evaluate(data(n=60)), Gates(roc_auc_at_least=0.5))
    assert [each.verdict for each in found] == ["underpowered"] * 4
    assert "at least 30 of each class" in found[0].sentence
    assert not any(each.passed for each in found)


def test_names_are_known_before_there_is_an_evaluation(better, first):
    for declared in (Gates(), Gates(0.7), Gates(beats_baseline=False, slice_margin=None)):
        for evaluation in (better, first, evaluate(data(n=60))):
            assert [each.name for each in judge(evaluation, declared)] == names(declared)


def test_a_slice_that_is_surely_worse_stops_a_model_that_is_better_overall():
    given = data(n=8000, noise=0.3, champion=1.2)
    spoilt = np.array([origin == "JFK" for origin in given.slices["origin"]])
    score = given.score.copy()
    score[spoilt] = np.random.default_rng(1).permutation(score[spoilt])
    found = gate("no_slice_is_worse", evaluate(replace(given, score=score)))
    assert found.verdict == "failed"
    assert "origin=JFK" in found.sentence


def test_every_sentence_says_value_interval_threshold_and_rows(better):
    for each in judge(better, Gates(roc_auc_at_least=0.7)):
        assert "rows" in each.sentence
        assert each.interval[0] <= each.value <= each.interval[1]
