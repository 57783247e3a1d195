"""The rows behind a feature row: enough for its bits, none of later, and of lookups and SQL none too many."""

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.features import provenance
from ml_assets.features.compute import compute
from ml_assets.features.provenance import origin
from ml_assets.features.view import FeatureView
from ml_assets_tests.features.oracles import HOUR, MINUTE, ORIGIN, connection, happened
from ml_assets_tests.features.test_compute import BY_ROUTE, SUM, VIEW, outcome_rows, row
from ml_assets_tests.features.test_lookup import FLEET, LAST, fleet, fleets
from ml_assets_tests.features.test_lookup import row as aircraft

NEWEST = """SELECT carrier, known_at, happened_at AS event_timestamp, delay AS last_delay FROM "tables/outcomes"
    WHERE carrier IS NOT NULL QUALIFY row_number() OVER (PARTITION BY carrier, known_at ORDER BY delay, id, leg) = 1"""
BY_SQL = FeatureView("newest", ("carrier",), HOUR, ("tables/outcomes",), sql=NEWEST, history=24 * HOUR)


def chosen(found: pa.Table, data) -> dict:
    return data.draw(st.sampled_from(found.to_pylist()))


@pytest.mark.parametrize("view", [VIEW, BY_ROUTE], ids=["one entity", "composite entity and key"])
@settings(max_examples=40)
@given(rows=outcome_rows(), data=st.data())
def test_a_feature_row_of_windows_comes_out_of_the_rows_that_they_hold_alone(view, rows, data):
    con = connection(rows)
    found = compute(con, view, first=ORIGIN - 9 * HOUR, last=ORIGIN + 14 * HOUR)
    if not found.num_rows:
        return
    one = chosen(found, data)
    behind = origin(con, view, one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, True)
    held = behind.rows["tables/outcomes"].to_pylist()
    assert all(each in rows and each["known_at"] <= one["feature_timestamp"] for each in held)
    spans = sorted({window for part in view.aggregations.values() for window in part.windows})
    for each, windows in zip(held, behind.windows, strict=True):
        age = one["feature_timestamp"] - happened(each)
        assert windows.split(", ") == [f"{span // HOUR}h" for span in spans if age < span]


