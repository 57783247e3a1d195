"""The pages of an endpoint: what /docs offers to try is a request that the same endpoint takes."""

import math
import re
from html import unescape

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.serving import pages
from ml_assets.serving.bundle import RequestField
from ml_assets.serving.request import RequestContract
from ml_assets_tests.serving import world


def example(**stated) -> object:
    """What the page sends for a field, decoded by the contract of the endpoint."""
    field = RequestField("asked", nullable=False, **stated)
    contract = RequestContract(msgspec.structs.replace(world.SCHEMA, request_fields=(field,)))
    _, schemas = msgspec.json.schema_components([contract.instance])
    page = pages.docs({"info": {"title": "t", "description": "d"}, "paths": {}, "components": {"schemas": schemas}})
    found = re.search(r"<textarea[^>]*>(.*)</textarea>", page, re.DOTALL)
    assert found
    (((value,),), _) = contract.decode(unescape(found[1]).encode(), now_us=0)
    return value


@pytest.mark.parametrize(
    ("stated", "value"),
    [
        ({}, 0),
        ({"above": 0, "below": 1}, 0.5),
        ({"maximum": -5}, -5),
        ({"below": -5}, -6),
        ({"above": 0, "maximum": 6000}, 1),
        ({"above": -10.0, "maximum": -9.5}, -9.5),
        ({"above": 1e300}, math.nextafter(1e300, math.inf)),
        ({"below": -1e300}, math.nextafter(-1e300, -math.inf)),
        ({"choices": (0.5, 1.5, 2.5), "above": 1}, 1.5),
    ],
)
def test_the_example_of_a_number_keeps_its_bounds(stated, value):
    assert example(type="DOUBLE", **stated) == value


@pytest.mark.parametrize(
    ("stated", "value"),
    [({}, 0), ({"maximum": -5}, -5), ({"minimum": 3}, 3), ({"choices": (1.0, 4), "minimum": 2}, 4)],
)
def test_the_example_of_a_whole_number_keeps_its_bounds(stated, value):
    assert example(type="BIGINT", **stated) == value


@pytest.mark.parametrize("kind", ["VARCHAR", "BOOLEAN", "TIMESTAMPTZ"])
def test_the_example_of_another_type_is_taken(kind):
    assert example(type=kind) is not None


LIMITS = st.floats(-1e12, 1e12)


@given(LIMITS, LIMITS, st.booleans(), st.booleans())
def test_there_is_an_example_between_any_two_limits(one, other, above, below):
    low, high = sorted((one, other))
    if not math.nextafter(low, math.inf) < high:
        high = low + 1
    value = example(type="DOUBLE", **{"above" if above else "minimum": low}, **{"below" if below else "maximum": high})
    assert low <= value <= high  # pyright: ignore[reportOperatorIssue]
