"""Windows on the grid against a brute-force oracle, and SQL views."""

from datetime import timedelta
from itertools import pairwise
from math import copysign

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import engine
from ml_assets.errors import FeatureError
from ml_assets.features.compute import compute
from ml_assets.features.view import Aggregation, FeatureView
from ml_assets_tests.features.oracles import HOUR, MINUTE, ORIGIN, all_functions, connection, delays, window_rows

STEPS = st.integers(-8 * 4, 10 * 4)
DELAYS = st.none() | st.integers(-30, 300).map(float) | st.sampled_from([0.1, 1 / 3, -0.7, -0.0, 1e9 + 0.1])


@st.composite
def outcome_rows(draw) -> list[dict]:
    """Late and early, restated, without event time, without entity, on and off the grid, and many ties."""
    rows = []
    for _ in range(draw(st.integers(0, 14))):
        happened = ORIGIN + draw(STEPS) * 15 * MINUTE
        rows.append(
            {
                "id": draw(st.integers(0, 6)),
                "leg": draw(st.integers(0, 1)),
                "carrier": draw(st.sampled_from(["AA", "UA", None])),
                "origin": draw(st.sampled_from(["JFK", "LGA", None])),
                "happened_at": draw(st.sampled_from([happened, happened, None])),
                "known_at": happened + draw(st.integers(-4, 16)) * 15 * MINUTE,
                "delay": draw(DELAYS),
            }
        )
    return rows


def alike(ours: float | str | None, theirs: float | str | None) -> bool:
    if theirs is None or isinstance(theirs, str):
        return ours == theirs
    return ours == pytest.approx(theirs, rel=1e-9, abs=1e-6)


VIEW = all_functions(2 * HOUR, 5 * HOUR)
BY_ROUTE = all_functions(3 * HOUR, entity=("carrier", "origin"), keys=("id", "leg"))


