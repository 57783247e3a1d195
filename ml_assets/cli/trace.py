"""`ml-assets features trace`: from one answer of an endpoint back to the rows and files that its inputs come from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.adapters.versions import said_moment
from ml_assets.cli import project
from ml_assets.cli.output import Form, Format, Limit, Output, emit, note
from ml_assets.engine import connect, quote

if TYPE_CHECKING:
    import duckdb

    from ml_assets.serving.bundle import ViewRef
    from ml_assets.steps.run import Run
    from ml_assets.steps.trace import Answer, Behind

_REQUEST = "the request"


def trace(
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION_ID", help="As the endpoint gave it.")],
    view: Annotated[
        str | None, typer.Option(metavar="VIEW", help="Show the rows behind the features of this view.")
    ] = None,
    limit: Limit = None,
    form: Form = Format.TABLE,
    output: Output = None,
) -> None:
    """Trace an answer back: its inputs, as served and as the lake gives them, and the rows that each was made from.

    Each feature row is computed again from these rows alone and has equal bits, or says NOT. With --view they are
    shown: of windows which hold them, of lookups and SQL the fewest that give the feature row, and the deliveries of
    their day with the beginning of their hash.

    [dim]ml-assets features trace 03f7671919244dd294a7b964d6ec64d6
    ml-assets features trace 03f7671919244dd294a7b964d6ec64d6 --view carrier_delays --format csv[/dim]
    """
    from ml_assets.components.endpoint import Endpoint
    from ml_assets.steps import trace as steps
    from ml_assets.steps.run import Run

    known, run = project.project(), Run(Settings.from_environment())
    found = steps.answer([each.spec(known) for each in known.named(Endpoint).values()], run, prediction_id)
    note(_said(found))
    with connect() as con:
        rows = _rows_behind(con, found, view, run) if view else _inputs(con, found, run)
        emit(con, rows, form, limit=limit if view else limit or 0, output=output)


def _said(found: "Answer") -> str:
    row = found.logged
    asked = f"asked {said_moment(row['logged_at'])} as of {said_moment(row['at'])}"
    version = f"version {row['version']} (bundle {found.bundle.digest[:12]})"
    return f"{row['score']!r} by {found.endpoint} {version}, {asked}. {found.sentence}"


def _inputs(con: "duckdb.DuckDBPyConnection", found: "Answer", run: "Run") -> "duckdb.DuckDBPyRelation":
    """A line for each input."""
    import pyarrow as pa

    from ml_assets.steps.trace import behind

    refs = {ref.name: ref for ref in found.bundle.schema.views}
    sources = {name: _source(ref, found, behind(found, name, run)) for name, ref in refs.items()}
    lines = [
        {
            "input": value.name,
            "served": _text(value.served),
            "lake": _text(value.lake),
            "same": "yes" if value.same else "NO",
            "made from": sources[value.ref.name] if value.ref else _REQUEST,
        }
        for value in found.values
    ]
    return con.from_arrow(pa.Table.from_pylist(lines))


def _text(value: float | str | None) -> str | None:
    return value if value is None or isinstance(value, str) else repr(value)


def _source(ref: "ViewRef", found: "Answer", rows: "Behind | None") -> str:
    row_at, view = found.row_at[ref.name], f"{ref.name}@{ref.version}"
    if row_at is None or rows is None:
        return f"{view}: no row counts, {'its defaults' if ref.defaults else 'nulls'}"
    return f"{view} of {said_moment(row_at)}: {rows.sentence()}"


def _rows_behind(con: "duckdb.DuckDBPyConnection", found: "Answer", view: str, run: "Run") -> "duckdb.DuckDBPyRelation":
    """The rows of all tables below each other, with the columns that tell most first."""
    import pyarrow as pa

    from ml_assets.steps.trace import behind

    name = view.removeprefix("features/").partition("@")[0]
    rows = behind(found, name, run)
    note(f"{_source(next(r for r in found.bundle.schema.views if r.name == name), found, rows)}.")
    tables = {place: rows.origin.rows[table] for table, (place, _) in rows.places.items()} if rows else {}
    tables = {place: table for place, table in tables.items() if table.num_rows}
    if not tables:
        return con.from_arrow(pa.table({"known_at": pa.array([], pa.timestamp("us", "UTC"))}))
    for n, table in enumerate(tables.values()):
        con.register(f"rows_{n}", table)
    parts = [
        f"SELECT {', '.join(_columns(place, table, len(tables)))} FROM rows_{n}"
        for n, (place, table) in enumerate(tables.items())
    ]
    return con.sql(" UNION ALL BY NAME ".join(parts))


def _columns(place: str, table: Any, n_tables: int) -> Iterator[str]:
    """The table where there are several, when it was known, windows, deliveries, and then what the row says."""
    from ml_assets.features.provenance import WINDOWS
    from ml_assets.steps.trace import DELIVERED_IN

    if n_tables > 1:
        yield f"'{place}' AS \"table\""
    first: Sequence[str] = ("known_at", WINDOWS, DELIVERED_IN)
    names = table.column_names
    others = [name for name in names if name not in (*first, "partition_key")]
    yield from (quote(name) for name in (*others[:1], *(n for n in first if n in names), *others[1:]))
