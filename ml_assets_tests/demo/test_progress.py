from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from ml_assets.demo.graph import AssetState, CheckState, RunState, Snapshot, Tick
from ml_assets.demo.progress import failed_ticks, missing, restless, rows
from ml_assets.records import LAYERS

DAY = date(2013, 4, 30)
TABLE = AssetState("tables/flights", True, 100.0, 120, "2013-04-30", (CheckState("keys_are_unique", True),))
LABELS = AssetState("labels/delay", True, 110.0, 118, "2013-04-28")
MODEL = AssetState(
    "models/delay", False, 120.0, checks=(CheckState("is_good", False, True), CheckState("is_fast", False))
)
DONE = Snapshot(
    {state.key: state for state in (TABLE, LABELS, MODEL)},
    [RunState("r", "SUCCESS", ("models/delay",), 90.0, 120.0)],
    ticks=[Tick("arrivals", 121.0, "SKIPPED", "Nothing new")],
)


def with_asset(snapshot, state):
    return replace(snapshot, assets={**snapshot.assets, state.key: state})


def test_a_complete_graph_at_rest_misses_nothing_and_is_not_restless():
    assert missing(DONE, DAY) == []
    assert restless(DONE, since=80.0) == []


def test_an_asset_without_a_materialization_is_missing():
    assert missing(with_asset(DONE, replace(MODEL, materialized_at=None)), DAY) == ["models/delay"]


def test_the_newest_delivered_day_must_be_in_but_labels_may_come_later():
    behind = with_asset(with_asset(DONE, replace(TABLE, newest="2013-04-29")), replace(LABELS, newest="2013-04-01"))
    assert missing(behind, DAY) == ["tables/flights of 2013-04-30"]


def test_later_days_than_the_delivered_one_count_as_current():
    assert missing(with_asset(DONE, replace(TABLE, newest="2013-05-01")), DAY) == []


def test_a_run_under_way_keeps_the_graph_restless():
    for status in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"):
        going = replace(DONE, runs=[*DONE.runs, RunState("q", status, ("tables/flights",))])
        assert restless(going, since=80.0) == [f"tables/flights ({status.lower()})"]


def test_a_backfill_under_way_keeps_the_graph_restless():
    assert restless(replace(DONE, n_backfills=2), since=80.0) == ["2 backfills"]


def test_a_sensor_must_have_looked_in_vain_after_the_last_run_ended():
    for at, status in ((120.0, "SKIPPED"), (None, ""), (121.0, "SUCCESS"), (121.0, "FAILURE"), (121.0, "STARTED")):
        looking = replace(DONE, ticks=[Tick("arrivals", at, status)])
        assert restless(looking, since=80.0) == ["the look of arrivals"]


def test_in_a_session_without_runs_every_sensor_must_have_looked_since_it_began():
    quiet = replace(DONE, runs=[])
    assert restless(quiet, since=121.5) == ["the look of arrivals"]
    assert restless(quiet, since=120.5) == []


def test_a_sensor_that_fails_is_reported_with_its_words():
    failing = replace(DONE, ticks=[Tick("arrivals", 130.0, "FAILURE", "no such folder")])
    assert failed_ticks(failing) == ["arrivals: no such folder"]


def test_layers_come_in_the_order_of_the_life_of_a_model_and_unknown_ones_last():
    extra = AssetState("archive/old", False)
    assert [row.layer for row in rows(with_asset(DONE, extra))] == ["tables", "labels", "models", "archive"]


def test_a_layer_counts_its_checks_by_outcome():
    row = rows(DONE)[2]
    assert (row.n_passed, row.n_warned, row.n_failed) == (0, 1, 1)


def test_only_the_assets_of_started_runs_are_shown_as_running():
    started = RunState("s", "STARTED", ("tables/flights",))
    queued = RunState("q", "QUEUED", ("models/delay",))
    table, _, model = rows(replace(DONE, runs=[started, queued]))
    assert (table.running, model.running) == (("flights",), ())


states = st.builds(
    AssetState,
    key=st.builds("{}/{}".format, st.sampled_from(LAYERS), st.sampled_from("abc")),
    partitioned=st.booleans(),
    materialized_at=st.none() | st.floats(0, 1e9),
    n_partitions=st.integers(0, 400),
    newest=st.sampled_from(["", "2013-04-29", "2013-04-30", "2013-05-01"]),
)


@given(st.lists(states))
def test_every_asset_is_counted_once_and_each_is_missing_at_most_once(found):
    snapshot = Snapshot({state.key: state for state in found})
    assert sum(row.n_assets for row in rows(snapshot)) == len(snapshot.assets)
    lacking = [text.partition(" of ")[0] for text in missing(snapshot, DAY)]
    assert len(lacking) == len(set(lacking))
    unmade = {key for key, state in snapshot.assets.items() if state.materialized_at is None}
    assert unmade <= set(lacking) <= set(snapshot.assets)
