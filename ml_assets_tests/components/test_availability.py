"""Columns that exist only after the event are refused, at file and line, where a prediction could not know them."""

import pytest

from ml_assets_tests.components.test_declarations import complaint, line_of
from ml_assets_tests.components.test_models import MODEL, REST
from ml_assets_tests.project import CONTRACTS, LAST_FLIGHT

LATE = 'pa.Field(metadata={"available": "after_event"})'
DELAY = "delay: float = pa.Field(nullable=True, ge=-60, le=600)"


@pytest.fixture
def late(project):
    """Flights whose arrival and delay exist only after the event, in a project without its model."""
    contracts = CONTRACTS.replace(DELAY, DELAY.replace(")", ', metadata={"available": "after_event"})'))
    project.write("../../contracts.py", contracts.replace("arrived_at: datetime", f"arrived_at: datetime = {LATE}"))
    return project


def last_flight(project, sql):
    project.write("last_flight.sql", sql)
    project.declare(LAST_FLIGHT, *REST)


def test_a_view_that_takes_outcomes_from_when_its_table_knows_them_loads(late):
    last_flight(late, "SELECT carrier, known_at + INTERVAL 1 HOUR AS known_at, delay AS last_delay FROM flights")
    assert late.load().assets


@pytest.mark.parametrize(
    ("known_at", "made"),
    [
        ("arrived_at AS known_at", "made from flights.arrived_at"),
        ("least(known_at, arrived_at) AS known_at", "made from flights.arrived_at"),
        ("TIMESTAMPTZ '2012-01-01' AS known_at", "a constant"),
    ],
)
def test_a_view_that_says_outcomes_were_known_earlier_is_refused_at_its_line(late, known_at, made):
    last_flight(late, f"-- delay counts\nSELECT carrier, {known_at},\n    delay + 1 AS last_delay\nFROM flights")
    said = complaint(late)
    assert "last_flight.sql:3: FeatureView 'last_flight': makes 'last_delay' of flights.delay" in said
    assert f"known only after the event, but its known_at is {made}" in said
    assert "Select flights.known_at AS known_at" in said


def test_a_statement_in_the_yaml_is_refused_at_the_line_of_its_field(late):
    sql = "SELECT carrier, arrived_at AS known_at, delay AS last_delay FROM flights"
    path = late.declare(LAST_FLIGHT.replace("sql: last_flight.sql", f"sql: {sql}"), *REST)
    assert f"defs.yaml:{line_of(path, 'sql: SELECT carrier, arrived')}" in complaint(late)


def test_columns_that_are_known_before_may_have_any_known_at(late):
    last_flight(late, "SELECT carrier, arrived_at AS known_at, flight_id AS last_flight FROM flights")
    assert late.load().assets


def test_a_prediction_at_a_time_that_only_the_event_tells_is_refused(late):
    path = late.declare(MODEL, *REST)
    said = complaint(late)
    assert f"defs.yaml:{line_of(path, 'time: arrived_at -')}" in said
    assert "the time reads arrived_at, which is known only after the event" in said


@pytest.mark.parametrize(
    ("column", "place", "words"),
    [
        (
            "carrier: str = pa.Field(isin",
            "features:",
            "the entity carrier of 'carrier_delays' is known only after the event",
        ),
        (
            "flight_id: str = pa.Field(des",
            "table: flights",
            "the key flight_id of the spine is known only after the event",
        ),
    ],
)
def test_a_key_or_an_entity_that_only_the_event_tells_is_refused(project, column, place, words):
    marked = column.replace("pa.Field(", 'pa.Field(metadata={"available": "after_event"}, ')
    project.write("../../contracts.py", CONTRACTS.replace(column, marked))
    path = project.declare(MODEL, *REST)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert words in said


def test_an_unknown_class_is_refused_with_those_there_are(project):
    path = project.write(
        "../../contracts.py", CONTRACTS.replace(DELAY, DELAY.replace(")", ', metadata={"available": "later"})'))
    )
    said = complaint(project)
    assert f"contracts.py:{line_of(path, 'later')}" in said
    assert "column delay: available is 'later'; write one of request, after_event" in said


def test_a_feature_that_is_allowed_and_not_there_is_named_with_its_line(project):
    path = project.declare(
        MODEL.replace("  train:", "  leaks: {single: 0.9, allow: [carrier_delays__delay]}\n  train:"), *REST
    )
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'leaks:')}" in said
    assert "there is no feature 'carrier_delays__delay'. There are: carrier_delays__delay_" in said


def test_the_columns_say_in_the_ui_that_they_are_known_only_after_the_event(late):
    (spec,) = [s for s in late.load().resolve_all_asset_specs() if s.key.to_user_string() == "tables/flights"]
    columns = {column.name: column for column in spec.metadata["dagster/column_schema"].schema.columns}
    assert "known only after the event" in columns["delay"].constraints.other
    assert "known only after the event" not in columns["carrier"].constraints.other
