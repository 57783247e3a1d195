"""The matrix a model reads: equal bits for one row and many, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import FeatureError
from ml_assets.features.encode import Input, encode, fit_inputs

NUMERIC, SKY = Input("delay", "numeric"), Input("sky", "categorical", ("clear", "rain"))
NUMBERS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats()
TEXTS = st.none() | st.sampled_from(["clear", "rain", "snow"])


@given(st.lists(st.tuples(NUMBERS, TEXTS), min_size=1, max_size=20))
def test_one_row_gets_the_same_bits_as_all_rows(rows):
    whole = encode({"delay": [n for n, _ in rows], "sky": [t for _, t in rows]}, [NUMERIC, SKY])
    alone = [encode({"delay": [n], "sky": [t]}, [NUMERIC, SKY]) for n, t in rows]
    assert whole.tobytes() == b"".join(matrix.tobytes() for matrix in alone)


@given(st.lists(st.tuples(st.none() | st.floats(), TEXTS), min_size=1, max_size=20))
def test_lists_arrow_columns_and_arrays_give_the_same_bits(rows):
    table = pa.table(
        {"delay": pa.array([n for n, _ in rows], pa.float64()), "sky": pa.array([t for _, t in rows], pa.string())}
    )
    lists = encode(table.to_pydict(), [NUMERIC, SKY])
    arrays = encode({name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}, [NUMERIC, SKY])
    assert lists.tobytes() == arrays.tobytes()


def test_null_and_unseen_become_nan_and_categories_their_position():
    matrix = encode({"delay": [None, True, 7], "sky": ["rain", None, "snow"]}, [SKY, NUMERIC])
    np.testing.assert_array_equal(matrix, [[1.0, np.nan], [np.nan, 1.0], [np.nan, 7.0]])


def test_every_nan_has_the_same_bits():
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    bits = encode({"delay": odd}, [NUMERIC]).view(np.uint64)
    assert set(bits.ravel().tolist()) == {np.array(np.nan).view(np.uint64).item()}


@pytest.mark.parametrize(
    "values", [["1.5"], np.array(["1.5"]), [1.5, "2"], [object()], np.array(["2013-01-01"], "M8[us]")]
)
def test_what_is_not_a_number_is_refused_in_a_numeric_input(values):
    with pytest.raises(FeatureError, match="'delay' must be numeric"):
        encode({"delay": values}, [NUMERIC])


@pytest.mark.parametrize("values", [[1], [1.0], np.array([1.0]), [True], [b"rain"]])
def test_what_is_not_text_is_refused_in_a_categorical_input(values):
    with pytest.raises(FeatureError, match="'sky' is categorical and must be text"):
        encode({"sky": values}, [SKY])


def test_missing_columns_are_named():
    with pytest.raises(FeatureError, match="needs the inputs delay, sky"):
        encode({"other": [1]}, [NUMERIC, SKY])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(FeatureError, match="'sky' has 1 values, 'delay' has 2"):
        encode({"delay": [1, 2], "sky": ["rain"]}, [NUMERIC, SKY])


def test_no_inputs_keep_the_number_of_rows():
    assert encode({"delay": [1, 2]}, []).shape == (2, 0)


def test_inputs_are_fitted_from_the_columns_types_with_sorted_categories():
    table = pa.table(
        {
            "sky": ["rain", None, "clear", "rain"],
            "n": [1, 2, 3, 4],
            "yes": [True] * 4,
            "kind": pa.array(["b", "a"] * 2).dictionary_encode(),
        }
    )
    assert fit_inputs(table, ["sky", "n", "yes", "kind"]) == (
        SKY, Input("n", "numeric"), Input("yes", "numeric"), Input("kind", "categorical", ("a", "b")),
    )  # fmt: skip


def test_a_time_is_no_input():
    with pytest.raises(FeatureError, match="'at' has type timestamp"):
        fit_inputs(pa.table({"at": pa.array([0], pa.timestamp("us"))}), ["at"])


def test_a_column_that_the_training_set_lacks_is_named():
    with pytest.raises(FeatureError, match="no column wind"):
        fit_inputs(pa.table({"at": [0]}), ["wind"])
