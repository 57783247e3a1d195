"""One graph for the tests of a module."""

import pytest


@pytest.fixture(scope="module")
def new_project(tmp_path_factory):
    """A function that makes a project of this module, in a folder of its own."""
    from ml_assets_tests.project import Project

    with pytest.MonkeyPatch.context() as patch:

        def make() -> Project:
            folder = tmp_path_factory.mktemp("mutants")
            patch.setenv("ML_ASSETS_HOME", str(folder / "var"))
            patch.syspath_prepend(folder / "code")
            return Project(folder / "code")

        yield make
