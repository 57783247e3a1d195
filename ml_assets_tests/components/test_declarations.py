"""A wrong declaration is a clear error at its file and line when the definitions load."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.errors import DeclarationError
from ml_assets.orchestration.loading import problems
from ml_assets_tests.project import (
    CARRIER_ATTRIBUTES,
    CARRIER_DELAYS,
    CARRIERS,
    CONTRACTS,
    FLIGHTS,
    LAST_FLIGHT,
    LAST_FLIGHT_SQL,
    Project,
)

ROOT = Path(__file__).parents[2]


def complaint(project: Project) -> str:
    """Everything that a user is told when the definitions do not load."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Dagster wraps errors in its own, of several classes
        project.load()
    chain = [caught.value]
    while (error := chain[-1].__cause__ or chain[-1].__context__) and error not in chain:
        chain.append(error)
    return "\n".join(map(str, chain))


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


TABLE = {
    "wrong field": (("name: flights", "name: flights\n  colour: red"), "colour", ["colour"]),
    "missing field": (('  source: {files: "flights/*.parquet"}\n', ""), "attributes", ["source", "required"]),
    "unknown module": (("PACKAGE.contracts", "PACKAGE.nowhere"), "contract:", ["no module", "package.module.Class"]),
    "unknown key column": (("[flight_id]", "[flight]"), "keys:", ["no column 'flight'", "It has: flight_id"]),
    "unknown event timestamp": (("timestamp: arrived_at", "timestamp: landed_at"), "event_timestamp:", ["landed_at"]),
    "a key that may be null": (("[flight_id]", "[flight_id, delay]"), "keys:", ["the key delay may be null", "remove"]),
    "days of a text": (("column: known_at", "column: carrier"), "partitions:", ["carrier is VARCHAR", "a date"]),
    "unknown partition column": (("column: known_at", "column: day"), "partitions:", ["no column 'day'"]),
    "bad first day": (('"2013-01-01"', '"2013-02-30"'), "partitions:", ["'2013-02-30' is no day", "2013-01-05"]),
    "bad last day": (('"2013-01-31"', '"January"'), "partitions:", ["'January' is no day"]),
    "a time for a day": (('"2013-01-31"', '"2013-01-31T12"'), "partitions:", ["'2013-01-31T12' is no day"]),
    "last day before the first": (('"2013-01-31"', '"2012-12-31"'), "partitions:", ["before", "2013-01-01"]),
    "bad share": (("fail_above: 0.2", "fail_above: 2"), "fail_above", ["less than or equal to 1"]),
    "bad name": (("name: flights", "name: Flights-2"), "name:", ["snake_case"]),
    "bad duration": (
        ("  known_at: known_at", "  known_at: known_at\n  freshness: {fail: 1 day}"),
        "freshness:",
        ["'1 day' is no duration", "`15m`"],
    ),
    "warning after failure": (
        ("  known_at: known_at", "  known_at: known_at\n  freshness: {warn: 2d, fail: 1d}"),
        "freshness:",
        ["`warn`", "shorter"],
    ),
    "known_at twice": (("known_at: known_at", "known_at: arrived_at"), "known_at:", ["leave `known_at` out"]),
    "bad owner": (("name: flights", "name: flights\n  owners: [ops]"), "owners:", ["'ops'", "team:"]),
}


@pytest.mark.parametrize(("change", "place", "words"), TABLE.values(), ids=TABLE)
def test_a_wrong_table_is_named_with_its_line_and_advice(project, change, place, words):
    assert change[0] in FLIGHTS
    path = project.declare(CARRIERS, FLIGHTS.replace(*change))
    said = complaint(project)
    table_starts = line_of(path, "Flights") - 5
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if n > table_starts and place in text)
    assert f"defs.yaml:{line}" in said
    assert not [word for word in words if word not in said], said


KNOWN_AT = {
    "unknown column": ("landed_at + INTERVAL 1 HOUR", ["landed_at", "carrier", "fleet"]),
    "no moment": ("fleet", ["BIGINT", "TIMESTAMPTZ"]),
    "no time zone": ("TIMESTAMP '2012-12-31'", ["gives a TIMESTAMP,", "TIMESTAMPTZ"]),
    "syntax": ("fleet +", ["syntax error"]),
}


def test_an_event_timestamp_is_a_moment_of_any_name(project):
    contract = CONTRACTS.replace("    arrived_at: datetime", '    arrived_at: datetime = pa.Field(alias="order by")')
    project.write("../../contracts.py", contract.replace("    known_at: datetime\n", ""))
    moment = FLIGHTS.replace("  known_at: known_at\n", "").replace("column: known_at", "column: order by")
    project.declare(moment.replace("timestamp: arrived_at", "timestamp: order by"))
    project.load()
    path = project.declare(moment.replace("timestamp: arrived_at", "timestamp: delay"))
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'event_timestamp:')}" in said
    assert "gives a DOUBLE, it must give a TIMESTAMPTZ" in said


