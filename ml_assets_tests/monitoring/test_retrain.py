"""The retrain policy: each rule at its boundary, what holds it back, and its words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.errors import DeclarationError
from ml_assets.monitoring.drift import ColumnDrift
from ml_assets.monitoring.performance import Performance
from ml_assets.monitoring.retrain import LastTraining, RetrainPolicy, RetrainState, decide

DAY = timedelta(days=1)
MONDAY = datetime(2013, 4, 1, 4, tzinfo=UTC)
TRAINED = LastTraining("7", MONDAY - 3 * DAY, roc_auc=0.75)
STATE = RetrainState(watermark=MONDAY, labelled_rows=80_000, new_labelled_rows=2_500, last_trained=TRAINED)


def drifted(
    column: str, psi: float, *, enough_rows: bool = True, usual: float | None = None, structural: float = 0.0
) -> ColumnDrift:
    return ColumnDrift(column, psi, 0.01, usual, structural, 900, 0.0, 0.0, 0.0, {}, enough_rows, "PASS", "")


def performed(roc_auc: float, high: float, *, mature: bool = True) -> Performance:
    low = 2 * roc_auc - high
    return Performance("2013-03-18", "2013-03-31", "7", 9100, 9000, 0.99, roc_auc, low, high, 0.4, 0.2, 0.2, mature)


def only(decision):
    (reason,) = decision.reasons
    return reason


@pytest.mark.parametrize(("rows", "retrain"), [(999, False), (1000, True)])
def test_the_first_model_waits_for_enough_mature_rows(rows, retrain):
    decision = decide(RetrainPolicy(), RetrainState(MONDAY, rows))
    assert (decision.retrain, decision.fired) == (retrain, ("first_training",) if retrain else ())
    assert f"{rows:,} rows have mature labels, a first model needs 1,000" in decision.summary


def test_without_any_mature_row_nothing_is_trained():
    assert not decide(RetrainPolicy(schedule="@hourly"), RetrainState(None, 0)).retrain
    assert not decide(RetrainPolicy(schedule="@hourly"), replace(STATE, watermark=None)).retrain


@pytest.mark.parametrize(
    ("trained", "watermark", "fired"),
    [
        (MONDAY - 3 * DAY, MONDAY - timedelta(seconds=1), False),
        (MONDAY - 3 * DAY, MONDAY, True),
        (MONDAY, MONDAY + 6 * DAY, False),
        (MONDAY, MONDAY + 7 * DAY, True),
    ],
)
def test_the_schedule_is_judged_on_the_data(trained, watermark, fired):
    state = replace(STATE, watermark=watermark, last_trained=replace(TRAINED, watermark=trained))
    assert only(decide(RetrainPolicy(schedule="0 4 * * 1"), state)).fired is fired


def test_a_wrong_schedule_is_refused_when_it_is_declared():
    with pytest.raises(DeclarationError, match="wrong hour"):
        RetrainPolicy(schedule="0 44 * * 1")


@pytest.mark.parametrize(("rows", "fired"), [(19_999, False), (20_000, True)])
def test_new_rows_fire_at_their_limit(rows, fired):
    assert only(decide(RetrainPolicy(new_rows=20_000), replace(STATE, new_labelled_rows=rows))).fired is fired


@pytest.mark.parametrize(("psi", "fired"), [(0.199, False), (0.2, True), (0.201, True)])
def test_drift_fires_at_its_limit(psi, fired):
    reason = only(decide(RetrainPolicy(drift_psi=0.2), replace(STATE, drift=[drifted("a", 0.1), drifted("b", psi)])))
    assert reason.fired is fired
    assert f"{psi:.3f}" in reason.sentence


def test_drift_of_an_input_that_the_model_hardly_uses_is_said_but_does_not_fire():
    state = replace(STATE, drift=[drifted("a", 0.9), drifted("b", 0.1)], importance={"a": 0.004, "b": 0.996})
    reason = only(decide(RetrainPolicy(drift_psi=0.2), state))
    assert not reason.fired
    assert "Ignored, since the model hardly uses them: a." in reason.sentence


@pytest.mark.parametrize(("psi", "fired"), [(1.19, False), (1.21, True)])
def test_drift_fires_only_beyond_what_is_usual(psi, fired):
    state = replace(STATE, drift=[drifted("wind", psi, usual=1.2)])
    assert decide(RetrainPolicy(drift_psi=0.2), state).retrain is fired


def test_missing_values_fire_however_much_is_usual():
    state = replace(STATE, drift=[drifted("wind", 1.1, usual=1.2, structural=0.5)])
    assert decide(RetrainPolicy(drift_psi=0.2), state).retrain


def test_drift_of_the_score_counts_although_it_is_no_input():
    state = replace(STATE, drift=[drifted("score", 0.3)], importance={"a": 1.0})
    assert decide(RetrainPolicy(drift_psi=0.2), state).retrain


@pytest.mark.parametrize("drift", [(), (drifted("a", 0.9, enough_rows=False),)])
def test_drift_that_was_not_judged_does_not_fire(drift):
    assert not decide(RetrainPolicy(drift_psi=0.2), replace(STATE, drift=drift)).retrain


@pytest.mark.parametrize(
    ("recent", "fired"),
    [
        (performed(0.74, 0.745), False),
        (performed(0.72, 0.74), True),
        (performed(0.72, 0.76), False),
        (performed(0.70, 0.72, mature=False), False),
        (None, False),
    ],
)
def test_performance_fires_on_a_mature_drop_that_is_not_chance(recent, fired):
    assert only(decide(RetrainPolicy(performance_drop=0.02), replace(STATE, performance=recent))).fired is fired


def test_a_drop_that_may_be_chance_is_said():
    summary = decide(RetrainPolicy(performance_drop=0.02), replace(STATE, performance=performed(0.72, 0.76))).summary
    assert "ROC AUC was 0.750 at release and is 0.720 (95 % up to 0.760) over 9,000 predictions" in summary
    assert "may be chance" in summary


@pytest.mark.parametrize(("age", "fired"), [(35 * DAY - timedelta(seconds=1), False), (35 * DAY, True)])
def test_staleness_fires_at_its_limit(age, fired):
    state = replace(STATE, last_trained=replace(TRAINED, watermark=MONDAY - age))
    assert only(decide(RetrainPolicy(max_staleness=35 * DAY), state)).fired is fired


def test_the_cooldown_keeps_trainings_apart():
    policy = RetrainPolicy(new_rows=1, cooldown=4 * DAY)
    held = decide(policy, STATE)
    assert (held.retrain, held.blocked_by.name) == (False, "cooldown")
    assert "Only 3.0 days of new data since the last training (cooldown 4.0 days)" in held.summary
    assert decide(policy, replace(STATE, watermark=MONDAY + DAY)).retrain


def test_a_training_that_failed_also_cools_down():
    state = replace(STATE, watermark=MONDAY + timedelta(hours=1), last_requested=MONDAY)
    assert decide(RetrainPolicy(new_rows=1), state).blocked_by.name == "cooldown"
    assert decide(RetrainPolicy(new_rows=1), replace(state, watermark=MONDAY + DAY)).retrain


def test_the_same_data_is_asked_for_once():
    first = RetrainState(MONDAY, 5000, last_requested=MONDAY)
    assert decide(RetrainPolicy(), first).blocked_by.name == "asked_already"
    assert decide(RetrainPolicy(), replace(first, watermark=MONDAY + timedelta(hours=1))).retrain


def test_a_backlog_is_computed_first():
    decision = decide(RetrainPolicy(new_rows=1), replace(STATE, backlog=12))
    assert (decision.retrain, decision.fired) == (False, ("new_rows",))
    assert decision.summary.startswith("Waits (backlog): 12 delivered partitions are still to be computed. Reasons")


def test_nothing_is_held_back_that_had_no_reason():
    decision = decide(RetrainPolicy(new_rows=10**6), replace(STATE, backlog=12))
    assert decision.blocked_by is None
    assert decision.summary == "Does not train: 2,500 rows were labelled since version 7 (limit 1,000,000)."


def test_a_policy_without_rules_says_so():
    assert decide(RetrainPolicy(), STATE).summary == "Does not train: no rule is declared that could ask for it."


def test_all_reasons_that_fire_are_named():
    policy = RetrainPolicy("0 4 * * 1", 20_000, 0.2, 0.02, 35 * DAY)
    decision = decide(policy, replace(STATE, drift=[drifted("a", 0.25)], performance=performed(0.72, 0.74)))
    assert decision.fired == ("schedule", "drift", "performance")
    assert decision.summary.startswith("Trains (schedule, drift, performance): The schedule '0 4 * * 1' has passed")


@given(st.integers(0, 60), st.integers(0, 10**5), st.floats(0, 1), st.floats(0.5, 1), st.integers(0, 3))
def test_a_decision_always_follows_from_its_reasons(days, rows, psi, auc, backlog):
    policy = RetrainPolicy("0 4 * * 1", 20_000, 0.2, 0.02, 35 * DAY)
    state = replace(
        STATE,
        watermark=TRAINED.watermark + days * DAY,
        new_labelled_rows=rows,
        drift=[drifted("a", psi)],
        performance=performed(auc, auc + 0.01),
        backlog=backlog,
    )
    decision = decide(policy, state)
    assert decision.retrain == (bool(decision.fired) and decision.blocked_by is None)
    assert len(decision.reasons) == 5
    assert decide(policy, state) == decision
