"""A model of one's own, through MLflow and a real server: over views over views, with a request function in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.defs.flights import features as shipped
from ml_assets.errors import EndpointError
from ml_assets.evaluation.policy import Gates
from ml_assets.features.view import Aggregation, FeatureView
from ml_assets.records import Finding
from ml_assets.steps import catalogue, consistency, evaluation, parity, predictions
from ml_assets.steps.specs import ModelSpec, ViewSpec
from ml_assets_tests.flights import AHEAD, DAYS, NAME, World, copied, ended, finding, quick
from ml_assets_tests.steps.test_parity_skews import View

HOUR, OWN = timedelta(hours=1), "own_delay"


def trend(of: ViewSpec) -> ViewSpec:
    """A view over a view: how much worse the last hours were than the week."""
    view = FeatureView(
        name="carrier_trend",
        entity=("carrier",),
        every=HOUR,
        delay=timedelta(minutes=5),
        max_age=48 * HOUR,
        tables=(of.view.name,),
        sql="SELECT carrier, known_at, event_timestamp, arrival_delay_minutes_mean_6h - arrival_delay_minutes_mean_7d"
        f" AS against_the_week FROM {of.view.name}",
        defaults={"against_the_week": 0.0},
    )
    return ViewSpec(view, (of.rows(),), of.keep)


def peak(of: ViewSpec) -> ViewSpec:
    """A view over a view over a view: the worst of a day."""
    worst = Aggregation("against_the_week", ("max", "mean"), (24 * HOUR,))
    view = FeatureView(
        name="carrier_peak",
        entity=("carrier",),
        every=HOUR,
        max_age=48 * HOUR,
        tables=(of.view.name,),
        keys=("carrier", "feature_timestamp"),
        aggregations={"against_the_week": worst},
    )
    return ViewSpec(view, (of.rows(),), of.keep)


def over(carrier: ViewSpec) -> tuple[ViewSpec, ...]:
    return carrier, trend(carrier), peak(trend(carrier))


def declared() -> ModelSpec:
    gates = Gates(roc_auc_at_least=0.3, beats_baseline=False)
    return replace(
        quick(), name=OWN, views=over(quick().views[0]), request_features="own_request.request_features", gates=gates
    )


@pytest.fixture(scope="module")
def function(tmp_path_factory) -> Iterator[Path]:
    """The file of the request function, as a project has it."""
    folder = tmp_path_factory.mktemp("code")
    place = folder / "own_request.py"
    place.write_text(Path(str(shipped.__file__)).read_text())
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        yield place


@pytest.fixture(scope="module")
def own(grown, function, tmp_path_factory) -> Iterator[World]:
    """Version 1 of the model is trained, registered, released, proven and has the traffic."""
    left = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates", "lake/predictions"]
    home = copied(grown.home, tmp_path_factory.mktemp("own") / "home", leave=left)
    with ended(World(home, declared(), parity_rows=10_000)) as world:
        world.compute(*DAYS)
        world.learn(*DAYS, AHEAD)
        world.serve()
        yield world


@contextmanager
def edited(function: Path) -> Iterator[None]:
    """The file says otherwise what day of the week it is."""
    before = function.read_text()
    assert "+ 3) % 7" in before
    function.write_text(before.replace("+ 3) % 7", "+ 4) % 7"))
    try:
        yield
    finally:
        function.write_text(before)


def proof(world: World) -> Finding:
    """What the check says of a proof that is made now."""
    (world.home / f"lake/objects/memo/certificates/{NAME}/1.json").unlink(missing_ok=True)
    return finding(world.serve(), catalogue.EQUAL_BITS.name)


def test_a_model_over_views_over_views_is_proven_in_10_000_rows_and_takes_the_traffic(own):
    said, found = proof(own), parity.read(own.endpoint, own.step(), "1")
    assert found
    assert (said.passed, found.passed, found.asked.rows, found.differing) == (True, True, 10_000, {})
    assert found.views == {"carrier_delays": 1, "carrier_trend": 1, "carrier_peak": 1}
    trended, peaked = found.asked.views["carrier_trend"], found.asked.views["carrier_peak"]
    assert (trended.row + trended.default, trended.null) == (10_000, 0)
    assert trended.row > 9_000 < peaked.row
    assert trended.default > 10 < peaked.null
    assert (found.learnt.rows > 9_000, found.learnt.encoded, found.learnt.corrected) == (True, 24, 0)
    assert own.server().status().weights == {"1": 1.0}
    registered = own.step().registry.version(OWN, "1")
    assert registered
    assert registered.tags["features.versions"].startswith("carrier_delays@1, carrier_trend@1, carrier_peak@1")
    assert registered.tags[f"parity.{NAME}.digest"] == found.digest


def test_rows_online_that_saw_the_view_below_too_early_are_named(own, tmp_path):
    """The view below can be served a quarter of an hour after its grid, and counted at once for this one."""
    carrier = own.spec.views[0]
    early = over(replace(carrier, view=replace(carrier.view, delay=timedelta(0))))
    elsewhere = World(copied(own.home, tmp_path / "home", leave=["endpoints"]), replace(own.spec, views=early))
    elsewhere.compute(*DAYS, views=early[1:])
    view = View.of(own, "carrier_peak")
    view.put_online(elsewhere.rows(view.spec.name))
    try:
        said = proof(own)
    finally:
        view.put_online(view.rows())
    assert not said.passed
    assert "differ: `carrier_peak__against_the_week_m" in said.sentence
    assert not any(name.startswith(("carrier_delays", "carrier_trend")) for name in said.numbers["different"])


def test_a_request_function_whose_file_was_edited_after_the_training_is_not_loaded_and_is_named(own, function):
    assert proof(own).passed
    own.server().stop()
    with (
        edited(function),
        pytest.raises(EndpointError, match=r"The code of `own_request.request_features` is not that"),
    ):
        own.serve()
    assert own.serve().produced
    assert proof(own).passed


def test_answers_that_a_server_gave_before_the_function_was_edited_are_compared_without_it_and_that_is_said(
    own, function
):
    assert proof(own).passed
    requests = evaluation.fetch(own.spec, own.step(), "1").golden.requests
    days = sorted({str(request["at"])[:10] for request in requests})
    predict(own.server().status().url, requests, request_id="client")
    predictions.materialize(own.endpoint, own.step(*days))
    with edited(function):
        (result,) = consistency.materialize(own.endpoint, own.step(*days)).values()
    said = finding(result, catalogue.CONSISTENT.name)
    assert (said.passed, said.warn) == (False, True)
    assert (
        "Not compared, since the code of the request function is not what version 1 was trained with" in said.sentence
    )
    assert "`weekday`" in said.sentence
    assert said.numbers["mismatch rate"].keys() == {
        f"{v.view.name}__{f}" for v in own.spec.views for f in v.view.features()
    }
    assert set(said.numbers["mismatch rate"].values()) == {0.0}
