"""Dagster on this machine: one code server that the UI and the daemon share, and MLflow's UI.

`dagster dev` starts three more processes for the same; each holds 60 to 200 MB and takes seconds of CPU to start.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ml_assets.adapters.settings import Settings
from ml_assets.demo.processes import Tree
from ml_assets.errors import MlAssetsError
from ml_assets.orchestration.loading import Location

HOST = "127.0.0.1"
_START_SECONDS = 120.0
# MLflow's job runner would be eight more processes; nothing here gives it jobs.
_MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass
class Services:
    """The processes of one session on one installation; `session()` makes it and ends them."""

    settings: Settings
    location: Location
    tree: Tree
    reloads: bool = False
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps runs, events and logs."""
        return self.settings.home / "dagster"

    def start_code(self) -> None:
        """Start the code server; a failure is told with the end of its log."""
        prepare(self.dagster_home)
        if self._socket.exists():
            self._socket.unlink()
        verb = ["code-server", "start"] if self.reloads else ["api", "grpc"]
        module = ["-m", self.location.module, "--location-name", self.location.name]
        self._start("code", ["dagster", *verb, "--socket", str(self._socket), *module, "--log-level", "warning"])

    def start_dagster(self, *, port: int | None = None) -> str:
        """Start UI and daemon beside the code server; give the address of the UI as soon as it answers."""
        self._await("code", lambda: _accepts_unix(self._socket))
        workspace = self._workspace()
        port = port or free_port(3000)
        self._start("daemon", ["dagster._daemon", "run", "-w", str(workspace), "--log-format", "json"])
        web = ["dagster_webserver", "-w", str(workspace), "-h", HOST, "-p", str(port), "--dagster-log-level", "warning"]
        self._start("webserver", web)
        self._await("webserver", lambda: _accepts(port))
        self.addresses["Dagster"] = f"http://{HOST}:{port}"
        return self.addresses["Dagster"]

    def start_mlflow(self) -> str:
        """Start MLflow's UI over the registry; its address, which is the registry's own when that is a server."""
        uri = self.settings.mlflow_uri
        if not uri.startswith("sqlite:"):
            self.addresses["MLflow"] = uri
            return uri
        port = free_port(5000)
        stores = ["--backend-store-uri", uri, "--no-serve-artifacts"]
        stores += ["--default-artifact-root", (self.settings.home / "mlflow" / "artifacts").as_uri()]
        self._start("mlflow", ["mlflow", "server", *stores, "-h", HOST, "-p", str(port), "--workers", "1"])
        self._await("mlflow", lambda: _accepts(port))
        self.addresses["MLflow"] = f"http://{HOST}:{port}"
        return self.addresses["MLflow"]

    def require_alive(self) -> None:
        """Raise when a process of the session has died, with the end of its log."""
        for name in self.tree.dead():
            raise MlAssetsError(f"{name} has died. {self._tail(name)}")

    @property
    def _socket(self) -> Path:
        # Paths of sockets are limited to 108 bytes: never below a folder that a user chose. The same one each time,
        # since Dagster files the ticks of a sensor under it.
        name = hashlib.sha256(str(self.settings.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ml_assets-{os.getuid()}-{name}.sock"

    def _workspace(self) -> Path:
        path = self.dagster_home / "workspace.yaml"
        path.write_text(
            f"load_from:\n  - grpc_server:\n      socket: {self._socket}\n      location_name: {self.location.name}\n"
        )
        return path

    def _start(self, name: str, command: list[str]) -> None:
        environment = {
            "DAGSTER_HOME": str(self.dagster_home),
            "ML_ASSETS_HOME": str(self.settings.home),
            "MALLOC_ARENA_MAX": "2",  # glibc keeps an arena per thread otherwise: a third more memory
            **_MLFLOW,
        }
        self.tree.start(name, [sys.executable, "-m", *command], environment)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + _START_SECONDS
        while not ready():
            if name in self.tree.dead() or time.monotonic() > until:
                raise MlAssetsError(f"{name} does not start. {self._tail(name)}")
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        log = self.tree.log(name)
        lines = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        return "\n".join([f"The end of {log}:", *lines])


@contextlib.contextmanager
def session(settings: Settings, location: Location, *, reloads: bool = False) -> Iterator[Services]:
    """Prepare the folders, and end everything that was started when the block is left, however it is left.

    One session at a time on one installation: two daemons would do everything twice.
    """
    with alone(settings):
        services = Services(settings, location, Tree(settings.home / "logs"), reloads)
        try:
            yield services
        finally:
            services.tree.end()


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the installation; MlAssetsError when a session or `ml-assets materialize` has it."""
    lock = settings.home / "dagster" / "session.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MlAssetsError(
                f"Another `ml-assets dev`, `demo` or `materialize` runs on {settings.home}, and does the work."
                " End it, or set ML_ASSETS_HOME elsewhere."
            ) from error
        yield


def prepare(dagster_home: Path) -> None:
    """Make a folder the home of a Dagster instance: with the project's `dagster.yaml`, and its databases."""
    _link_configuration(dagster_home)
    _create_storage(dagster_home)


def free_port(wanted: int) -> int:
    """The wanted port when nobody has it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
            return tried.getsockname()[1]
    raise MlAssetsError("There is no free port on this machine.")


def _link_configuration(dagster_home: Path) -> None:
    """Dagster reads `dagster.yaml` in its home only: the project's file is linked there."""
    link, project = dagster_home / "dagster.yaml", Path("dagster.yaml").absolute()
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        if project.is_file():
            link.symlink_to(project)


def _create_storage(dagster_home: Path) -> None:
    """Create Dagster's databases before the first processes do: they take no lock, and the loser's code never loads.

    Seen with dagster 1.13 on a new home: `table alembic_version already exists`.
    """
    if not (dagster_home / "schedules" / "schedules.db").exists():
        import dagster as dg

        with dg.DagsterInstance.from_config(str(dagster_home)):
            pass


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def _accepts_unix(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return path.exists() and client.connect_ex(str(path)) == 0
