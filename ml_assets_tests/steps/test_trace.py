"""An answer of a real server, traced back to the rows and files that its inputs come from."""

import json
import re
from pathlib import Path

import httpx
import pyarrow.compute as pc
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.adapters.prediction_log import read
from ml_assets.errors import MlAssetsError
from ml_assets.steps import predictions, trace
from ml_assets_tests import command
from ml_assets_tests.flights import DAYS, LAST, World
from ml_assets_tests.steps.test_consistency import ask, late
from ml_assets_tests.steps.test_parity_skews import rebundled
from ml_assets_tests.steps.test_view_versions_served import edited

__all__ = ["late"]  # a fixture
ROOT = Path(__file__).parents[2]
VIEWS = {
    "carrier_delays": "flight_outcomes",
    "destination_delays": "flight_outcomes",
    "inbound_aircraft": "flight_outcomes",
    "origin_delays": "flight_outcomes",
    "weather_at_origin": "weather",
    "aircraft_attributes": "aircraft",
}


def logged(world: World) -> list[dict]:
    """What the log has of clients."""
    log = Path(world.server().config.log)
    lines = [json.loads(line) for path in log.glob("*.jsonl*") for line in path.read_text().splitlines()]
    return [line for line in lines if line["request_id"] == "client"]


def traced(world: World, prediction_id: str) -> trace.Answer:
    return trace.answer([world.endpoint], world.step(), prediction_id)


@pytest.fixture
def asked(world):
    """A world with answers to a client."""
    world.serve()
    ask(world, 8)
    return world


def test_an_answer_is_traced_to_rows_that_give_it_alone_first_from_the_log_and_then_from_the_lake(asked):
    line = logged(asked)[0]
    fresh = traced(asked, line["prediction_id"])
    predictions.materialize(asked.endpoint, asked.step(LAST))
    for path in Path(asked.server().config.log).glob("*"):
        path.unlink()
    found = traced(asked, line["prediction_id"])
    assert found.values == fresh.values
    *inputs, score = found.values
    assert {value.name: value.served for value in inputs} == line["features"]
    assert (score.name, score.served) == ("score", line["score"])
    assert all(value.same and value.served == value.then == value.now for value in found.values)
    assert found.sentence == f"The lake gives it the same {len(inputs)} inputs and the score, bit for bit."
    assert found.corrected == []
    for name, table in VIEWS.items():
        behind = trace.behind(found, name)
        if found.row_at[name] is None:
            assert behind is None
            continue
        assert (behind.origin.same, behind.origin.alone, behind.origin.complete) == (True, True, True), name
        assert set(behind.places.values()) == {(f"tables/{table}", asked.step().lake.version(f"tables/{table}"))}
        (rows,) = behind.origin.rows.values()
        stored = asked.rows(f"tables/{table}").to_pylist()
        assert rows.num_rows
        assert all(row in stored for row in rows.to_pylist())
        assert all(behind.delivered[table])  # the files of a table without days too


def test_the_count_of_a_window_is_the_number_of_its_rows_and_each_has_its_file(asked):
    found = traced(asked, logged(asked)[0]["prediction_id"])
    behind = trace.behind(found, "carrier_delays")
    rows = behind.origin.rows["flight_outcomes"].to_pylist()
    in_a_day = [row for row, held in zip(rows, behind.origin.windows, strict=True) if "1d" in held.split(", ")]
    served = {value.name: value.served for value in found.values}
    counted = [row for row in in_a_day if row["arrival_delay_minutes"] is not None]
    assert served["carrier_delays__arrival_delay_minutes_count_1d"] == len(counted) > 0
    assert behind.counted("1d").startswith(f"{len(in_a_day):,} rows of tables/flight_outcomes version ")
    assert behind.counted().startswith(f"{len(rows):,} rows of ")
    assert {row["carrier"] for row in in_a_day} == {found.asked["carrier"]}
    files = {f["name"]: f["sha256"] for f in asked.rows("raw/flight_outcomes").to_pylist()}
    for row, said in zip(rows, behind.delivered["flight_outcomes"], strict=True):
        name, digest = said.rstrip(")").split(" (")
        assert name == f"{row['partition_key']}.parquet"
        assert files[name].startswith(digest)


