"""From text to exact types, whole columns at a time.

A chunk whose texts all fit is cast by Arrow. Only for a chunk that does not, DuckDB says which texts fit, by a grammar
that is no wider than Arrow's; so bad values cost one more pass, however many they are.
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ml_assets import engine
from ml_assets.tables.format import Format
from ml_assets.tables.formats.cells import Typed, arrow_type
from ml_assets.tables.formats.instants import in_years, localize, within_years

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_DAY = r"\d{4}-\d\d-\d\d"
_HOUR, _SIXTY = r"([01]\d|2[0-3])", r"[0-5]\d"
_TIME = rf"[ T]{_HOUR}(:{_SIXTY}(:{_SIXTY}(\.\d{{1,6}})?)?)?"
_ZONE = rf"(Z|[+-]{_HOUR}(:?{_SIXTY})?)"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_IS_DAY = "substr(v, 1, 4) <> '0000' AND TRY_CAST(substr(v, 1, 10) AS DATE) IS NOT NULL"
_FITS = {
    "BIGINT": r"regexp_full_match(v, '-?\d+') AND TRY_CAST(v AS BIGINT) IS NOT NULL",
    "DOUBLE": f"regexp_full_match(v, '{_NUMBER}') AND isfinite(TRY_CAST(v AS DOUBLE))",
    "BOOLEAN": "lower(v) IN ('true', 'false', '0', '1')",
    "DATE": f"regexp_full_match(v, '{_DAY}') AND {_IS_DAY}",
    "zoned": f"regexp_full_match(v, '{_DAY}{_TIME}{_ZONE}') AND {_IS_DAY}",
    "local": f"regexp_full_match(v, '{_DAY}{_TIME}') AND {_IS_DAY}",
}
_NAIVE = pa.timestamp("us")
_SHORT_INTEGERS = r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d+)?$"  # 15 digits are exact in a float


def parse(values: pa.ChunkedArray, kind: str, format: Format) -> Typed:
    """Texts as a type; what does not fit is null and bad.

    Integers have no decimal point, numbers are finite and rounded to the nearest float, times have a zone (or
    `format.time_zone` says it) and at most six decimals, dates exist.
    """
    chunks = [_parse(chunk, kind, format) for chunk in values.chunks]
    typed = pa.chunked_array([chunk for chunk, _ in chunks], arrow_type(kind))
    if all(bad is None for _, bad in chunks):
        return Typed(typed)
    masks = [pa.array(np.zeros(len(chunk), bool)) if bad is None else bad for chunk, bad in chunks]
    return Typed(typed, pa.chunked_array(masks, pa.bool_()))


_Parsed = tuple[pa.Array, pa.Array | None]


def _parse(texts: pa.Array, kind: str, format: Format) -> _Parsed:
    if kind == "TIMESTAMPTZ" and (format.timestamp_format or format.time_zone):
        return _instants(texts, format)
    if kind == "DATE" and format.date_format:
        return _by_pattern(texts, format.date_format, format, kind)
    if kind == "DOUBLE" and format.decimal == ",":
        texts = pc.replace_substring(pc.replace_substring(texts, ".", "?"), ",", ".")
    return _cast(texts, kind, "zoned" if kind == "TIMESTAMPTZ" else kind)


def _cast(texts: pa.Array, kind: str, grammar: str) -> _Parsed:
    try:
        return _strictly(texts, arrow_type(kind)), None
    except pa.ArrowInvalid:
        bad = pc.invert(fits(texts, grammar))
        return within_years(pc.if_else(bad, None, texts).cast(arrow_type(kind)), bad)


def _strictly(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Arrow's cast, without what it takes beyond decimal digits (0x1F, inf, what overflows to it, the year 0)."""
    values = texts.cast(kind)
    if pa.types.is_integer(kind):
        strange = pc.any(pc.match_substring(texts, "x", ignore_case=True))
    elif pa.types.is_floating(kind):
        strange = pc.invert(pc.all(pc.is_finite(values)))
    else:
        strange = pa.scalar(not in_years(values))
    if strange.as_py():
        raise pa.ArrowInvalid("a value outside of the grammar")
    return values


def fits(texts: pa.Array, grammar: str) -> pa.Array:
    """Whether each text follows a grammar; nulls do."""
    con = engine.scratch()
    con.register("texts_to_judge", pa.table({"v": texts}))
    try:
        judged = con.sql(
            f"SELECT v IS NULL OR coalesce({_FITS[grammar]}, false) AS fits FROM texts_to_judge"
        ).to_arrow_table()
    finally:
        con.unregister("texts_to_judge")
    return judged["fits"].combine_chunks()


