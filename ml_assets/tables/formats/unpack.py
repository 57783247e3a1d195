"""From the bytes of a file to its content: decompressed within a limit, text as UTF-8; and lines to point at."""

import codecs
from typing import NoReturn

import numpy as np
import pyarrow as pa

from ml_assets.tables.format import Format
from ml_assets.tables.formats.cells import UnreadableError

SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
_CHUNK = 2**20
_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def unpack(content: bytes, name: str, format: Format) -> bytes:
    """The decompressed content; never holds more than the limit and a megabyte."""
    codec = format.compression if format.compression != "auto" else _codec(name)
    if codec != "none":
        return bytes_of(content, codec, format.max_bytes)
    if len(content) > format.max_bytes:
        too_large(len(content), format)
    return content


def too_large(n: int, format: Format) -> NoReturn:
    """Refuse what takes more memory than is allowed."""
    problem = f"it holds {n:,} bytes, and more than {format.max_bytes:,} are not taken"
    raise UnreadableError(problem, "deliver less at a time, or raise format.max_bytes")


def bytes_of(content: bytes, codec: str, limit: int) -> bytes:
    """Decompress; a file that is cut off or grows beyond the limit is refused."""
    unpacked = bytearray()
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(content), codec)
        while chunk := stream.read(_CHUNK):
            unpacked += chunk
            if len(unpacked) > limit:
                problem = f"it unpacks from {len(content):,} to more than {limit:,} bytes, and that is not taken"
                raise UnreadableError(problem, "deliver less at a time, or raise format.max_bytes if the file is right")
    except OSError as error:
        cut = "Truncated" in str(error)
        problem = f"the {codec} data is {'cut off' if cut else 'damaged'} after {len(unpacked):,} unpacked bytes"
        raise UnreadableError(problem if cut else f"{problem} ({error})") from error
    return unpacked  # pyright: ignore[reportReturnType]  a bytearray, since a copy would hold everything twice


def _codec(name: str) -> str:
    return next((codec for suffix, codec in SUFFIXES.items() if name.lower().endswith(suffix)), "none")


def utf8(content: bytes, format: Format) -> bytes:
    """The text of a file in UTF-8, without a byte order mark; a wrong encoding is refused at its first byte."""
    codec = codecs.lookup(format.encoding).name
    if codec in ("utf-8", "utf-8-sig"):
        _check_utf8(content, format)
        return content[3:] if content.startswith(codecs.BOM_UTF8) else content
    if not codec.startswith("utf-"):
        _check_not_utf8(content, format)
    try:
        return codecs.decode(content, codec).removeprefix("\ufeff").encode("utf-8")
    except UnicodeError as error:
        _refuse(error, content, format)


def _check_utf8(content: bytes, format: Format) -> None:
    if _is_utf8(content):
        return
    try:
        codecs.decode(content, "utf-8")
    except UnicodeDecodeError as error:
        _refuse(error, content, format)


def _is_utf8(content: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(content)], np.int64))
    whole = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(content))
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _refuse(error: UnicodeError, content: bytes, format: Format) -> NoReturn:
    start = error.start if isinstance(error, UnicodeDecodeError) else 0
    place = f"line {codecs.decode(content[:start], format.encoding, 'replace').count(chr(10)) + 1}"
    looks = next((kind for mark, kind in _MARKS.items() if content.startswith(mark)), None)
    if looks is None and content.startswith(_UTF16):
        looks = "utf-16"
    guess = f"; it looks like {looks}" if looks else ""
    byte = f" (0x{content[start]:02x})" if start < len(content) else ""
    problem = f"byte {start}{byte} on {place} is not {format.encoding}{guess}"
    raise UnreadableError(
        problem, "set format.encoding (or kind, compression) to what the file is, or deliver it again"
    )


def _check_not_utf8(content: bytes, format: Format) -> None:
    """Any bytes are valid in most of the old encodings, but hardly by chance are they UTF-8 beyond ASCII."""
    if not content.isascii() and _is_utf8(content):
        problem = f"its bytes are UTF-8, but format.encoding is {format.encoding}"
        raise UnreadableError(problem, "set format.encoding to utf-8, or deliver it again")


def require_no_nul(text: bytes) -> None:
    """Text with NUL is damaged, or is UTF-16 without a mark."""
    at = text.find(0)
    if at >= 0:
        problem = f"a NUL byte on line {line_at(text, at)}"
        raise UnreadableError(problem, "deliver it again, or set format.encoding to utf-16 if that is what it is")


def line_at(text: bytes, position: int) -> int:
    """The number of the line that holds a position."""
    return count_line_ends(text[:position]) + 1


def count_line_ends(text: bytes) -> int:
    r"""How many line ends there are, each \n, \r\n or \r."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def after_line_ends(text: bytes) -> np.ndarray:
    r"""The positions behind line ends, each \n, \r\n or \r; ascending."""
    codes = np.frombuffer(text, np.uint8)
    feeds, returns = codes == 10, codes == 13
    returns[:-1] &= ~feeds[1:]
    return np.flatnonzero(feeds | returns) + 1
