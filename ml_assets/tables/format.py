"""How delivered bytes are to be read, and what happens when their columns or types are not those of the contract."""

import codecs
import re
import zoneinfo
from dataclasses import dataclass
from typing import Literal, get_args

from ml_assets.errors import DeclarationError

Evolution = Literal["evolve", "freeze", "discard_row", "discard_value"]
GIB = 2**30
_SIGNS = ("delimiter", "quote", "escape")
_PATTERNS = ("timestamp_format", "date_format")
_DIRECTIVE = re.compile("%(-?.|)", re.DOTALL)
_YEARS = frozenset({"Y", "y", "-y", "G", "g", "c", "x"})
# Those of DuckDB's strptime without %n, nanoseconds, which no table keeps.
_DIRECTIVES = _YEARS | set("aAbBhdfHIjmMpSTuUVwWXzZ%") | {"-d", "-H", "-I", "-j", "-m", "-M", "-S"}


@dataclass(frozen=True)
class Format:
    """How to read a file; the default tells kind and compression by the name.

    `items` leads to the list of rows in a JSON document (`data.rows`). `max_bytes` bounds a file after decompression.
    `nulls` mean null in CSV columns that are not text, `text_nulls` in those that are (unquoted fields only).
    `timestamp_format` and `date_format` (strptime) apply to text in place of ISO 8601. `time_zone` is that of times
    written without one; a local time that comes twice, when clocks are set back, is a wrong value unless
    `ambiguous_time` picks one of the two; one that was skipped always is.
    """

    kind: Literal["auto", "parquet", "csv", "jsonl", "json"] = "auto"
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    nulls: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
    text_nulls: tuple[str, ...] = ("",)
    timestamp_format: str | None = None
    date_format: str | None = None
    time_zone: str | None = None
    ambiguous_time: Literal["refuse", "earliest", "latest"] = "refuse"
    items: str | None = None
    max_bytes: int = 2 * GIB

    def __post_init__(self) -> None:
        _check_words(self, ("kind", "compression", "decimal", "ambiguous_time"))
        self._check_signs()
        _check_encoding(self.encoding)
        for name in _PATTERNS:
            _check_pattern(name, getattr(self, name))
        if self.time_zone is not None:
            _check_zone(self.time_zone)
        if self.items is not None and self.kind not in ("auto", "json"):
            raise DeclarationError(f"format.items leads into a JSON document, but format.kind is {self.kind}")
        if self.max_bytes < 1:
            raise DeclarationError(f"format.max_bytes is {self.max_bytes}: write a number of bytes above 0")

    def _check_signs(self) -> None:
        for name in _SIGNS:
            sign = getattr(self, name)
            if sign and (len(sign) != 1 or not sign.isascii() or sign in "\r\n\0"):
                raise DeclarationError(f"format.{name} is {sign!r}: write one ASCII character")
        signs = [sign for sign in (self.delimiter, self.quote, self.escape) if sign]
        if not self.delimiter or len(set(signs)) < len(signs):
            raise DeclarationError(f"format: {', '.join(_SIGNS)} are {signs}: write different characters")


@dataclass(frozen=True)
class SchemaPolicy:
    """What happens to columns that the contract does not name, and to values of another type.

    The words and their meaning are dlt's (schema contracts): `freeze` refuses the file; `discard_row` sends the row to
    the quarantine; `discard_value` drops the value; `evolve` takes a new column into the table, and lets a nullable
    column be absent. A value of a wrong type cannot evolve a contract: `data_type` knows the other three.
    """

    columns: Evolution = "freeze"
    data_type: Evolution = "freeze"

    def __post_init__(self) -> None:
        words = get_args(Evolution)
        for name, known in (("columns", words), ("data_type", words[1:])):
            if getattr(self, name) not in known:
                problem = f"is {getattr(self, name)!r}: write one of {', '.join(known)}"
                raise DeclarationError(f"schema policy: {name} {problem}")


def _check_words(format: Format, names: tuple[str, ...]) -> None:
    for name in names:
        known = get_args(Format.__dataclass_fields__[name].type)
        if getattr(format, name) not in known:
            raise DeclarationError(f"format.{name} is {getattr(format, name)!r}: write one of {', '.join(known)}")


def _check_pattern(name: str, pattern: str | None) -> None:
    """Refuse what strptime does not know, and what is of the year 1900 since it says none."""
    found = [] if pattern is None else _DIRECTIVE.findall(pattern)
    if unknown := [f"%{sign}" for sign in found if sign not in _DIRECTIVES]:
        advice = "write %Y, %m, %d, %H, %M, %S, %f, %z and the like"
        raise DeclarationError(f"format.{name} {pattern!r} holds {unknown[0]}, which is unknown; {advice}")
    if pattern is not None and not _YEARS & set(found):
        raise DeclarationError(f"format.{name} {pattern!r} has no year; write %Y, or %y for two digits")


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise DeclarationError(f"format.encoding: {error}; write utf-8, utf-16, latin-1, cp1252 or the like") from error


def _check_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DeclarationError(f"format.time_zone {name!r} is unknown; write a name like America/New_York") from error
