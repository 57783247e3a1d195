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
    (table,) = (behind := origin(con, view, one)).rows.values()
    assert behind.same
    held = table.drop_columns(["windows"]).to_pylist()
    assert all(each in rows and each["known_at"] <= one["feature_timestamp"] for each in held)
    for each, windows in zip(held, table["windows"].to_pylist(), strict=True):
        age = one["feature_timestamp"] - happened(each)
        assert windows.split(", ") == [
            f"{w // HOUR}h" for w in sorted({w for p in view.aggregations.values() for w in p.windows}) if age < w
        ]


def test_a_restated_row_is_there_once_as_it_was_known_then():
    rows = [row(1, 5.0), row(1, 50.0, late=2 * HOUR), row(2, 7.0, id=2), row(1, 1.0, carrier="UA", id=3)]
    con = connection(rows)
    before, after = (
        next(r for r in compute(con, SUM, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist() if _at(r) == (hour, "AA"))
        for hour in (2, 3)
    )
    assert _delays(origin(con, SUM, before)) == [7.0, 5.0]
    assert _delays(origin(con, SUM, after)) == [7.0]  # the other is restated, and left the window of two hours


def test_a_closing_row_comes_from_no_row():
    con = connection([row(1)])
    closing = compute(con, SUM, first=ORIGIN, last=ORIGIN + 9 * HOUR).to_pylist()[-1]
    behind = origin(con, SUM, closing)
    assert behind.same
    assert behind.n_rows == 0


def _at(found: dict) -> tuple:
    return (found["feature_timestamp"] - ORIGIN) // HOUR, found["carrier"]


def _delays(behind) -> list[float]:
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
def test_of_sql_no_row_can_be_left_out(rows, data):
    con = connection(rows)
    found = compute(con, BY_SQL, first=ORIGIN - 9 * HOUR, last=ORIGIN + 14 * HOUR)
    if not found.num_rows:
        return
    one = chosen(found, data)
    behind = origin(con, BY_SQL, one)
    assert behind.same
    assert behind.smallest
    held = behind.rows["tables/outcomes"].to_pylist()
    assert all(each in rows for each in held)
    assert _gives(BY_SQL, held, one)
    assert not any(_gives(BY_SQL, held[:n] + held[n + 1 :], one) for n in range(len(held)))


def _gives(view: FeatureView, rows: list[dict], one: dict) -> bool:
    moment = one["feature_timestamp"]
    return one in compute(connection(rows), view, first=moment, last=moment + MINUTE).to_pylist()


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
    assert behind.same
    assert behind.smallest
    assert {each["tail"] for each in behind.rows["tables/fleet"].to_pylist()} == {one["tail"]}


def test_a_table_that_sql_joins_is_looked_through_too_with_or_without_the_entity():
    sql = """SELECT o.carrier, o.known_at, sum(a.seats) AS seats FROM "tables/outcomes" o, "tables/fleet" a
        WHERE a.seats > 1 GROUP BY ALL"""
    view = FeatureView("seats", ("carrier",), HOUR, ("tables/outcomes", "tables/fleet"), sql=sql)
    con = connection([row(1, id=n) for n in range(3)] + [row(1, carrier="UA", id=9)])
    fleet_rows = [aircraft(n, known=-1, since=-1, tail=f"N{n}") for n in range(5)]
    con.register("tables/fleet", pa.Table.from_pylist(fleet_rows, FLEET))
    one = next(r for r in compute(con, view, first=ORIGIN, last=LAST).to_pylist() if r["carrier"] == "UA")
    behind = origin(con, view, one)
    assert (behind.same, behind.smallest) == (True, True)
    assert behind.rows["tables/outcomes"]["id"].to_pylist() == [9]
    assert behind.rows["tables/fleet"]["seats"].to_pylist() == [2, 3, 4]


def test_many_rows_are_not_left_out_one_by_one_for_ever(monkeypatch):
    monkeypatch.setattr(provenance, "_TRIES", 5)
    mean = 'SELECT carrier, max(known_at) AS known_at, avg(delay) AS mean FROM "tables/outcomes" GROUP BY carrier'
    view = FeatureView("mean", ("carrier",), HOUR, ("tables/outcomes",), sql=mean)
    con = connection([row(1 + n / 60, float(2**n), id=n) for n in range(20)])
    (one,) = compute(con, view, first=ORIGIN, last=ORIGIN + timedelta(days=1)).to_pylist()
    behind = origin(con, view, one)
    assert (behind.same, behind.smallest, behind.n_rows) == (True, False, 20)
