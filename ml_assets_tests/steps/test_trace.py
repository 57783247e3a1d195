"""An answer of a real server, traced back to the rows and files that its inputs come from."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.errors import MlAssetsError
from ml_assets.steps import predictions, trace
from ml_assets_tests import command
from ml_assets_tests.flights import DAYS, LAST, World
from ml_assets_tests.steps.test_consistency import ask, late
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
    assert {value.name: value.served for value in found.values} == line["features"]
    assert all(value.same and value.served == value.lake for value in found.values)
    assert found.sentence == f"The lake gives all {len(found.values) + 1} inputs and scores with equal bits."
    for name, table in VIEWS.items():
        behind = trace.behind(found, name, asked.step())
        if found.row_at[name] is None:
            assert behind is None
            continue
        assert behind.origin.same, name
        assert set(behind.places.values()) == {(f"tables/{table}", asked.step().lake.version(f"tables/{table}"))}
        (rows,) = behind.origin.rows.values()
        stored = asked.rows(f"tables/{table}").to_pylist()
        own = rows.drop_columns([n for n in ("windows", trace.DELIVERED_IN) if n in rows.column_names]).to_pylist()
        assert own
        assert all(row in stored for row in own)


def test_the_count_of_a_window_is_the_number_of_its_rows_and_each_has_its_file(asked):
    found = traced(asked, logged(asked)[0]["prediction_id"])
    rows = trace.behind(found, "carrier_delays", asked.step()).origin.rows["flight_outcomes"]
    in_a_day = [row for row in rows.to_pylist() if "1d" in row["windows"].split(", ")]
    served = {value.name: value.served for value in found.values}
    counted = [row for row in in_a_day if row["arrival_delay_minutes"] is not None]
    assert served["carrier_delays__arrival_delay_minutes_count_1d"] == len(counted) > 0
    assert {row["carrier"] for row in in_a_day} == {found.asked["carrier"]}
    files = {f["name"]: f["sha256"] for f in asked.rows("raw/flight_outcomes").to_pylist()}
    for row in in_a_day:
        name, digest = row[trace.DELIVERED_IN].rstrip(")").split(" (")
        assert name == f"{row['partition_key']}.parquet"
        assert files[name].startswith(digest)


def test_an_answer_from_stale_rows_is_told_from_what_the_lake_gives(late):
    line = max(logged(late), key=lambda each: each["feature_ages"]["carrier_delays"])
    found = traced(late, line["prediction_id"])
    wrong = [value for value in found.values if not value.same]
    assert wrong
    assert {value.ref.name for value in wrong} == {"carrier_delays"}
    assert all(value.served != value.lake for value in wrong)
    assert "The lake gives it otherwise" in found.sentence
    assert "the online row is that of 2013-01-15 11:00:00" in found.sentence
    assert trace.behind(found, "carrier_delays", late.step()).origin.same  # the row that should have counted


def test_a_feature_row_that_somebody_changed_does_not_come_out_of_the_rows(asked):
    found = traced(asked, logged(asked)[0]["prediction_id"])
    lake, view = asked.step().lake, "features/carrier_delays"
    rows = asked.rows(view, [LAST])
    column = "late_rate_6h"
    changed = rows.set_column(rows.column_names.index(column), column, pc.add(rows[column], 0.25))
    lake.write(view, changed, partitions=[LAST])
    behind = trace.behind(found, "carrier_delays", asked.step())
    assert not behind.origin.same
    assert behind.sentence().startswith("NOT from what was known then (")


def test_an_answer_of_an_older_version_is_traced_by_the_rows_of_its_own_views(asked):
    edited(asked).compute(*DAYS)
    second = edited(asked)
    found = traced(second, logged(asked)[0]["prediction_id"])
    behind = trace.behind(found, "carrier_delays", second.step())
    assert (behind.ref.version, behind.origin.same) == (1, True)
    assert all(value.same for value in found.values)


def test_an_entity_that_nobody_knows_has_no_rows_behind_it(asked):
    request = json.loads(json.dumps(logged(asked)[0]["request"])) | {"tailnum": "N0NE"}
    (given,) = predict(
        asked.server().status().url, [request | {"at": "2013-01-15T20:30:00+00:00"}], request_id="client"
    )
    found = traced(asked, given["prediction_id"])
    assert found.row_at["inbound_aircraft"] is None
    assert trace.behind(found, "inbound_aircraft", asked.step()) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda world: traced(world, "nothing"),
            "No answer has the id 'nothing': it is neither in predictions",
        ),
        (lambda world: trace.answer([], world.step(), "x"), "neither in any endpoint nor in the logs"),
        (
            lambda world: trace.behind(traced(world, logged(world)[0]["prediction_id"]), "speeds", world.step()),
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
    assert list(inputs) == list(line["features"])
    assert {each["same"] for each in inputs.values()} == {"yes"}
    assert inputs["carrier"]["made from"] == "the request"
    assert " rows of tables/flight_outcomes version " in inputs["carrier_delays__late_rate_6h"]["made from"]
    rows = said(line["prediction_id"], "--view", "carrier_delays", "--format", "jsonl")
    count = f"{len(rows.stdout.splitlines()):,} rows of tables/flight_outcomes"
    assert count in rows.stderr
    assert count in inputs["carrier_delays__late_rate_6h"]["made from"]
    table = said(line["prediction_id"], "--view", "features/weather_at_origin@1")
    assert table.stdout.splitlines()[0].split()[:3] == ["observed_at", "known_at", "delivered_in"]
