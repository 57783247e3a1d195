"""Declarations of models and endpoints: their graph, and what is said when they are wrong."""

import dagster as dg
import pytest

from ml_assets_tests.components.test_declarations import complaint, line_of
from ml_assets_tests.project import CARRIER_ATTRIBUTES, CARRIER_DELAYS, CARRIERS, CONTRACTS, FLIGHTS

MODEL = """\
type: ml_assets.components.Model
attributes:
  name: late
  spine:
    table: flights
    time: arrived_at - INTERVAL 1 HOUR
  label:
    table: flights
    expression: delay > 100
    horizon: 1d
  features: [carrier_delays, carrier_attributes]
  train:
    validation: 3d
    test: 3d
  gates:
    slices: {columns: [carrier]}
  retrain:
    schedule: "0 4 * * 1"
    cooldown: 2d
"""
ENDPOINT = """\
type: ml_assets.components.Endpoint
attributes:
  name: late
  model: late
  drift:
    warn: 0.1
    fail: 0.3
"""
REST = (FLIGHTS, CARRIERS, CARRIER_DELAYS, CARRIER_ATTRIBUTES)
LAYERS = ("labels", "training_sets", "models", "evaluations", "releases")
SERVED = ("endpoints", "predictions", "outcomes", "consistency", "drift", "performance")

WRONG_MODEL = {
    "wrong field": (("  train:", "  trian:"), "trian", ["trian"]),
    "unknown view": (("[carrier_delays,", "[carrier_delay,"), "features:", ["no 'carrier_delay'", "carrier_delays"]),
    "unknown spine": (("    table: flights\n    time", "    table: flight\n    time"), "table: flight", ["'flight'"]),
    "unknown label table": (
        ("    table: flights\n    exp", "    table: fligths\n    exp"),
        "fligths",
        ["no 'fligths'"],
    ),
    "spine without days": (("    table: flights\n    time", "    table: carriers\n    time"), "carriers", ["daily"]),
    "label without days": (
        ("    table: flights\n    exp", "    table: carriers\n    exp"),
        "table: carriers",
        ["daily"],
    ),
    "unknown column of the label": (("delay > 100", "dely > 100"), "expression:", ["dely", "delay"]),
    "label that is no truth": (("delay > 100", "carrier"), "expression:", ["BOOLEAN"]),
    "syntax of the label": (("delay > 100", "delay >"), "expression:", ["syntax"]),
    "unknown column of the time": (("arrived_at -", "landed_at -"), "time:", ["landed_at", "arrived_at"]),
    "time that is no moment": (("arrived_at - INTERVAL 1 HOUR", "delay"), "time:", ["TIMESTAMPTZ"]),
    "syntax of the time": (("INTERVAL 1 HOUR", "INTERVAL 1 HOUR +"), "time:", ["syntax"]),
    "wrong horizon": (("horizon: 1d", "horizon: 1 day"), "horizon:", ["'1 day' is no duration", "`15m`"]),
    "wrong span": (("test: 3d", "test: 3 weeks"), "test:", ["'3 weeks' is no duration"]),
    "wrong cron": (('"0 4 * * 1"', '"0 4 * * mo"'), "schedule:", ["0 4 * * mo"]),
    "cron of six fields": (('"0 4 * * 1"', '"0 0 4 * * 1"'), "schedule:", ["0 0 4 * * 1"]),
    "wrong cooldown": (("cooldown: 2d", "cooldown: two"), "cooldown:", ["'two' is no duration"]),
    "bad name": (("name: late", "name: Late"), "name: Late", ["snake_case"]),
    "unknown slice": (("{columns: [carrier]}", "{columns: [airline]}"), "slices:", ["airline", "carrier"]),
    "unknown baseline": (("    test: 3d", "    test: 3d\n    baseline: [airline]"), "baseline:", ["airline"]),
    "unknown function": (
        ("  train:", "  request_features: nowhere.at_all\n  train:"),
        "request_features:",
        ["nowhere.at_all"],
    ),
}