@pytest.mark.parametrize("view", [VIEW, BY_ROUTE], ids=["one entity", "composite entity and key"])
@settings(max_examples=30)
@given(rows=outcome_rows())
def test_windows_hold_what_the_oracle_finds_by_trying_every_row(view, rows):
    first, last = ORIGIN, ORIGIN + 12 * HOUR
    found = compute(connection(rows), view, first=first, last=last).to_pylist()
    expected = window_rows(view, rows, first, last)
    identity = (*view.entity, "feature_timestamp")
    assert [[r[name] for name in identity] for r in found] == [[r[name] for name in identity] for r in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for feature in view.features():
            assert alike(ours[feature], theirs[feature]), (feature, ours, theirs)


@settings(max_examples=15)
@given(outcome_rows(), st.lists(st.integers(1, 11), max_size=3))
def test_a_range_computed_in_pieces_gives_the_same_bits(rows, cuts):
    con = connection(rows)
    borders = sorted({0, 12, *cuts})
    pieces = [compute(con, VIEW, first=ORIGIN + a * HOUR, last=ORIGIN + b * HOUR) for a, b in pairwise(borders)]
    whole = compute(con, VIEW, first=ORIGIN, last=ORIGIN + 12 * HOUR)
    joined = pa.concat_tables(pieces).sort_by([("carrier", "ascending"), ("feature_timestamp", "ascending")])
    assert joined.combine_chunks().equals(whole.combine_chunks())


@settings(max_examples=25)
@given(outcome_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_history_before_the_lookback_change_no_bit(rows, random):
    first, last = ORIGIN + 6 * HOUR, ORIGIN + 10 * HOUR
    rows = [r for r in rows if r["happened_at"] is None or r["known_at"] >= r["happened_at"]]
    needed = [r for r in rows if r["known_at"] >= first - VIEW.lookback()]
    shuffled = random.sample(needed, len(needed))
    assert compute(connection(shuffled), VIEW, first=first, last=last).equals(
        compute(connection(rows), VIEW, first=first, last=last)
    )


@settings(max_examples=25)
@given(outcome_rows(), outcome_rows(), st.integers(1, 11))
def test_what_is_known_later_changes_no_row(rows, later, cut):
    moment = ORIGIN + cut * HOUR
    poison = [row | {"known_at": moment + MINUTE + (row["known_at"] - ORIGIN + 9 * HOUR)} for row in later]
    poisoned = compute(connection([*rows, *poison]), VIEW, first=ORIGIN, last=moment + MINUTE)
    assert poisoned.equals(compute(connection(rows), VIEW, first=ORIGIN, last=moment + MINUTE))


def row(step: float, delay: float | None = 10.0, *, late: timedelta = timedelta(0), id: int = 1, carrier="AA") -> dict:
    happened = ORIGIN + step * HOUR
    return {"id": id, "carrier": carrier, "happened_at": happened, "known_at": happened + late, "delay": delay}


def values(rows, view, feature, hours=8):
    table = compute(connection(rows), view, first=ORIGIN, last=ORIGIN + hours * HOUR)
    return {(r["feature_timestamp"] - ORIGIN) // HOUR: r[feature] for r in table.to_pylist()}


SUM = delays(("delay", Aggregation("delay", ("count", "sum"), (2 * HOUR,))))


def test_a_row_counts_from_when_it_was_known_and_leaves_by_when_it_happened():
    assert values([row(1, late=HOUR)], SUM, "delay_count_2h") == {2: 1.0, 3: 0.0}


def test_an_entity_ends_with_one_closing_row_and_nothing_after():
    assert values([row(1)], SUM, "delay_sum_2h") == {1: 10.0, 2: 10.0, 3: None}


def test_the_closing_row_appears_when_the_range_starts_with_it():
    rows = compute(connection([row(1)]), SUM, first=ORIGIN + 3 * HOUR, last=ORIGIN + 6 * HOUR).to_pylist()
    assert [(r["feature_timestamp"], r["delay_count_2h"]) for r in rows] == [(ORIGIN + 3 * HOUR, 0.0)]


def test_a_correction_counts_from_when_it_was_known_and_the_old_value_before():
    assert values([row(1, 10), row(1, 99, late=HOUR)], SUM, "delay_sum_2h") == {1: 10.0, 2: 99.0, 3: None}


def test_a_correction_can_move_a_row_to_another_entity():
    rows = [row(1), row(1, late=HOUR, carrier="UA")]
    table = compute(connection(rows), SUM, first=ORIGIN, last=ORIGIN + 6 * HOUR).to_pylist()
    assert [(r["carrier"], (r["feature_timestamp"] - ORIGIN) // HOUR, r["delay_count_2h"]) for r in table] == [
        ("AA", 1, 1.0), ("AA", 2, 0.0), ("UA", 2, 1.0), ("UA", 3, 0.0),
    ]  # fmt: skip


def test_an_event_between_grid_times_counts_from_the_next_one():
    assert values([row(0.5)], SUM, "delay_count_2h") == {1: 1.0, 2: 1.0, 3: 0.0}


def test_where_filters_what_counts_and_not_who_has_rows():
    view = delays(("late", Aggregation("delay", ("count", "mean"), (2 * HOUR,), where="delay > 15")))
    assert values([row(1, 10), row(2, 20, id=2)], view, "late_count_2h") == {1: 0.0, 2: 1.0, 3: 1.0, 4: 0.0}


def test_infinity_and_nan_count_as_null():
    rows = [row(1, float("inf")), row(1, float("nan"), id=2), row(1, 4.0, id=3)]
    view = delays(("delay", Aggregation("delay", ("count", "sum", "max"), (2 * HOUR,))))
    assert values(rows, view, "delay_count_2h")[1] == 1.0
    assert values(rows, view, "delay_max_2h")[1] == 4.0


def test_sums_are_of_millionths_so_that_no_order_or_start_shows():
    tenths = [row(1, 0.1, id=n) for n in range(10)]
    below_resolution = [row(1, 4e-7, id=n) for n in range(10, 20)]
    assert values([*tenths, *below_resolution], SUM, "delay_sum_2h")[1] == 1.0


def test_minus_zero_is_zero():
    view = delays(("delay", Aggregation("delay", ("min", "max", "sum"), (2 * HOUR,))))
    for feature in view.features():
        assert copysign(1, values([row(1, -0.0)], view, feature)[1]) == 1.0


def test_text_can_be_counted():
    view = delays(("who", Aggregation("carrier", ("count",), (2 * HOUR,))))
    assert values([row(1)], view, "who_count_2h") == {1: 1.0, 2: 1.0, 3: 0.0}


def test_values_of_many_rows_that_enter_and_leave_together_are_told_apart_once():
    view = FeatureView(
        "v",
        ("c",),
        HOUR,
        ("o",),
        event_timestamp="known_at",
        aggregations={"kind": Aggregation("kind", ("distinct",), (timedelta(days=28),))},
    )
    first = ORIGIN + timedelta(days=40)
    with engine.connect() as con:
        con.execute(f"""CREATE TABLE o AS SELECT i % 7 AS c, ['a', 'b', 'd'][1 + i % 3] AS kind,
            TIMESTAMPTZ '{ORIGIN.isoformat()}' + to_hours(CAST(hash(i) % 984 AS INTEGER)) AS known_at
            FROM range(2000) AS t(i) WHERE hash(i + 1) % 5 > i % 3""")
        con.register("rows", compute(con, view, first=first, last=first + timedelta(days=1)))
        found = con.sql("""
            SELECT kind_distinct_28d, (SELECT count(DISTINCT kind) FROM o WHERE o.c = rows.c
                AND known_at <= feature_timestamp AND known_at > feature_timestamp - INTERVAL 28 DAY) FROM rows""")
        pairs = found.fetchall()
    assert len(pairs) == 7 * 24
    assert all(counted == told for counted, told in pairs)


def test_without_keys_every_row_is_its_own():
    view = FeatureView(
        "delays", ("carrier",), HOUR, ("tables/outcomes",), event_timestamp="happened_at",
        aggregations={"delay": Aggregation("delay", ("sum",), (2 * HOUR,))},
    )  # fmt: skip
    assert values([row(1), row(1)], view, "delay_sum_2h") == {1: 20.0, 2: 20.0, 3: None}


def test_no_rows_give_an_empty_table_with_all_columns():
    table = compute(connection([]), VIEW, first=ORIGIN, last=ORIGIN + HOUR)
    assert table.num_rows == 0
    assert table.column_names == ["carrier", "feature_timestamp", "partition_key", *VIEW.features()]


def test_nothing_is_left_behind_in_the_connection():
    con = connection([row(1)])
    before = con.execute("SHOW TABLES").fetchall()
    compute(con, VIEW, first=ORIGIN, last=ORIGIN + HOUR)
    compute(con, events(), first=ORIGIN, last=ORIGIN + HOUR)
    assert con.execute("SHOW TABLES").fetchall() == before


def test_a_sum_too_large_for_exact_arithmetic_is_refused_and_not_rounded():
    view = delays(("delay", Aggregation("delay", ("std",), (2 * HOUR,))))
    with pytest.raises(FeatureError, match="'delays' cannot be computed"):
        compute(connection([row(1, 1e30)]), view, first=ORIGIN, last=ORIGIN + HOUR * 2)


def test_a_range_without_time_zone_is_refused():
    with pytest.raises(FeatureError, match="time zones"):
        compute(connection([]), VIEW, first=ORIGIN.replace(tzinfo=None), last=ORIGIN)


SELECT = 'SELECT carrier, happened_at AS event_timestamp, known_at, delay, id > 1 AS odd FROM "tables/outcomes"'


def events(sql: str = SELECT, **others) -> FeatureView:
    return FeatureView("events", ("carrier",), others.pop("every", HOUR), ("tables/outcomes",), sql=sql, **others)


def test_a_selected_row_holds_from_the_grid_time_after_it_was_known():
    table = compute(connection([row(1.2, late=HOUR)]), events(), first=ORIGIN, last=ORIGIN + 8 * HOUR)
    assert table.to_pylist() == [
        {
            "carrier": "AA",
            "feature_timestamp": ORIGIN + 3 * HOUR,
            "partition_key": "2013-03-01",
            "delay": 10.0,
            "odd": 0.0,
        }
    ]


def test_of_several_rows_at_one_grid_time_the_newest_event_wins_over_the_newest_known():
    rows = [row(1.2, 1.0, late=10 * MINUTE), row(1.1, 2.0, late=40 * MINUTE, id=2)]
    assert values(rows, events(), "delay") == {2: 1.0}


def test_a_stale_event_does_not_replace_a_newer_one_within_the_history():
    rows = [row(2, 1.0), row(1, 2.0, late=3 * HOUR, id=2)]
    assert values(rows, events(), "delay") == {2: 1.0, 4: 2.0}
    assert values(rows, events(history=4 * HOUR), "delay") == {2: 1.0}


@settings(max_examples=25)
@given(outcome_rows(), st.integers(1, 11), st.sampled_from([0, 3, 40]))
def test_events_computed_in_pieces_from_just_the_lookback_give_the_same_rows(rows, cut, history):
    sql = SELECT + " QUALIFY row_number() OVER (PARTITION BY carrier, known_at ORDER BY happened_at, id, delay) = 1"
    view, last = events(sql, history=history * HOUR), ORIGIN + 12 * HOUR
    middle = ORIGIN + cut * HOUR
    needed = [r for r in rows if r["known_at"] >= middle - view.lookback()]
    pieces = [
        compute(connection(rows), view, first=ORIGIN, last=middle),
        compute(connection(needed), view, first=middle, last=last),
    ]
    joined = pa.concat_tables(pieces).sort_by([("carrier", "ascending"), ("feature_timestamp", "ascending")])
    assert joined.combine_chunks().equals(compute(connection(rows), view, first=ORIGIN, last=last).combine_chunks())


def test_infinity_and_nan_are_null_in_selected_rows_as_in_aggregations():
    rows = [row(1, float("inf")), row(2, float("-inf"), id=2), row(3, float("nan"), id=3), row(4, 4.0, id=4)]
    assert values(rows, events(), "delay") == {1: None, 2: None, 3: None, 4: 4.0}


def test_rows_that_differ_and_are_equally_new_are_named():
    with pytest.raises(FeatureError, match=r"carrier=AA at 2013-03-01T01:00:00\+00:00 \(2 rows\)"):
        values([row(1, 1.0), row(1, 2.0, id=2)], events(), "delay")


def test_equal_rows_are_one():
    assert values([row(1), row(1)], events(), "delay") == {1: 10.0}


def test_a_static_view_gives_all_rows_from_when_they_were_known():
    view = events(every=timedelta(0))
    table = compute(connection([row(0.3), row(50.7, id=2, carrier="UA")]), view, first=ORIGIN, last=ORIGIN + HOUR)
    assert table.column("feature_timestamp").to_pylist() == [ORIGIN + 0.3 * HOUR, ORIGIN + 50.7 * HOUR]
    assert "partition_key" not in table.column_names
