"""What stands, what is due, and why: in words."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.steps.memo import Memo, Work, by_day, flat

OLD, NEW = "rows1-duckdb2.0:3f2a" + "0" * 28, "rows1-duckdb2.0:91bc" + "0" * 28
NAME = "tables/flights"


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


def memo(lake, *, version=1, **config):
    return Memo(lake, NAME, version=version, config=config)


def written(memo, *, day="2013-01-05", **inputs):
    return memo.write(day, inputs or {"raw/flights": OLD}, "content", {"n_rows": 3, "lake version": 7})


def test_the_first_entry_says_so(lake):
    assert written(memo(lake)).reason == "first time"


def test_what_differs_from_the_entry_before_is_named(lake):
    written(memo(lake, fail_above=0.02, keys=["id"]))
    changed = memo(lake, version=2, fail_above=0.05, keys=["id"])
    entry = changed.write("2013-01-05", {"raw/flights": NEW}, "content", {})
    assert entry.reason == (
        "raw/flights changed: 3f2a0000… → 91bc0000…, code version 1 → 2, configuration changed: fail_above 0.02 → 0.05"
    )


def test_an_input_that_came_or_went_is_named(lake):
    written(memo(lake), a="1", b="2")
    assert memo(lake).changes(memo(lake).read("2013-01-05"), {"a": "1", "c": "3"}) == ["b is gone (2)", "c is new (3)"]


def test_a_reason_stays_short(lake):
    written(memo(lake), **{f"input{n}": OLD for n in range(20)})
    entry = written(memo(lake), **{f"input{n}": NEW for n in range(20)})
    assert entry.reason.endswith("and 17 more")


def test_the_same_inputs_are_known_and_others_are_due(lake):
    written(memo(lake, limit=1))
    inputs = {"2013-01-05": {"raw/flights": OLD}, "2013-01-06": {"raw/flights": OLD}}
    produced, due = memo(lake, limit=1).survey(inputs)
    assert (set(produced), due) == ({"2013-01-05"}, ["2013-01-06"])
    for other in (memo(lake, limit=2), memo(lake, version=2, limit=1), memo(lake)):
        assert set(Work(other, inputs).unknown()) == set(inputs)


def test_a_materialization_tells_why_and_what_it_was_made_from(lake):
    with clock.frozen(datetime(2013, 1, 6, tzinfo=UTC)):
        first = written(memo(lake)).produced({"picture": "x"})
    assert first.metadata["why"] == "first time"
    made_from = first.metadata["made from"]
    assert made_from["inputs"] == {"raw/flights": OLD}
    assert (made_from["code version"], made_from["row hash"], made_from["lake version"]) == ("1", "content", 7)
    again = memo(lake).survey({"2013-01-05": {"raw/flights": OLD}})[0]["2013-01-05"]
    assert again.reused
    assert again.metadata["why"] == (
        "nothing: same inputs as at 2013-01-06T00:00:00 UTC, when it was computed: first time"
    )
    assert again.metadata["made from"] == made_from


def test_an_entry_of_an_earlier_release_is_due_and_says_so(lake):
    old = {"fingerprint": "x", "inputs": {"code": "1", "config": "y", "raw/flights": OLD}, "data_version": "content"}
    lake.replace_object(f"memo/{NAME}/2013-01-05.json", json.dumps({**old, "metadata": {}}).encode())
    assert memo(lake).known("2013-01-05", {"raw/flights": OLD}) is None
    assert written(memo(lake)).reason == "it was made by an earlier release of ml_assets"


@dataclass(frozen=True)
class Part:
    name: str
    below: object = None


def test_a_configuration_is_flat_and_short_and_no_part_of_it_is_lost():
    config = {"every": timedelta(hours=1), "none": None, "parts": [Part("a"), Part("b", Part("c"))], "sql": "x" * 99}
    found = flat(config)
    assert found["every"] == "1:00:00"
    assert {name for name in found if name.startswith("parts")} == {
        "parts.0.name", "parts.0.below", "parts.1.name", "parts.1.below.name", "parts.1.below.below",
    }  # fmt: skip
    assert len(found["sql"]) == 16
    assert flat({"sql": "x" * 98})["sql"] != found["sql"]
    assert flat({**config, "parts": [Part("a"), Part("b", Part("d"))]}) != found


def test_days_are_inputs_by_their_own_names():
    assert by_day("tables/x", {"2013-01-01": "a", "2013-01-03": "c"}, ["2013-01-01", "2013-01-02"]) == {
        "tables/x 2013-01-01": "a"
    }
