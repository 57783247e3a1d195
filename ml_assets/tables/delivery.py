"""Gathers delivered files into typed rows, and says what is wrong with the structure of the others.

A file has the columns of its contract, in any order and spelled exactly so. Widening is fine (32 to 64 bits, int to
float while exact, any time zone to UTC, seconds to microseconds); whatever would lose something is a wrong type. What
becomes of wrong types, and of columns that the contract does not name, is the schema policy's to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import pyarrow as pa

from ml_assets.errors import DeliveryError
from ml_assets.tables.drift_policy import Settled, settle
from ml_assets.tables.evolution import evolve, inferred
from ml_assets.tables.format import Format, SchemaPolicy
from ml_assets.tables.formats import read
from ml_assets.tables.formats.cells import arrow_type
from ml_assets.tables.schema import Column, Contract

_AS_NAMED, _FREEZE = Format(), SchemaPolicy()
_NOTHING: Mapping[str, str] = MappingProxyType({})
_STAMPS = {"partition_key": "VARCHAR", "_file": "VARCHAR", "_row": "BIGINT", "_arrived_at": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class FileProblem:
    """A file that was refused, and why: unreadable, empty, a missing or unexpected column, a wrong type."""

    file: str
    problem: str
    partition: str | None = None


@dataclass(frozen=True)
class DeliveredFile:
    """A delivered file; `partition` is None in a table without partitions, `format` where it is that of the others."""

    name: str
    content: bytes
    partition: str | None
    arrived_at: datetime
    format: Format | None = None


@dataclass(frozen=True)
class Gathered:
    """What a delivery came to.

    rows: the contract's columns, then the evolved ones (by name, nullable), then the stamps of `stamp`. refused: rows
    that the schema policy sent to the quarantine, in its schema. discarded: dropped values by partition ("" without
    partitions) and column. The description of an evolved column says if files disagreed on its type.
    """

    rows: pa.Table
    refused: pa.Table
    problems: tuple[FileProblem, ...]
    evolved: tuple[Column, ...]
    discarded: Mapping[tuple[str, str], int]


def gather(
    files: Iterable[DeliveredFile],
    contract: Contract,
    format: Format = _AS_NAMED,
    policy: SchemaPolicy = _FREEZE,
    stored: Mapping[str, str] = _NOTHING,
) -> Gathered:
    """Read files, each judged by itself; a refused file is a problem, and none of its rows come in.

    `stored` are the types of the columns that the table took in before: what is delivered comes to them without loss.
    """
    read_files, problems = [], []
    spellings = {name.casefold(): name for name in stored}
    for file in files:
        try:
            settled = settle(read(file.content, file.name, file.format or format), file.name, contract, policy)
            kinds = inferred(settled, file.name, spellings, stored)
        except DeliveryError as error:
            problems.append(FileProblem(file.name, str(error), file.partition))
            continue
        spellings |= {name.casefold(): name for name in kinds}
        read_files.append((file, settled, kinds))
    evolved, tables = evolve([(file.name, settled, kinds) for file, settled, kinds in read_files], stored)
    stamped = [stamp(rows, file) for rows, (file, *_) in zip(tables, read_files, strict=True)]
    refused = [_stamp_refused(settled.refused, file) for file, settled, _ in read_files]
    return Gathered(
        pa.concat_tables([stamped_schema(contract, evolved).empty_table(), *stamped]),
        pa.concat_tables([quarantine_schema().empty_table(), *refused]),
        tuple(problems),
        evolved,
        _discarded([(file, settled) for file, settled, _ in read_files]),
    )


def read_delivery(content: bytes, name: str, contract: Contract, format: Format = _AS_NAMED) -> pa.Table:
    """The rows of one file as its contract wants them, and `_row`; DeliveryError says everything that is wrong."""
    return settle(read(content, name, format), name, contract, _FREEZE).rows


def stamp(rows: pa.Table, file: DeliveredFile) -> pa.Table:
    """Add where and when each row arrived: partition_key, _file, _row, _arrived_at.

    `_row` is the line of the file in CSV (the header is line 1) and JSON lines, the row (the first is 1) in others.
    """
    numbers = rows["_row"]
    return _with(
        rows.drop_columns(["_row"]),
        {"partition_key": file.partition, "_file": file.name, "_row": numbers, "_arrived_at": file.arrived_at},
    )


def stamped_schema(contract: Contract, evolved: Sequence[Column] = ()) -> pa.Schema:
    """The Arrow schema of stamped rows."""
    columns = {column.name: column.type for column in (*contract.columns, *evolved)}
    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in {**columns, **_STAMPS}.items()])


def quarantine_schema() -> pa.Schema:
    """The Arrow schema of the quarantine; `row` is what `_row` is, `record` is JSON of the row as delivered."""
    text = pa.string()
    return pa.schema(
        [
            ("partition_key", text),
            ("file", text),
            ("row", pa.int64()),
            ("rule", text),
            ("rules", pa.list_(text)),
            ("record", text),
            ("arrived_at", arrow_type("TIMESTAMPTZ")),
        ]
    )


def _with(rows: pa.Table, stamps: Mapping[str, object]) -> pa.Table:
    for name, value in stamps.items():
        kind = arrow_type(_STAMPS[name])
        values = value if isinstance(value, pa.ChunkedArray) else pa.repeat(pa.scalar(value, kind), rows.num_rows)
        rows = rows.append_column(name, values)
    return rows


def _stamp_refused(refused: pa.Table, file: DeliveredFile) -> pa.Table:
    stamps = {"partition_key": file.partition or "", "_file": file.name, "_arrived_at": file.arrived_at}
    stamped = _with(refused, stamps).rename_columns({"_file": "file", "_arrived_at": "arrived_at"})
    return stamped.select(quarantine_schema().names)


def _discarded(files: Sequence[tuple[DeliveredFile, Settled]]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for file, settled in files:
        for column, n in settled.discarded.items():
            key = (file.partition or "", column)
            counts[key] = counts.get(key, 0) + n
    return counts