def test_a_restated_row_is_there_once_as_it_was_known_then():
    rows = [row(1, 5.0), row(1, 50.0, late=2 * HOUR), row(2, 7.0, id=2), row(1, 1.0, carrier="UA", id=3)]
    con = connection(rows)
    before, after = (
        next(r for r in compute(con, SUM, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist() if _at(r) == (hour, "AA"))
        for hour in (2, 3)
    )
    assert _delays(origin(con, SUM, before)) == [7.0, 5.0]
    assert _delays(origin(con, SUM, after)) == [7.0]  # the other is restated, and left the window of two hours


def test_a_closing_row_comes_from_no_row_and_follows_from_those_before():
    con = connection([row(1)])
    closing = compute(con, SUM, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist()[-1]
    behind = origin(con, SUM, closing)
    assert (behind.same, behind.rows["tables/outcomes"].num_rows) == (True, 0)


CLOSING = {"carrier": "AA", "feature_timestamp": ORIGIN + 3 * HOUR, "delay_count_2h": 0.0, "delay_sum_2h": None}


@pytest.mark.parametrize(
    "changed",
    [
        {"carrier": "ZZ"},
        {"delay_sum_2h": 0.0},
        {"delay_count_2h": -0.0},
        {"feature_timestamp": ORIGIN + 99 * HOUR},
        {"feature_timestamp": ORIGIN + 3 * HOUR + MINUTE},
    ],
    ids=["of nobody", "a sum", "minus zero", "later", "off the grid"],
)
def test_a_row_that_looks_like_a_closing_one_is_none(changed):
    con = connection([row(1)])
    assert origin(con, SUM, CLOSING).same
    assert not origin(con, SUM, CLOSING | changed).same


def _at(found: dict) -> tuple:
    return (found["feature_timestamp"] - ORIGIN) // HOUR, found["carrier"]


def _delays(behind) -> list[float | None]:
    return behind.rows["tables/outcomes"]["delay"].to_pylist()


@pytest.mark.parametrize("changed", [{"delay_sum_2h": 11.0}, {"carrier": "ZZ"}], ids=["a value", "an entity"])
def test_a_row_that_is_not_made_from_the_tables_is_not_the_same(changed):
    con = connection([row(1), row(2, id=2)])
    found = compute(con, SUM, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist()[1] | changed
    assert not origin(con, SUM, found).same


def test_a_row_that_peeks_is_not_the_same_from_what_was_known():
    peeking = 'SELECT carrier, known_at - INTERVAL 2 HOUR AS known_at, delay AS last_delay FROM "tables/outcomes"'
    view = FeatureView("peek", ("carrier",), HOUR, ("tables/outcomes",), sql=peeking)
    con = connection([row(5)])
    (found,) = compute(con, view, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist()
    assert not origin(con, view, found).same


@settings(max_examples=30)
@given(rows=outcome_rows(), data=st.data())
def test_sql_comes_from_rows_that_give_it_alone(rows, data):
    con = connection(rows)
    found = compute(con, BY_SQL, first=ORIGIN - 9 * HOUR, last=ORIGIN + 14 * HOUR)
    if not found.num_rows:
        return
    one = chosen(found, data)
    behind = origin(con, BY_SQL, one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, True)
    held = behind.rows["tables/outcomes"].to_pylist()
    assert all(each in rows for each in held)
    assert one["last_delay"] in {each["delay"] for each in held}


@settings(max_examples=30)
@given(rows=fleets(), data=st.data())
def test_a_lookup_comes_from_the_row_that_holds_or_has_ended(rows, data):
    con = connection([])
    con.register("tables/fleet", pa.Table.from_pylist(rows, FLEET))
    found = compute(con, fleet(), first=ORIGIN, last=LAST)
    if not found.num_rows:
        return
    one = chosen(found, data)
    behind = origin(con, fleet(), one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, True)
    held = behind.rows["tables/fleet"].to_pylist()
    assert {each["tail"] for each in held} == {one["tail"]}
    if one["maker"]:
        assert one["maker"] in {each["maker"].upper() for each in held}


def made_from(select: str, rows: list[dict], rest: str) -> list[int]:
    """The ids behind the only row of AA that SQL gives."""
    sql = f'{select} FROM "tables/outcomes" {rest}'
    view = FeatureView("v", ("carrier",), HOUR, ("tables/outcomes",), sql=sql)
    con = connection(rows)
    one = next(r for r in compute(con, view, first=ORIGIN, last=LAST).to_pylist() if r["carrier"] == "AA")
    behind = origin(con, view, one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, True)
    return sorted(behind.rows["tables/outcomes"]["id"].to_pylist())


MEAN = [row(1, 4.0, id=1), row(1, 6.0, id=2), row(1, 5.0, id=3), row(1, 5.0, id=4, carrier="UA")]


@pytest.mark.parametrize(
    ("select", "rest", "ids"),
    [
        ("SELECT carrier, known_at, avg(delay) AS x", "GROUP BY ALL", [1, 2, 3]),
        ("SELECT carrier, known_at, count(*) AS x", "GROUP BY ALL", [1, 2, 3]),
        ("SELECT carrier, known_at, max(delay) AS x", "GROUP BY ALL", [2]),
        ("SELECT carrier, known_at, avg(delay) FILTER (delay < 6) AS x", "GROUP BY ALL", [1, 3]),
        (
            "SELECT carrier, known_at, delay AS x",
            "QUALIFY row_number() OVER (PARTITION BY carrier ORDER BY id) = 1",
            [1],
        ),
        ("SELECT carrier, known_at, sum(delay) OVER () AS x", "QUALIFY id = 1", [1, 2, 3, 4]),
        ("SELECT DISTINCT carrier, known_at, 1 AS x", "", [1, 2, 3]),
    ],
    ids=["a mean", "a count", "a maximum", "a filter", "a choice", "of all entities", "any of equal rows"],
)
def test_each_row_counts_that_is_part_of_the_value_and_no_other(select, rest, ids):
    assert made_from(select, MEAN, rest) == ids


def test_no_row_counts_for_what_is_made_from_none():
    assert (
        made_from(
            "SELECT 'AA' AS carrier, TIMESTAMPTZ '2013-03-01 00:30+00' AS known_at, 1 AS x", [], rest="HAVING true"
        )
        == []
    )


NETWORK = """SELECT o.carrier, o.known_at, o.delay - (SELECT avg(x.delay) FROM "tables/outcomes" x
    WHERE x.known_at <= o.known_at) AS above FROM "tables/outcomes" o"""


def test_rows_of_other_entities_that_came_since_make_it_another_row():
    view = FeatureView("net", ("carrier",), HOUR, ("tables/outcomes",), sql=NETWORK)
    (stored,) = compute(connection([row(1, 10.0)]), view, first=ORIGIN, last=LAST).to_pylist()
    assert origin(connection([row(1, 10.0)]), view, stored).same
    behind = origin(connection([row(1, 10.0), row(0.5, 40.0, id=2, carrier="UA")]), view, stored)
    assert not behind.same
    assert behind.rows["tables/outcomes"]["id"].to_pylist() == [1]  # those of its entity


def test_a_table_that_sql_joins_is_looked_through_too_with_or_without_the_entity():
    sql = """SELECT o.carrier, o.known_at, sum(a.seats) AS seats FROM "tables/outcomes" o, "tables/fleet" a
        WHERE a.maker <> 'm1' GROUP BY ALL"""
    view = FeatureView("seats", ("carrier",), HOUR, ("tables/outcomes", "tables/fleet"), sql=sql)
    con = connection([row(1, id=n) for n in range(3)] + [row(1, carrier="UA", id=9)])
    fleet_rows = [aircraft(n, known=-1, since=-1, tail=f"N{n}") for n in range(1, 5)]
    con.register("tables/fleet", pa.Table.from_pylist(fleet_rows, FLEET))
    one = next(r for r in compute(con, view, first=ORIGIN, last=LAST).to_pylist() if r["carrier"] == "UA")
    behind = origin(con, view, one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, True)
    assert behind.rows["tables/outcomes"]["id"].to_pylist() == [9]
    assert sorted(behind.rows["tables/fleet"]["seats"].to_pylist()) == [2, 3, 4]


def test_a_column_of_another_meaning_with_the_name_of_the_entity_is_no_fault():
    view = FeatureView(
        "coded",
        ("carrier",),
        HOUR,
        ("tables/outcomes",),
        sql='SELECT origin AS carrier, known_at, delay AS x FROM "tables/outcomes"',
    )
    con = connection([])
    rows = pa.Table.from_pylist([row(1) | {"origin": "JFK"}]).set_column(1, "carrier", pa.array([7]))
    con.register("tables/outcomes", rows)
    (one,) = compute(con, view, first=ORIGIN, last=LAST).to_pylist()
    assert origin(con, view, one).rows["tables/outcomes"]["id"].to_pylist() == [1]


def test_many_rows_are_not_tried_one_by_one_for_ever(monkeypatch):
    monkeypatch.setattr(provenance, "_TRIES", 5)
    mean = 'SELECT carrier, max(known_at) AS known_at, avg(delay) AS mean FROM "tables/outcomes" GROUP BY carrier'
    view = FeatureView("mean", ("carrier",), HOUR, ("tables/outcomes",), sql=mean)
    con = connection([row(1 + n / 60, float(2**n), id=n) for n in range(20)])
    (one,) = compute(con, view, first=ORIGIN, last=ORIGIN + timedelta(days=1)).to_pylist()
    behind = origin(con, view, one)
    assert (behind.same, behind.alone, behind.complete) == (True, True, False)
    assert behind.rows["tables/outcomes"].num_rows == 20
