"""How rows are shown: a table on a terminal, plain columns in a pipe, or a format that other programs read."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.engine import literal
from ml_assets.errors import LakeError, MlAssetsError

if TYPE_CHECKING:
    import duckdb

_FEW = 20
_WIDEST = 60
_GAP = 2
_SIX_DIGITS = 1e6


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


Limit = Annotated[
    int | None, typer.Option(min=0, help="Rows at most, 0 is all. [dim]default: 20 for a table, else all[/dim]")
]
Form = Annotated[Format, typer.Option("--format", help="How to write it.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file; its ending tells the format.")]

_COPY = {
    Format.CSV: "FORMAT csv, HEADER true",
    Format.JSON: "FORMAT json, ARRAY true",
    Format.JSONL: "FORMAT json",
    Format.PARQUET: "FORMAT parquet, COMPRESSION zstd",
}


def note(sentence: str) -> None:
    """Say something about the result beside it, on stderr, so that a pipe holds the result alone."""
    typer.secho(sentence, err=True, dim=sys.stderr.isatty())


@contextmanager
def sql_errors_said() -> Iterator[None]:
    """Turn DuckDB's refusal of a user's SQL into an error that is told in a sentence."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        text = str(error).split("\n\nLINE ")[0].replace("Invalid Input Error: ", "").strip()
        raise LakeError(text) from error


def emit(
    con: "duckdb.DuckDBPyConnection",
    rows: "duckdb.DuckDBPyRelation",
    form: Format,
    *,
    limit: int | None = None,
    output: Path | None = None,
) -> None:
    """Write a relation; `limit` 0 is all, None is the first twenty for a table and all for the other formats."""
    if output and form is Format.TABLE:
        form = _format_of(output)
    most = _FEW if limit is None and form is Format.TABLE else limit or 0
    with sql_errors_said():
        if form is Format.TABLE:
            _show(rows, most)
            return
        wanted = rows.limit(most) if most else rows
        _copy(con, wanted, form, output)


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turn the refusal of a place into an error that is told in a sentence."""
    try:
        yield
    except OSError as error:
        raise MlAssetsError(f"{output} cannot be written: {error.strerror}. Choose another --output.") from error


def show(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[str] = ()) -> None:
    """Print texts as a table: with rules and colour on a terminal, as plain aligned columns elsewhere."""
    if not sys.stdout.isatty():
        _plain(columns, rows, numbers)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(_cell(value), style="dim" if value is None else "") for value in row])
    Console().print(table)


def shortened(value: float) -> str:
    """A number as people read it: six significant digits, and all of those before the point."""
    return str(float(f"{value:.6g}") if abs(value) < _SIX_DIGITS else round(value, 0))


def _format_of(output: Path) -> Format:
    found = next((form for form in _COPY if output.suffix == f".{form.value}"), None)
    if found is None:
        raise MlAssetsError(f"{output}: give --format csv, json, jsonl or parquet, or a name that ends so.")
    return found


def _show(rows: "duckdb.DuckDBPyRelation", most: int) -> None:
    rows = rows.project("*")  # a name that comes twice gets a number
    kinds = dict(zip(rows.columns, map(str, rows.types), strict=True))
    texts = rows.project(", ".join(_as_text(name, kind) for name, kind in kinds.items()))
    found = (texts.limit(most + 1) if most else texts).fetchall()
    listed = found[:most] if most else found
    numbers = [name for name, kind in kinds.items() if kind in _NUMBERS or kind.startswith("DECIMAL")]
    if _too_wide(list(kinds), listed):
        _records(list(kinds), listed)
    else:
        show(list(kinds), listed, numbers=numbers)
    if not listed:
        note("No rows.")
    if len(found) > len(listed):
        note(f"The first {most} rows; --limit 0 gives all.")


_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UINTEGER", "FLOAT", "DOUBLE")


def _as_text(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    value = f"CAST({quoted} AS VARCHAR)"
    if kind in ("DOUBLE", "FLOAT"):
        return quoted  # by `shortened`
    # times come in UTC; the marker of the zone is on every one
    return f"replace({value}, '+00', 'Z') AS {quoted}" if kind == "TIMESTAMP WITH TIME ZONE" else f"{value} AS {quoted}"


def _too_wide(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    return sum(_widths(columns, rows)) + _GAP * len(columns) > Console().width


def _records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """One line for each value, where a table would not fit."""
    width = max(map(len, columns))
    for number, row in enumerate(rows, 1):
        typer.secho(f"row {number}", bold=True)
        for column, value in zip(columns, row, strict=True):
            typer.echo(f"  {column:<{width}}  {_cell(value)}")


def _plain(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str]) -> None:
    widths = _widths(columns, rows)
    right = [column in numbers for column in columns]
    for row in (columns, *rows):
        cells = [
            _cell(value).rjust(width) if to_right else _cell(value).ljust(width)
            for value, width, to_right in zip(row, widths, right, strict=True)
        ]
        typer.echo((" " * _GAP).join(cells).rstrip())


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    return [max([len(name), *(len(_cell(row[i])) for row in rows)]) for i, name in enumerate(columns)]


def _cell(value: Any) -> str:
    return "null" if value is None else shortened(value) if isinstance(value, float) else str(value)


def _copy(con: "duckdb.DuckDBPyConnection", rows: "duckdb.DuckDBPyRelation", form: Format, output: Path | None) -> None:
    if output is None:
        _stream(con, rows, form)
        return
    if output.exists() and not output.is_file():  # a device, or a pipe: never to be replaced by a file
        _copy_to(con, rows, form, str(output))
        return
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        place = output.resolve()  # what a link leads to
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        _copy_to(con, rows, form, str(beside))
        beside.replace(place)
    note(f"Wrote {output}.")


def _copy_to(con: "duckdb.DuckDBPyConnection", rows: "duckdb.DuckDBPyRelation", form: Format, target: str) -> None:
    rows.create_view("rows_to_write")
    con.execute(f"COPY (FROM rows_to_write) TO {literal(target)} ({_COPY[form]})")


def _stream(con: "duckdb.DuckDBPyConnection", rows: "duckdb.DuckDBPyRelation", form: Format) -> None:
    """Write to stdout while DuckDB reads, through a pipe, since it can only write to names."""
    source, target = os.pipe()
    failures: list[Exception] = []
    enough = False

    def write() -> None:
        try:
            _copy_to(con, rows, form, f"/dev/fd/{target}")
        except Exception as error:  # noqa: BLE001  raised again below, where it is told
            failures.append(error)
        finally:
            os.close(target)

    writer = Thread(target=write)
    writer.start()
    try:
        with os.fdopen(source, "rb") as stream:
            while chunk := stream.read1(1 << 16):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # `| head` has enough
        enough = True
        con.interrupt()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        writer.join()
    if failures and not enough:
        raise failures[0]
