"""`ml-assets table`: what tables hold now, what they held at any moment, and what changed in between."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets import reading
from ml_assets.adapters import versions
from ml_assets.adapters.difference import Change, Difference, difference
from ml_assets.adapters.lake import Lake, Version
from ml_assets.adapters.versions import said_moment
from ml_assets.cli import project
from ml_assets.cli.output import Form, Format, Limit, Output, emit, note, show, sql_errors_said
from ml_assets.engine import connect, quote
from ml_assets.errors import LakeError, MlAssetsError, TableNotFoundError, shorten

if TYPE_CHECKING:
    import duckdb

table = typer.Typer(
    no_args_is_help=True,
    help="""Read tables, as they are or as they were at any moment.

    A [b]NAME[/b] is a declared table ([cyan]flight_outcomes[/cyan],
    [cyan]flights/flight_outcomes[/cyan]) or a table of the lake by its layer
    ([cyan]quarantine/weather[/cyan]). Times without zone are UTC.""",
)

_Name = Annotated[str, typer.Argument(help="flight_outcomes, flights/flight_outcomes or features/carrier_delays.")]
_AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="As it was at this moment: 2013-03-01T14:30.")
]


@table.command("list")
def list_tables(
    every: Annotated[bool, typer.Option("--all", help="All layers: raw, quarantine, features, ...")] = False,
) -> None:
    """List tables with their rows, partitions, versions, newest commit and size.

    [dim]ml-assets table list[/dim]
    """
    lake = reading.lake()
    stored = versions.tables(lake)
    names = stored if every else [f"tables/{name}" for name in sorted(project.specs())]
    numbers = ("rows", "partitions", "versions", "size")
    found = [_described(lake, name) if name in stored else (name, "", "", "", "not yet", "") for name in names]
    shown = [(_short(name, every), *rest) for name, *rest in found]
    show(("table", "rows", "partitions", "versions", "newest", "size"), shown, numbers=numbers)
    note(f"{lake.uri}{'' if every else '; --all lists the other layers too'}")


@table.command()
def read(  # noqa: PLR0913, PLR0917  options of a command
    name: _Name,
    as_of: _AsOf = None,
    version: Annotated[int | None, typer.Option(help="In this version; see `table history`.")] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="Only this partition: 2013-01-05. Can be repeated.")
    ] = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Only rows for which this holds.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Only these columns.")] = None,
    limit: Limit = None,
    form: Form = Format.TABLE,
    output: Output = None,
) -> None:
    """Read rows of a table, as they are or as they were.

    [dim]ml-assets table read flight_outcomes --where "origin = 'JFK'" --columns flight_id,arrival_delay_minutes
    ml-assets table read flights/flight_outcomes --as-of 2013-03-01T00:00 --partition 2013-01-05
    ml-assets table read features/carrier_delays --output delays.parquet[/dim]
    """
    if as_of and version is not None:
        raise MlAssetsError("Give --as-of or --version, not both.")
    lake = reading.lake()
    full = project.stored_table(lake, name)
    found = versions.version_at(lake, full, as_of or version)
    with connect() as con:
        rows = lake.read(full, con, partitions=_partitions(lake, full, found, partition), version=found.version)
        if as_of or version is not None:
            note(f"{full}: version {found.version}, committed {said_moment(found.committed_at)}.")
        emit(con, _narrowed(rows, where, columns), form, limit=limit, output=output)


@table.command()
def history(
    name: _Name,
    limit: Annotated[int, typer.Option(min=0, help="Versions at most, the newest first; 0 is all.")] = 20,
) -> None:
    """List the versions of a table: when, by which operation, which partitions changed, how many rows there were.

    [dim]ml-assets table history flight_outcomes[/dim]
    """
    lake = reading.lake()
    full = project.stored_table(lake, name)
    known = lake.history(full)
    listed = known[:limit] if limit else known
    lines = [_line(lake, full, each) for each in listed]
    show(("version", "committed", "operation", "partitions changed", "rows"), lines, numbers=("version", "rows"))
    if len(listed) < len(known):
        note(f"The newest {len(listed)} of {len(known)} versions; --limit 0 lists all.")


@table.command()
def diff(
    name: _Name,
    before: Annotated[str, typer.Option("--from", metavar="VERSION|TIME", help="A version or a moment.")],
    after: Annotated[
        str | None, typer.Option("--to", metavar="VERSION|TIME", help="[dim]default: the newest version[/dim]")
    ] = None,
    keys: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to match rows by. [dim]default: the declared keys[/dim]")
    ] = None,
    limit: Limit = None,
    form: Annotated[Format, typer.Option("--format", help="`table` or `json`.")] = Format.TABLE,
) -> None:
    """Show which rows were added, removed and changed between two versions.

    Partitions whose files are the same are not read.

    [dim]ml-assets table diff flight_outcomes --from 3 --to 5
    ml-assets table diff flight_outcomes --from 2013-03-01T00:00 --format json[/dim]
    """
    if form not in (Format.TABLE, Format.JSON):
        raise MlAssetsError("A difference is written as `table` or `json`.")
    lake = reading.lake()
    full = project.stored_table(lake, name)
    old, new = versions.version_at(lake, full, before), versions.version_at(lake, full, after)
    by = tuple(key.strip() for key in keys.split(",")) if keys else project.keys_of(full)
    most = 20 if limit is None and form is Format.TABLE else limit or None
    found = difference(lake, full, old, new, keys=by, limit=most)
    if form is Format.JSON:
        typer.echo(_as_json(found))
    else:
        _show_difference(found)


@table.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="SELECT", help="Tables by name, or by layer.name.")],
    as_of: _AsOf = None,
    limit: Limit = None,
    form: Form = Format.TABLE,
    output: Output = None,
) -> None:
    """Ask the lake in SQL (DuckDB's), over all tables at once.

    [dim]ml-assets table sql "SELECT carrier, count(*) AS flights FROM flight_outcomes GROUP BY ALL ORDER BY ALL"
    ml-assets table sql "SELECT rule, count(*) FROM quarantine.weather GROUP BY ALL" --as-of 2013-03-01[/dim]
    """
    con = reading.connect(as_of=as_of)
    with sql_errors_said():
        emit(con, _asked(con, query), form, limit=limit, output=output)


def _asked(con: "duckdb.DuckDBPyConnection", query: str) -> "duckdb.DuckDBPyRelation":
    import duckdb

    if [statement.type for statement in con.extract_statements(query)] != [duckdb.StatementType.SELECT]:
        raise MlAssetsError("That gives no rows. Ask with one SELECT.")
    return con.sql(query)


def _short(name: str, every: bool) -> str:
    return name if every else name.removeprefix("tables/")


def _described(lake: Lake, name: str) -> tuple[Any, ...]:
    newest, found = lake.history(name, limit=1)[0], versions.files(lake, name)
    partitions = {file.partition for file in found} - {""}
    return (
        name,
        f"{sum(file.n_rows for file in found):,}",
        _span(sorted(partitions)) if partitions else "",
        newest.version + 1,
        said_moment(newest.committed_at).partition(".")[0].removesuffix(" UTC") + "Z",
        _size(sum(file.n_bytes for file in found)),
    )


def _span(partitions: Sequence[str]) -> str:
    return f"{partitions[0]} .. {partitions[-1]} ({len(partitions)})" if len(partitions) > 1 else partitions[0]


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


def _line(lake: Lake, name: str, entry: Version) -> tuple[Any, ...]:
    found = versions.files(lake, name, entry.version)
    changed = shorten(entry.partitions, 3) if entry.partitions else ""
    when = said_moment(entry.committed_at)
    return entry.version, when, entry.operation.lower(), changed, f"{sum(file.n_rows for file in found):,}"


def _partitions(lake: Lake, name: str, found: Version, wanted: Sequence[str] | None) -> Sequence[str] | None:
    if not wanted:
        return None
    known = lake.partitions(name, version=found.version)
    if missing := [each for each in wanted if each not in known]:
        held = f"it has {_span(known)}" if known else "it is not partitioned"
        raise TableNotFoundError(f"{name} version {found.version} has no partition {shorten(missing)}; {held}.")
    return wanted


def _narrowed(rows: "duckdb.DuckDBPyRelation", where: str | None, columns: str | None) -> "duckdb.DuckDBPyRelation":
    wanted = [each.strip() for each in columns.split(",")] if columns else []
    if unknown := [each for each in wanted if each not in rows.columns]:
        raise LakeError(f"There is no column {shorten(unknown)}, but: {shorten(rows.columns, 50)}.")
    with sql_errors_said():
        kept = rows.filter(where) if where else rows
        return kept.project(", ".join(map(quote, wanted))) if wanted else kept


def _show_difference(found: Difference) -> None:
    typer.echo(f"{found.name}: {_told(found.before)} -> {_told(found.after)}")
    for columns, what in ((found.new_columns, "New"), (found.gone_columns, "Gone")):
        if columns:
            typer.echo(f"{what} columns: {', '.join(columns)}.")
    if not found.counts:
        typer.echo("The rows are the same.")
        return
    kinds = ("added", "removed", "changed")
    counts = [(partition or "all", *(each[kind] for kind in kinds)) for partition, each in found.counts.items()]
    show(("partition", *kinds), [*counts, ("total", *(found.total(kind) for kind in kinds))], numbers=kinds)
    typer.echo()
    show(
        ("change", "partition", "row", "column", "old", "new"),
        [line for each in found.changes for line in _lines(each)],
    )
    total = sum(found.total(kind) for kind in kinds)
    if len(found.changes) < total:
        note(f"The first {len(found.changes)} of {total} rows; --limit 0 gives all.")
    if not found.keys:
        note("No keys are declared, so rows are compared whole; --keys a,b matches them.")


def _told(version: Version) -> str:
    return f"version {version.version} ({said_moment(version.committed_at)})"


def _lines(change: Change) -> list[tuple[Any, ...]]:
    """A line for each changed column; the row is named by its key, or by all that it holds."""
    row = " ".join(str(value) for value in (change.key or change.row).values())
    if not change.columns:
        return [(change.change, change.partition, row, "", "", "")]
    return [(change.change, change.partition, row, name, *pair) for name, pair in change.columns.items()]


def _as_json(found: Difference) -> str:
    import json

    def version(each: Version) -> dict[str, Any]:
        return {"version": each.version, "committed_at": each.committed_at.isoformat()}

    changes = [
        {
            "change": each.change,
            "partition": each.partition,
            "key": each.key,
            **({"row": each.row} if each.row else {}),
            **({"columns": {n: {"old": o, "new": w} for n, (o, w) in each.columns.items()}} if each.columns else {}),
        }
        for each in found.changes
    ]
    return json.dumps(
        {
            "table": found.name,
            "from": version(found.before),
            "to": version(found.after),
            "keys": list(found.keys),
            "partitions_read": list(found.partitions_read),
            "new_columns": list(found.new_columns),
            "gone_columns": list(found.gone_columns),
            "counts": found.counts,
            "rows": changes,
        },
        indent=1,
    )
