"""Small operations on Arrow tables that several steps need."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def among(rows: "pa.Table", column: str, values: Sequence[str]) -> "pa.Table":
    """The rows whose text in a column is one of the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows[column], pa.array(values, pa.string())))  # pyright: ignore[reportAttributeAccessIssue]  made at run time


def other_than(rows: "pa.Table", column: str, values: Sequence[str]) -> "pa.Table":
    """The rows whose text in a column is none of the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(rows[column], pa.array(values, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]  made at run time
    return rows.filter(pc.invert(found))  # pyright: ignore[reportAttributeAccessIssue]  made at run time


def as_table(columns: Mapping[str, Any]) -> "pa.Table":
    """Columns of any kind as a table; NaN becomes null."""
    import pyarrow as pa

    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
