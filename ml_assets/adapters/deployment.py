"""Endpoints on this machine: a folder that says what shall serve, and a detached server process that follows it.

`apply` reconciles: it installs versions, starts the server when none lives, publishes a routing table and returns when
the server reports it. Whatever fails on the way, what served before serves on.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from ml_assets.adapters.online.opening import is_remote
from ml_assets.errors import EndpointError
from ml_assets.serving import bundle
from ml_assets.serving.routing import Routing

if TYPE_CHECKING:
    import httpx

_TICK = 0.02
_SPARE_VERSIONS = 5  # stay installed after they left the table, for a quick way back
_ASK_SECONDS = 2.0


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `endpoint.json` tells the server; paths as the server shall open them."""

    name: str
    online_store: str
    log: str
    host: str = "127.0.0.1"

    def digest(self) -> str:
        """Tell whether a running server was started with the same."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class ServerRecord(msgspec.Struct, frozen=True):
    """The server that holds `server.lock`, or the last one that did."""

    pid: int
    port: int
    instance: str
    config: str
    started_at: datetime

    @classmethod
    def read(cls, folder: Path) -> "ServerRecord | None":
        """Read `server.json`; None when no server ever ran here."""
        try:
            return msgspec.json.decode((folder / "server.json").read_bytes(), type=cls)
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class EndpointStatus:
    """What serves now. `weights` are shares of the traffic; `refused` says why a later table was not taken."""

    name: str
    alive: bool
    url: str | None
    pid: int | None
    generation: int | None
    weights: Mapping[str, float]
    digests: Mapping[str, str]
    refused: str | None


class LocalEndpoint:
    """One endpoint in a folder. Cheap to construct; several processes may hold it, `apply` takes turns."""

    def __init__(
        self,
        folder: Path | str,
        *,
        name: str,
        online_store: Path | str,
        log: Path | str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = Path(folder).absolute()
        log = Path(log).absolute() if log else self.folder / "predictions"
        self.config = EndpointConfig(name, _place(str(online_store)), str(log), host)

    def apply(
        self, desired: Mapping[str, float], bundles: Mapping[str, Path] | None = None, *, timeout: float = 60.0
    ) -> EndpointStatus:
        """Make the server answer with these versions and weights; returns when it does, at once when it did already.

        `bundles` gives the folders of versions that may be new here. Raises EndpointError with the server's reason
        (then the former table serves on), ArtefactError for a bundle that is not intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with held_lock(self.folder / "apply.lock", wait=timeout):
            for version in desired:
                self._install(version, (bundles or {}).get(version))
            routing = self._publish(desired)
            self._ensure_server(timeout)
            status = self._await(routing, timeout)
            self._prune(desired)
            return status

    def status(self) -> EndpointStatus:
        """Ask the server; `alive` is whether its process lives, the rest is empty when it does not answer."""
        record, alive = ServerRecord.read(self.folder), is_held(self.folder / "server.lock")
        routing = self._ask(record) if record and alive else None
        refused = (routing or {}).get("refused") or {}
        shown: dict[str, Any] = routing or {"generation": None, "weights": {}, "digests": {}}
        return EndpointStatus(
            name=self.config.name,
            alive=alive,
            url=self._url(record) if record else None,
            pid=record.pid if record and alive else None,
            generation=shown["generation"],
            weights=shown["weights"],
            digests=shown["digests"],
            refused=refused.get("reason"),
        )

    def served(self) -> dict[str, float]:
        """The shares above 0 of the table that the server took last, also when it does not run or answer now."""
        taken = self._table("accepted.json")
        return {version: share for version, share in taken.shares().items() if share > 0} if taken else {}

    def stop(self, *, timeout: float = 10.0) -> bool:
        """End the server, gently first; False when none ran. The folder stays and `apply` starts it again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with held_lock(self.folder / "apply.lock", wait=timeout):
            return self._stop(timeout)

    def _stop(self, timeout: float) -> bool:
        record = ServerRecord.read(self.folder)
        if record is None or not is_held(self.folder / "server.lock"):
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(
                    record.pid, number
                )  # the pid is right: the holder of the lock wrote it, and none starts meanwhile
            if _eventually(lambda: not is_held(self.folder / "server.lock"), timeout):
                return True
        raise EndpointError(f"The server of '{self.config.name}' (pid {record.pid}) does not end.")

    def _install(self, version: str, source: Path | None) -> None:
        if not version or "/" in version or version.startswith("."):
            raise EndpointError(f"'{version}' cannot be the name of a version.")
        target = self.folder / "versions" / version
        if source is None:
            if not target.is_dir():
                raise EndpointError(f"Version {version} is not installed in {self.folder}: give its bundle.")
            return
        digest = bundle.verify(Path(source))
        if target.is_dir() and bundle.verify(target) != digest:
            raise EndpointError(
                f"Version {version} is installed in {self.folder} with other content: versions never change."
            )
        if not target.is_dir():
            _copy_whole(Path(source), target)

    def _prune(self, desired: Mapping[str, float]) -> None:
        spare = [path for path in (self.folder / "versions").iterdir() if path.name not in desired]
        for path in sorted(spare, key=lambda path: path.stat().st_mtime, reverse=True)[_SPARE_VERSIONS:]:
            shutil.rmtree(path)

    def _publish(self, desired: Mapping[str, float]) -> Routing:
        present = self._table("routing.json")
        if present and present.weights == dict(desired) and self.status().refused is None:
            return present
        routing = Routing((present.generation if present else 0) + 1, dict(desired))
        routing.shares()
        replace_file(self.folder / "routing.json", msgspec.json.encode(routing))
        return routing

    def _table(self, name: str) -> Routing | None:
        try:
            return msgspec.json.decode((self.folder / name).read_bytes(), type=Routing)
        except FileNotFoundError:
            return None

    def _ensure_server(self, timeout: float) -> None:
        if is_held(self.folder / "server.lock"):
            record = ServerRecord.read(self.folder)
            if record and record.config == self.config.digest() and _eventually(lambda: self._ask(record), timeout / 6):
                return
            self._stop(timeout / 6)
        replace_file(self.folder / "endpoint.json", msgspec.json.encode(self.config))
        self._start(timeout)

    def _start(self, timeout: float) -> None:
        log_path, before = self.folder / "server.log", ServerRecord.read(self.folder)
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ml_assets.app", "--folder", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # what is importable here is there
            )

        def up() -> bool:
            record = ServerRecord.read(self.folder)
            return bool(record and record != before and self._ask(record)) or process.poll() is not None

        if not _eventually(up, timeout) or process.poll() is not None:
            raise EndpointError(f"The server of '{self.config.name}' does not start.\n{self._log_tail()}")

    def _await(self, routing: Routing, timeout: float) -> EndpointStatus:
        def settled() -> bool:
            shown = self._ask(ServerRecord.read(self.folder)) or {}
            refused, kept = shown.get("refused") or {}, self._table("accepted.json")
            taken = shown.get("generation") == routing.generation == (kept and kept.generation)
            return taken or refused.get("generation") == routing.generation

        _eventually(settled, timeout)
        status = self.status()
        if status.generation != routing.generation or status.refused:
            reason = status.refused or f"no answer within {timeout:.0f} s\n{self._log_tail()}"
            serving = f"versions {', '.join(status.weights)} serve on" if status.weights else "nothing serves"
            raise EndpointError(
                f"'{self.config.name}' does not take generation {routing.generation} ({serving}): {reason}"
            )
        return status

    def _ask(self, record: ServerRecord | None) -> dict | None:
        if record is None:
            return None
        # Not httpx: preparing its TLS and proxies costs more than this whole question, which goes nowhere else.
        connection = HTTPConnection(self.config.host, record.port, timeout=_ASK_SECONDS)
        try:
            connection.request("GET", "/routing")
            response = connection.getresponse()
            return msgspec.json.decode(response.read(), type=dict) if response.status == 200 else None
        except (OSError, HTTPException, msgspec.DecodeError):
            return None
        finally:
            connection.close()

    def _url(self, record: ServerRecord) -> str:
        return f"http://{self.config.host}:{record.port}"

    def _log_tail(self) -> str:
        lines = (
            (self.folder / "server.log").read_text(errors="replace").splitlines()
            if (self.folder / "server.log").exists()
            else []
        )
        return "\n".join(lines[-15:])


def predict(
    url: str,
    instances: Sequence[Mapping],
    *,
    version: str | None = None,
    check: bool = False,
    request_id: str | None = None,
    rows_per_call: int = 500,
) -> list[dict]:
    """Score instances at an endpoint, in order: `prediction_id`, `score`, `feature_ages`, `version`, `generation`.

    `version` pins one; `check` marks the requests as our own tests in the prediction log and asks for the `features`
    that were scored, `request_id` names the requests there. Raises EndpointError.
    """
    import httpx

    path = f"/versions/{version}/predict" if version else "/predict"
    headers = {"x-request-purpose": "check"} if check else {}
    headers |= {"x-request-id": request_id} if request_id else {}
    answers, secure = [], url.startswith("https")  # to load certificates takes longer than a plain call
    with httpx.Client(base_url=url, timeout=30.0, headers=headers, trust_env=False, verify=secure) as client:
        for first in range(0, len(instances), rows_per_call):
            answers += _predict(client, path, instances[first : first + rows_per_call])
    return answers


def _predict(client: "httpx.Client", path: str, instances: Sequence[Mapping]) -> list[dict]:
    import httpx

    body = msgspec.json.encode({"instances": instances})
    try:
        response = client.post(path, content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        raise EndpointError(
            f"{client.base_url} does not answer: {type(error).__name__}. Is the endpoint up?"
        ) from error
    if response.status_code != 200:
        raise EndpointError(f"{client.base_url} answers {response.status_code}: {response.text[:500]}")
    answer = msgspec.json.decode(response.content)
    extra = {"version": answer["version"], "generation": answer["generation"]}
    return [prediction | extra for prediction in answer["predictions"]]


@contextlib.contextmanager
def held_lock(path: Path, *, wait: float) -> Iterator[None]:
    """Hold a lock file that the kernel gives back when the process dies; EndpointError after `wait` seconds."""
    with path.open("ab") as file:
        if not _eventually(lambda: _lock(file.fileno()), wait):
            raise EndpointError(f"{path} is held by another process.")
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    if not path.exists():
        return False
    with path.open("ab") as file:
        return not _lock(file.fileno(), fcntl.LOCK_SH)  # shared: two who ask at once must not see each other


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that a reader sees the old or the new content, whoever is killed when."""
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _place(online_store: str) -> str:
    return online_store if is_remote(online_store) else str(Path(online_store).absolute())


def _lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy_whole(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".*.partial"):
        shutil.rmtree(left)
    beside = target.parent / f".{target.name}.partial"
    shutil.copytree(source, beside, symlinks=True)
    beside.rename(target)


def _eventually(condition: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_TICK)
    return True
