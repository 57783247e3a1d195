"""Parquet: types are those of the file, and widened only where no value changes."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pyarrow.types as t

from ml_assets.tables.format import Format
from ml_assets.tables.formats.cells import Cells, Typed, UnreadableError, arrow_type, require_unique, row_numbers
from ml_assets.tables.formats.instants import localize, within_years
from ml_assets.tables.formats.unpack import too_large
from ml_assets.tables.schema import TYPES, Column

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_EXACT_IN_FLOAT = 2**53
_MICROSECONDS = pa.timestamp("us")


class ColumnarCells(Cells):
    """The columns of a Parquet file."""

    place = "row"

    def __init__(self, table: pa.Table, format: Format) -> None:
        super().__init__(table.column_names, row_numbers(table.num_rows))
        self._table, self._format = table, format

    def typed(self, column: Column) -> Typed:
        """By the type of the file's column, which may be narrower."""
        values = self._table[column.name]
        if t.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if t.is_null(values.type):
            return Typed(values.cast(arrow_type(column.type)))
        typed = _EXACT[column.type](values, self._format)
        if typed is None:
            nothing = pa.chunked_array([pa.nulls(len(values), arrow_type(column.type))])
            return Typed(nothing, pc.is_valid(values), found=str(self._table[column.name].type))
        return typed

    def delivered(self, name: str) -> pa.ChunkedArray:
        """The values in the type of the file, or the nearest that DuckDB knows."""
        values = self._table[name]
        if t.is_float16(values.type):
            return values.cast(pa.float32())
        if isinstance(values.type, pa.BaseExtensionType):
            return values.cast(values.type.storage_type)
        if t.is_binary_view(values.type):  # no row can be taken from a view
            return values.cast(pa.binary())
        is_text = t.is_decimal256(values.type) or t.is_string_view(values.type)
        return values.cast(pa.string()) if is_text else values

    def infer(self, name: str) -> str | None:
        """By the type of the file's column; integers may be numbers, if they are too large."""
        kind = self._table[name].type
        if self._table[name].null_count == self.n_rows:
            return None
        is_binary = t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind)
        if t.is_nested(kind) or is_binary or isinstance(kind, pa.BaseExtensionType):
            raise UnreadableError(f"column {name} is {kind}", "deliver it flat, or discard the column")
        order = ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMPTZ")
        fitting = (known for known in order if self.typed(Column(name, known, nullable=True)).bad is None)
        return next(fitting, "VARCHAR")

    def shown(self, name: str, at: int) -> str:
        """A time that Python cannot hold as its number."""
        value = self._table[name][at]
        try:
            return str(value.as_py()) if t.is_temporal(value.type) else repr(value.as_py())
        except (ValueError, OverflowError):
            return f"{value.value} in {value.type}"

    def hint(self, column: Column, at: int) -> str:  # noqa: ARG002  the type says it all
        """A time zone is what may be missing."""
        found = self._table[column.name].type
        if column.type == "TIMESTAMPTZ" and t.is_timestamp(found) and found.tz is None and not self._format.time_zone:
            return ", which has no time zone: set format.time_zone"
        return ""


def read(content: bytes, format: Format) -> Cells:
    """The cells of a Parquet file."""
    if content[-4:] == b"PARE":
        raise UnreadableError("it is encrypted", "deliver it without encryption")
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        require_unique(file.schema_arrow.names)
        _require_size(file.metadata, format)
        table = file.read()
        table = _with_int96(table, file, content)
        table.validate(full=True)  # a damaged page can decode to invalid text, which DuckDB trusts
        for kind in table.schema.types:
            getattr(kind, "tz", None)  # the name of a time zone can be no text, too
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UnreadableError(reason) from error
    return ColumnarCells(table, format)


def _require_size(metadata: pq.FileMetaData, format: Format) -> None:
    """Of a table in memory, before it is there: repeated values take next to nothing in the file."""
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    n_bytes = max(pages, metadata.num_rows * metadata.num_columns * 8)
    if n_bytes > format.max_bytes:
        too_large(n_bytes, format)


