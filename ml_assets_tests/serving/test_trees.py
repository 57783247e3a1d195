"""LightGBM's C calls give the bits of its Python package."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ml_assets.errors import ArtefactError
from ml_assets.serving.trees import Trees
from ml_assets_tests.serving import world


@pytest.fixture(scope="module")
def trees() -> Trees:
    return Trees(world.train())


def test_many_rows_have_the_bits_of_booster_predict(trees: Trees):
    matrix, _ = world.training_matrix(rows=500, seed=11)
    assert np.array_equal(trees.predict(matrix), world.offline_scores(world.train(), matrix))


def test_rows_one_by_one_have_the_bits_of_many(trees: Trees):
    matrix, _ = world.training_matrix(rows=200, seed=12)
    singly = [trees.predict(matrix[n : n + 1])[0] for n in range(len(matrix))]
    assert np.array_equal(singly, trees.predict(matrix))


def test_threads_do_not_mix_their_rows_up(trees: Trees):
    matrix, _ = world.training_matrix(rows=300, seed=13)
    wanted = trees.predict(matrix)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: trees.predict(matrix[n % 300 : n % 300 + 1])[0], range(3000)))
    assert np.array_equal(found, np.tile(wanted, 10))


def test_a_matrix_in_column_order_is_scored_alike(trees: Trees):
    matrix, _ = world.training_matrix(rows=50)
    assert np.array_equal(trees.predict(np.asfortranarray(matrix)), trees.predict(matrix))


def test_the_number_of_inputs_is_the_models(trees: Trees):
    assert trees.n_inputs == len(world.SCHEMA.inputs)


def test_text_that_is_no_model_is_an_artefact_error():
    with pytest.raises(ArtefactError, match="LightGBM refuses"):
        Trees("not a model")


def test_a_model_with_several_outputs_is_refused():
    import lightgbm

    matrix, _ = world.training_matrix(rows=100)
    data = lightgbm.Dataset(matrix, np.arange(100) % 3, params={"verbosity": -1})
    text = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbosity": -1}, data, 1).model_to_string()
    with pytest.raises(ArtefactError, match="3 outputs"):
        Trees(text)
