"""Consistency: what real requests were answered with, recomputed from the lake and compared by day."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.adapters.lake import Lake
from ml_assets.records import StepResult
from ml_assets.serving.bundle import ViewRef
from ml_assets.steps import catalogue, consistency, evaluation, pending, predictions
from ml_assets.steps.memo import Memo
from ml_assets.steps.specs import EndpointSpec
from ml_assets_tests.flights import DAYS, World, finding, release_copy
from ml_assets_tests.steps.test_parity_skews import View, later, rebundled

DAY = DAYS[-1]
NOON = datetime(2013, 1, 15, 12, tzinfo=UTC)


def compared(world: World, spec: EndpointSpec | None = None, day: str = DAY) -> StepResult:
    """Keep the log, and compare a day."""
    spec = spec or world.endpoint
    predictions.materialize(spec, world.step(day))
    return consistency.materialize(spec, world.step(day))[spec.consistency]


def said(result: StepResult):
    return finding(result, catalogue.CONSISTENT.name)


def ask(world: World, n: int = 60) -> None:
    """What a client asks about flights of the last afternoon."""
    packed = evaluation.fetch(world.spec, world.step(), "1")
    names = [field.name for field in packed.schema.request_fields]
    rows = world.rows(world.spec.spine.table, [DAY]).sort_by("scheduled_departure_at").select(names)
    requests = [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows.slice(rows.num_rows - n).to_pylist()
    ]
    asked = [request | {"at": "2013-01-15T20:30:00+00:00"} for request in requests]
    predict(world.server().status().url, asked, request_id="client")


def lines(world: World) -> list[dict]:
    return world.rows(world.endpoint.consistency, [DAY]).to_pylist()


@pytest.fixture
def late(world):
    """A client was answered while the airline's rows since noon were not online yet; they are now."""
    view = View.of(world, "carrier_delays")
    world.serve()
    rows = view.rows()
    moment = pa.scalar(NOON, pa.timestamp("us", "UTC"))
    view.put_online(rows.filter(pc.less(rows["feature_timestamp"], moment)))
    ask(world)
    view.put_online(rows)
    return world


def test_what_the_graph_and_clients_asked_is_consistent_and_said_so(world):
    world.serve()
    ask(world)
    result = compared(world)
    logged = world.rows(world.endpoint.predictions, [DAY])
    assert said(result).passed
    assert said(result).sentence == (
        f"{logged.num_rows:,} answers of 1 days have the inputs and the scores that the lake gives, bit for bit."
    )
    assert logged["request_id"].to_pylist().count("client") == 60
    found = lines(world)
    assert {line["n"] for line in found} == {logged.num_rows}  # the 200 rows of the proof are none of them
    assert {line["mismatches"] for line in found} == {0}
    assert [line["feature"] for line in found].count("score") == 1
    assert len(found) == 61


def test_answers_from_late_features_are_named_with_rate_and_example_and_said_to_be_late(late):
    result = compared(late)
    assert not said(result).passed
    assert "`carrier_delays__" in said(result).sentence
    assert "the online row is that of 2013-01-15 11:00:00, offline that of 2013-01-15 20:00:00 counts" in (
        said(result).sentence
    )
    by_feature = {line["feature"]: line for line in lines(late)}
    wrong = by_feature["carrier_delays__arrival_delay_minutes_mean_1d"]
    assert 30 < wrong["mismatches"] <= 60
    assert (wrong["late"], wrong["rate"]) == (wrong["mismatches"], wrong["mismatches"] / wrong["n"])
    assert f"{wrong['late']} of them were answered before the row that counts was online" in said(result).sentence
    assert wrong["example"].startswith("offline ")
    assert by_feature["origin_delays__cancelled_rate_1d"]["mismatches"] == 0
    assert by_feature["score"]["mismatches"] > 0
    assert "carrier_delays__" in result.produced[DAY].metadata["version 1"].text


def test_a_day_that_differed_differs_still_when_it_is_run_again(late):
    first, again = said(compared(late)), said(compared(late))
    assert not first.passed
    assert (again.passed, again.warn, again.sentence) == (False, first.warn, first.sentence)


def test_what_was_corrected_since_the_answer_is_said_to_be_no_skew_of_serving(world):
    world.serve()
    ask(world)
    lake, name = world.step().lake, "tables/flight_outcomes"
    rows = world.rows(name, [DAY])
    place = rows.column_names.index("arrival_delay_minutes")
    corrected = rows.set_column(place, "arrival_delay_minutes", pc.add(rows["arrival_delay_minutes"], 100.0))
    lake.write(name, corrected, partitions=[DAY])
    world.compute(DAY)
    found = said(compared(world))
    assert not found.passed
    assert "(the lake gave the same when it was answered, and was corrected since)" in found.sentence


def test_as_many_as_declared_are_tolerated(late):
    tolerant = replace(late.endpoint, tolerated_skew=0.2)
    result = compared(late, tolerant)
    assert said(result).passed
    assert ", but for " in said(result).sentence
    assert said(result).numbers["worst rate"] > 0.01


