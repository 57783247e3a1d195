"""Bringing rows to the column types of the lake, without ever losing a value."""

from typing import TYPE_CHECKING

from ml_assets.errors import LakeError, shorten

if TYPE_CHECKING:
    import pyarrow as pa


def storable(rows: "pa.Table", name: str) -> "pa.Table":
    """Give rows the types that Delta stores: UTC microseconds, plain strings, signed integers, all nullable."""
    import pyarrow as pa

    fields = [pa.field(field.name, _stored_type(field.type)) for field in rows.schema]
    _require_distinct(rows.column_names, name)
    return _cast(rows, pa.schema(fields), name)


def aligned(rows: "pa.Table", schema: "pa.Schema", name: str) -> "pa.Table":
    """Give rows the columns of a table, then their own new ones; missing ones are null, narrower types widen.

    Raises:
        LakeError: a column's type differs by more than a widening.
    """
    import pyarrow as pa

    _require_widening(rows.schema, schema, name)
    new = [field for field in rows.schema if field.name not in schema.names]
    target = pa.schema([pa.field(field.name, field.type) for field in schema] + new)
    for field in target:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
    return _cast(rows.select(target.names), target, name)


def widens(given: "pa.Schema", stored: "pa.Schema") -> bool:
    """Tell whether every given column that is stored too has its type, or one that widens to it without loss."""
    return all(field.name not in stored.names or _widens(field.type, stored.field(field.name).type) for field in given)


def require_typed(schema: "pa.Schema", name: str) -> None:
    """Refuse columns that Delta has no place for: of no type at all, or instants without a time zone."""
    import pyarrow as pa

    for field in schema:
        if pa.types.is_null(field.type):
            raise LakeError(f"{name}: column '{field.name}' has no type, since it is null everywhere. Cast it.")
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            raise LakeError(f"{name}: column '{field.name}' is a time without a zone. Cast it to TIMESTAMPTZ.")


def _stored_type(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp("us", tz="UTC")
    wider = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
    return wider.get(kind, kind)


def _cast(rows: "pa.Table", schema: "pa.Schema", name: str) -> "pa.Table":
    import pyarrow as pa

    try:
        return rows.cast(schema)
    except pa.ArrowInvalid as error:
        raise LakeError(f"{name}: a value does not fit the stored type: {error}") from error


def _require_distinct(columns: list[str], name: str) -> None:
    lower = [column.lower() for column in columns]
    twice = sorted({column for column in lower if lower.count(column) > 1})
    if twice:
        raise LakeError(f"{name}: columns of the same name (upper and lower case are one): {shorten(twice)}.")


def _require_widening(rows: "pa.Schema", schema: "pa.Schema", name: str) -> None:
    for field in rows:
        if field.name not in schema.names or _widens(field.type, schema.field(field.name).type):
            continue
        raise LakeError(
            f"{name}: column '{field.name}' is {schema.field(field.name).type} in the table and {field.type} in the"
            " rows. Cast it, or write all partitions of the table at once to change its type."
        )


def _widens(given: "pa.DataType", stored: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    if given == stored or kinds.is_null(given):
        return True
    if kinds.is_integer(given) and kinds.is_integer(stored):
        return given.bit_width <= stored.bit_width
    return kinds.is_float64(stored) and (kinds.is_float32(given) or kinds.is_integer(given))
