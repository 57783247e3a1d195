"""Edits of a view on a real lake: replaced in place until a model claims it, kept and found again after that."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL

import pytest

from ml_assets.adapters.lake import Lake
from ml_assets.errors import FeatureError, TrainingError
from ml_assets.features.view import FeatureView
from ml_assets.steps import catalogue, explain, features, ingest, view_moves, view_needs, view_versions
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.works import Asset
from ml_assets_tests.adapters.processes import wait_until
from ml_assets_tests.steps import moving
from ml_assets_tests.steps.edits import DAYS, Small

VIEW, READ = "last_flight", "carrier_delays"


@pytest.fixture
def small(project):
    return Small(project)


def claimed(small: Small, *views: ViewSpec) -> dict[str, int]:
    """Keep the versions as the registration of a model does."""
    lake = small.project.lake
    return view_versions.claim(view_versions.pinned(views, lake), lake)


def test_without_a_model_an_edit_replaces_and_with_one_it_makes_a_version_that_an_edit_back_finds(small):
    lake, first = small.project.lake, small.views[VIEW]
    small.comment_in_sql()
    assert small.run() == {}
    claimed(small, first)
    rows = small.project.rows(f"features/{VIEW}")
    small.change_sql()
    assert view_versions.current(small.views[VIEW], lake) == 2
    small.run()
    assert small.project.rows(f"features/{VIEW}@1") == rows
    assert view_versions.table_of(VIEW, 1, lake) == f"features/{VIEW}@1"
    assert small.project.rows(f"features/{VIEW}") != rows
    view_moves.make_room(first, lake)
    assert view_versions.current(first, lake) == 1
    assert small.project.rows(f"features/{VIEW}") == rows


def test_an_unused_version_is_replaced_in_place_and_training_waits_until_it_is_computed(small):
    lake = small.project.lake
    before = small.project.rows(f"features/{VIEW}")
    small.change_sql()
    spec = small.views[VIEW]
    with pytest.raises(TrainingError, match=r"features/last_flight holds version 1 and the declaration is another\."):
        view_versions.pinned([spec], lake)
    small.run()
    assert view_versions.pinned([spec], lake)[VIEW]["number"] == 1
    assert not lake.exists(f"features/{VIEW}@1")
    assert small.project.rows(f"features/{VIEW}") != before


def test_explain_says_what_becomes_of_the_version_that_stands(small):
    run, first = small.project.step(), small.views[VIEW]

    def said() -> str:
        return explain.one(Asset("features", small.views[VIEW]), run, DAYS[0]).sentence()

    small.change_sql()
    assert said().startswith(
        "Would run, since the definition replaces version 1 in place: no registered model was trained with that"
    )
    assert "configuration changed: sql" in said()
    claimed(small, first)
    assert "the definition becomes version 2: version 1 is kept, since a model that was trained with it was" in said()
    small.run()
    assert said() == "Stands: a run would compute nothing."
    small.views[VIEW] = first
    assert "the definition is that of version 1 again, and features/last_flight holds 2" in said()


def killed(spec: ViewSpec, lake: Lake, stage: tuple[str, int], reached: Path) -> None:
    process = moving.start(stage, spec, lake, reached)
    wait_until(reached.exists)
    process.kill()
    process.join()
    assert process.exitcode == -SIGKILL


def test_moves_that_are_killed_at_any_point_lose_no_row_and_the_next_run_completes_them(small, tmp_path):
    lake, first = small.project.lake, small.views[VIEW]
    claimed(small, first)
    rows = small.project.rows(f"features/{VIEW}")
    small.change_sql()
    second, backward = small.views[VIEW], iter(moving.BACK.items())
    for number, stage in enumerate(moving.AWAY.values()):
        killed(second, lake, stage, tmp_path / f"away {number}")
        assert small.project.rows(view_versions.table_of(VIEW, 1, lake)) == rows
        small.views[VIEW] = second
        assert small.run()[f"features/{VIEW}"] == set(DAYS)
        assert small.project.rows(f"features/{VIEW}@1") == rows
        assert len(small.project.rows(f"features/{VIEW}")) == len(rows)
        if back := next(backward, None):
            killed(first, lake, back[1], tmp_path / f"back {number}")
            with pytest.raises(FeatureError, match="Materialize features/last_flight"):
                view_versions.table_of(VIEW, 2, lake)
        small.views[VIEW] = first
        assert small.run() == {}
        assert small.project.rows(f"features/{VIEW}") == rows


def trend(small: Small) -> ViewSpec:
    """A view over a view, as its component resolves it."""
    sql = "SELECT carrier, known_at, event_timestamp, delay_mean_6h - delay_mean_1d AS trend FROM carrier_delays"
    view = FeatureView("trend", ("carrier",), timedelta(hours=1), (READ,), sql=sql, max_age=timedelta(days=2))
    return ViewSpec(view, (small.views[READ].rows(),), timedelta(days=35))


def test_a_view_over_a_view_is_another_version_when_that_is_and_the_old_one_reads_the_old_one(small, monkeypatch):
    lake, run = small.project.lake, small.step(daily=True)
    first, before = trend(small), small.views[READ]
    features.materialize(first, run)
    rows = small.project.rows("features/trend")
    assert claimed(small, first) == {READ: 1, "trend": 1}
    small.view(READ, aggregations=doubled(small))
    second = trend(small)
    assert view_versions.current(second, lake) == 2
    with pytest.raises(FeatureError, match="features/trend reads features/carrier_delays, which holds the rows of an"):
        features.materialize(second, run)
    monkeypatch.setattr(view_needs, "of_view", lambda view, older, run: {each.number: ("m",) for each in older})
    small.run()
    features.materialize(second, run)
    assert view_versions.reads("trend", 1, lake) == {READ: 1}
    assert small.project.rows("features/trend@1") == rows
    assert [row["trend"] for row in small.project.rows("features/trend")] != [row["trend"] for row in rows]
    day = small.project.rows("features/trend@1")[0]["partition_key"]
    small.restate(day)
    small.run()
    features.materialize(second, run)
    again = small.project.rows("features/trend@1")
    assert again != rows
    small.views[READ] = before
    small.run()
    features.materialize(first, run)
    assert small.project.rows("features/trend") == again


def doubled(small: Small):
    parts = small.views[READ].view.aggregations or {}
    return {name: replace(part, expression=f"2 * ({part.expression})") for name, part in parts.items()}


def test_a_later_delay_of_a_view_that_is_read_makes_another_version(small):
    first, before = trend(small), small.views[READ]
    small.view(READ, delay=timedelta(hours=1))
    assert view_versions.meaning_of(small.views[READ]) == view_versions.meaning_of(before)
    assert view_versions.meaning_of(trend(small)) != view_versions.meaning_of(first)


def test_an_older_version_whose_contract_is_gone_is_told_and_the_declared_one_is_computed(small, monkeypatch):
    first = small.views[VIEW]
    claimed(small, first)
    small.change_sql()
    small.project.land_days("2013-01-05")
    ingest.ingest(small.tables["flights"], small.project.step("2013-01-05"))
    small.contract("class Flights(", "class Arrivals(")
    monkeypatch.setattr(view_needs, "of_view", lambda view, older, run: {each.number: ("a model",) for each in older})
    of_contract = view_versions.ViewVersion.spec
    monkeypatch.setattr(view_versions.ViewVersion, "spec", lambda version, tables=(): of_contract(version))
    table = small.tables["flights"]
    declared = replace(
        small.views[VIEW], tables=(replace(table, contract=table.contract.replace("Flights", "Arrivals")),)
    )
    [result] = features.materialize(declared, small.project.step("2013-01-05")).values()
    [told] = [each for each in result.findings if each.check == catalogue.RETAINED.name]
    assert not told.passed
    assert "Not computed: features/last_flight@1: " in told.sentence
    assert "there is no class Flights" in told.sentence
    assert "2013-01-05" in small.project.lake.partitions(f"features/{VIEW}")
