"""The time-travel proof passes clean views and catches planted leaks."""

import pyarrow as pa
import pytest

from ml_assets.errors import FeatureError
from ml_assets.features.compute import compute
from ml_assets.features.prove import time_travel
from ml_assets.features.view import FUNCTIONS, Aggregation, FeatureView
from ml_assets_tests.features.oracles import HOUR, MINUTE, ORIGIN, connection, delays

ROWS = [
    {
        "id": n,
        "carrier": "AA" if n % 3 else "UA",
        "happened_at": ORIGIN + (n - 12) * 20 * MINUTE,
        "known_at": ORIGIN + (n - 12) * 20 * MINUTE + (n % 7) * 25 * MINUTE,
        "delay": float(n * n % 37),
    }
    for n in range(100)
]
FIRST, LAST = ORIGIN, ORIGIN + 24 * HOUR


def proof(view: FeatureView, rows: list[dict] = ROWS):
    con = connection(rows)
    return time_travel(con, view, compute(con, view, first=FIRST, last=LAST), FIRST, LAST)


def events(select: str, source: str = '"tables/outcomes"') -> FeatureView:
    sql = f"SELECT carrier, happened_at AS event_timestamp, known_at, {select} AS delay FROM {source}"
    return FeatureView("events", ("carrier",), HOUR, ("tables/outcomes",), sql=sql)


def test_windows_over_late_and_restated_rows_are_proved_clean():
    restated = [row | {"delay": 99.0, "known_at": row["known_at"] + 5 * HOUR} for row in ROWS[::5]]
    view = delays(("delay", Aggregation("delay", FUNCTIONS, (2 * HOUR, 6 * HOUR))))
    found = proof(view, ROWS + restated)
    assert (found.identical, found.differences) == (True, ())
    assert found.n_rows > 24


def test_an_sql_view_that_looks_back_only_is_proved_clean():
    view = events("delay + lag(delay, 1, 0) OVER (PARTITION BY carrier ORDER BY known_at, id)")
    assert proof(view).identical


def test_a_window_over_the_next_rows_is_caught_and_named():
    found = proof(events("lead(delay, 1, 0) OVER (PARTITION BY carrier ORDER BY known_at, id)"))
    assert not found.identical
    assert " at 2013-03-01T06:00:00+00:00 has other values in delay with rows known after" in found.differences[0]


def test_an_aggregate_over_all_time_is_caught():
    assert not proof(events("delay - avg(delay) OVER (PARTITION BY carrier)")).identical


def test_a_known_at_moved_before_the_truth_is_caught():
    sql = """SELECT a.carrier, a.known_at, max(b.delay) AS delay FROM "tables/outcomes" a JOIN "tables/outcomes" b
        ON a.carrier = b.carrier AND b.happened_at BETWEEN a.known_at AND a.known_at + INTERVAL 3 HOUR GROUP BY ALL"""
    assert not proof(FeatureView("events", ("carrier",), HOUR, ("tables/outcomes",), sql=sql)).identical


def test_a_leak_that_only_adds_rows_is_caught():
    sql = """SELECT carrier, happened_at AS known_at, any_value(delay) AS delay FROM "tables/outcomes" GROUP BY ALL"""
    found = proof(FeatureView("events", ("carrier",), HOUR, ("tables/outcomes",), sql=sql))
    assert any("is stored but not recomputed" in difference for difference in found.differences)


def test_stored_rows_that_were_altered_are_caught():
    con, view = connection(ROWS), delays(("delay", Aggregation("delay", ("sum",), (2 * HOUR,))))
    stored = compute(con, view, first=FIRST, last=LAST)
    rows = stored.to_pylist()
    rows[3]["delay_sum_2h"] += 1e-9
    assert not time_travel(con, view, pa.Table.from_pylist(rows, stored.schema), FIRST, LAST).identical


def test_stored_rows_of_other_columns_are_refused():
    con, view = connection(ROWS), delays(("delay", Aggregation("delay", ("sum",), (2 * HOUR,))))
    stored = compute(con, view, first=FIRST, last=LAST).drop_columns(["delay_sum_2h"])
    with pytest.raises(FeatureError, match="lack a column of the view"):
        time_travel(con, view, stored, FIRST, LAST)


LATER = {
    "values": '(SELECT sum(delay) FROM "tables/outcomes")',
    "presence": '(SELECT count(*) FROM "tables/outcomes")',
    "one later row": '(SELECT max(delay) FROM "tables/outcomes" WHERE id = 99)',
}


@pytest.mark.parametrize("leak", LATER.values(), ids=LATER)
@pytest.mark.parametrize("hour", [0, 7, 16, 22])
def test_a_leak_of_one_hour_of_the_day_is_caught_in_windows_and_in_sql(leak, hour):
    at = ORIGIN + hour * HOUR
    leaking = f"delay + CASE WHEN known_at BETWEEN '{at}' AND '{at + HOUR}' THEN coalesce({leak}, 0) ELSE 0 END"
    declared = delays(("delay", Aggregation(leaking, ("max",), (2 * HOUR,))))
    assert not proof(declared).identical
    assert not proof(events(leaking)).identical


UNSEEN = {
    "a bound that no later row breaks": '(SELECT max(delay) FROM "tables/outcomes") > 500',
    "a text that no later row has": "(SELECT max(origin) FROM \"tables/outcomes\" WHERE id > 10) = 'JFK'",
}


@pytest.mark.parametrize("leak", UNSEEN.values(), ids=UNSEEN)
def test_a_leak_that_shows_in_no_value_of_the_day_is_caught_by_rows_that_are_poisoned(leak):
    """Removed, the later rows change nothing."""
    rows = [row | {"origin": "JFK" if row["id"] < 10 else "EWR"} for row in ROWS]
    leaking = f"CASE WHEN {leak} THEN 1.0 ELSE delay END"
    assert not proof(delays(("delay", Aggregation(leaking, ("max",), (2 * HOUR,)))), rows).identical
    found = proof(events(leaking), rows)
    assert not found.identical
    assert all("poisoned" in difference for difference in found.differences)
    assert found.advice == ""


def test_rows_that_are_known_before_what_they_are_made_from_are_counted_and_said():
    sql = 'SELECT carrier, known_at - INTERVAL 2 HOUR AS known_at, delay FROM "tables/outcomes"'
    found = proof(FeatureView("events", ("carrier",), HOUR, ("tables/outcomes",), sql=sql))
    assert not found.identical
    assert found.advice.startswith("Its `known_at` is earlier than that of tables/outcomes: ")
