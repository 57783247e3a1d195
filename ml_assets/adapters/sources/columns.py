"""Python values as Arrow columns of the types that a contract knows, and rows as Parquet bytes, always the same.

Types are told by all values of a column and widened only without loss; what is neither text, number, bool, date nor
a time with its zone is refused by name, so that nothing is guessed.
"""

import numbers
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ml_assets.errors import DeliveryError, shorten

if TYPE_CHECKING:
    import pyarrow as pa

_CAST = "select it as text or as numbers, or leave it out"
_ZONELESS = "a time without a zone; say which one it has, in SQL `{} AT TIME ZONE 'UTC' AS {}`"


def table_of(columns: Mapping[str, Sequence[Any]], of: str) -> "pa.Table":
    """A table of columns of Python values; DeliveryError names `of` what and the column that has no type."""
    import pyarrow as pa

    return pa.table({name: _array(values, name, of) for name, values in columns.items()})


def concatenated(tables: Sequence["pa.Table"], of: str) -> "pa.Table":
    """Join pages whose types were told page by page: whole numbers join decimal ones, nulls join everything."""
    import pyarrow as pa

    joined = {}
    for name in tables[0].column_names:
        kind = _common([table.schema.field(name).type for table in tables], name, of)
        try:
            joined[name] = pa.chunked_array(
                [chunk for table in tables for chunk in table[name].cast(kind).chunks], kind
            )
        except pa.ArrowInvalid as error:
            raise DeliveryError(f"{of}: column {name} holds whole numbers that no double can: {error}") from error
    return pa.table(joined)


def parquet(table: "pa.Table", *, after: str | None = None) -> bytes:
    """Write a table; the same rows in the same order are the same bytes, however they were chunked.

    What is written `after` something else is other bytes.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    sink = pa.BufferOutputStream()
    noted = None if after is None else {"ml_assets.after": after}
    pq.write_table(table.combine_chunks().replace_schema_metadata(noted), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _array(values: Sequence[Any], name: str, of: str) -> "pa.Array":
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    found = {next((kind for kind in _KINDS if issubclass(each, kind)), each) for each in kinds}
    if not found:
        return pa.nulls(len(values))
    if found <= {numbers.Integral, numbers.Real, Decimal} and len(found) > 1:
        found = {Decimal if Decimal in found else numbers.Real}
    if len(found) > 1:
        raise _mixed(of, name, sorted(kind.__name__ for kind in kinds))
    kind = found.pop()
    if kind not in _KINDS:
        raise DeliveryError(f"{of}: column {name} holds {kind.__name__}, which no table can keep; {_CAST}.")
    try:
        return _KINDS[kind](values)
    except _ZonelessError as error:
        raise DeliveryError(f"{of}: column {name} holds {error}, {_ZONELESS.format(name, name)}.") from error
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DeliveryError(f"{of}: column {name} does not fit into 64 bits: {error}; {_CAST}.") from error


class _ZonelessError(Exception):
    pass


def _decimals(values: Sequence[Any]) -> "pa.Array":
    """Whole numbers where all of them were declared so, as the scale tells."""
    import pyarrow as pa

    given = [value for value in values if value is not None]
    if all(isinstance(value, Decimal) and value.as_tuple().exponent == 0 for value in given):
        return pa.array([value if value is None else int(value) for value in values], pa.int64())
    return _doubles(values)


def _doubles(values: Sequence[Any]) -> "pa.Array":
    """Doubles that print as what was given."""
    import pyarrow as pa

    doubles = [value if value is None else float(value) for value in values]
    for value, double in zip(values, doubles, strict=True):
        inexact = isinstance(value, Decimal) and value.is_finite() and Decimal(repr(double)) != value
        if inexact or (isinstance(value, numbers.Integral) and double != value):
            raise ValueError(f"{value} has more digits than a double")
    return pa.array(doubles, pa.float64())


def _times(values: Sequence[datetime | None]) -> "pa.Array":
    import pyarrow as pa

    for value in values:
        if value is not None and value.utcoffset() is None:
            raise _ZonelessError(str(value))
    return pa.array([value and value.astimezone(UTC) for value in values], pa.timestamp("us", "UTC"))


def _typed(name: str, convert: Callable[[Any], Any]) -> "Callable[[Sequence[Any]], pa.Array]":
    def array(values: Sequence[Any]) -> "pa.Array":
        import pyarrow as pa

        return pa.array([value if value is None else convert(value) for value in values], pa.type_for_alias(name))

    return array


# In this order: a bool is a whole number, and a datetime a date, to Python.
_KINDS: "dict[type, Callable[[Sequence[Any]], pa.Array]]" = {
    bool: _typed("bool", bool),
    numbers.Integral: _typed("int64", int),
    numbers.Real: _doubles,
    Decimal: _decimals,
    str: _typed("string", str),
    datetime: _times,
    date: _typed("date32", lambda day: day),
    UUID: _typed("string", str),
}


def _common(kinds: "Sequence[pa.DataType]", name: str, of: str) -> "pa.DataType":
    import pyarrow as pa

    found = set(kinds) - {pa.null()}
    if found == {pa.int64(), pa.float64()}:
        return pa.float64()
    if len(found) > 1:
        raise _mixed(of, name, sorted(str(kind) for kind in found))
    return found.pop() if found else pa.null()


def _mixed(of: str, name: str, kinds: Sequence[str]) -> DeliveryError:
    return DeliveryError(f"{of}: column {name} holds values of several types: {shorten(kinds)}; {_CAST}.")
