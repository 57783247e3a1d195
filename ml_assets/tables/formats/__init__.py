"""Reads delivered bytes of any declared format into cells that can be typed exactly."""

from collections.abc import Callable

from ml_assets.errors import DeliveryError
from ml_assets.tables.format import Format
from ml_assets.tables.formats import columnar, delimited, json_rows
from ml_assets.tables.formats.cells import Cells, UnreadableError
from ml_assets.tables.formats.unpack import SUFFIXES, unpack

__all__ = ["Cells", "read"]

_KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_READERS: dict[str, Callable[[bytes, Format], Cells]] = {
    "parquet": columnar.read,
    "csv": delimited.read,
    "jsonl": json_rows.read_lines,
    "json": json_rows.read_document,
}


def read(content: bytes, name: str, format: Format) -> Cells:
    """The cells of a file; DeliveryError names the file, what is wrong, where, and what to do."""
    if not content:
        raise DeliveryError(f"{name}: the file is empty; deliver it again, or remove it")
    kind = format.kind if format.kind != "auto" else _kind(name)
    try:
        return _READERS[kind](unpack(content, name, format), format)
    except UnreadableError as error:
        raise DeliveryError(f"{name}: unreadable: {error}; {error.advice}") from error


def _kind(name: str) -> str:
    base = name.lower()
    for suffix in SUFFIXES:
        base = base.removesuffix(suffix)
    kind = next((kind for suffix, kind in _KINDS.items() if base.endswith(suffix)), None)
    if kind is None:
        known = f"{', '.join(_KINDS)} (perhaps with {', '.join(SUFFIXES)} behind)"
        raise DeliveryError(f"{name}: unknown kind of file; the name ends with one of {known}, or set format.kind")
    return kind