@pytest.mark.parametrize(("change", "place", "words"), WRONG_MODEL.values(), ids=WRONG_MODEL)
def test_a_wrong_model_is_named_with_its_line_and_advice(project, change, place, words):
    assert change[0] in MODEL
    path = project.declare(MODEL.replace(*change), *REST)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert not [word for word in words if word not in said], said


KEYED = """\
type: ml_assets.components.FeatureView
attributes:
  name: keyed
  sql: SELECT EXPRESSION AS COLUMN, known_at, 1 AS one FROM flights
  entity: [COLUMN]
"""
OTHER_KEYS = {
    "integer and float": ("delay", "delay::BIGINT", "is DOUBLE in", "and BIGINT in", "CAST(delay AS DOUBLE) AS delay"),
    "decimal": ("delay", "delay::DECIMAL(9, 2)", "is DOUBLE in", "and DECIMAL(9,2) in", "CAST(delay AS DOUBLE)"),
    "truth": ("delay", "delay > 0", "is DOUBLE in", "and BOOLEAN in", "CAST(delay AS DOUBLE) AS delay"),
    "text and number": ("carrier", "length(carrier)", "is VARCHAR in", "and BIGINT in", "CAST(carrier AS VARCHAR)"),
    "day and moment": ("arrived_at", "arrived_at::DATE", "is TIMESTAMPTZ in", "and DATE in", "AS TIMESTAMPTZ)"),
}


@pytest.mark.parametrize(("column", "sql", "mine", "its", "cast"), OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_a_key_of_another_type_than_that_of_the_view_is_refused_with_the_cast_that_helps(
    project, column, sql, mine, its, cast
):
    keyed = KEYED.replace("EXPRESSION", sql).replace("COLUMN", column)
    path = project.declare(MODEL.replace("[carrier_delays,", "[keyed, carrier_delays,"), keyed, *REST)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'features:')}" in said
    assert f"'{column}' {mine} the spine 'flights' {its} the view 'keyed': online the one never finds the other" in said
    assert cast in said


@pytest.mark.parametrize(("column", "sql"), [("delay", "delay::FLOAT"), ("arrived_at", "arrived_at")])
def test_a_key_of_the_same_kind_is_taken(project, column, sql):
    keyed = KEYED.replace("EXPRESSION", sql).replace("COLUMN", column)
    project.declare(MODEL.replace("[carrier_delays,", "[keyed, carrier_delays,"), keyed, *REST)
    assert project.defs.resolve_asset_graph().has(dg.AssetKey(["models", "late"]))


def dated(project):
    contract = CONTRACTS.replace("delay: float", "day: date\n    delay: float")
    project.write("../../contracts.py", contract.replace("import datetime", "import date, datetime"))


def test_a_key_of_the_spine_that_no_request_can_hold_is_refused(project):
    dated(project)
    path = project.declare(MODEL, FLIGHTS.replace("[flight_id]", "[carrier, day]"), *REST[1:])
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'table: flights')}" in said
    assert "'day', a key, is a DATE in the spine 'flights', which no request can hold" in said
    assert "`day: str` in the contract" in said


def test_a_key_that_no_request_can_hold_is_refused(project):
    dated(project)
    keyed = KEYED.replace("EXPRESSION", "day").replace("COLUMN", "day")
    path = project.declare(MODEL.replace("[carrier_delays,", "[keyed, carrier_delays,"), keyed, *REST)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'features:')}" in said
    assert "'day', the entity of 'keyed', is a DATE in the spine 'flights', which no request can hold" in said
    assert "CAST(day AS VARCHAR) AS day" in said


def test_a_fault_of_a_view_is_told_of_the_view_before_its_models_are_judged_by_it(project):
    views = (FLIGHTS, CARRIERS, CARRIER_DELAYS.replace("[carrier]", "[carier]"), CARRIER_ATTRIBUTES)
    path = project.declare(MODEL, *views)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'entity: [carier]')}" in said
    assert "has the entity column 'carier', which 'flights' lacks (did you mean carrier?)" in said
    assert "the spine lacks" not in said


