"""Feature views as they are declared: forms, inputs, and what is said at which line when they are wrong."""

import dagster as dg
import pytest

from ml_assets.steps.specs import DAY
from ml_assets_tests.components.test_declarations import complaint, line_of
from ml_assets_tests.project import CARRIER_DELAYS, CARRIERS, FLIGHTS, LAST_FLIGHT, Project

FLEETS = """\
type: ml_assets.components.FeatureView
attributes:
  name: fleets
  table: carriers
  entity: [carrier]
  lookup: {columns: {size: fleet, is_large: "fleet > 60"}}
"""
OVERALL = """\
type: ml_assets.components.FeatureView
attributes:
  name: overall
  table: carrier_delays
  entity: [carrier]
  every: 1h
  aggregations:
    delay_mean_6h: {functions: [max, last], windows: [2d]}
"""
COMPARED = """\
type: ml_assets.components.FeatureView
attributes:
  name: compared
  entity: [carrier]
  every: 1h
  sql: >
    SELECT carrier, known_at, event_timestamp, delay_mean_6h - delay_mean_1d AS trend FROM carrier_delays
"""


def keys(definitions: dg.Definitions, view: str) -> dict[str, tuple[int, int]]:
    """What a view is made from, with the first and last day of the window of each."""
    spec = definitions.resolve_assets_def(dg.AssetKey(["features", view])).specs_by_key[dg.AssetKey(["features", view])]
    mappings = {dep.asset_key.to_user_string(): dep.partition_mapping for dep in spec.deps}
    return {key: (m.start_offset, m.end_offset) if m else (0, 0) for key, m in mappings.items()}


def test_a_view_over_a_view_depends_on_its_days_and_their_delay(project):
    project.declare(FLIGHTS, CARRIER_DELAYS, OVERALL, COMPARED)
    assert keys(project.load(), "overall") == {"features/carrier_delays": (-3, 0)}
    assert keys(project.load(), "compared") == {"features/carrier_delays": (-1, 0)}
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("every: 1h", "every: 1h\n  delay: 1d"), OVERALL)
    assert keys(project.load(), "overall") == {"features/carrier_delays": (-4, 0)}


def test_a_view_over_a_view_knows_its_rows_when_they_can_be_served(project):
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("every: 1h", "every: 1h\n  delay: 1h"), OVERALL)
    spec = project.view("overall")
    (rows,) = spec.tables
    assert (rows.table, rows.delay, spec.daily) == ("features/carrier_delays", DAY / 24, True)
    assert spec.view.keys == ("carrier", "feature_timestamp")
    assert spec.view.event_timestamp == "event_timestamp"


def test_a_table_counts_before_a_view_of_its_name(project):
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("name: carrier_delays", "name: flights"))
    assert keys(project.load(), "flights") == {"tables/flights": (-2, 0)}


def test_a_lookup_needs_no_grid_and_has_its_columns(project):
    project.declare(CARRIERS, FLEETS)
    node = project.load().resolve_asset_graph().get(dg.AssetKey(["features", "fleets"]))
    columns = {c.name: c.type for c in node.metadata["dagster/column_schema"].schema.columns}
    assert not node.is_partitioned
    assert columns["size"] == "DOUBLE"
    assert columns["is_large"] == "DOUBLE"


def circle(project: Project, *documents: str) -> str:
    project.declare(FLIGHTS, *documents)
    return complaint(project)


def test_views_that_are_made_from_each_other_are_named_at_their_line(project):
    first = CARRIER_DELAYS.replace("table: flights", "table: overall").replace("delay: {", "delay_mean_6h_last_2d: {")
    said = circle(project, first, OVERALL)
    line = line_of(project.defs_folder / "defs.yaml", "table: carrier_delays")
    assert f"defs.yaml:{line}: FeatureView 'overall': the feature views are made from each other:" in said
    assert "carrier_delays from overall from carrier_delays." in said


def test_a_view_that_leads_into_a_circle_names_the_circle_alone(project):
    ring = COMPARED.replace("FROM carrier_delays", "FROM ring").replace("name: compared", "name: ring")
    said = circle(project, COMPARED.replace("FROM carrier_delays", "FROM ring"), ring)
    assert "made from each other: ring from ring." in said