@pytest.mark.parametrize(("sql", "words"), KNOWN_AT.values(), ids=KNOWN_AT)
def test_sql_of_known_at_is_bound_to_the_contract(project, sql, words):
    path = project.declare(CARRIERS.replace("TIMESTAMPTZ '2012-12-31 00:00:00+00'", sql))
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'known_at:')}: Table 'carriers'" in said
    assert not [word for word in words if word not in said], said


VIEW = {
    "wrong field": (CARRIER_DELAYS, ("every: 1h", "every: 1h\n  evry: 1h"), "evry", ["evry"]),
    "unknown table": (CARRIER_DELAYS, ("table: flights", "table: flight"), "table:", ["no 'flight' among the tables"]),
    "bad grid": (CARRIER_DELAYS, ("every: 1h", "every: hourly"), "every:", ["'hourly' is no duration", "`15m`"]),
    "bad window": (CARRIER_DELAYS, ("[6h, 1d]", "[6 hours]"), "delay:", ["'6 hours' is no duration"]),
    "short window": (CARRIER_DELAYS, ("[6h, 1d]", "[30m]"), "delay:", ["shorter than its grid"]),
    "unknown function": (CARRIER_DELAYS, ("[mean, count]", "[median]"), "delay:", ["median", "p50"]),
    "unknown entity": (CARRIER_DELAYS, ("[carrier]", "[airline]"), "entity:", ["airline", "carrier"]),
    "unknown expression": (CARRIER_DELAYS, ("delay: {", "late: {expression: dely, "), "late:", ["dely", "delay"]),
    "text that is averaged": (CARRIER_DELAYS, ("delay: {", "flight_id: {"), "flight_id:", ["only `count`"]),
    "neither table nor sql": (CARRIER_DELAYS, ("table: flights", "delay: 1m"), "attributes:", ["table", "sql"]),
    "no such file": (LAST_FLIGHT, ("last_flight.sql", "last_flights.sql"), "sql:", ["no file", "last_flights.sql"]),
    "missing column inline": (CARRIER_ATTRIBUTES, ("fleet", "fleets"), "sql:", ["fleets", "fleet"]),
    "missing table inline": (CARRIER_ATTRIBUTES, ("FROM carriers", "FROM airlines"), "sql:", ["no 'airlines'"]),
    "syntax inline": (CARRIER_ATTRIBUTES, ("SELECT", "SELEC"), "sql:", ["syntax"]),
    "no known_at": (CARRIER_ATTRIBUTES, ("known_at, ", ""), "sql:", ["does not select 'known_at'"]),
}


@pytest.mark.parametrize(("document", "change", "place", "words"), VIEW.values(), ids=VIEW)
def test_a_wrong_view_is_named_with_its_line_and_advice(project, document, change, place, words):
    assert change[0] in document
    path = project.declare(document.replace(*change), FLIGHTS, CARRIERS)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert not [word for word in words if word not in said], said


SQL_FILE = {
    "missing column": (("delay AS", "dely AS"), 3, ["dely", "delay"]),
    "missing table": (("FROM flights", "FROM flight"), None, ["no 'flight' among the tables"]),
    "syntax": (("FROM flights", "FORM flights"), 4, ["syntax"]),
    "no known_at": (("known_at, ", ""), None, ["does not select 'known_at'"]),
}


@pytest.mark.parametrize(("change", "line", "words"), SQL_FILE.values(), ids=SQL_FILE)
def test_a_fault_in_an_sql_file_is_named_at_its_line_there(project, change, line, words):
    path = project.write("last_flight.sql", LAST_FLIGHT_SQL.replace(*change))
    yaml = project.declare(FLIGHTS, LAST_FLIGHT)
    said = complaint(project)
    assert (f"{path}:{line}" if line else f"{yaml}:{line_of(yaml, 'sql:')}") in said
    assert not [word for word in words if word not in said], said


CONTRACT = {
    "unknown class": (("class Flights", "class Flight"), None, ["no class Flights", "Flight"]),
    "no model": (("Flights(pa.DataFrameModel)", "Flights"), "class Flights", ["no pandera model"]),
    "unknown type": (("arrived_at: datetime", "arrived_at: complex"), "arrived_at", ["complex", "datetime"]),
}


@pytest.mark.parametrize(("change", "place", "words"), CONTRACT.values(), ids=CONTRACT)
def test_a_wrong_contract_is_named_at_its_line_in_python(project, change, place, words):
    path = project.write("../../contracts.py", CONTRACTS.replace(*change))
    project.declare(FLIGHTS)
    said = complaint(project)
    assert (f"{path}:{line_of(path, place)}" if place else str(path)) in said
    assert not [word for word in words if word not in said], said