def _instants(texts: pa.Array, format: Format) -> _Parsed:
    if format.timestamp_format:
        return _by_pattern(texts, format.timestamp_format, format, "TIMESTAMPTZ")
    try:
        return _strictly(texts, arrow_type("TIMESTAMPTZ")), None
    except pa.ArrowInvalid:
        zoned, local = fits(texts, "zoned"), fits(texts, "local")
        instants = pc.if_else(zoned, texts, None).cast(arrow_type("TIMESTAMPTZ"))
        others, unclear = localize(pc.if_else(local, texts, None).cast(_NAIVE), format)
        return within_years(pc.coalesce(instants, others), pc.or_(pc.invert(pc.or_(zoned, local)), unclear))


def _by_pattern(texts: pa.Array, pattern: str, format: Format, kind: str) -> _Parsed:
    """DuckDB's strptime, since the one of Arrow takes 29 February of any year for the 1st of March.

    To it infinity and epoch are of the year 1900 under any pattern, and 13 is the year 13 under %Y: neither is taken.
    """
    parsed = f"CASE WHEN regexp_matches(v, '[0-9]') THEN try_strptime(v, {engine.literal(pattern)}) END AS v"
    first_year = 1000 if "%Y" in pattern else 1
    con = engine.scratch()
    con.register("texts_to_parse", pa.table({"v": texts}))
    try:
        query = f"SELECT CASE WHEN year(v) >= {first_year} THEN v END AS v FROM (SELECT {parsed} FROM texts_to_parse)"
        values = con.sql(query).to_arrow_table()["v"].combine_chunks()
    finally:
        con.unregister("texts_to_parse")
    bad = pc.and_(pc.is_valid(texts), pc.is_null(values))
    if kind == "DATE" or values.type.tz is not None:
        return within_years(values.cast(arrow_type(kind)), bad)
    if format.time_zone is None:
        return pa.nulls(len(texts), arrow_type(kind)), pc.is_valid(texts)
    instants, unclear = localize(values, format)
    return within_years(instants, pc.or_(bad, unclear))


def infer(values: pa.ChunkedArray, format: Format) -> str:
    """The narrowest type that keeps every text, so that 007 and what is beyond 64 bits stay text."""
    if _whole(values):
        return "BIGINT"
    numbers = pc.replace_substring(values, ",", ".") if format.decimal == "," else values
    if (
        pc.all(pc.match_substring_regex(numbers, _SHORT_INTEGERS)).as_py()
        and parse(values, "DOUBLE", format).bad is None
    ):
        return "DOUBLE"
    if pc.all(pc.match_substring_regex(values, "^(?i:true|false)$")).as_py():
        return "BOOLEAN"
    return infer_time(values, format)


def _whole(values: pa.ChunkedArray) -> bool:
    try:
        return values.cast(pa.int64()).cast(pa.string()).equals(values.cast(pa.string()))
    except pa.ArrowInvalid:
        return False


def infer_time(values: pa.ChunkedArray, format: Format) -> str:
    """DATE or TIMESTAMPTZ if every text is one, else VARCHAR."""
    fitting = (kind for kind in ("DATE", "TIMESTAMPTZ") if not _has_bad(parse(values, kind, format)))
    return next(fitting, "VARCHAR")


def _has_bad(typed: Typed) -> bool:
    return typed.bad is not None and bool(pc.any(typed.bad).as_py())


def hint(text: str, kind: str, format: Format) -> str:
    """What a person may have meant, for the first bad value of a column."""
    if kind == "TIMESTAMPTZ" and format.time_zone is None and (format.timestamp_format or _follows(text, "local")):
        return "; write the time zone, 2013-01-05T14:00:00Z, or set format.time_zone"
    if kind == "TIMESTAMPTZ" and format.timestamp_format is None and _follows(text, "local"):
        return f"; {format.time_zone} has no such time, or has it twice: write the offset, or set format.ambiguous_time"
    if kind == "BIGINT" and re.fullmatch(r"-?\d+", text):
        return "; it is beyond 64 bits"
    if kind == "DOUBLE" and text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return "; numbers are finite: leave the field empty, or write null"
    return ""


def _follows(text: str, grammar: str) -> bool:
    return bool(fits(pa.array([text]), grammar)[0].as_py())
