"""Lookups against an oracle that asks, at every moment, which row holds."""

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import FeatureError
from ml_assets.features.compute import compute
from ml_assets.features.prove import time_travel
from ml_assets.features.view import FeatureView, Lookup
from ml_assets_tests.features.oracles import HOUR, ORIGIN, UTC_TIME, empty

FLEET = pa.schema(
    [("tail", pa.string()), ("base", pa.string()), ("since", UTC_TIME), ("until", UTC_TIME), ("known_at", UTC_TIME),
     ("seats", pa.int64()), ("maker", pa.string())]
)  # fmt: skip
LAST = ORIGIN + 30 * HOUR


def fleet(*entity: str, valid_until: str | None = "until") -> FeatureView:
    lookup = Lookup({"half": "seats / 2", "maker": "upper(maker)"}, "since", valid_until)
    return FeatureView("fleet", entity or ("tail",), timedelta(0), ("tables/fleet",), lookup=lookup)


def row(seats: int, *, since: float | None = 0, known: float = 0, until: float | None = None, tail="N1", base="JFK"):
    def moment(hours: float | None) -> datetime | None:
        return None if hours is None else ORIGIN + hours * HOUR

    return {"tail": tail, "base": base, "since": moment(since), "until": moment(until), "known_at": moment(known),
            "seats": seats, "maker": f"m{seats}"}  # fmt: skip


def looked_up(view: FeatureView, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    con = empty()
    con.register("tables/fleet", pa.Table.from_pylist(rows, FLEET))
    return compute(con, view, first=ORIGIN, last=LAST).to_pylist()


def holding(view: FeatureView, rows: list[dict[str, Any]], entity: tuple, at: datetime) -> dict[str, Any] | None:
    """The row that holds: of each `valid_from` the newest version that is known, then the newest that is valid."""
    newest: dict[datetime, dict[str, Any]] = {}
    for each in sorted(rows, key=lambda r: r["known_at"]):
        if tuple(each[column] for column in view.entity) == entity and each["known_at"] <= at:
            newest[each["since"] or each["known_at"]] = each
    valid = [
        s for s, r in newest.items() if s <= at and not (view.lookup.valid_until and r["until"] and r["until"] <= at)
    ]
    return newest[max(valid)] if valid else None


def served(view: FeatureView, features: list[dict[str, Any]], entity: tuple, at: datetime) -> tuple:
    own = [f for f in features if tuple(f[c] for c in view.entity) == entity and f["feature_timestamp"] <= at]
    newest = max(own, key=lambda f: f["feature_timestamp"], default={"half": None, "maker": None})
    return newest["half"], newest["maker"]


@st.composite
def fleets(draw) -> list[dict[str, Any]]:
    hours = st.integers(0, 10)
    rows = {}
    for number in range(draw(st.integers(0, 10))):
        since, known = draw(st.none() | hours), draw(hours)
        tail, base = draw(st.sampled_from(["N1", "N2"])), draw(st.sampled_from(["JFK", "LGA"]))
        found = row(number, since=since, known=known, until=draw(st.none() | hours), tail=tail, base=base)
        rows[tail, known if since is None else since, known] = found
    return list(rows.values())


@pytest.mark.parametrize("view", [fleet(), fleet("tail", "base"), fleet(valid_until=None)], ids=["one", "two", "open"])
@settings(max_examples=40)
@given(rows=fleets())
def test_at_every_moment_it_gives_the_row_that_holds(view, rows):
    features = looked_up(view, rows)
    for entity in {tuple(each[column] for column in view.entity) for each in rows}:
        for hour in range(12):
            at = ORIGIN + hour * HOUR
            expected = holding(view, rows, entity, at)
            values = (expected["seats"] / 2, expected["maker"].upper()) if expected else (None, None)
            assert served(view, features, entity, at) == values, (entity, hour)


def moments(rows: list[dict[str, Any]]) -> list[tuple]:
    return [((f["feature_timestamp"] - ORIGIN) / HOUR, f["half"]) for f in looked_up(fleet(), rows)]


def test_a_row_holds_from_when_it_is_both_known_and_valid():
    assert moments([row(10, since=5, known=1)]) == [(5, 5.0)]
    assert moments([row(10, since=1, known=5)]) == [(5, 5.0)]


def test_an_ended_validity_gives_nulls():
    assert moments([row(10, since=1, until=4)]) == [(1, 5.0), (4, None)]


def test_a_correction_counts_from_when_it_was_known_and_the_old_value_before():
    assert moments([row(10), row(20, known=3)]) == [(0, 5.0), (3, 10.0)]


def test_a_correction_can_end_what_held():
    assert moments([row(10), row(10, known=3, until=2)]) == [(0, 5.0), (3, None)]


def test_an_older_validity_that_becomes_known_late_does_not_replace_a_newer_one():
    assert moments([row(10, since=4, known=4), row(20, since=2, known=6)]) == [(4, 5.0)]


def test_after_a_temporary_row_what_held_before_holds_again():
    assert moments([row(10), row(20, since=3, until=5)]) == [(0, 5.0), (3, 10.0), (5, 5.0)]


@pytest.mark.parametrize("end", ["2200-01-01", "9999-12-31", "9999-12-31T23:59:59.999999"])
def test_the_end_of_time_is_no_end(end):
    assert moments([row(10) | {"until": datetime.fromisoformat(f"{end}+00:00")}]) == [(0, 5.0)]


def test_rows_that_differ_and_are_equally_new_are_named():
    with pytest.raises(FeatureError, match=r"tail=N1 valid from 2013-03-01T02:00:00\+00:00, known at .* \(2 rows\)"):
        moments([row(10, since=2), row(20, since=2)])


def test_equal_rows_are_one_and_rows_without_entity_are_left_out():
    assert moments([row(10), row(10), row(30, tail=None)]) == [(0, 5.0)]


def test_a_lookup_is_proved_clean_and_one_that_was_altered_is_not():
    con = empty()
    rows = [row(n, since=n % 5, known=n, until=None if n % 3 else n + 4) for n in range(10)]
    con.register("tables/fleet", pa.Table.from_pylist(rows, FLEET))
    stored = compute(con, fleet(), first=ORIGIN, last=LAST)
    assert time_travel(con, fleet(), stored, ORIGIN, ORIGIN + 9 * HOUR).identical
    early = pa.Table.from_pylist([r | {"half": 99.0} for r in stored.to_pylist()], stored.schema)
    assert not time_travel(con, fleet(), early, ORIGIN, ORIGIN + 9 * HOUR).identical


def test_infinity_and_nan_are_null_and_other_numbers_keep_their_bits():
    lookup = Lookup({"ratio": "seats / 0.0", "log": "ln(seats) * 0 / 0.0", "low": "'-0.0'::DOUBLE"}, "since", "until")
    view = FeatureView("fleet", ("tail",), timedelta(0), ("tables/fleet",), lookup=lookup)
    [found] = looked_up(view, [row(10)])
    assert (found["ratio"], found["log"], str(found["low"])) == (None, None, "-0.0")
