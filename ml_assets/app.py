"""The endpoint's process: `python -m ml_assets.app --folder DIR`. Everything it needs is in the folder.

endpoint.json   name, host, online store, prediction log (written by the deployment)
routing.json    the wanted routing table             versions/<version>/   bundles
server.json     who serves: pid, port, instance      accepted.json         the last table that was taken
server.lock     held while the process lives, so that a folder has one server
"""

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
import uvicorn

from ml_assets import clock
from ml_assets.adapters.deployment import EndpointConfig, ServerRecord, held_lock, replace_file
from ml_assets.adapters.online import open_store
from ml_assets.adapters.prediction_log import PredictionLog
from ml_assets.errors import ArtefactError, EndpointError, MlAssetsError
from ml_assets.serving import bundle, http
from ml_assets.serving.predictor import FeatureLookup, Predictor
from ml_assets.serving.routing import Router
from ml_assets.serving.service import Service

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.05
_REBIND_SECONDS = 1.0
_LOCK_SECONDS = 2.0  # those who ask whether a server lives touch the lock for a moment
_TRIAL_SECONDS = 60
_SWITCH_SECONDS = 0.0005  # a batch thread must not hold single rows up for Python's default of 5 ms


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a folder until SIGTERM."""
    parser = argparse.ArgumentParser(prog="ml_assets.app", description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the endpoint's folder")
    parser.add_argument("--port", type=int, help="default: the port of the last server here, else a free one")
    given = parser.parse_args(arguments)
    with held_lock(given.folder / "server.lock", wait=_LOCK_SECONDS):
        serve(given.folder, given.port)


def serve(folder: Path, port: int | None = None) -> None:
    """Answer for a folder until SIGTERM; requests under way are finished."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = msgspec.json.decode((folder / "endpoint.json").read_bytes(), type=EndpointConfig)
    log, store = PredictionLog(Path(config.log)), open_store(config.online_store)
    log.adopt()
    with _listening(folder, config, port) as listening:
        router = Router(lambda version: load(folder / "versions" / version, store))
        service = Service(config.name, router, log)
        try:
            with asyncio.Runner(loop_factory=_loop) as runner:
                runner.run(_run(folder, service, listening))
        finally:
            service.close()
            log.close()


def load(folder: Path, store: FeatureLookup) -> Predictor:
    """Give a predictor for a bundle that another process could parse and that gives its golden scores here as well."""
    found = bundle.read(folder)
    _try_in_another_process(folder)
    if bundle.verify(folder) != found.digest:
        raise ArtefactError(f"{folder} was replaced while it was tried.")
    predictor = Predictor(found, store)
    predictor.check_golden()
    return predictor


def _try_in_another_process(folder: Path) -> None:
    # Damaged LightGBM text kills the parser two times in three (facts/serving.md 6).
    command = [sys.executable, "-m", "ml_assets.serving.trial", str(folder)]
    try:
        trial = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtefactError(f"{folder} was not parsed within {_TRIAL_SECONDS} s; it is not loaded.") from error
    if trial.returncode:
        said = trial.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise ArtefactError(f"{folder} failed its trial (exit {trial.returncode}): {said[0]}. It is not loaded.")


async def _run(folder: Path, service: Service, listening: socket.socket) -> None:
    config = uvicorn.Config(
        http.build(service), log_level="warning", access_log=False, lifespan="off", http="httptools"
    )
    server = uvicorn.Server(config)
    watch = asyncio.create_task(_watch(folder, service))
    try:
        await server.serve(sockets=[listening])
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch(folder: Path, service: Service) -> None:
    seen, bound = None, 0.0
    while True:
        stamp = _stamp(folder / "routing.json")
        if stamp and stamp != seen:
            await asyncio.to_thread(_offer, folder, service)
            seen = stamp
        if time.monotonic() - bound > _REBIND_SECONDS:
            await asyncio.to_thread(_rebind, service)
            bound = time.monotonic()
        await asyncio.sleep(_POLL_SECONDS)


def _rebind(service: Service) -> None:
    for arm in service.router.table.arms.values() if service.router.table else ():
        try:
            arm.predictor.rebind()
        except EndpointError:
            _LOG.exception("Version %s goes on with the features as they were bound before", arm.version)


def _offer(folder: Path, service: Service) -> None:
    router, accepted = service.router, folder / "accepted.json"
    content = (folder / "routing.json").read_bytes()
    if router.table is None and accepted.exists() and accepted.read_bytes() != content:
        router.offer(accepted.read_bytes())  # after a restart: what served before serves until the new table is loaded
    if router.offer(content):
        replace_file(accepted, content)
    if router.table:
        service.metrics.routed({arm.version: arm.share for arm in router.table.arms.values()})


def _stamp(path: Path) -> tuple | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@contextlib.contextmanager
def _listening(folder: Path, config: EndpointConfig, port: int | None) -> Iterator[socket.socket]:
    before = ServerRecord.read(folder)
    listening = _bound(config.host, port) if port else _bound_or_free(config.host, before.port if before else 0)
    with listening:
        found = ServerRecord(os.getpid(), listening.getsockname()[1], uuid4().hex, config.digest(), clock.now())
        replace_file(folder / "server.json", msgspec.json.encode(found))
        yield listening


def _bound_or_free(host: str, port: int) -> socket.socket:
    try:
        return _bound(host, port)
    except EndpointError:
        return _bound(host, 0)


def _bound(host: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise EndpointError(f"{host}:{port} cannot be used: {error.strerror}. Choose another --port.") from error
    return listening


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    try:
        main()
    except MlAssetsError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
