"""The proof before traffic: what a certificate names, where it is kept, and when it is made anew."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.adapters.prediction_log import read as read_log
from ml_assets.errors import EndpointError
from ml_assets.records import StepResult
from ml_assets.steps import catalogue, endpoint, evaluation, explain, parity, predictions
from ml_assets.steps.certificate import Certificate
from ml_assets.steps.history import history
from ml_assets.steps.works import Asset
from ml_assets_tests.flights import DAYS, NAME, World, copied, ended, finding
from ml_assets_tests.steps.test_parity_skews import View

AHEAD_OF = timedelta(hours=2)  # a flight is asked about two hours before its departure
PROOFS = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]


@pytest.fixture
def unserved(grown, tmp_path):
    """Version 1 is released, and no server ever ran."""
    world = World(copied(grown.home, tmp_path / "home", leave=PROOFS), grown.spec)
    with ended(world):
        yield world


def proof(result: StepResult):
    return finding(result, catalogue.EQUAL_BITS.name)


def certificate(world: World, version: str = "1") -> Certificate:
    found = parity.read(world.endpoint, world.step(), version)
    assert found
    return found


def checks(world: World) -> int:
    """How many questions of ours the server was asked."""
    return read_log(world.server().folder / "predictions")["purpose"].to_pylist().count("check")


def test_the_certificate_names_what_was_proven_about_which_version(grown):
    found, packed = certificate(grown), evaluation.fetch(grown.spec, grown.step(), "1")
    assert (found.endpoint, found.model, found.version) == (NAME, NAME, "1")
    assert (found.bundle, found.model_hash) == (packed.digest, packed.schema.model_hash)
    assert found.views == {view.view.name: 1 for view in grown.spec.views}
    asked, learnt = found.asked, found.learnt
    assert (asked.rows, asked.wanted, found.inputs, found.passed) == (200, 200, 60, True)
    assert [span.rows for span in asked.spans] == [40] * 5
    assert (asked.spans[0].since[:10], asked.spans[-1].until[:10]) == (DAYS[0], "2013-01-16")
    assert (found.differing, learnt.settings, learnt.joined, learnt.encoding) == ({}, {}, {}, {})


def test_the_certificate_holds_how_much_was_compared_and_what_the_rows_found_of_each_view(grown):
    found = certificate(grown)
    asked, learnt = found.asked, found.learnt
    departures = grown.rows(grown.spec.spine.table)["scheduled_departure_at"].to_pylist()
    assert asked.history == sum((moment - AHEAD_OF).date().isoformat() in DAYS for moment in departures)
    assert (asked.times, asked.left_out) == (len(set(asked_at(grown))), {})
    assert {name: each.row + each.default + each.null for name, each in asked.views.items()} == dict.fromkeys(
        found.views, 200
    )
    assert asked.views["weather_at_origin"].row > 190
    assert asked.views["aircraft_attributes"].null > 10
    assert asked.views["aircraft_attributes"].default == 0
    assert learnt.encoded == 24
    assert 150 < learnt.rows <= 200 + 24
    assert (
        f"; {learnt.rows} training rows are joined as they were then, 24 of them encoded as they were."
        in found.sentence
    )


def asked_at(world: World) -> list[datetime]:
    schema = evaluation.fetch(world.spec, world.step(), "1").schema
    return history(world.spec, world.step(), schema, rows=200, moments=5).rows["at"].to_pylist()


def test_the_digest_covers_all_of_the_certificate(grown):
    found = certificate(grown)
    content = msgspec.json.encode(msgspec.structs.replace(found, digest=""))
    assert found.digest == hashlib.sha256(content).hexdigest()
    assert msgspec.structs.replace(found, inputs=61).sealed().digest != found.digest


def test_the_registered_version_carries_the_evidence(grown):
    version = grown.step().registry.version(NAME, "1")
    found = certificate(grown)
    assert version.tags[f"parity.{NAME}.digest"] == found.digest
    assert version.tags[f"parity.{NAME}"].startswith("passed: 200 rows")
    own = f"{version.run_id}/artifacts/parity/{NAME}.json"  # copies of this world have runs of their own in there
    (place,) = (grown.home / "mlflow").rglob(own)
    kept = msgspec.json.decode(place.read_bytes(), type=Certificate)
    assert (kept.version, kept.model_hash, kept.sealed()) == ("1", found.model_hash, kept)


def test_a_first_version_takes_traffic_only_once_it_is_proven(unserved):
    result = unserved.serve()
    assert proof(result).passed
    assert result.produced[""].metadata["parity"].endswith("why: first time.")
    assert unserved.server().status().weights == {"1": 1.0}
    assert unserved.server().status().generation == 2  # loaded without traffic, then switched


def test_a_first_version_that_fails_leaves_the_endpoint_up_without_traffic_and_says_so(unserved):
    store = unserved.step().online_store
    for name in store.views():
        store.drop(name)
    result, status = unserved.serve(), unserved.server().status()
    assert (result.produced, proof(result).passed, status.alive, status.weights) == ({}, False, True, {"1": 0.0})
    assert proof(result).sentence.startswith("200 of 200 rows")
    assert "no online row was found" in proof(result).sentence
    assert "no online row was found" in proof(result).numbers["inputs that differ"].text
    request = evaluation.fetch(unserved.spec, unserved.step(), "1").golden.requests[0]
    with pytest.raises(EndpointError, match=r"503: .*version 1 is loaded and takes no traffic until its parity"):
        predict(status.url, [request])
    assert not certificate(unserved).passed
    assert unserved.step().registry.version(NAME, "1").tags[f"parity.{NAME}"].startswith("failed: 200 rows")
    said = explain.one(Asset("endpoints", unserved.endpoint), unserved.step(), "").sentence()
    assert said == "Would run, since version 1 is released and nothing is served."
    with pytest.raises(EndpointError, match="takes no traffic"):
        predictions.materialize(unserved.endpoint, unserved.step(DAYS[-1]))


def test_a_version_that_has_the_traffic_keeps_it_when_a_later_proof_fails(world):
    assert proof(world.serve()).passed
    store, view = world.step().online_store, world.spec.views[0].view
    store.drop(max(name for name in store.views() if name.partition("@")[0] == view.name))
    result = world.serve()
    assert not proof(result).passed
    assert set(result.produced) == {""}
    assert world.server().status().weights == {"1": 1.0}


def test_a_proof_that_failed_does_not_stand_once_all_is_again_as_when_an_earlier_one_passed(world):
    assert proof(world.serve()).passed
    view = View.of(world, "carrier_delays")
    rows = view.rows()
    view.put_online(rows.sort_by("feature_timestamp").slice(0, rows.num_rows // 2))
    assert not proof(world.serve()).passed
    view.put_online(rows)
    again = world.serve()
    assert (proof(again).passed, certificate(world).passed, set(again.produced)) == (True, True, {""})
    assert "not proven again" not in again.produced[""].metadata["parity"]
    assert "not proven again" in world.serve().produced[""].metadata["parity"]


def test_what_is_proven_is_not_proven_again_until_what_it_rests_on_changes(world):
    world.serve()
    asked = checks(world)
    again = world.serve().produced[""]
    assert (again.reused, checks(world)) == (True, asked)
    assert "not proven again: nothing that it rests on has changed since" in again.metadata["parity"]
    more = replace(world.endpoint, parity_rows=210)
    changed = endpoint.materialize(more, world.step())[more.endpoint].produced[""]
    assert changed.metadata["parity"].endswith("why: configuration changed: parity.rows 200 → 210.")
    assert (changed.reused, checks(world)) == (True, asked + 210)


def test_other_feature_rows_are_a_reason_to_prove_again(world):
    world.serve()
    asked = checks(world)
    rows = world.rows("features/carrier_delays", [DAYS[0]])
    world.step().lake.write("features/carrier_delays", rows.slice(1), partitions=[DAYS[0]])
    said = world.serve().produced[""].metadata["parity"]
    assert "why: features/carrier_delays changed: version" in said
    assert checks(world) == asked + 200


def test_all_of_history_is_asked_where_it_has_fewer_rows_than_wanted_and_that_is_said(unserved):
    short = unserved.having(views=tuple(replace(view, keep=timedelta(days=4)) for view in unserved.spec.views))
    wanted = replace(short.endpoint, parity_rows=5_000, parity_moments=3)
    said = finding(endpoint.materialize(wanted, unserved.step())[wanted.endpoint], catalogue.EQUAL_BITS.name)
    found = certificate(unserved)
    assert 1_500 < found.asked.rows < 2_500
    assert sum(span.rows for span in found.asked.spans) == found.asked.rows == found.asked.history
    assert said.sentence.startswith(f"all {found.asked.rows:,} rows of history: fewer than 5,000; as of ")
    assert said.passed


def test_nothing_is_proven_by_no_rows(unserved):
    lake, spine = unserved.step().lake, unserved.spec.spine.table
    lake.write(spine, unserved.rows(spine).slice(0, 0), partitions=lake.partitions(spine))
    result = unserved.serve()
    assert (proof(result).passed, result.produced) == (False, {})
    assert proof(result).sentence.startswith("tables/flight_schedules has no rows from 2013-01-01 00:00 to 2013-01-16")


def test_without_mlflow_a_version_is_proven_and_the_evidence_follows_later(unserved, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    evaluation.bundle_folder(unserved.spec, unserved.step(), "1")
    away = replace(unserved, mlflow_uri="http://127.0.0.1:9")
    first = away.serve()
    assert (proof(first).passed, proof(first).warn, certificate(away).passed) == (False, True, True)
    assert "; not compared: the rows that the model was trained with." in proof(first).sentence
    assert (
        first.produced[""].metadata["parity"].endswith("the registry could not keep it: proven again at the next run.")
    )
    assert certificate(away).learnt.rows == 0
    second = unserved.serve()
    assert proof(second).passed
    assert certificate(unserved).learnt.encoded == 24
    tags = unserved.step().registry.version(NAME, "1").tags
    assert tags[f"parity.{NAME}.digest"] == certificate(unserved).digest


def test_what_served_before_and_cannot_be_loaded_any_more_does_not_keep_a_new_version_out(unserved):
    unserved.server().apply({"old": 1.0}, {"old": unserved.home / "bundles" / NAME / "1"})
    unserved.server().stop()
    (unserved.server().folder / "versions" / "old" / "model.txt").write_text("no model")
    assert proof(unserved.serve()).passed
    assert unserved.server().status().weights == {"1": 1.0}


def test_the_rows_of_a_proof_are_the_same_each_time_and_older_than_what_the_store_forgot(grown):
    schema = evaluation.fetch(grown.spec, grown.step(), "1").schema
    asked = [history(grown.spec, grown.step(), schema, rows=100, moments=5) for _ in range(2)]
    assert asked[0].rows.equals(asked[1].rows)
    assert asked[0].counts() == [20] * 5
    short = replace(grown.spec, views=tuple(replace(v, keep=timedelta(days=5)) for v in grown.spec.views))
    since = history(short, grown.step(), schema, rows=100, moments=5).moments[0]
    newest = datetime.fromisoformat(f"{DAYS[-1]}T00:00:00+00:00")
    assert newest - timedelta(days=3) < since <= newest  # five days are kept, and rows count for two
