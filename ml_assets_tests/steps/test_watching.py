"""What was asked, what became of it, and what is measured from both, on a real server."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.adapters.prediction_log import read
from ml_assets.engine import connect
from ml_assets.feeds.flights import land
from ml_assets.monitoring.drift import Thresholds, drift
from ml_assets.monitoring.performance import Maturity
from ml_assets.monitoring.profile import Profile
from ml_assets.steps import catalogue, endpoint, evaluation, model, pending, predictions, training_set, watching
from ml_assets.steps.frames import as_requests, spine_with_features
from ml_assets_tests.flights import AHEAD, DAYS, World, ended, finding

ASKED = ("2013-01-12", "2013-01-13", "2013-01-14", "2013-01-15")  # from the first day of the test rows
PREDICTIONS, OUTCOMES, DRIFT, PERFORMANCE = (
    f"{layer}/arrival_delay" for layer in ("predictions", "outcomes", "drift", "performance")
)


def answers(world: World) -> list[dict]:
    logged = read(world.server().folder / "predictions").to_pylist()
    return [row for row in logged if row["purpose"] == "serve"]


def due(world: World, *days: str) -> list[str]:
    rows = world.rows(world.spec.spine.table).to_pylist()
    return sorted(r["flight_id"] for r in rows if asked_at(r).date().isoformat() in days)


def asked_at(row: dict) -> datetime:
    return datetime.fromtimestamp(row["scheduled_departure_at"].timestamp() - 7200, UTC)


def test_every_row_that_is_due_is_answered_exactly_once(grown):
    asked = Counter(row["flight_id"] for row in grown.rows(PREDICTIONS).to_pylist())
    assert set(asked.values()) == {1}
    assert sorted(asked) == due(grown, *ASKED)
    assert len(answers(grown)) == len(asked)


def test_rows_that_the_champion_learnt_from_are_not_asked_about(grown):
    assert grown.step().lake.partitions(PREDICTIONS) == list(ASKED)


def test_answers_lie_in_the_day_of_their_prediction_time(grown):
    rows = grown.rows(PREDICTIONS)
    assert {r["at"].date().isoformat() == r["partition_key"] for r in rows.to_pylist()} == {True}


def test_the_logged_inputs_are_those_of_the_offline_join(grown):
    """Training and serving see the same: the online store's values against the lake's, row for row."""
    offline = spine_with_features(grown.spec, grown.step().lake, None).to_pylist()
    joined = {row["flight_id"]: row for row in offline}
    names = [name for view in grown.spec.views for name in view.view.qualified_features()]
    rows = grown.rows(PREDICTIONS).to_pylist()
    differing = Counter(n for row in rows for n in names if row[n] != joined[row["flight_id"]][n])
    assert differing == {}


def test_another_version_does_not_ask_again(world):
    world.serve()
    before = len(answers(world))
    other = world.having(budget=replace(world.spec.budget, seed=8))
    other.learn()
    assert finding(other.serve(), catalogue.SERVES.name).passed
    assert other.server().status().weights == {"2": 1.0}
    other.watch()
    assert len(answers(world)) == before
    assert set(world.rows(PREDICTIONS)["version"].to_pylist()) == {"1"}


def test_a_day_is_asked_about_once_its_features_are_computed(world):
    world.serve()
    before = world.rows(PREDICTIONS).num_rows
    predictions.materialize(world.endpoint, world.step(AHEAD))
    assert world.rows(PREDICTIONS).num_rows == before
    world.land(AHEAD, AHEAD)
    world.take_in(AHEAD, "2013-01-17")
    world.compute(AHEAD)
    result = predictions.materialize(world.endpoint, world.step(*DAYS, AHEAD))[PREDICTIONS]
    assert finding(result, catalogue.ANSWERED.name).passed
    assert sorted(world.rows(PREDICTIONS, [AHEAD])["flight_id"].to_pylist()) == due(world, AHEAD)
    assert [day for day, made in result.produced.items() if not made.reused] == [AHEAD]


def test_a_day_that_is_delivered_hour_by_hour_is_asked_about_as_far_as_it_is_known(world):
    def arrive(last_hour: str) -> None:
        land(world.settings.landing_uri, since=date.fromisoformat(AHEAD), until=date.fromisoformat(AHEAD), grain="hour")
        for path in world.home.glob(f"landing/*/{AHEAD}T*"):
            if path.stem > f"{AHEAD}T{last_hour}":
                path.unlink()
        world.take_in(AHEAD, "2013-01-17")
        world.compute(AHEAD)
        assert list(pending.of_predictions(world.endpoint, world.step())) == [AHEAD]
        predictions.materialize(world.endpoint, world.step(AHEAD))

    world.serve()
    assert pending.of_predictions(world.endpoint, world.step()) == {}
    arrive("12")
    assert training_set.watermark(world.spec, world.step().lake).isoformat() == "2013-01-15T13:00:00+00:00"
    asked = world.rows(PREDICTIONS, [AHEAD])
    assert 0 < asked.num_rows < len(due(world, AHEAD))
    assert pending.of_predictions(world.endpoint, world.step()) == {}
    assert max(at.isoformat() for at in asked["at"].to_pylist()) < f"{AHEAD}T13:00"
    arrive("23")
    assert sorted(world.rows(PREDICTIONS, [AHEAD])["flight_id"].to_pylist()) == due(world, AHEAD)


def test_what_a_client_asked_is_kept_and_not_asked_again(world):
    world.serve()
    world.land(AHEAD, AHEAD)
    world.take_in(AHEAD, "2013-01-17")
    first = due(world, AHEAD)[0]
    (row,) = [r for r in world.rows(world.spec.spine.table).to_pylist() if r["flight_id"] == first]
    fields = {k: v for k, v in row.items() if k not in ("known_at", "partition_key", "carrier_name", "flight_number")}
    (request,) = as_requests(table([fields | {"at": asked_at(row)}]))
    (mine,) = predict(world.server().status().url, [request])
    world.compute(AHEAD)
    predictions.materialize(world.endpoint, world.step(AHEAD))
    kept = [r for r in world.rows(PREDICTIONS).to_pylist() if r["flight_id"] == row["flight_id"]]
    assert [r["prediction_id"] for r in kept] == [mine["prediction_id"]]


def test_answers_keep_the_inputs_of_their_version_when_one_with_fewer_is_released(world):
    """Nulls in place of them would be drift that nobody has."""
    world.serve()
    fewer = world.having(
        views=tuple(v for v in world.spec.views if v.view.name != "aircraft_attributes"),
        budget=replace(world.spec.budget, trials=1, rounds=5),
    )
    training_set.materialize(fewer.spec, fewer.step())
    model.train(fewer.spec, fewer.step())
    place = world.home / "lake" / "objects" / "releases" / "arrival_delay.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"version": "2", "previous": "1"}))
    before = world.rows(PREDICTIONS, [ASKED[1]])
    request = evaluation.fetch(world.spec, world.step(), "1").golden.requests[0]
    predict(world.server().status().url, [request | {"at": f"{ASKED[1]}T12:00:00Z"}])
    predictions.materialize(fewer.endpoint, fewer.step(*ASKED))
    after = world.rows(PREDICTIONS, [ASKED[1]])
    assert after.num_rows == before.num_rows + 1
    seats = "aircraft_attributes__seats"
    assert after[seats].null_count <= before[seats].null_count + 1 < before.num_rows


def table(rows: list[dict]):
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


def test_outcomes_keep_predictions_without_a_label(grown):
    labels = {row["flight_id"]: row["label"] for row in grown.rows(grown.spec.labels).to_pylist()}
    outcomes = grown.rows(OUTCOMES).to_pylist()
    asked = sorted((r["flight_id"], r["score"]) for r in grown.rows(PREDICTIONS).to_pylist())
    assert sorted((r["flight_id"], r["score"]) for r in outcomes) == asked
    assert {r["flight_id"]: r["label"] for r in outcomes} == {f: labels.get(f) for f, _ in asked}
    assert sum(r["label"] is None for r in outcomes) > 10


@pytest.fixture(scope="module")
def reference(grown):
    return Profile.from_json(grown.step().lake.get_object("references/arrival_delay/1.json").decode())


def test_drift_is_what_monitoring_says_of_the_same_rows(grown, reference):
    with connect() as con:
        con.register("rows", grown.rows(PREDICTIONS, [ASKED[1]]))
        expected = {c.column: c for c in drift(con, "rows", reference, Thresholds(warn=0.15, fail=0.2))}
    stored = {row["column"]: row for row in grown.rows(DRIFT, [ASKED[1]]).to_pylist()}
    assert {n: (r["psi"], r["null_rate"], r["verdict"]) for n, r in stored.items()} == {
        n: (c.psi, c.null_rate, c.verdict) for n, c in expected.items()
    }
    assert "score" in stored
    assert len(stored) == len(reference.columns)


@pytest.mark.parametrize("name", ["distance_miles", "carrier_delays__late_rate_1d", "score"])
def test_psi_is_the_textbook_value_over_the_deciles_of_training(grown, reference, name):
    (before,) = [column for column in reference.columns if column.name == name]
    values = np.array(grown.rows(PREDICTIONS, [ASKED[1]])[name].to_pylist(), dtype=float)
    nulls = np.isnan(values)
    # a bin holds the values up to its edge
    found = np.bincount(np.searchsorted(before.edges, values[~nulls], side="left"), minlength=len(before.edges) + 1)
    p, q = np.append(found, nulls.sum()) / len(values), np.append(before.counts, before.nulls) / before.n
    p, q = p[(p > 0) | (q > 0)], q[(p > 0) | (q > 0)]
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    (stored,) = [row for row in grown.rows(DRIFT, [ASKED[1]]).to_pylist() if row["column"] == name]
    assert stored["psi"] == pytest.approx(float(((p - q) * np.log(p / q)).sum()), rel=1e-9)


def test_days_that_are_judged_already_are_said_to_be_what_they_were_found_to_be(world):
    run, watches = world.step(*DAYS), (watching.watch_drift, watching.watch_performance)
    runs = [{k: v for watch in watches for k, v in watch(world.endpoint, run).items()} for _ in range(2)]
    first, again = ({name: result.findings for name, result in run.items()} for run in runs)
    assert again == first
    assert not any("nchanged" in found.sentence for found in (*again[DRIFT], *again[PERFORMANCE]))


def test_performance_of_a_day_is_that_of_its_labelled_rows(grown):
    from sklearn.metrics import log_loss, roc_auc_score

    for judged in grown.rows(PERFORMANCE).to_pylist():
        rows = [r for r in grown.rows(OUTCOMES, [judged["partition_key"]]).to_pylist() if r["label"] is not None]
        y, score = [r["label"] for r in rows], [r["score"] for r in rows]
        assert judged["n_labelled"] == len(rows)
        assert judged["roc_auc"] == pytest.approx(roc_auc_score(y, score))
        assert judged["log_loss"] == pytest.approx(log_loss(y, score))


def test_a_day_is_mature_once_the_labels_horizon_has_passed_and_nearly_all_labels_are_there(grown):
    judged = {row["partition_key"]: row for row in grown.rows(PERFORMANCE).to_pylist()}
    as_of = datetime(2013, 1, 16, tzinfo=UTC)  # the end of the last day of outcomes
    assert watching.maturity(grown.endpoint, grown.step()) == Maturity(as_of=as_of, wait=grown.spec.horizon)
    assert {day: row["mature"] for day, row in judged.items()} == dict(
        zip(ASKED, [True, True, True, False], strict=True)
    )


def test_the_newest_days_that_are_mature_are_judged_together(grown):
    found = watching.recent_performance(grown.endpoint, grown.step(), "1")
    mature = [r for r in grown.rows(PERFORMANCE).to_pylist() if r["mature"]]
    assert (found.first_day, found.last_day) == (ASKED[0], ASKED[2])
    assert found.n_labelled == sum(r["n_labelled"] for r in mature)
    assert watching.recent_performance(grown.endpoint, grown.step(), "7") is None


def test_the_server_gives_the_bits_of_the_offline_prediction_on_real_rows(world):
    said = finding(world.serve(), catalogue.EQUAL_BITS.name)
    assert said.passed
    assert said.numbers["rows"] == 200
    assert said.sentence.startswith("200 rows as of 194 times from 2013-01-01 00:00 to 2013-01-16 00:00: all 61 inputs")


def test_an_endpoint_that_is_gone_is_named_by_its_last_server(world):
    assert endpoint.gone(world.endpoint, world.step()) is None
    with ended(world):
        world.serve()
        assert endpoint.gone(world.endpoint, world.step()) is None
    assert endpoint.gone(world.endpoint, world.step())
