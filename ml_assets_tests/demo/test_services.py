import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from ml_assets.adapters.settings import Settings
from ml_assets.demo.endpoints import deployed
from ml_assets.demo.processes import Tree
from ml_assets.demo.services import HOST, Services, free_port
from ml_assets.errors import MlAssetsError
from ml_assets.orchestration.loading import Location

HOLDER = """
import time
from ml_assets.adapters.settings import Settings
from ml_assets.demo.services import session
from ml_assets.orchestration.loading import Location
with session(Settings.from_environment(), Location()):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    # No `Tree()`: the process of the tests must not adopt what the tests of others leave.
    tree = object.__new__(Tree)
    tree.logs, tree._started = tmp_path / "logs", {}
    return Services(Settings.from_environment(), Location(), tree)


def test_a_port_that_is_taken_gives_way_to_a_free_one():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in {port, 0}


def test_the_wanted_port_is_taken_when_it_is_free():
    with socket.socket() as once:
        once.bind((HOST, 0))
        port = once.getsockname()[1]
    assert free_port(port) == port


def test_a_second_session_on_the_same_installation_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "var"))
    first = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "mine\n"
        second = subprocess.run([sys.executable, "-c", HOLDER], capture_output=True, text=True, timeout=30)
        assert second.returncode != 0
        assert "Another `ml-assets dev`, `demo` or `materialize` runs on" in second.stderr
    finally:
        first.kill()
        first.wait()
    third = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert third.stdout.readline() == "mine\n", "the lock of a killed session is free again"
    third.kill()
    third.wait()


def test_the_socket_is_the_same_each_time_short_and_another_for_another_home(services, tmp_path):
    path = services._socket
    assert path == services._socket
    assert len(str(path)) < 100
    services.settings = replace(services.settings, home=tmp_path / ("long" * 50))
    assert path != services._socket
    assert len(str(services._socket)) < 100


def test_a_registry_that_is_a_server_is_named_and_none_is_started(services):
    services.settings = replace(services.settings, mlflow_uri="https://mlflow.example.com")
    assert services.start_mlflow() == "https://mlflow.example.com"
    assert services.tree._started == {}


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(services, tmp_path):
    services.tree.logs.mkdir()
    services._start("code", ["ml_assets.no_such_module"])
    with pytest.raises(MlAssetsError, match=r"(?s)code does not start.*code\.log.*no_such_module"):
        services._await("code", lambda: False)


def test_nothing_is_deployed_in_a_folder_that_does_not_exist(tmp_path):
    assert deployed(tmp_path / "endpoints") == {}


def test_the_databases_stand_before_the_first_processes_could_create_them_at_the_same_time(services):
    services.dagster_home.mkdir(parents=True)
    services.tree.logs.mkdir()
    services.start_code()
    try:
        for name in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
            with sqlite3.connect(services.dagster_home / name) as database:
                assert database.execute("SELECT version_num FROM alembic_version").fetchone()
    finally:
        for process in services.tree._started.values():
            process.kill()
            process.wait()