def test_what_was_corrected_since_takes_no_part_and_is_named(asked):
    """A flight of the carrier gets another delay under the same `known_at`, and its features are computed again."""
    line = logged(asked)[0]
    before = traced(asked, line["prediction_id"])
    flights, table = asked.rows("tables/flight_outcomes", [LAST]), "tables/flight_outcomes"
    version = asked.step().lake.version(table)
    delay = pc.add(flights["arrival_delay_minutes"], 100.0)
    place = flights.column_names.index("arrival_delay_minutes")
    asked.step().lake.write(table, flights.set_column(place, "arrival_delay_minutes", delay), partitions=[LAST])
    asked.compute(LAST)
    found = traced(asked, line["prediction_id"])
    assert found.corrected
    assert {name.partition("__")[0] for name in found.corrected} <= {*VIEWS} - {"weather_at_origin"}
    assert [(v.name, v.served, v.then, v.same) for v in found.values] == [
        (v.name, v.served, v.then, v.same) for v in before.values
    ]
    behind = trace.behind(found, "carrier_delays")
    assert behind.places == {"flight_outcomes": (table, version)}
    assert behind.origin.rows == trace.behind(before, "carrier_delays").origin.rows
    assert behind.origin.same


def test_where_the_lake_does_not_hold_any_more_what_it_held_that_is_said(asked):
    line = logged(asked)[0]
    flights, table = asked.rows("features/carrier_delays"), "features/carrier_delays"
    column = flights.column_names.index("late_rate_6h")
    changed = flights.set_column(column, "late_rate_6h", pc.add(flights["late_rate_6h"], 0.25))
    asked.step().lake.write(table, changed, partitions=list(DAYS))
    asked.step().lake.maintain(table, retain_hours=0)
    found = traced(asked, line["prediction_id"])
    assert "This is the lake as it is now: it does not hold any more what it held then" in found.sentence
    assert [value.name for value in found.values if not value.same] == ["carrier_delays__late_rate_6h", "score"]
    behind = trace.behind(found, "carrier_delays")
    assert not behind.origin.same
    assert behind.counted().startswith("NOT what its tables give (")


def test_an_answer_from_stale_rows_is_told_from_what_the_lake_gives(late):
    line = max(logged(late), key=lambda each: each["feature_ages"]["carrier_delays"])
    found = traced(late, line["prediction_id"])
    wrong = [value for value in found.values if not value.same]
    assert wrong
    assert {value.ref.name for value in wrong if value.ref} == {"carrier_delays"}
    assert all(value.served != value.then for value in wrong)
    assert "The lake gives it otherwise" in found.sentence
    assert "the online row is that of 2013-01-15 11:00:00" in found.sentence
    assert trace.behind(found, "carrier_delays").origin.same  # the row that should have counted


def test_an_answer_of_an_older_version_is_traced_by_the_rows_of_its_own_views(asked):
    second = edited(asked)
    second.compute(*DAYS)
    ask(second, 3)
    for line in (logged(second)[0], logged(second)[-1]):  # asked before its rows were moved out of the way, and since
        found = traced(second, line["prediction_id"])
        behind = trace.behind(found, "carrier_delays")
        assert (behind.ref.version, behind.origin.same) == (1, True)
        assert all(value.same for value in found.values)


def test_an_entity_that_nobody_knows_has_no_rows_behind_it(asked):
    request = json.loads(json.dumps(logged(asked)[0]["request"])) | {"tailnum": "N0NE"}
    (given,) = predict(
        asked.server().status().url, [request | {"at": "2013-01-15T20:30:00+00:00"}], request_id="client"
    )
    found = traced(asked, given["prediction_id"])
    assert found.row_at["inbound_aircraft"] is None
    assert trace.behind(found, "inbound_aircraft") is None
    assert trace.missing(found, "inbound_aircraft") == given["missing_views"]["inbound_aircraft"] == "unknown entity"


