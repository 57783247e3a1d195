"""Rows on both sides of a split are counted; rows that are equal by chance are not."""

import numpy as np
import pyarrow as pa

from ml_assets.evaluation.twins import by_content, by_key, contents

RANDOM = np.random.default_rng(5)


def rows(keys, split, at=None):
    return pa.table({"id": keys, "at": at or [0] * len(keys), "split": split})


def test_a_key_on_both_sides_at_one_time_is_a_twin():
    found = by_key(rows(["a", "b", "c", "a"], ["train", "train", "test", "validation"]), ["id"])
    assert (found.n_rows, found.n_twins, found.examples) == (2, 1, ("a, 0",))


def test_a_key_that_comes_again_at_another_time_is_none():
    assert by_key(rows(["a", "a"], ["train", "test"], [1, 2]), ["id"]).n_twins == 0


def test_copies_within_the_training_rows_and_in_the_gap_are_no_twins():
    found = by_key(rows(["a", "a", "b", "b"], ["train", "train", "gap", "test"]), ["id"])
    assert (found.n_rows, found.n_twins) == (1, 0)


def told(inputs, labels, learnt, keys=None):
    own = np.arange(len(labels)) if keys is None else keys
    return by_content(contents(pa.table(inputs)), own, labels, learnt)


def test_a_customer_whose_inputs_and_label_last_is_no_copy_of_itself():
    customer, week = np.repeat(np.arange(400), 40), np.tile(np.arange(40), 400)
    bad = RANDOM.random(400) < 0.2
    found = told({"x": RANDOM.normal(size=400)[customer]}, bad[customer].astype(float), week < 26, customer)
    assert (found.n_rows, found.n_twins) == (bad.sum() * 14, 0)


def test_copies_under_other_keys_are_found_among_customers_that_last():
    customer, week = np.repeat(np.arange(400), 40), np.tile(np.arange(40), 400)
    labels, x = (customer % 5 == 0).astype(float), RANDOM.normal(size=400)[customer]
    copied = (customer < 50) & (week >= 26)
    found = told(
        {"x": np.concatenate([x, x[copied]])},
        np.concatenate([labels, labels[copied]]),
        np.concatenate([week < 26, np.ones(copied.sum(), bool)]),
        np.concatenate([customer, customer[copied] + 1000]),
    )
    assert found.n_twins == (labels[copied] == 1).sum() == 140


def test_copies_of_rows_are_counted_by_the_rarer_label():
    values = RANDOM.normal(size=200)
    labels = (np.arange(200) % 4 == 0).astype(float)
    found = told(
        {"x": np.concatenate([values, values[:80]])},
        np.concatenate([labels, labels[:80]]),
        np.concatenate([np.ones(200, bool), np.zeros(80, bool)]),
    )
    assert (found.n_rows, found.n_twins) == (20, 20)


def test_coarse_inputs_are_equal_by_chance_and_their_labels_are_not():
    labels = (RANDOM.random(2000) < 0.3).astype(float)
    learnt = np.arange(2000) < 1500
    assert told({"x": RANDOM.integers(0, 20, 2000).astype(float)}, labels, learnt).n_twins == 0


def test_few_equal_rows_are_chance():
    values = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 9.0])
    assert told({"x": values}, np.array([1.0, 1.0, 0, 1, 1, 0]), np.array([1, 1, 1, 0, 0, 0], bool)).n_twins == 0


def test_nulls_are_equal_to_each_other():
    values = pa.array([None, 1.0] * 20)
    learnt = np.arange(40) < 20
    labels = np.array([1.0, 0.0] * 20)
    assert told({"x": values, "text": ["a"] * 40}, labels, learnt).n_twins == 10


def test_the_same_inputs_have_one_content_whatever_comes_with_them():
    inputs = pa.table({"x": [1.0, None, 2.0, 1.0], "text": ["a", None, "b", "a"]})
    alone = np.concatenate([contents(inputs.slice(n, 1)) for n in range(4)])
    assert list(alone) == list(contents(inputs))
    assert len(set(alone)) == 3
    assert contents(inputs.slice(1, 1)) == contents(pa.table({"x": [None], "text": pa.nulls(1)}))


def test_without_rows_there_are_no_twins():
    assert told({"x": np.zeros(0)}, np.zeros(0), np.zeros(0, bool)).n_rows == 0
