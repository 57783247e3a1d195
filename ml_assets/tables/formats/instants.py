"""Instants: local times and their zone, and the years that every tool behind us can hold."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from ml_assets.tables.format import Format
from ml_assets.tables.formats.cells import arrow_type

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def in_years(values: Any) -> bool:
    """Whether all dates and instants are of the years 1 to 9999; values of other types are."""
    if not pa.types.is_temporal(values.type) or len(values) == values.null_count:
        return True
    low, high = _bounds(values.type)
    found = pc.min_max(values)
    return bool(pc.and_(pc.greater_equal(found["min"], low), pc.less_equal(found["max"], high)).as_py())


def within_years(values: Any, bad: Any) -> tuple[Any, Any]:
    """Values with those outside of the years 1 to 9999 as null, and added to the bad ones."""
    if in_years(values):
        return values, bad
    low, high = _bounds(values.type)
    outside = pc.fill_null(pc.or_(pc.less(values, low), pc.greater(values, high)), False)
    return pc.if_else(outside, None, values), pc.or_(bad, outside)


def _bounds(kind: pa.DataType) -> tuple[pa.Scalar, pa.Scalar]:
    if pa.types.is_date(kind):
        return pa.scalar(date(1, 1, 1), kind), pa.scalar(date(9999, 12, 31), kind)
    low, high = (pa.scalar(at, arrow_type("TIMESTAMPTZ")).cast(kind, safe=False) for at in (_FIRST, _LAST))
    return low, high


def localize(naive: Any, format: Format) -> tuple[Any, Any]:
    """Local times, in microseconds, of `format.time_zone` as instants, and which of them are none.

    A time that the clock skips is none; one that it shows twice is what `format.ambiguous_time` says.
    """
    fold = format.ambiguous_time
    try:
        strict = "raise" if fold == "refuse" else fold
        instants = pc.assume_timezone(naive, format.time_zone, ambiguous=strict, nonexistent="raise")
        return instants.cast(arrow_type("TIMESTAMPTZ")), pc.and_(pc.is_null(naive), False)
    except pa.ArrowInvalid:
        first, last = (
            pc.assume_timezone(naive, format.time_zone, ambiguous=which, nonexistent=which)
            for which in ("earliest", "latest")
        )
    skipped = pc.not_equal(pc.local_timestamp(first), naive)
    unclear = pc.or_(skipped, pc.not_equal(first, last)) if fold == "refuse" else skipped
    bad = pc.fill_null(unclear, False)
    return pc.if_else(bad, None, last if fold == "latest" else first).cast(arrow_type("TIMESTAMPTZ")), bad
