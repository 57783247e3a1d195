"""The bounds of a contract in requests: no client is answered about a row that training would never see."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.records import Finding
from ml_assets.serving import bundle
from ml_assets.steps import catalogue, evaluation, predictions
from ml_assets.steps.history import OUT_OF_BOUNDS, history
from ml_assets_tests.flights import DAYS, World, copied, ended, finding

SPINE = "tables/flight_schedules"


@pytest.fixture(scope="module")
def served(grown, tmp_path_factory) -> Iterator[World]:
    """The server of the world's version."""
    with ended(World(copied(grown.home, tmp_path_factory.mktemp("bounds") / "home"), grown.spec)) as world:
        world.serve()
        yield world


@pytest.fixture
def unserved(grown, tmp_path) -> Iterator[World]:
    """The same before a server ever ran."""
    leave = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]
    with ended(World(copied(grown.home, tmp_path / "home", leave=leave), grown.spec)) as world:
        yield world


def ask(world: World, **changes: Any) -> httpx.Response:
    request = evaluation.fetch(world.spec, world.step(), "1").golden.requests[0] | changes
    with httpx.Client(base_url=world.server().status().url or "", trust_env=False) as client:
        return client.post("/predict", json=request)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"distance_miles": 6000.5}, "Expected float <= 6000.0"),
        ({"distance_miles": 0}, "Expected float > 0.0"),
        ({"origin": "SFO"}, "must be one of EWR, JFK, LGA"),
    ],
)
def test_a_request_that_the_contract_would_quarantine_is_refused_with_column_and_bound(served, change, rule):
    answer = ask(served, **change)
    (column,) = change
    assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (422, f"$.{column}", rule)
    assert ask(served).status_code == 200


def test_the_document_of_the_endpoint_shows_the_bounds(served):
    document = httpx.get(f"{served.server().status().url}/openapi.json", trust_env=False).json()
    shown = document["components"]["schemas"]["Instance"]["properties"]
    assert (shown["distance_miles"]["exclusiveMinimum"], shown["distance_miles"]["maximum"]) == (0, 6000)
    assert shown["origin"]["enum"] == ["EWR", "JFK", "LGA"]


def test_rows_of_history_out_of_bounds_are_left_out_with_the_reason(unserved):
    far = _far(unserved, "2013-01-10")
    schema = evaluation.fetch(unserved.spec, unserved.step(), "1").schema
    asked = history(unserved.spec, unserved.step(), schema, rows=100_000, moments=5)
    assert asked.left_out == {OUT_OF_BOUNDS: far}
    assert max(asked.rows["distance_miles"].to_pylist()) <= 6000
    said = finding(unserved.serve(), catalogue.EQUAL_BITS.name)
    assert said.passed, said.sentence


def test_rows_out_of_bounds_are_not_asked_about_and_the_check_says_so_again_and_again(unserved):
    unserved.serve()
    name = unserved.endpoint.predictions
    _far(unserved, DAYS[-1])
    first, again = (predictions.materialize(unserved.endpoint, unserved.step(DAYS[-1]))[name] for _ in range(2))
    said = finding(first, catalogue.ANSWERED.name)
    assert not said.passed
    rule = "rows were not asked about, version 1 takes no such request: distance_miles: Expected float <= 6000.0."
    assert said.sentence.endswith(rule)
    assert finding(again, catalogue.ANSWERED.name).sentence == said.sentence


def test_a_day_fails_by_its_own_rows_only(unserved):
    unserved.serve()
    *_, odd, whole = DAYS
    _far(unserved, odd, range(500, 502))  # of about noon

    def judged(*days: str) -> Finding:
        result = predictions.materialize(unserved.endpoint, unserved.step(*days))[unserved.endpoint.predictions]
        return finding(result, catalogue.ANSWERED.name)

    said = judged(odd, whole)
    assert not said.passed
    rule = "2 rows were not asked about, version 1 takes no such request: distance_miles: Expected float <= 6000.0."
    counted = re.fullmatch(rf"{odd}: (\d+) of (\d+) rows have an answer. {re.escape(rule)}", said.sentence)
    assert counted, said.sentence
    assert int(counted[2]) - int(counted[1]) == 2
    assert judged(whole).passed
    for days in ([odd], [odd, whole]):
        again = judged(*days)
        assert (again.passed, again.sentence) == (False, said.sentence)


def test_a_bundle_without_bounds_loads_and_serves_as_before(served, tmp_path):
    packed = evaluation.fetch(served.spec, served.step(), "1")
    plain = [
        msgspec.structs.replace(f, minimum=None, maximum=None, above=None, below=None, choices=())
        for f in packed.schema.request_fields
    ]
    schema = msgspec.structs.replace(packed.schema, request_fields=tuple(plain))
    bundle.write(tmp_path / "old", model_text=packed.model_text, schema=schema, golden=packed.golden)
    stored = json.loads((tmp_path / "old" / "schema.json").read_text())["request_fields"]
    assert not {name for field in stored for name in field} & {"minimum", "maximum", "above", "below", "choices"}
    assert bundle.read(tmp_path / "old").schema == schema


def _far(world: World, day: str, places: Sequence[int] = range(5000)) -> int:
    """Flights of a day become farther than the contract allows, as before the rule was added; gives how many."""
    found = world.rows(SPINE, [day]).drop_columns(["partition_key"])
    place, added = found.column_names.index("distance_miles"), [7000.0 * (n in places) for n in range(len(found))]
    distance = pc.add(found["distance_miles"], pa.array(added))  # pyright: ignore[reportAttributeAccessIssue]
    found = found.set_column(place, "distance_miles", distance)
    world.step().lake.write(SPINE, found.append_column("partition_key", [[day] * len(found)]), partitions=[day])
    return sum(map(bool, added))
