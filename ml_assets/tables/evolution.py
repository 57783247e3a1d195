"""Columns that deliveries bring and the contract does not name: one type for all files of a gathering."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ml_assets.errors import DeliveryError
from ml_assets.tables.drift_policy import Settled
from ml_assets.tables.formats.cells import UnreadableError, arrow_type
from ml_assets.tables.schema import Column


def inferred(settled: Settled, name: str, taken: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The type of each new column that holds anything in a file.

    DeliveryError for a column that has no type of the table, for one that another file spelled otherwise (`taken` are
    the spellings before, by case-folded name) and for one that is not of its type in `stored`, nor narrower.
    """
    kinds = {}
    for column in settled.new:
        spelled = {**taken, **{known.casefold(): known for known in kinds}}.get(column.casefold(), column)
        if spelled != column:
            raise DeliveryError(f"{name}: column {column} came as {spelled} before; spell it in one way")
        try:
            kind = settled.cells.infer(column)
        except UnreadableError as error:
            raise DeliveryError(f"{name}: {error}; {error.advice}") from error
        if kind is not None:
            _require_fitting(settled, name, column, kind, stored.get(column, kind))
            kinds[column] = kind
    return kinds


def _require_fitting(settled: Settled, name: str, column: str, kind: str, stored: str) -> None:
    fits = stored in (kind, "VARCHAR")
    if (kind, stored) == ("BIGINT", "DOUBLE"):
        fits = _values(settled, column, stored, kind) is not None
    if not fits:
        advice = "deliver it as before, or declare it in the contract"
        raise DeliveryError(f"{name}: column {column} is {stored} in the table, and {kind} here; {advice}")


def evolve(
    files: Sequence[tuple[str, Settled, Mapping[str, str]]], stored: Mapping[str, str]
) -> tuple[tuple[Column, ...], list[pa.Table]]:
    """The new columns by name, and for each file its rows with them.

    Where files disagree, among each other or with what is `stored`, a column is widened: whole numbers to numbers,
    everything else to text as it was delivered.
    """
    names = sorted({name for _, _, kinds in files for name in kinds})
    columns, tables = [], [settled.rows for _, settled, _ in files]
    for name in names:
        kind, values = _column(name, [(settled, kinds) for _, settled, kinds in files], stored)
        tables = [table.append_column(name, value) for table, value in zip(tables, values, strict=True)]
        columns.append(Column(name, kind, nullable=True, description=_told(name, kind, files)))
    return tuple(columns), tables


def _column(
    name: str, files: Sequence[tuple[Settled, Mapping[str, str]]], stored: Mapping[str, str]
) -> tuple[str, list[pa.ChunkedArray]]:
    found = {kinds[name] for kinds in (*(kinds for _, kinds in files), stored) if name in kinds}
    kind = found.pop() if len(found) == 1 else "DOUBLE" if found == {"BIGINT", "DOUBLE"} else "VARCHAR"
    values = [_values(settled, name, kind, kinds.get(name)) for settled, kinds in files]
    if all(value is not None for value in values):
        return kind, [value for value in values if value is not None]
    return _column_as_text(name, files)


def _column_as_text(name: str, files: Sequence[tuple[Settled, Mapping[str, str]]]) -> tuple[str, list[pa.ChunkedArray]]:
    values = [_values(settled, name, "VARCHAR", kinds.get(name)) for settled, kinds in files]
    return "VARCHAR", [value for value in values if value is not None]


def _values(settled: Settled, name: str, kind: str, found: str | None) -> pa.ChunkedArray | None:
    """A column at the rows that stay, found to be of a narrower type or not there; None if a value is not exact."""
    if found is None:
        return pa.chunked_array([pa.nulls(settled.rows.num_rows, arrow_type(kind))])
    try:
        if kind == "VARCHAR":
            values = settled.cells.delivered(name).cast(pa.string())
        else:
            values = settled.cells.typed(Column(name, found, nullable=True)).values.cast(arrow_type(kind))
    except pa.ArrowInvalid:
        return None
    return values if settled.kept is None else values.filter(settled.kept)


def _told(name: str, kind: str, files: Sequence[tuple[str, Settled, Mapping[str, str]]]) -> str:
    found: dict[str, str] = {}
    for file, _, kinds in files:
        if name in kinds:
            found.setdefault(kinds[name], file)
    if len(found) == 1 and kind in found:
        return "Not in the contract."
    return f"Not in the contract; widened to {kind}: {', '.join(f'{k} in {file}' for k, file in found.items())}."
