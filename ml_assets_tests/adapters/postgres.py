"""A real Postgres of the tests' own; it refuses root, so that it runs as `nobody` where the tests run as root."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def running() -> Iterator[str]:
    """Start a server in a folder of its own, and give the address of an empty database."""
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("There are no `initdb` and `postgres` on the PATH.")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.close()
        other: dict[str, Any] = {"user": "nobody", "extra_groups": [], "cwd": folder} if os.geteuid() == 0 else {}
        if other:
            shutil.chown(folder, "nobody")
        create = ["initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "tests", "--no-sync"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, **other)
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        serve = ["postgres", "-D", f"{folder}/data", *(part for each in settings for part in ("-c", each))]
        with subprocess.Popen(serve, stderr=subprocess.DEVNULL, **other) as server:
            try:
                _wait_for(port)
                yield f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(2)  # ends without waiting for clients


def _wait_for(port: int) -> None:
    import psycopg

    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=tests dbname=postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
