"""Edits of a view on a real lake: replaced in place until a model claims it, kept and found again after that."""

import pytest

from ml_assets.steps import view_moves, view_versions
from ml_assets_tests.steps.edits import Small

VIEW = "last_flight"


@pytest.fixture
def small(project):
    return Small(project)


def test_without_a_model_an_edit_replaces_and_with_one_it_makes_a_version_that_an_edit_back_finds(small):
    lake, first = small.project.lake, small.views[VIEW]
    small.comment_in_sql()
    assert small.run() == {}
    view_versions.claim(view_versions.pinned([first], lake), lake)
    rows = small.project.rows(f"features/{VIEW}")
    small.change_sql()
    assert view_versions.current(small.views[VIEW], lake) == 2
    view_moves.make_room(small.views[VIEW], lake)  # killed here, before a row of version 2 is computed
    assert small.project.rows(f"features/{VIEW}@1") == rows
    assert view_versions.table_of(VIEW, 1, lake) == f"features/{VIEW}@1"
    small.run()
    assert small.project.rows(f"features/{VIEW}") != rows
    view_moves.make_room(first, lake)
    assert view_versions.current(first, lake) == 1
    assert small.project.rows(f"features/{VIEW}") == rows
