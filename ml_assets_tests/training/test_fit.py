"""Tests of the fit: the same bits, honest curves, and errors that say what to change."""

from dataclasses import replace

import numpy as np
import pytest

from ml_assets.errors import ArtefactError, TrainingError
from ml_assets.training.fit import FitSpec, fit, load, model_hash, predict
from ml_assets.training.matrix import Matrix
from ml_assets.training.statistics import log_loss, roc_auc
from ml_assets_tests.training.worlds import matrix

TRAIN, VALIDATION, TEST = matrix(1), matrix(2, 600), matrix(3, 600)
SPEC = FitSpec(rounds=30, num_threads=1)


@pytest.fixture(scope="module")
def fitted():
    return fit(TRAIN, SPEC, seed=7, validation=VALIDATION)


def test_it_learns_what_there_is_to_learn(fitted):
    assert roc_auc(TEST.y, predict(fitted.model_text, TEST.X)).low > 0.75
    assert next(iter(fitted.importance)) == "strong"
    assert sum(fitted.importance.values()) == pytest.approx(1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(fitted, threads):
    again = fit(TRAIN, replace(SPEC, num_threads=threads), seed=7, validation=VALIDATION)
    assert again.model_hash == fitted.model_hash
    assert (predict(again.model_text, TEST.X, num_threads=threads) == predict(fitted.model_text, TEST.X)).all()


def test_another_seed_another_model(fitted):
    assert fit(TRAIN, SPEC, seed=8, validation=VALIDATION).model_hash != fitted.model_hash


def test_another_label_another_model(fitted):
    y = TRAIN.y.copy()
    y[0] = 1 - y[0]
    assert fit(replace(TRAIN, y=y), SPEC, seed=7, validation=VALIDATION).model_hash != fitted.model_hash


def test_one_row_is_scored_with_the_same_bits_as_many(fitted):
    booster = load(fitted.model_text)
    many = predict(booster, TEST.X)
    assert [predict(booster, TEST.X[row : row + 1])[0] for row in range(50)] == many[:50].tolist()


def test_a_text_that_was_stored_and_loaded_keeps_its_hash(fitted):
    assert model_hash(load(fitted.model_text).model_to_string()) == fitted.model_hash


def test_the_curve_is_the_loss_of_the_model_on_validation(fitted):
    curve = fitted.curves["validation/binary_logloss"]
    best = log_loss(VALIDATION.y, predict(fitted.model_text, VALIDATION.X)).value
    assert curve[fitted.best_iteration - 1] == pytest.approx(best, rel=1e-6)
    assert min(curve) == curve[fitted.best_iteration - 1]


def test_without_validation_it_trains_the_rounds_asked_for():
    assert fit(TRAIN, SPEC, seed=7).best_iteration == 30


def test_early_stopping_ends_before_the_last_round():
    stopped = fit(TRAIN, FitSpec(rounds=500, early_stopping_rounds=5, num_threads=1), seed=7, validation=VALIDATION)
    assert len(stopped.curves["validation/auc"]) == stopped.best_iteration + 5 < 500


def test_shuffled_labels_teach_nothing():
    y = np.random.default_rng(0).permutation(TRAIN.y)
    blind = fit(replace(TRAIN, y=y), SPEC, seed=7)
    found = roc_auc(TEST.y, predict(blind.model_text, TEST.X))
    assert abs(found.value - 0.5) < 0.15


def test_an_all_missing_column_is_no_obstacle():
    x = TRAIN.X.copy()
    x[:, 2] = np.nan
    assert fit(replace(TRAIN, X=x), SPEC, seed=7).importance["noise"] == 0


def test_a_constant_label_is_refused():
    with pytest.raises(TrainingError, match="same label"):
        fit(replace(TRAIN, y=np.zeros(len(TRAIN))), SPEC, seed=7)


@pytest.mark.parametrize("params", [{"boosting": "goss"}, {"data_sample_strategy": "goss"}, {"linear_tree": True},
                                    {"use_quantized_grad": True}])  # fmt: skip
def test_parameters_that_depend_on_threads_are_refused(params):
    with pytest.raises(TrainingError, match=f"{next(iter(params))} would make"):
        fit(TRAIN, FitSpec(params), seed=7)


def test_what_lightgbm_refuses_is_a_training_error():
    with pytest.raises(TrainingError, match="LightGBM refused"):
        fit(TRAIN, FitSpec({"num_leaves": 1}), seed=7)


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n", "not a model"])
def test_a_text_that_is_no_model_is_refused(text):
    with pytest.raises(ArtefactError, match="not a whole LightGBM model"):
        model_hash(text)


def test_half_a_model_is_refused(fitted):
    with pytest.raises(ArtefactError):
        load(fitted.model_text[: len(fitted.model_text) // 2])


def test_rows_of_another_width_are_refused(fitted):
    with pytest.raises(ArtefactError, match="takes 4 features, the rows have 3"):
        predict(fitted.model_text, TEST.X[:, :3])


@pytest.mark.parametrize(("change", "problem"), [
    ({"X": np.full((1500, 4), np.inf)}, "infinite values in strong"), ({"y": np.full(1500, np.nan)}, "0 or 1"),
    ({"names": ("a", "a", "b", "carrier")}, "same name"), ({"categorical": ("other",)}, "other"),
    ({"y": np.zeros(3)}, "do not fit"),
])  # fmt: skip
def test_a_matrix_that_cannot_be_learnt_from_is_refused(change, problem):
    with pytest.raises(TrainingError, match=problem):
        replace(TRAIN, **change)


def test_rows_can_follow_rows_of_the_same_features():
    both = TRAIN.followed_by(VALIDATION)
    assert len(both) == 2100
    with pytest.raises(TrainingError, match="features differ"):
        both.followed_by(Matrix(TEST.X, TEST.y, TEST.names))
