"""Fixtures that several folders share."""

import os

import pytest
from hypothesis import settings

# A loaded machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of a user, with nothing landed yet."""
    from ml_assets_tests.project import Project  # Dagster takes a second, which most tests need not pay

    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    return Project(tmp_path / "code")


@pytest.fixture(autouse=True)
def clock_runs():
    """No test leaves the clock standing for the next one."""
    yield
    assert "ML_ASSETS_NOW" not in os.environ


@pytest.fixture(scope="session")
def grown(tmp_path_factory, worker_home):
    """Real flights through the whole chain, built once for all workers; to be left as it is."""
    import fcntl

    from ml_assets_tests import flights

    home = worker_home / "grown"
    with (worker_home / "grown.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (worker_home / "grown.done").exists():
            flights.build(home)
            (worker_home / "grown.done").touch()
    return flights.World(home, flights.quick())


@pytest.fixture(scope="session")
def worker_home(tmp_path_factory):
    """A folder that the workers of one session of pytest share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture
def world(grown, tmp_path):
    """A copy of the grown world for one test, without a server; one that the test starts is ended."""
    from ml_assets_tests import flights

    home = flights.copied(grown.home, tmp_path / "home")
    with flights.ended(flights.World(home, grown.spec)) as own:
        yield own
