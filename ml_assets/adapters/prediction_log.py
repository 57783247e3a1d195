"""The prediction log: JSON lines in append-only segments, one `write` per request before its answer leaves.

What a write call accepted survives the death of the process (not of the machine). A segment in use ends in `.open` and
is renamed once it is closed, by size, by age, or by the next server in the folder. Readers take both and skip a line
without its end.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from ml_assets import clock
from ml_assets.features.encode import Input
from ml_assets.serving.record import PredictionRecord

if TYPE_CHECKING:
    import pyarrow as pa

_OPEN, _CLOSED = ".jsonl.open", ".jsonl"
_SEGMENT_BYTES = 32 * 1024 * 1024
_SEGMENT_SECONDS = 3600.0


class PredictionLog:
    """The writing side, for one server process; threads may share it. Never raises for a full disk: counts instead."""

    def __init__(
        self, folder: Path, *, segment_bytes: int = _SEGMENT_BYTES, segment_seconds: float = _SEGMENT_SECONDS
    ) -> None:
        self._folder, self._segment_bytes, self._segment_seconds = folder, segment_bytes, segment_seconds
        self._encode, self._lock = msgspec.json.Encoder().encode_lines, threading.Lock()
        self._segment: _Segment | None = None
        self.dropped = 0
        folder.mkdir(parents=True, exist_ok=True)

    def adopt(self) -> int:
        """Close the segments that dead servers left; only for a process that knows no other one writes here."""
        orphans = list(self._folder.glob("*" + _OPEN))
        for orphan in orphans:
            _close_name(orphan)
        return len(orphans)

    def append(self, records: list[PredictionRecord]) -> int:
        """Write the records with one call; gives the bytes written, 0 when they were dropped and counted."""
        lines = self._encode(records)
        with self._lock:
            try:
                self._writable().write(lines)
            except OSError:
                self.dropped += len(records)
                return 0
        return len(lines)

    def close(self) -> None:
        """Close the segment in use."""
        with self._lock:
            if self._segment:
                self._segment.close()
                self._segment = None

    def _writable(self) -> "_Segment":
        full = self._segment and self._segment.size >= self._segment_bytes
        old = self._segment and time.monotonic() - self._segment.opened >= self._segment_seconds
        if self._segment and (full or old):
            self._segment.close()
            self._segment = None
        if self._segment is None:
            name = f"{clock.now():%Y-%m-%dT%H%M%S.%f}-{uuid4().hex[:8]}{_OPEN}"
            self._segment = _Segment(self._folder / name)
        return self._segment


class _Segment:
    def __init__(self, path: Path) -> None:
        self._path, self.size, self.opened = path, 0, time.monotonic()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def write(self, lines: bytes) -> None:
        try:
            written = os.write(self._file, lines)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        if written < len(lines):  # a full disk takes a part: take it back, so that no later line joins half a line
            os.ftruncate(self._file, self.size)
            raise OSError(f"{self._path} took {written} of {len(lines)} bytes")
        self.size += written

    def close(self) -> None:
        os.close(self._file)
        _close_name(self._path)


def read(
    folder: Path, *, since: datetime | None = None, until: datetime | None = None, prediction_id: str | None = None
) -> "pa.Table":
    """Read the complete lines of all segments, each prediction once, with `since <= logged_at < until`.

    With `prediction_id` that one alone, and no line without its letters is decoded. Ordered by `logged_at`, then id.
    `request`, `features` and `feature_ages` are JSON text; `expand` makes columns of the features. An absent folder
    gives no rows.
    """
    import pyarrow as pa

    rows = {}
    for line in _lines(folder, b"" if prediction_id is None else msgspec.json.encode(prediction_id)):
        within = (since is None or line.logged_at >= since) and (until is None or line.logged_at < until)
        if within and prediction_id in (None, line.prediction_id):
            rows[line.prediction_id] = line
    ordered = sorted(rows.values(), key=lambda line: (line.logged_at, line.prediction_id))
    schema = _schema()
    columns = {name: [_plain(getattr(line, name)) for line in ordered] for name in schema.names}
    return pa.table(columns, schema=schema)


def expand(rows: "pa.Table", inputs: Sequence[Input]) -> "pa.Table":
    """Replace `features` by a column per input, as the model was given it before encoding: DOUBLE or VARCHAR.

    Encoding these columns again gives the bits that the model scored.
    """
    import pyarrow as pa

    decode = msgspec.json.Decoder(dict[str, float | str | None]).decode
    decoded = [decode(text) for text in rows["features"].to_pylist()]
    kinds = {"numeric": pa.float64(), "categorical": pa.string()}
    for wanted in inputs:
        values = [features.get(wanted.name) for features in decoded]
        rows = rows.append_column(wanted.name, pa.array(values, type=kinds[wanted.kind]))
    return rows.drop_columns(["features"])


class _Line(PredictionRecord, frozen=True):
    """A record as it is read back: nested values stay JSON text."""

    request: msgspec.Raw  # pyright: ignore[reportIncompatibleVariableOverride]
    features: msgspec.Raw  # pyright: ignore[reportIncompatibleVariableOverride]
    feature_ages: msgspec.Raw  # pyright: ignore[reportIncompatibleVariableOverride]


def _lines(folder: Path, letters: bytes) -> Iterator[_Line]:
    """The lines that hold some bytes, anywhere."""
    decode = msgspec.json.Decoder(_Line).decode
    for path in sorted(folder.glob("*.jsonl*")) if folder.is_dir() else []:
        *complete, _torn = _content(path).split(b"\n")
        yield from (decode(line) for line in complete if letters in line)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # renamed since it was listed
        return _closed_name(path).read_bytes()


def _closed_name(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(_OPEN) + _CLOSED)


def _close_name(path: Path) -> None:
    path.rename(_closed_name(path))


def _plain(value: object) -> object:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value


def _schema() -> "pa.Schema":
    import pyarrow as pa

    text, instant = pa.string(), pa.timestamp("us", "UTC")
    kinds = {"at": instant, "logged_at": instant, "propensity": pa.float64(), "score": pa.float64()}
    kinds |= {"generation": pa.int64(), "latency_us": pa.int64()}
    return pa.schema([(name, kinds.get(name, text)) for name in PredictionRecord.__struct_fields__])
