"""What the proofs of a training set keep, and when a difference is no leak."""

import json
from dataclasses import replace

import pytest

from ml_assets.records import Finding
from ml_assets.steps import catalogue, leaks, training_set
from ml_assets.steps.explain import Decision, one
from ml_assets.steps.works import Asset
from ml_assets_tests.flights import DAYS
from ml_assets_tests.leaks.planted import FUTURE, asked, failed, training_rows, with_column


def test_what_was_found_is_kept_by_content_until_rows_or_limits_change(world):
    run = world.step()
    place = run.settings.home / "lake" / "objects" / "leaks" / "arrival_delay.json"
    first = leaks.findings(world.spec, run)
    kept = place.stat().st_mtime_ns
    assert leaks.findings(world.spec, world.step()) == tuple(
        Finding(**f) for f in json.loads(place.read_text())["findings"]
    )
    assert [found.sentence for found in leaks.findings(world.spec, run)] == [found.sentence for found in first]
    assert place.stat().st_mtime_ns == kept
    rows = training_rows(world)
    run.lake.write(world.spec.training_set, with_column(rows, "distance_miles", [1.0] * rows.num_rows))
    assert not all(found.passed for found in leaks.findings(world.spec, run))


@pytest.fixture
def moved(world):
    """An input of a view was corrected after its rows were computed."""
    rows = world.rows("tables/flight_outcomes", ["2013-01-14"])
    late = with_column(rows, "arrival_delay_minutes", [170.0] * rows.num_rows)
    world.step().lake.write("tables/flight_outcomes", late, partitions=["2013-01-14"])
    return world


def test_a_view_that_waits_to_be_computed_again_is_a_warning_and_no_leak(moved):
    found = {each.check: each for each in leaks.prove(moved.spec, moved.step())}[catalogue.REPEATED.name]
    assert not found.passed
    assert found.warn
    assert "carrier_delays" in found.sentence
    assert "Materialize them" in found.sentence


@pytest.fixture
def restated(world):
    """All outcomes were corrected and the features were made again from them; the training set was not."""
    rows = world.rows("tables/flight_outcomes")
    other = asked("SELECT * REPLACE (arrival_delay_minutes + 60 AS arrival_delay_minutes) FROM rows", rows=rows)
    world.step().lake.write("tables/flight_outcomes", other, partitions=sorted(set(rows["partition_key"].to_pylist())))
    world.compute(*DAYS)
    return world


def repeated(world):
    return {each.check: each for each in leaks.prove(world.spec, world.step())}[catalogue.REPEATED.name]


def test_a_training_set_of_before_a_correction_of_its_features_is_a_warning_and_no_leak(restated):
    assert leaks.of_view(restated.spec.views[0], restated.step()).passed
    found = repeated(restated)
    assert (found.passed, found.warn) == (False, True), found.sentence
    assert f"those of {restated.spec.training_set} cannot be judged" in found.sentence
    training_set.materialize(restated.spec, restated.step())
    assert repeated(restated).passed


def test_no_correction_excuses_what_came_into_the_rows_by_another_way(restated):
    honest = training_rows(restated)
    planted = with_column(honest, "carrier_delays__late_rate_6h", honest["label"].to_pylist())
    restated.step().lake.write(restated.spec.training_set, planted)
    found = repeated(restated)
    assert (found.passed, found.warn) == (False, False)
    assert {value["feature"].partition("__")[0] for value in found.numbers["values"]} == {"carrier_delays"}


def test_no_training_set_is_excused_by_a_feature_table_that_holds_the_future_now(restated):
    lake, name = restated.step().lake, "features/carrier_delays"
    filled = asked(FUTURE, rows=restated.rows(name), outcomes=restated.rows("tables/flight_outcomes"))
    lake.write(name, filled, partitions=list(DAYS))
    found = repeated(restated)
    assert (found.passed, found.warn) == (False, False)
    assert {value["feature"].partition("__")[0] for value in found.numbers["values"]} == {"carrier_delays"}


