"""Real servers that the sources of tests ask, and processes that ask them and are killed; imports nothing of pytest."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from ml_assets.adapters.sources.base import Http, Subject


@dataclass(frozen=True)
class Request:
    path: str
    params: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Says:
    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Api:
    """An HTTP server on loopback whose answers a function gives; it remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], Says]) -> None:
        self.requests: list[Request] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                request = Request(parts.path, dict(parse_qsl(parts.query)), dict(self.headers))
                api.requests.append(request)
                said = answer(request)
                with suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
                    self.send_response(said.status)
                    for name, value in {"Content-Length": str(len(said.content)), **said.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(said.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Folder:
    """Scratch in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def get(self, name: str) -> bytes | None:
        return (self.path / name).read_bytes() if (self.path / name).exists() else None

    def put(self, name: str, content: bytes) -> None:
        unfinished = self.path / f"{name}.tmp"
        unfinished.write_bytes(content)
        unfinished.rename(self.path / name)

    def clear(self, prefix: str) -> None:
        for path in self.path.glob("*"):
            if path.name.startswith(prefix):
                path.unlink()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


def fetch(spec: Http, subject: Subject, scratch: Path, partition: str) -> None:
    """What a process does that is killed."""
    from ml_assets.adapters.sources.http import HttpSource

    list(HttpSource(spec, subject, Folder(scratch)).fetch([partition], {}))