WRONG_ENDPOINT = {
    "wrong field": (("  drift:", "  drfit:"), "drfit", ["drfit"]),
    "unknown model": (("model: late", "model: lte"), "model: lte", ["no 'lte' among the models: late"]),
    "warning above failure": (("warn: 0.1", "warn: 0.4"), "warn:", ["warn (0.4) must not be above fail (0.3)"]),
    "unknown rollout": (("  drift:", "  rollout: {strategy: shadow}\n  drift:"), "rollout", ["all_at_once"]),
    "too tolerant": (("  drift:", "  consistency: {tolerate: 2}\n  drift:"), "tolerate", ["less than or equal to 1"]),
    "few rows": (("  drift:", "  parity: {rows: 9999}\n  drift:"), "rows", ["greater than or equal to 10000"]),
    "no moment": (("  drift:", "  parity: {moments: 0}\n  drift:"), "moments", ["greater than or equal to 1"]),
    "bad name": (("name: late", "name: late-1"), "name: late-1", ["snake_case"]),
}


@pytest.mark.parametrize(("change", "place", "words"), WRONG_ENDPOINT.values(), ids=WRONG_ENDPOINT)
def test_a_wrong_endpoint_is_named_with_its_line_and_advice(project, change, place, words):
    assert change[0] in ENDPOINT
    path = project.declare(ENDPOINT.replace(*change), MODEL, *REST)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert not [word for word in words if word not in said], said


@pytest.mark.parametrize("document", [MODEL, ENDPOINT], ids=["model", "endpoint"])
def test_a_second_model_or_endpoint_of_a_name_is_refused_at_its_own_line(project, document):
    path = project.declare(document, MODEL, ENDPOINT, *REST)
    names = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line == "  name: late"]
    said = complaint(project)
    assert "Names are unique" in said
    assert any(f"defs.yaml:{n}" in said for n in names[1:])


@pytest.fixture
def graph(project):
    project.declare(*REST, MODEL, ENDPOINT)
    return project.load().resolve_asset_graph()


def test_a_model_and_its_endpoint_make_eleven_assets_that_follow_each_other(graph):
    for layer, upstream in zip(LAYERS[1:], LAYERS, strict=False):
        assert dg.AssetKey([upstream, "late"]) in graph.get(dg.AssetKey([layer, "late"])).parent_keys
    assert {k.to_user_string() for k in graph.get_all_asset_keys() if k.path[-1] == "late"} == {
        f"{layer}/late" for layer in (*LAYERS, *SERVED)
    }
    assert graph.get(dg.AssetKey(["endpoints", "late"])).parent_keys == {dg.AssetKey(["releases", "late"])}


def test_the_training_set_is_made_from_labels_spine_and_every_view(graph):
    parents = graph.get(dg.AssetKey(["training_sets", "late"])).parent_keys
    assert {key.to_user_string() for key in parents} == {
        "labels/late", "tables/flights", "features/carrier_delays", "features/carrier_attributes",
    }  # fmt: skip


def test_the_gates_are_blocking_checks_of_the_evaluation(graph):
    keys = [key for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["evaluations", "late"])]
    assert {key.name for key in keys} == {"beats_baseline", "beats_champion", "no_slice_is_worse"}
    assert all(graph.get(key).blocking for key in keys)


def test_a_model_has_its_retrain_sensor_and_an_endpoint_its_two(graph, project):
    names = {sensor.name for sensor in project.defs.sensors or ()}
    assert names >= {"late_retrain", "late_prediction_log", "late_health", "airline_automation"}
    assert {schedule.name for schedule in project.defs.schedules or ()} == {"airline_reconcile", "airline_maintenance"}
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in project.defs.sensors or ())