def test_wrong_values_in_the_right_row_are_not_called_late(world):
    world.serve()
    view = View.of(world, "weather_at_origin")
    rows = view.rows()
    place = rows.column_names.index("humidity_pct")
    view.put_online(rows.set_column(place, "humidity_pct", pc.add(rows["humidity_pct"], 1.0)))
    ask(world)
    result = compared(world)
    assert said(result).sentence.count("`weather_at_origin__humidity_pct` differs in 60: ") == 1
    assert "both from the row of 2013-01-15 " in said(result).sentence
    assert "before the row" not in said(result).sentence
    wrong = {line["feature"]: line for line in lines(world)}["weather_at_origin__humidity_pct"]
    assert (wrong["mismatches"], wrong["late"]) == (60, 0)


def test_each_version_that_answered_is_compared_by_its_own_bundle(world):
    world.serve()
    ask(world, 20)
    release_copy(world)
    world.serve()
    ask(world, 30)
    compared(world)
    found = {(line["version"], line["n"]) for line in lines(world)}
    assert len(found) == 2
    assert ("2", 30) in found


def test_a_second_run_computes_nothing_until_answers_or_features_change(world):
    world.serve()
    compared(world)
    assert compared(world).produced[DAY].reused
    assert pending.of_consistency(world.endpoint, world.step()).keys() == set()
    ask(world, 5)
    predictions.materialize(world.endpoint, world.step(DAY))
    assert pending.of_consistency(world.endpoint, world.step()).keys() == {DAY}
    compared(world)
    memo = world.home / "lake" / "objects" / "memo" / "features" / "weather_at_origin" / "2013-01-14.json"
    memo.write_text(json.dumps(json.loads(memo.read_text()) | {"data_version": "computed again"}))
    assert pending.of_consistency(world.endpoint, world.step()).keys() == {"2013-01-13", "2013-01-14", DAY}


@pytest.mark.parametrize(
    ("max_age_us", "counts"), [(None, True), (40 * 86_400_000_000, False), (60 * 86_400_000_000, True)]
)
def test_a_row_that_was_computed_again_counts_for_as_long_as_it_may_be_used(tmp_path, max_age_us, counts):
    lake, days = Lake(str(tmp_path)), ["2013-01-01", "2013-03-01"]
    rows = pa.table({"carrier": ["UA", "UA"], "f": [1.0, 2.0], "partition_key": days})
    lake.write("features/v", rows, partitions=days)
    memo = Memo(lake, "features/v", version=catalogue.FEATURES, config=None)
    ref = ViewRef("v", ("carrier",), ("f",), delay_us=0, max_age_us=max_age_us)
    memo.write(days[0], {}, "first", {})
    before = consistency._Rows(ref, lake).as_of(days[1])
    memo.write(days[0], {}, "again", {})
    assert (consistency._Rows(ref, lake).as_of(days[1]) != before) == counts


def test_rows_of_the_versions_in_force_count_and_not_those_of_what_is_declared_by_now(world):
    """An edit of a view moves the rows that the answers were made with; what was compared stands."""
    world.serve()
    compared(world)
    view = View.of(world, "carrier_delays").spec
    edited = world.having(views=tuple(replace(v, view=later(v.view)) if v is view else v for v in world.spec.views))
    edited.compute(*DAYS, views=[edited.spec.views[0]])
    assert world.step().lake.exists(f"{view.name}@1")
    assert pending.of_consistency(edited.endpoint, world.step()).keys() == set()
    memos = world.home / "lake" / "objects" / "memo" / "features"
    for name, days in {"carrier_delays": set(), "carrier_delays@1": {DAYS[-2], DAY}}.items():
        memo = memos / name / f"{DAY}.json"
        memo.write_text(json.dumps(json.loads(memo.read_text()) | {"data_version": "computed again"}))
        assert pending.of_consistency(edited.endpoint, world.step()).keys() == days


def test_the_mismatch_rate_of_each_feature_is_a_number_of_the_check(late):
    numbers = said(compared(late)).numbers
    rates = numbers["mismatch rate"]
    by_feature = {line["feature"]: line for line in lines(late)}
    assert rates == {name: line["rate"] for name, line in by_feature.items()}
    assert max(rates.values()) == numbers["worst rate"] > 0
    assert rates["origin_delays__cancelled_rate_1d"] == 0


def test_inputs_of_a_request_function_that_was_edited_since_are_left_out_and_named(world):
    """The bundle says that the function had other code when the model was trained."""
    world.serve()
    ask(world)
    rebundled(world, lambda _: {"request_features_code": "that of another time"})
    result = compared(world)
    assert (said(result).passed, said(result).warn) == (False, True)
    left = ["weekday", "departure_hour_local", "score"]
    named = re.search(
        r"Not compared, since the code of the request function is not what version 1 .*: (.*)", said(result).sentence
    )
    assert named
    assert all(f"`{name}`" in named[1] for name in left)
    assert set(left) < set(said(result).numbers["not compared"])
    assert not set(left) & said(result).numbers["mismatch rate"].keys()
    by_feature = {line["feature"]: line for line in lines(world)}
    assert (by_feature["weekday"]["n"], by_feature["weekday"]["rate"]) == (0, None)
    assert by_feature["origin_delays__cancelled_rate_1d"]["n"] > 60