def test_a_corrected_spine_or_an_edited_time_is_a_warning_and_no_leak(world):
    edited = replace(world.spec, at=world.spec.at.replace("2 HOUR", "3 HOUR"))
    assert edited.at != world.spec.at
    days = world.step().lake.partitions("tables/flight_schedules")
    first = leaks.prove(edited, world.step())[0]
    rows = world.rows("tables/flight_schedules")
    other = with_column(rows, "distance_miles", [(miles or 0) + 1 for miles in rows["distance_miles"].to_pylist()])
    world.step().lake.write("tables/flight_schedules", other, partitions=days)
    for found in (first, leaks.prove(world.spec, world.step())[0]):
        assert (found.passed, found.warn) == (False, True)
        assert f"those of {world.spec.training_set} cannot be judged" in found.sentence


@pytest.mark.parametrize(
    "earlier",
    [
        lambda kept: {name: kept[name] for name in ("of", "findings")},
        lambda kept: kept | {"leaks": {name: kept["leaks"][name] for name in ("single", "pair", "allow")}},
        lambda kept: kept | {"release": [1, 1]},
    ],
)
def test_proofs_of_an_earlier_release_are_made_again_and_are_no_edit(world, earlier):
    training_set.materialize(world.spec, world.step())
    place = world.step().settings.home / "lake" / "objects" / "leaks" / "arrival_delay.json"
    place.write_text(json.dumps(earlier(json.loads(place.read_text())) | {"of": "what an earlier release asked"}))
    asset = Asset("training_sets", world.spec)
    said = "Would run, since its rows were proven by another release of ml_assets."
    assert one(asset, world.step(), "").sentence() == said
    again = training_set.materialize(world.spec, world.step())[world.spec.training_set]
    assert again.produced[""].reused
    assert one(asset, world.step(), "").decision is Decision.STANDS


@pytest.fixture
def by_day(world):
    """Every other day was a bad one: so many features, the delays of a day at an airport, tell the days apart."""
    labels, rare = world.rows(world.spec.labels), '(hash(flight_id) % 100 < 10 + 70 * (day("at") % 2))::BIGINT'
    planted = asked(f"SELECT * REPLACE ({rare} AS label) FROM rows", rows=labels)
    days = sorted(set(labels["partition_key"].to_pylist()))
    world.step().lake.write(world.spec.labels, planted.cast(labels.schema), partitions=days)
    return world


def test_an_honest_feature_of_the_day_where_outcomes_go_by_days_is_a_warning_that_stops_nothing(by_day):
    result = training_set.materialize(by_day.spec, by_day.step())[by_day.spec.training_set]
    assert failed(result.findings) == {}
    found = next(each for each in result.findings if each.check == catalogue.NO_ECHO.name)
    assert (found.passed, found.warn) == (False, True)
    assert "origin_delays__departure_delay_minutes_p90_1d tells the label with ROC AUC 0.7" in found.sentence
    assert "among rows of one time: it tells the days apart. With more history it shows." in found.sentence
    assert one(Asset("training_sets", by_day.spec), by_day.step(), "").decision is Decision.STANDS


def test_proofs_of_a_training_set_without_rows_say_that_nothing_was_compared(world):
    rows = training_rows(world)
    world.step().lake.write(world.spec.training_set, rows.slice(0, 0))
    found = leaks.prove(world.spec, world.step())
    assert [each.numbers["compared"] for each in found] == [0, 0, 0]
    assert all("nothing was " in each.sentence for each in found)


def test_proofs_of_a_training_set_say_how_many_rows_they_compared(world):
    repeated, echoed, apart = leaks.prove(world.spec, world.step())
    rows = training_rows(world)
    later = sum(split in ("validation", "test") for split in rows["split"].to_pylist())
    assert 0 < repeated.numbers["compared"] <= 800
    assert f"Judged on {later:,} later rows." in echoed.sentence
    assert f"None of {later:,} validation and test rows stands in the training rows by key" in apart.sentence
