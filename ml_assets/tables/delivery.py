"""Reads delivered files into typed rows, or says what is wrong with their structure.

A file has exactly the columns of its contract, in any order. Widening is fine (32 to 64 bits, int to float while exact,
any time zone to UTC, seconds to microseconds); whatever would lose something is a wrong type. In text formats an empty
field is null, and so are NA, NaN and null outside text columns.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_assets.errors import DeliveryError, shorten
from ml_assets.tables.schema import Column, Contract

if TYPE_CHECKING:
    import pyarrow as pa

_NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
_JSON = {"VARCHAR": (str,), "BIGINT": (int,), "DOUBLE": (int, float), "TIMESTAMPTZ": (str,), "DATE": (str,)}


@dataclass(frozen=True)
class FileProblem:
    """A file that could not be read, and why: unreadable, empty, a missing or unexpected column, a wrong type."""

    file: str
    problem: str


@dataclass(frozen=True)
class DeliveredFile:
    """A delivered file; `partition` is None in a table without partitions."""

    name: str
    content: bytes
    partition: str | None
    arrived_at: datetime


def gather(files: Iterable[DeliveredFile], contract: Contract) -> "tuple[pa.Table, tuple[FileProblem, ...]]":
    """The readable rows, stamped for `validate` (perhaps none), and a problem for each file that is not."""
    import pyarrow as pa

    tables, problems = [stamped_schema(contract).empty_table()], []
    for file in files:
        try:
            tables.append(stamp(read_delivery(file.content, file.name, contract), file))
        except DeliveryError as error:
            problems.append(FileProblem(file.name, str(error)))
    return pa.concat_tables(tables), tuple(problems)


def stamp(rows: "pa.Table", file: DeliveredFile) -> "pa.Table":
    """Add where and when each row arrived: partition_key, _file, _row (the first data row is 1), _arrived_at."""
    import pyarrow as pa

    n, row_numbers = rows.num_rows, pa.array(range(1, rows.num_rows + 1), pa.int64())
    stamps = {
        "partition_key": pa.repeat(pa.scalar(file.partition, pa.string()), n),
        "_file": pa.repeat(pa.scalar(file.name, pa.string()), n),
        "_row": row_numbers,
        "_arrived_at": pa.repeat(pa.scalar(file.arrived_at, arrow_type("TIMESTAMPTZ")), n),
    }
    for name, values in stamps.items():
        rows = rows.append_column(name, values)
    return rows


def stamped_schema(contract: Contract) -> "pa.Schema":
    """The Arrow schema of stamped rows."""
    import pyarrow as pa

    fields = [pa.field(column.name, arrow_type(column.type)) for column in contract.columns]
    stamps = {"partition_key": "VARCHAR", "_file": "VARCHAR", "_row": "BIGINT", "_arrived_at": "TIMESTAMPTZ"}
    return pa.schema(fields + [pa.field(name, arrow_type(kind)) for name, kind in stamps.items()])


def arrow_type(kind: str) -> "pa.DataType":
    """The Arrow type in which a column of this DuckDB type is kept."""
    import pyarrow as pa

    return {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
        "DATE": pa.date32(),
    }[kind]


def read_delivery(content: bytes, name: str, contract: Contract) -> "pa.Table":
    """The rows of a .parquet, .csv or .jsonl file (the last two also .gz), with the columns and types of the contract.

    DeliveryError names the file, the column, what was found and what was expected, and what to do.
    """
    import pyarrow as pa

    columns = _read_columns(content, name, contract)
    problems = _differences(list(columns), contract)
    typed = {}
    for column in contract.columns:
        try:
            if column.name in columns:
                typed[column.name] = columns[column.name](column)
        except (_WrongTypeError, pa.ArrowException, OverflowError, UnicodeDecodeError) as error:
            problems.append(f"column {column.name} is not {column.type}: {error}")
    if problems:
        raise _broken(name, shorten(problems), f"correct the delivery, or change {contract.reference}")
    table = pa.table(typed)
    if table.num_rows == 0:
        raise _broken(name, "it holds no rows", "deliver it again, or remove it")
    return table


class _WrongTypeError(Exception):
    """A value or column does not have the type of the contract."""


_Typed = Callable[[Column], "pa.ChunkedArray | pa.Array"]


def _broken(name: str, problem: str, advice: str) -> DeliveryError:
    return DeliveryError(f"{name}: {problem}; {advice}")


def _differences(found: Sequence[str], contract: Contract) -> list[str]:
    expected = contract.names()
    missing = [column for column in expected if column not in found]
    unexpected = [column for column in found if column not in expected]
    problems = []
    if missing:
        problems.append(f"missing column {shorten(missing)}")
    if unexpected:
        problems.append(f"unexpected column {shorten(unexpected)}")
    return problems


def _read_columns(content: bytes, name: str, contract: Contract) -> dict[str, _Typed]:
    """For each column of the file, a function that types it."""
    import pyarrow as pa

    if not content:
        raise _broken(name, "the file is empty", "deliver it again, or remove it")
    base, zipped = name.lower().removesuffix(".gz"), name.lower().endswith(".gz")
    reader = next((reader for suffix, reader in _READERS.items() if base.endswith(suffix)), None)
    if reader is None or (zipped and reader is _parquet):
        known = ".parquet, .csv, .csv.gz, .jsonl, .jsonl.gz"
        raise _broken(name, "unknown kind of file", f"the name ends with one of {known}")
    try:
        return reader(gzip.decompress(content) if zipped else content, contract)
    except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, _WrongTypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise _broken(name, f"unreadable: {reason}", "deliver it again") from error


def _parquet(content: bytes, _: Contract) -> dict[str, _Typed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(pa.BufferReader(content)).read()
    table.validate(full=True)  # a damaged page can decode to invalid text, which DuckDB trusts
    _check_names(table.column_names)
    return {name: _widener(table.column(name)) for name in table.column_names}


def _check_names(names: Sequence[str]) -> None:
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise _WrongTypeError(f"two columns have the name {shorten(sorted(doubled))}")


def _widener(values: "pa.ChunkedArray") -> _Typed:
    def widen(column: Column) -> "pa.ChunkedArray":
        if not _widens(values.type, column.type):
            raise _WrongTypeError(f"found {values.type}")
        return values.cast(arrow_type(column.type))

    return widen


def _widens(found: "pa.DataType", kind: str) -> bool:
    import pyarrow.types as t

    accepted = {
        "VARCHAR": lambda: t.is_string(found) or t.is_large_string(found) or t.is_string_view(found),
        "BIGINT": lambda: t.is_integer(found),
        "DOUBLE": lambda: t.is_floating(found) or t.is_integer(found),
        "BOOLEAN": lambda: t.is_boolean(found),
        "TIMESTAMPTZ": lambda: t.is_timestamp(found) and found.tz is not None,
        "DATE": lambda: t.is_date(found),
    }
    if t.is_dictionary(found):
        return _widens(found.value_type, kind)
    return t.is_null(found) or accepted[kind]()


def _csv(content: bytes, contract: Contract) -> dict[str, _Typed]:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(
        column_types={name: pa.string() for name in contract.names()},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parsing = csv.ParseOptions(newlines_in_values=True)
    whole = content if content.endswith(b"\n") else content + b"\n"  # a header alone is no error of Arrow then
    table = csv.read_csv(pa.BufferReader(whole), convert_options=options, parse_options=parsing)
    _check_names(table.column_names)
    return {name: _parser(table.column(name).combine_chunks()) for name in table.column_names}


def _parser(texts: "pa.Array") -> _Typed:
    def parse(column: Column) -> "pa.Array":
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.type == "VARCHAR":
            return texts
        nulls = pc.call_function("is_in", [texts], pc.SetLookupOptions(pa.array(_NULLS)))
        values = pc.call_function("if_else", [nulls, pa.scalar(None, pa.string()), texts])
        return _cast_text(values, arrow_type(column.type))

    return parse


def _cast_text(values: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        row = _first_failure(values, kind)
        hint = "; write the time zone, 2013-01-05T14:00:00Z" if "zone offset" in str(error) else ""
        raise _WrongTypeError(f"row {row + 1} holds {values[row].as_py()!r}{hint}") from error


def _first_failure(values: "pa.Array", kind: "pa.DataType") -> int:
    """The position of the first text that does not parse, by halving."""
    import pyarrow as pa

    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _jsonl(content: bytes, contract: Contract) -> dict[str, _Typed]:
    rows = [json.loads(line) for line in content.decode("utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise _WrongTypeError(f"line {number} is no JSON object")
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(contract.names())
    return {name: _json_values([row.get(name) for row in rows]) for name in names}


def _json_values(values: list[Any]) -> _Typed:
    def convert(column: Column) -> "pa.Array":
        import pyarrow as pa

        allowed = _JSON.get(column.type, (bool,))
        for number, value in enumerate(values, 1):
            wrong = not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
            if value is not None and wrong:
                raise _WrongTypeError(f"row {number} holds {value!r}")
        if column.type in ("TIMESTAMPTZ", "DATE"):
            return _cast_text(pa.array(values, pa.string()), arrow_type(column.type))
        return pa.array(values, arrow_type(column.type))

    return convert


_READERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
