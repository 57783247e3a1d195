import json
from pathlib import Path

import pytest

from ml_assets_tests.project import flights, parquet


def test_a_day_that_stands_says_when_and_why_it_was_computed_and_what_follows(airline):
    said = airline.said("explain", "tables/flights", "2013-01-02").splitlines()
    assert said[0].startswith("tables/flights 2013-01-02  (")
    file, line = said[0].split("(")[1].rstrip(")").rsplit(":", 1)
    assert Path(file).read_text().splitlines()[int(line) - 1].strip() == "name: flights"
    assert said[1] == "Stands: a run would compute nothing."
    assert said[2].startswith("  data version  rows1-duckdb")
    assert "raw/flights changed: " in said[3]
    assert said[-1] == "Follow, where its rows change: features/carrier_delays, features/last_flight."


def test_a_day_that_would_run_names_what_differs(own):
    (own.home / "landing" / "flights" / "2013-01-01.parquet").write_bytes(parquet(flights("2013-01-01", delay=7.0)))
    said = own.said("explain", "raw/flights", "2013-01-01")
    assert "Would run, since the source has deliveries that are not stored." in said
    view = own.said("explain", "airline/features/carrier_delays", "2013-01-01").splitlines()
    assert "Would run for the first time." in view
    assert "Before it: raw/flights would run for 2013-01-01." in view


def test_without_a_day_partitions_are_counted(airline):
    lines = airline.said("explain", "tables/flights").splitlines()
    assert lines[1].strip() == "3 stand      first 2013-01-01: Stands: a run would compute nothing."
    views = airline.said("explain", "features/carrier_delays").splitlines()
    assert views[1].split()[:4] == ["3", "missing", "first", "2013-01-01:"]
    assert "Nothing that it is made from has been delivered yet." in airline.said("explain", "tables/carriers")


def test_programs_read_json(airline):
    found = json.loads(airline.said("explain", "tables/flights", "2013-01-02", "--format", "json"))
    day = found["partitions"]["2013-01-02"]
    assert (day["decision"], day["reasons"]) == ("stands", [])
    assert day["made from"] == day["would be made from"]
    assert found["downstream"] == ["features/carrier_delays", "features/last_flight"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("flights", "There is no asset 'flights'. Did you mean raw/flights, tables/flights?"),
        ("features/none", "There is no asset 'features/none'. There are: features/carrier_attributes, "),
    ],
)
def test_a_wrong_name_is_answered_with_those_there_are(airline, name, said):
    assert said in airline.refused("explain", name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tables/flights", "2012-12-31"), "tables/flights: its days are 2013-01-01 .. 2013-01-31."),
        (("features/carrier_delays", "2013-02-01"), "2013-02-01 is no partition of features/carrier_delays: its"),
        (("tables/flights", "January"), "January is no partition of tables/flights"),
        (("raw/flights", "20130101"), "20130101 is no partition of raw/flights"),
        (("features/carrier_attributes", "2013-01-02"), "features/carrier_attributes has no partitions: ask without"),
    ],
)  # fmt: skip
def test_a_day_that_cannot_be_is_said_to_be_none_and_which_are(airline, words, said):
    assert said in airline.refused("explain", *words)


def test_a_day_that_may_still_come_waits(airline):
    assert "Waits: its source has nothing for 2013-01-20 yet" in airline.said("explain", "raw/flights", "2013-01-20")