def test_inputs_of_a_request_function_that_was_edited_since_are_neither_the_same_nor_others(asked):
    rebundled(asked, lambda _: {"request_features_code": "that of another time"})
    found = traced(asked, logged(asked)[0]["prediction_id"])
    of_views = {value.name for value in found.values if value.ref}
    assert {value.name for value in found.values if value.same} == of_views
    assert {value.same for value in found.values if value.name not in of_views} == {None}
    assert found.sentence.startswith(
        f"The lake gives it the same {len(of_views)} inputs, bit for bit. Not compared, since the code"
    )


def test_a_request_that_was_refused_is_said_to_be(asked):
    request = logged(asked)[0]["request"] | {"at": "2013-01-15T20:30:00+00:00", "distance_miles": "far"}
    assert httpx.post(f"{asked.server().status().url}/predict", json=request).status_code == 422
    (refused,) = [line for line in read(Path(asked.server().config.log)).to_pylist() if line["status"] != "ok"]
    with pytest.raises(MlAssetsError, match=r"got no answer: rejected, .*distance_miles"):
        traced(asked, refused["prediction_id"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda world: traced(world, "nothing"),
            "No answer has the id 'nothing': it is neither in predictions",
        ),
        (lambda world: trace.answer([], world.step(), "x"), "neither in any endpoint nor in the logs"),
        (
            lambda world: trace.behind(traced(world, logged(world)[0]["prediction_id"]), "speeds"),
            "Version 1 has no view 'speeds', but: carrier_delays, ",
        ),
    ],
)
def test_what_is_not_there_is_said_with_what_is(asked, call, words):
    with pytest.raises(MlAssetsError, match=words):
        call(asked)


def test_the_command_shows_inputs_with_their_origin_and_the_rows_of_a_view(asked):
    line = logged(asked)[0]
    places = {"ML_ASSETS_HOME": str(asked.home), "COLUMNS": "300"}

    def said(*arguments):
        ran = command.run(ROOT, "features", "trace", *arguments, **places)
        assert ran.returncode == 0, ran.stderr
        return ran

    ran = said(line["prediction_id"], "--format", "json")
    inputs = {each["input"]: each for each in json.loads(ran.stdout)}
    assert ran.stderr.startswith(f"{line['score']!r} by arrival_delay version 1 (bundle ")
    assert {name: each["served"] for name, each in inputs.items()} == line["features"] | {"score": line["score"]}
    assert {each["same"] for each in inputs.values()} == {"yes"}
    assert not any("now" in each for each in inputs.values())
    assert inputs["carrier"]["made from"] == "the request"
    late, view = inputs["carrier_delays__late_rate_7d"], ("--view", "carrier_delays")
    assert (late["view"], late["row at"][:10]) == ("carrier_delays@1", LAST)
    rows = said(line["prediction_id"], *view, "--format", "jsonl")
    windows = [json.loads(each)["in windows"].split(", ") for each in rows.stdout.splitlines()]
    n_rows = sum("7d" in each for each in windows)
    assert late["made from"].startswith(f"{n_rows:,} rows of tables/flight_outcomes version ")
    assert f"{len(windows):,} rows of tables/flight_outcomes" in rows.stderr
    table = said(line["prediction_id"], "--view", "features/weather_at_origin@1").stdout.splitlines()[0]
    assert re.split(r"\s{2,}", table)[:3] == ["observed_at", "known_at", "day's deliveries"]
    wrong = command.run(ROOT, "features", "trace", line["prediction_id"], "--view", "weather_at_origin@2", **places)
    assert (wrong.returncode, "made with weather_at_origin@1, not with weather_at_origin@2" in wrong.stderr) == (
        1,
        True,
    )
