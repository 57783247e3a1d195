"""An outcome is not known before its event: a rule that every table with such columns has."""

import re
from datetime import timedelta

import pytest

from ml_assets.tables import contract, event
from ml_assets.tables.validate import rules_of, validate
from ml_assets_tests.tables.conftest import NOON, deliver

HOUR = timedelta(hours=1)
OUTCOMES = """
class T(pa.DataFrameModel):
    flight: str
    planned_at: datetime
    landed_at: datetime = pa.Field(nullable=True, metadata={"available": "after_event"})
    rebooked_for: datetime = pa.Field(nullable=True, metadata={"available": "after_event"})
    refunded_on: date = pa.Field(nullable=True, metadata={"available": "after_event"})
    delay: float = pa.Field(nullable=True, metadata={"available": "after_event"})
    known_at: datetime
"""


def loaded(reference, *, event_timestamp="planned_at", known_at=None):
    columns = contract.outline(reference)
    return contract.load(reference, keys=["flight"], passed=event.times(columns, event_timestamp, known_at))


def known(flight, *, delay=None, landed_at=None, rebooked_for=None, refunded_on=None, after=0):
    return {
        "flight": flight, "planned_at": NOON, "landed_at": landed_at, "rebooked_for": rebooked_for,
        "refunded_on": refunded_on, "delay": delay, "known_at": NOON + after * HOUR,
    }  # fmt: skip


BY_PLAN = [
    (known("by schedule", delay=7.0, after=-1), True),
    (known("at once", delay=7.0), False),
    (known("with an outcome that lies ahead", rebooked_for=NOON + 21 * HOUR, after=1), False),
    (known("with a date of the morning further east", refunded_on=(NOON + 24 * HOUR).date(), after=11), False),
    (known("without an outcome", after=-24), False),
]
BY_EVENT = [
    (known("before it landed", landed_at=NOON + 2 * HOUR, after=1), True),
    (known("when it landed", delay=7.0, landed_at=NOON + 2 * HOUR, after=2), False),
    (known("to be cancelled the day before", delay=0.0, after=-24), False),
]


@pytest.mark.parametrize(
    ("event_timestamp", "row", "broken"),
    [*(("planned_at", *each) for each in BY_PLAN), *(("landed_at", *each) for each in BY_EVENT)],
    ids=lambda value: value["flight"] if isinstance(value, dict) else "",
)
def test_an_outcome_that_is_known_before_its_event_is_refused_and_no_honest_row_is(
    declare, con, event_timestamp, row, broken
):
    of = loaded(declare(OUTCOMES, "T"), event_timestamp=event_timestamp)
    found = validate(con, deliver(of, [row]), of)
    assert [c.by_rule for c in found.counts.values()] == [{"known_at is not before the event": 1} if broken else {}]


def test_an_event_timestamp_without_a_time_zone_is_not_compared(declare):
    assert event.times(contract.outline(declare(OUTCOMES, "T")), "refunded_on", None) == ()


@pytest.mark.parametrize("known_at", ['"planned_at"', None], ids=["said", "seen"])
def test_the_time_that_is_known_at_itself_and_an_arrival_that_was_seen_break_no_promise(declare, con, known_at):
    text = OUTCOMES.replace("    known_at: datetime\n", "").replace(OUTCOMES.splitlines()[4], "")
    text = re.sub(r".*(rebooked_for|refunded_on).*\n", "", text)
    of = loaded(declare(text, "T"), known_at=known_at)
    row = {"flight": "ahead", "planned_at": NOON + 300 * HOUR, "delay": 7.0}
    assert validate(con, deliver(of, [row]), of, known_at=known_at).quarantine.num_rows == 0
    assert "planned_at" not in event.times(of.columns, "planned_at", known_at)


def test_a_table_without_outcomes_promises_nothing_of_them(declare):
    text = OUTCOMES.replace(', metadata={"available": "after_event"}', "")
    assert event.times(contract.outline(declare(text, "T")), "planned_at", None) == ()


def test_the_promise_has_the_name_of_its_rule_and_names_the_times(declare):
    of = loaded(declare(OUTCOMES, "T"))
    passed = event.times(of.columns, "planned_at", None)
    promised = contract.promises(of.reference, keys=["flight"], partition_column=None, has_known_at=True, passed=passed)
    rules = rules_of(of, known_at=None, partition_column=None)
    assert {rule.check for rule in rules} == {promise.check for promise in promised} - {"keys_are_unique"}
    said = "No row with an outcome is known before its planned_at."
    assert said in [promise.sentence for promise in promised]
