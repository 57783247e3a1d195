"""The airline of the commands, built once; a copy for tests that write."""

import pytest

from ml_assets_tests.cli import airline as airlines


@pytest.fixture(scope="session")
def airline(tmp_path_factory):
    return airlines.build(tmp_path_factory.mktemp("airline"))


@pytest.fixture
def own(airline, tmp_path):
    return airline.copied(tmp_path)