def _with_int96(table: pa.Table, file: pq.ParquetFile, content: bytes) -> pa.Table:
    """Times of Impala and old Spark: nanoseconds that Arrow lets overflow beyond 2262, so they are read in both units.

    A time with nanoseconds stays in them, so that it is seen to lose something.
    """
    kinds = [file.schema.column(i) for i in range(len(file.schema))]
    for name in (kind.path for kind in kinds if kind.physical_type == "INT96" and kind.path in table.column_names):
        coarse = pq.ParquetFile(pa.BufferReader(content), coerce_int96_timestamp_unit="us").read([name])[name]
        numbers = coarse.cast(pa.int64())
        near = pc.less(pc.abs(numbers), 2**63 // 1000 - 1)
        same = pc.equal(pc.multiply(pc.if_else(near, numbers, 0), 1000), table[name].cast(pa.int64()))
        if pc.all(pc.or_(same, pc.invert(near))).as_py():
            table = table.set_column(table.column_names.index(name), name, coarse)
        elif not pc.all(near).as_py():
            raise UnreadableError(f"column {name} holds both nanoseconds and times beyond the year 2262")
    return table


_Misfits = Callable[[pa.ChunkedArray], Any]
_Exact = Callable[[pa.ChunkedArray, Format], Typed | None]


def _cast(values: pa.ChunkedArray, kind: str, misfits: _Misfits) -> Typed:
    """Cast all; only if a value does not fit, find out which."""
    try:
        return Typed(values.cast(arrow_type(kind)))
    except pa.ArrowInvalid:
        bad = pc.fill_null(misfits(values), False)
        return Typed(pc.if_else(bad, None, values).cast(arrow_type(kind)), bad)


def _text(values: pa.ChunkedArray, _: Format) -> Typed | None:
    is_text = t.is_string(values.type) or t.is_large_string(values.type) or t.is_string_view(values.type)
    return Typed(values.cast(pa.string())) if is_text else None


def _whole(values: pa.ChunkedArray, _: Format) -> Typed | None:
    is_whole = t.is_integer(values.type) or (t.is_decimal(values.type) and values.type.scale == 0)
    return _cast(values, "BIGINT", _beyond_64_bits) if is_whole else None


def _beyond_64_bits(values: pa.ChunkedArray) -> Any:
    low, high = -(2**63), 2**63 - 1
    if t.is_decimal(values.type):
        low, high = (pa.scalar(Decimal(bound), values.type) for bound in (low, high))
        return pc.or_(pc.less(values, low), pc.greater(values, high))
    return pc.greater(values, pa.scalar(high, values.type))


def _float(values: pa.ChunkedArray, _: Format) -> Typed | None:
    if t.is_floating(values.type):
        return Typed(values.cast(pa.float64()))
    if t.is_integer(values.type):
        return _cast(values, "DOUBLE", _beyond_float)
    return _of_decimal(values) if t.is_decimal(values.type) else None


def _beyond_float(values: pa.ChunkedArray) -> Any:
    high = pc.greater(values, pa.scalar(_EXACT_IN_FLOAT, values.type))
    if t.is_unsigned_integer(values.type):
        return high
    return pc.or_(high, pc.less(values, pa.scalar(-_EXACT_IN_FLOAT, values.type)))


def _of_decimal(values: pa.ChunkedArray) -> Typed:
    """By its text, which Arrow rounds correctly, and exact if it comes back from there."""
    floats = values.cast(pa.string()).cast(pa.float64())
    if values.type.precision <= 15:
        return Typed(floats)
    back = pc.cast(floats, values.type, safe=False)
    bad = pc.fill_null(pc.not_equal(back, values), False)
    return Typed(pc.if_else(bad, None, floats), bad) if pc.any(bad).as_py() else Typed(floats)


def _truth(values: pa.ChunkedArray, _: Format) -> Typed | None:
    return Typed(values) if t.is_boolean(values.type) else None


def _day(values: pa.ChunkedArray, _: Format) -> Typed | None:
    if not t.is_date(values.type):
        return None
    typed = _cast(values, "DATE", lambda v: pc.not_equal(pc.cast(pc.cast(v, pa.date32(), safe=False), v.type), v))
    return _of_years(typed)


def _instant(values: pa.ChunkedArray, format: Format) -> Typed | None:
    if not t.is_timestamp(values.type) or (values.type.tz is None and format.time_zone is None):
        return None
    naive = values.cast(pa.int64()).cast(pa.timestamp(values.type.unit))
    try:
        coarse, bad = naive.cast(_MICROSECONDS), None
    except pa.ArrowInvalid:
        bad = pc.fill_null(_lossy(naive), False)
        coarse = pc.if_else(bad, None, naive).cast(_MICROSECONDS)
    if values.type.tz is not None:
        return _of_years(Typed(coarse.cast(pa.int64()).cast(arrow_type("TIMESTAMPTZ")), bad))
    instants, unclear = localize(coarse, format)
    bad = pc.or_(unclear, bad) if bad is not None else unclear
    return _of_years(Typed(instants, bad if pc.any(bad).as_py() else None))


def _lossy(naive: pa.ChunkedArray) -> Any:
    """What microseconds cannot say: parts of them, and what lies beyond 64 bits of them."""
    numbers = naive.cast(pa.int64())
    if naive.type.unit == "ns":
        return pc.not_equal(pc.multiply(pc.divide(numbers, 1000), 1000), numbers)
    most = 2**63 // (10**6 if naive.type.unit == "s" else 10**3) - 1
    return pc.or_(pc.greater(numbers, most), pc.less(numbers, -most))


def _of_years(typed: Typed) -> Typed:
    nothing = pc.fill_null(pc.is_null(typed.values), False)
    none_bad = pc.and_(nothing, False)
    values, bad = within_years(typed.values, none_bad if typed.bad is None else typed.bad)
    return Typed(values, bad if pc.any(bad).as_py() else None)


_EXACT: dict[str, _Exact] = dict(zip(TYPES, (_text, _whole, _float, _truth, _instant, _day), strict=True))
