"""Inputs without benefit are named; useful ones are not, and twins are not dropped both."""

from dataclasses import replace

import numpy as np
import pytest

from ml_assets.steps.usefulness import finding
from ml_assets.training.fit import FitSpec, fit, predict
from ml_assets.training.matrix import Matrix
from ml_assets.training.usefulness import Shuffling, usefulness
from ml_assets_tests.training.worlds import matrix

SPEC = FitSpec({"feature_fraction": 1.0}, rounds=40, num_threads=1)


def with_columns(rows: Matrix, **columns: np.ndarray) -> Matrix:
    return Matrix(np.column_stack([rows.X, *columns.values()]), rows.y, (*rows.names, *columns), rows.categorical)


def asked(train: Matrix, validation: Matrix, **by):
    fitted = fit(train, SPEC, seed=1, validation=validation)
    return usefulness(fitted.model_text, validation, fitted.importance, seed=3, by=Shuffling(num_threads=1, **by))


@pytest.fixture(scope="module")
def plain():
    def widened(rows):
        return with_columns(rows, constant=np.ones(len(rows)))

    train, validation = widened(matrix(0)), widened(matrix(1))
    return train, validation, asked(train, validation)


def test_noise_and_a_constant_are_without_benefit_and_the_rest_is_of_use(plain):
    found = plain[2]
    assert {benefit.name for benefit in found.useless} == {"noise", "constant"}
    assert [benefit.name for benefit in found.benefits][-1] == "strong"


def test_what_no_tree_splits_by_is_told_from_what_trees_use_in_vain(plain):
    assert {benefit.name: benefit.in_trees for benefit in plain[2].useless} == {"noise": True, "constant": False}


def test_all_without_benefit_could_be_dropped_together(plain):
    found = plain[2]
    assert set(found.droppable) == {"noise", "constant"}
    assert found.together.low <= 0 < found.together.high < 0.01


def test_dropping_what_could_be_dropped_does_not_make_the_model_worse(plain):
    train, validation, found = plain
    kept = [at for at, name in enumerate(train.names) if name not in found.droppable]
    many = with_columns(matrix(9, 20_000), constant=np.ones(20_000))

    def narrowed(rows):
        return Matrix(rows.X[:, kept], rows.y, tuple(rows.names[at] for at in kept), rows.categorical)

    def loss(one, other, judged):
        score = predict(fit(one, SPEC, seed=1, validation=other).model_text, judged.X)
        return -np.where(judged.y == 1, np.log(score), np.log(1 - score)).mean()

    whole, less = loss(train, validation, many), loss(*map(narrowed, (train, validation, many)))
    assert less < whole + 0.001


def test_of_twins_that_stand_in_for_each_other_not_both_could_be_dropped():
    def doubled(rows):
        weak = rows.X[:, 0]
        return Matrix(np.column_stack([weak, weak]), rows.y, ("one", "other"))

    train, validation = doubled(matrix(2, 3000)), doubled(matrix(3))
    fitted = fit(train, replace(SPEC, params={"feature_fraction": 0.5}), seed=1, validation=validation)
    assert all(share > 0 for share in fitted.importance.values())
    found = usefulness(fitted.model_text, validation, fitted.importance, seed=3)
    assert len(found.droppable) <= 1


def test_the_same_seed_gives_the_same_answer_and_another_one_other_numbers(plain):
    train, validation, found = plain
    assert asked(train, validation) == found
    fitted = fit(train, SPEC, seed=1, validation=validation)
    other = usefulness(fitted.model_text, validation, fitted.importance, seed=4, by=Shuffling(num_threads=1))
    assert other.benefits != found.benefits


def test_the_cost_is_bounded_by_a_sample_of_the_rows(plain):
    train, validation, _ = plain
    found = asked(train, validation, rows=300, repeats=2)
    assert (found.n_rows, found.repeats) == (300, 2)
    assert found.benefits[-1].name == "strong"


def test_an_interval_holds_what_shuffling_costs_on_many_rows():
    train, many = matrix(0), matrix(5, 40_000)
    fitted = fit(train, SPEC, seed=1, validation=matrix(1))
    truth = usefulness(fitted.model_text, many, fitted.importance, seed=0, by=Shuffling(rows=len(many), repeats=10))
    true = {benefit.name: benefit.loss.value for benefit in truth.benefits}
    inside = [
        benefit.loss.low <= true[benefit.name] <= benefit.loss.high
        for seed in range(15)
        for benefit in usefulness(fitted.model_text, matrix(seed + 100, 1000), fitted.importance, seed=seed).benefits
    ]
    assert np.mean(inside) > 0.85


@pytest.mark.parametrize("n_rows", [1, 5, 60])
def test_few_validation_rows_are_too_few_to_tell_of_what_trees_use(n_rows):
    train, few = matrix(0), matrix(1)
    fitted = fit(train, SPEC, seed=1, validation=few)
    few = Matrix(few.X[:n_rows], few.y[:n_rows], few.names, few.categorical)
    found = usefulness(fitted.model_text, few, fitted.importance, seed=3)
    assert found.n_rows == n_rows
    assert (found.useless, found.droppable) == ((), ())
    assert {benefit.name for benefit in found.undecided} == {n for n, gain in fitted.importance.items() if gain > 0}


def test_what_no_tree_splits_by_could_be_dropped_however_few_the_rows_are(plain):
    train, validation, _ = plain
    fitted = fit(train, SPEC, seed=1, validation=validation)
    few = Matrix(validation.X[:80], validation.y[:80], validation.names, validation.categorical)
    assert usefulness(fitted.model_text, few, fitted.importance, seed=3).droppable == ("constant",)
    said = finding(fitted, few, seed=3, threads=1).sentence
    assert "1 could be dropped together (log loss +0.00000, at most +0.00000): that saves 1 columns." in said


def test_a_weak_input_that_some_hundred_rows_cannot_judge_is_not_called_useless():
    """Of many models and small validation sets, next to none says so of an input that many rows show to be of use."""
    train, many = matrix(0), matrix(5, 40_000)
    fitted = fit(train, SPEC, seed=1, validation=matrix(1))
    truth = usefulness(fitted.model_text, many, fitted.importance, seed=0, by=Shuffling(rows=len(many)))
    of_use = {benefit.name for benefit in truth.benefits if benefit.loss.low > truth.tolerated}
    assert of_use
    wrong = [
        benefit.name
        for seed in range(20)
        for benefit in usefulness(fitted.model_text, matrix(seed + 50, 150), fitted.importance, seed=seed).useless
        if benefit.name in of_use
    ]
    assert len(wrong) <= 1