REFERS = "  expectations: {references: {carrier: {table: TABLE, column: carrier}}}\n"


@pytest.mark.parametrize("flights", [FLIGHTS + REFERS.replace("TABLE", "carriers"), FLIGHTS], ids=["both", "itself"])
def test_tables_that_refer_to_each_other_are_refused(project, flights):
    back = "flights" if flights != FLIGHTS else "carriers"
    path = project.declare(flights, CARRIERS + REFERS.replace("TABLE", back))
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'references:')}" in said
    assert "refers back to" in said


def test_a_rule_named_like_a_check_that_every_table_has_is_refused(project):
    rules = """
    class Config:
        metadata: ClassVar = {"rules": {"no row is lost": "fleet > 2"}}
"""
    project.write("../../contracts.py", CONTRACTS + rules)
    path = project.declare(CARRIERS)
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, 'contract:')}: Table 'carriers': two checks are named no_row_is_lost" in said


@pytest.mark.parametrize("document", [FLIGHTS, CARRIER_DELAYS], ids=["table", "view"])
def test_a_second_component_of_a_name_is_refused_at_its_own_line(project, document):
    path = project.declare(FLIGHTS, CARRIER_DELAYS, document)
    name = next(line.strip() for line in document.splitlines() if "name:" in line)
    second = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line.strip() == name][1]
    said = complaint(project)
    assert f"defs.yaml:{second}" in said
    assert "Names are unique" in said


def test_a_table_and_a_view_may_share_a_name(project):
    project.declare(FLIGHTS, CARRIER_DELAYS.replace("name: carrier_delays", "name: flights"))
    keys = {key.to_user_string() for key in project.load().resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"raw/flights", "tables/flights", "features/flights"}


def test_use_cases_and_tables_with_first_days_of_their_own_load_together(project):
    later = FLIGHTS.replace("name: flights", "name: arrivals").replace("2013-01-01", "2013-01-05")
    project.declare(FLIGHTS, later)
    other = project.defs_folder.parent / "other"
    other.mkdir()
    other.joinpath("defs.yaml").write_text(CARRIERS.replace("PACKAGE", project.package))
    repository = project.load().get_repository_def()
    assert repository.get_all_jobs()
    schedules = sorted(schedule.name for schedule in repository.schedule_defs)
    assert schedules == ["airline_maintenance", "airline_reconcile", "other_maintenance", "other_reconcile"]
    assert [sensor.name for sensor in repository.sensor_defs].count("alerts") == 1


def test_days_may_be_written_without_quotes(project):
    project.declare(FLIGHTS.replace('"2013-01-01"', "2013-01-01"))
    asset = project.load().resolve_assets_def(dg.AssetKey(["tables", "flights"]))
    assert asset.partitions_def.get_first_partition_key() == "2013-01-01"


def test_the_command_line_shows_the_error_and_where_it_is(project):
    path = project.declare(FLIGHTS.replace("[flight_id]", "[flight]"))
    code = f'''
import dagster as dg, {project.package}.defs as defs
from pathlib import Path

@dg.definitions
def all_defs():
    return dg.ComponentTree.from_module(defs_module=defs, project_root=Path(r"{project.folder}")).build_defs()
'''
    (project.folder / "entry.py").write_text(code)
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "entry"]
    environment = {**os.environ, "PYTHONPATH": str(project.folder), "DAGSTER_HOME": ""}
    done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"{path}:{line_of(path, 'keys:')}: Table 'flights': the contract has no column 'flight'" in said


def test_the_innermost_place_is_said_once_when_an_error_is_raised_again():
    """Errors that cause each other in a circle end the search for a place, not the process."""
    first, second = ValueError("first"), DeclarationError("second", file="defs.yaml", line=3)
    first.__cause__, second.__cause__ = second, first
    assert problems(first) == ["defs.yaml:3: second"]


def test_a_grid_over_a_table_without_days_is_refused(project):
    whole = CARRIER_DELAYS.replace("table: flights", "table: carriers")
    path = project.declare(CARRIERS, whole)
    said = complaint(project)
    assert "a grid needs a table with daily partitions, and 'carriers' has none" in said
    assert f"defs.yaml:{line_of(path, 'every:')}" in said


def test_a_variable_that_is_not_set_is_named_at_its_line(project, monkeypatch):
    source = 'source: {files: "flights/*.parquet"}'
    monkeypatch.delenv("AIRLINE_FILES", raising=False)
    path = project.declare(FLIGHTS.replace(source, 'source: {files: "{{ env.AIRLINE_FILES }}"}'))
    line = path.read_text().splitlines().index('  source: {files: "{{ env.AIRLINE_FILES }}"}') + 1
    said = complaint(project)
    assert f"defs.yaml:{line}: the variable AIRLINE_FILES is not set in the environment." in said
