"""An edit of a view while a champion that was trained before it serves: real flights, a real server, a real MLflow."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ml_assets.adapters.deployment import predict
from ml_assets.adapters.registry import CHAMPION, PREVIOUS_CHAMPION
from ml_assets.errors import ArtefactError
from ml_assets.features.view import Aggregation
from ml_assets.steps import catalogue, evaluation, explain, predictions, release, view_versions
from ml_assets.steps.works import Asset
from ml_assets_tests.flights import AHEAD, DAYS, LAST, World, finding, reused

VIEW, TABLE = "carrier_delays", "features/carrier_delays"
OTHER = {"arrival_delay_minutes": Aggregation("arrival_delay_minutes", ("mean", "max"), (timedelta(hours=12),))}


def edited(world: World, **changes) -> World:
    """The world with another definition of the view; its features have other names."""
    changes = changes or {"aggregations": OTHER}
    views = tuple(replace(v, view=replace(v.view, **changes)) if v.view.name == VIEW else v for v in world.spec.views)
    return world.having(views=views)


def view_of(world: World):
    return next(spec for spec in world.spec.views if spec.view.name == VIEW)


def answers(world: World, version: str) -> list[tuple]:
    """The inputs and the score of a version for flights of the last evening, as its real server gives them."""
    schema = evaluation.fetch(world.spec, world.step(), version).schema
    names = [field.name for field in schema.request_fields]
    rows = world.rows(world.spec.spine.table, [LAST]).sort_by("flight_id").select(names).slice(0, 80).to_pylist()
    plain = [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]
    asked = [row | {"at": "2013-01-15T20:30:00+00:00"} for row in plain]
    given = predict(world.server().status().url, asked, version=version, check=True)
    return [(answer["score"], answer["features"]) for answer in given]


def learn(world: World) -> dict:
    return world.learn(*DAYS, AHEAD)


def in_force(world: World) -> dict[str, str]:
    return {alias: found.version for alias, found in world.step().registry.in_force()}


def said(world: World, *days: str):
    """What the materialization of the view says of older versions."""
    return finding(world.compute(*days, views=[view_of(world)])[TABLE], catalogue.RETAINED.name)


@pytest.fixture
def served(world):
    world.serve()
    return world


def test_an_edit_leaves_the_champion_as_it_was_until_another_one_takes_its_place_and_retires_it(served):
    """One long story: each part needs what the one before it left."""
    first, second = served, edited(served)
    rows, before = first.rows(TABLE), answers(first, "1")
    auc = evaluation.read(first.spec, first.step(), "1").evaluation.metrics["roc_auc"]

    results = second.compute(*DAYS)
    assert set(results[TABLE].produced) == set(DAYS)
    assert not any(made.reused for made in results[TABLE].produced.values())
    assert finding(results[TABLE], catalogue.RETAINED.name).sentence == (
        "Version 1 for arrival_delay version 1 (candidate), arrival_delay version 1 (champion),"
        " arrival_delay version 1 (endpoint arrival_delay)."
    )
    assert first.rows(f"{TABLE}@1").sort_by(ORDER).equals(rows.sort_by(ORDER))
    assert {f"{VIEW}@1", f"{VIEW}@2"} <= set(first.step().online_store.views())
    assert answers(first, "1") == before

    results = learn(second)
    judged = evaluation.read(second.spec, second.step(), "2")
    assert judged.champion == "1"
    assert judged.evaluation.champion
    assert judged.evaluation.champion.metrics["roc_auc"] == auc
    assert in_force(second) == {"candidate": "2", CHAMPION: "2", PREVIOUS_CHAMPION: "1"}
    (ref,) = [v for v in evaluation.fetch(second.spec, second.step(), "2").schema.views if v.name == VIEW]
    assert (ref.stored, ref.features) == (f"{VIEW}@2", view_of(second).view.features())

    more = ["2013-01-16", "2013-01-17"]
    second.land(*more)
    second.take_in(*more)
    assert said(second, *more).sentence == (
        "Version 1 for arrival_delay version 1 (previous_champion), arrival_delay version 1 (endpoint arrival_delay)."
    )
    assert set(second.step().lake.partitions(TABLE)) == {*DAYS, *more}
    assert set(second.step().lake.partitions(f"{TABLE}@1")) == {*DAYS, *more}
    store = second.step().online_store
    assert store.newest(f"{VIEW}@1") == store.newest(f"{VIEW}@2")

    third = second.having(budget=replace(second.spec.budget, rounds=11))
    third.compute(*more)
    assert third.learn(*DAYS, *more)
    assert in_force(third) == {"candidate": "3", CHAMPION: "3", PREVIOUS_CHAMPION: "2"}
    assert said(third, *more).sentence == "Version 1 for arrival_delay version 1 (endpoint arrival_delay)."
    assert third.serve().produced
    assert said(third, *more).sentence == "No model needs an older version."
    assert f"{VIEW}@1" not in store.views()
    assert f"{VIEW}@2" in store.views()
    kept = first.rows(f"{TABLE}@1")
    assert kept.num_rows > rows.num_rows

    back = first.compute(*DAYS, *more, views=[view_of(first)])
    assert reused(back)
    assert view_versions.current(view_of(first), first.step().lake) == 1
    assert first.rows(TABLE).select(kept.column_names).sort_by(ORDER).equals(kept.sort_by(ORDER))
    assert f"{VIEW}@1" in store.views()


def test_an_edit_that_is_not_computed_yet_holds_up_training_and_not_what_the_champion_answers(world):
    def due() -> list[str]:
        released = release.latest(world.spec, world.step().lake)
        assert released
        return predictions.due_days(edited(world).endpoint, world.step(), released, DAYS)

    training = Asset("training_sets", edited(world).spec)
    waits = explain.one(training, world.step(), "")
    assert waits.sentence() == (
        "Waits: features/carrier_delays holds version 1 and the declaration is version 2."
        " Materialize features/carrier_delays first."
    )
    assert explain.one(Asset("features", view_of(edited(world))), world.step(), LAST).reasons[0] == (
        "the definition becomes version 2: version 1 is needed by arrival_delay version 1 (candidate),"
        " arrival_delay version 1 (champion), arrival_delay version 1 (endpoint arrival_delay)"
    )
    with pytest.raises(ArtefactError, match=r"than are declared now: .*arrival_delay_minutes_mean_12h"):
        evaluation.materialize(edited(world).having(slices=("carrier",)).spec, world.step())
    before = due()
    assert before
    edited(world).compute(DAYS[0], views=[view_of(edited(world))])
    assert world.step().lake.partitions(TABLE) == [DAYS[0]]
    assert due() == before


def test_a_view_that_is_declared_no_more_is_named_with_its_version_and_what_to_do(world):
    more = ["2013-01-16", "2013-01-17"]
    world.land(*more)
    world.take_in(*more)
    without = world.having(views=tuple(view for view in world.spec.views if view.view.name != VIEW))
    without.compute(*more)
    result = predictions.materialize(without.endpoint, without.step(*more))[without.endpoint.predictions]
    said = finding(result, catalogue.ANSWERED.name)
    assert (said.passed, said.warn) == (False, True)
    assert said.sentence == (
        "Version 1 of 'arrival_delay' reads version 1 of the feature view 'carrier_delays', which the model does not"
        " declare any more and which has no rows of 2013-01-16, 2013-01-17: these days are not answered. Declare"
        " 'carrier_delays' and materialize features/carrier_delays, until a version that does without it is released."
    )
    assert not set(more) & set(world.step().lake.partitions(world.endpoint.predictions))


ORDER = [("carrier", "ascending"), ("feature_timestamp", "ascending")]