VIEW = {
    "rate of a number": (CARRIER_DELAYS, ("[mean, count]", "[rate]"), "delay:", ["`rate` needs a truth value"]),
    "a mean of text": (
        CARRIER_DELAYS,
        ("delay: {functions: [mean, count]", "delay: {expression: flight_id, functions: [last, mean]"),
        "delay:",
        ["a VARCHAR", "`first`, `last` can take it"],
    ),
    "a window beyond the history": (
        CARRIER_DELAYS,
        ("[6h, 1d]", "[6h, 40d]"),
        "delay:",
        ["the window 40d is longer than the history of 'flights': 31 days by its `partitions`"],
    ),
    "random numbers": (
        CARRIER_DELAYS,
        ("delay: {", "delay: {expression: delay + random(), "),
        "delay:",
        ["random()", "another result each time"],
    ),
    "a clock in a filter": (
        CARRIER_DELAYS,
        ("delay: {", 'delay: {where: "arrived_at < now()", '),
        "delay:",
        ["now()", "another result each time"],
    ),
    "a default of no feature": (
        CARRIER_DELAYS,
        ("max_age: 2d", "max_age: 2d\n  defaults: {delay_count_6h: 0,\n    delay_mean_7h: 1}"),
        "delay_mean_7h: 1",
        ["has a default for 'delay_mean_7h', which is no feature", "did you mean delay_mean_6h"],
    ),
    "a default of another type": (
        CARRIER_DELAYS,
        ("max_age: 2d", "max_age: 2d\n  defaults: {delay_count_6h: none}"),
        "defaults:",
        ["has the default 'none' for 'delay_count_6h', which is a number"],
    ),
    "a lookup with a grid": (
        FLEETS,
        ("entity: [carrier]", "entity: [carrier]\n  every: 1h"),
        "every:",
        ["a grid needs a table with daily partitions"],
    ),
    "a lookup with a grid of days": (
        CARRIER_DELAYS,
        ("aggregations:\n    delay: {functions: [mean, count], windows: [6h, 1d]}", "lookup: {columns: {d: delay}}"),
        "every:",
        ["looks up what holds at any moment: leave `every` out"],
    ),
    "a lookup of an unknown column": (FLEETS, ("size: fleet,", "size: fleets,"), "lookup:", ["fleets", "fleet"]),
    "a lookup by an unknown time": (
        FLEETS,
        ("lookup: {", "lookup: {valid_from: since, "),
        "lookup:",
        ["the time column 'since', which 'carriers' lacks"],
    ),
    "a lookup by an unknown entity": (FLEETS, ("[carrier]", "[airline]"), "entity:", ["airline", "carrier"]),
    "two forms at once": (
        CARRIER_DELAYS,
        ("max_age: 2d", "max_age: 2d\n  lookup: {columns: {d: delay}}"),
        "lookup:",
        ["needs one of", "it has aggregations and lookup"],
    ),
    "an unknown view": (
        OVERALL,
        ("table: carrier_delays", "table: carrier_delay"),
        "table: carrier_delay",
        [
            "no 'carrier_delay' among the tables: carriers, flights;",
            "nor among the feature views: carrier_delays, overall",
        ],
    ),
    "an unknown feature of a view": (
        COMPARED,
        ("delay_mean_1d", "delay_mean_2d"),
        "sql:",
        ["delay_mean_2d", "delay_mean_1d"],
    ),
    "a wrong aggregation of a view": (OVERALL, ("delay_mean_6h:", "dely:"), "dely:", ["dely", "delay_mean_6h"]),
}


@pytest.mark.parametrize(("document", "change", "place", "words"), VIEW.values(), ids=VIEW)
def test_a_wrong_view_is_named_with_its_line_and_advice(project, document, change, place, words):
    assert change[0] in document
    others = [CARRIER_DELAYS] if document in (OVERALL, COMPARED) else []
    path = project.declare(document.replace(*change), FLIGHTS, CARRIERS, *others)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert not [word for word in words if word not in said], said


def test_windows_over_days_that_tell_neither_event_nor_knowledge_are_refused(project):
    """With days by order and windows by close, a row that closes six days after its day would not be read."""
    table = FLIGHTS.replace("column: known_at", "column: arrived_at")
    path = project.declare(table.replace("event_timestamp: arrived_at", "event_timestamp: known_at"), CARRIER_DELAYS)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'table: flights')}" in said
    assert "'flights' has its days by arrived_at, and windows go by known_at" in said


def test_sql_that_gives_another_result_each_time_is_named_at_its_line_of_the_file(project):
    path = project.write("last_flight.sql", "SELECT carrier, known_at,\n  delay, random() AS luck\nFROM flights")
    project.declare(FLIGHTS, LAST_FLIGHT)
    said = complaint(project)
    assert f"{path}:2: FeatureView 'last_flight': uses random() in its SQL (line 2)" in said
