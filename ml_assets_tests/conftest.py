"""Fixtures that several folders share."""

import pytest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of a user, with nothing landed yet."""
    from ml_assets_tests.project import Project  # Dagster takes a second, which most tests need not pay

    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    return Project(tmp_path / "code")
