"""Answers of older versions: what of them can be computed again."""

import pytest

from ml_assets.features import meaning
from ml_assets.features.encode import Input
from ml_assets.serving.bundle import Bundle, Golden, RequestField, ServingSchema, ViewRef
from ml_assets.steps.answers import comparable

NOW = "ml_assets.defs.flights.features.request_features"


def bundle(function: str, code: str) -> Bundle:
    """One input of a view, and one that the request function gives."""
    schema = ServingSchema(
        model="m",
        version="1",
        label="late",
        model_hash="0",
        request_fields=(RequestField("carrier", "VARCHAR"),),
        views=(ViewRef("v", ("carrier",), ("mean",), 0, None),),
        inputs=(Input("v__mean", "numeric"), Input("hour", "numeric")),
        request_features=function,
        request_features_code=code,
    )
    return Bundle("tree", schema, Golden(((1.0, 2.0),), (0.5,)), "d")


def test_all_that_was_answered_is_compared_while_the_request_function_is_as_it_was():
    packed = bundle(NOW, meaning.of_function(NOW))
    assert comparable(packed) == (packed, ())


@pytest.mark.parametrize(
    "gone",
    [
        "ml_assets.defs.flights.features.request_features_old",
        "ml_assets.defs.flights.features_old.request_features",
        "gone_project.features.request_features",
    ],
)
def test_what_a_request_function_gave_that_was_renamed_or_moved_is_left_out_as_if_it_was_edited(gone):
    packed, left_out = comparable(bundle(gone, meaning.of_function(NOW)))
    assert left_out == ("hour", "score")
    assert ([each.name for each in packed.schema.inputs], packed.schema.request_features) == (["v__mean"], None)
