"""`ml-assets features trace`: from one answer of an endpoint back to the rows that its inputs come from."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.adapters.versions import said_moment
from ml_assets.cli import project
from ml_assets.cli.output import Form, Format, Limit, Output, emit, note
from ml_assets.engine import connect, literal, quote
from ml_assets.errors import MlAssetsError, shorten

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ml_assets.serving.bundle import ViewRef
    from ml_assets.steps.trace import Answer, Behind, Value

_VALUES = ("served", "lake", "now")


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

    The lake is taken as it was when the answer was given; where an input was corrected since, [b]now[/b] is what the
    lake gives today. Each feature row is computed again, and from these rows alone.

    With --view the rows are shown: those of windows with the windows that hold them; of lookups and SQL each row that
    counts, since the feature row is another one without it or with other values in it. Beside each are the
    deliveries of its day, with the beginning of their hash.

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
        rows = _rows_behind(con, found, view) if view else _inputs(con, found, form)
        emit(con, rows, form, limit=limit if view else limit or 0, output=output)


def _said(found: "Answer") -> str:
    row = found.logged
    asked = f"asked {said_moment(row['logged_at'])} as of {said_moment(row['at'])}"
    version = f"version {row['version']} (bundle {found.bundle.digest[:12]})"
    corrected = f" Corrected in the lake since: {shorten(found.corrected)}." if found.corrected else ""
    return f"{row['score']!r} by {found.endpoint} {version}, {asked}. {found.sentence}{corrected}"


def _inputs(con: "duckdb.DuckDBPyConnection", found: "Answer", form: Format) -> "duckdb.DuckDBPyRelation":
    """A line for each input; in JSON its values are numbers."""
    import pyarrow as pa

    from ml_assets.steps.trace import behind

    rows = {ref.name: behind(found, ref.name) for ref in found.bundle.schema.views}
    none = {ref.name: _no_row(ref, found) for ref in found.bundle.schema.views if rows[ref.name] is None}
    lines = [_line(value, found, rows, none) for value in found.values]
    lines = lines if found.corrected else [{k: v for k, v in line.items() if k != "now"} for line in lines]
    exact = _VALUES if form in (Format.JSON, Format.JSONL) else ()
    given = con.from_arrow(pa.Table.from_pylist([_as_text(line, exact) for line in lines]))
    return given.project(
        ", ".join(f"CAST({quote(c)} AS JSON) AS {quote(c)}" if c in exact else quote(c) for c in given.columns)
    )


def _as_text(line: dict[str, Any], exact: tuple[str, ...]) -> dict[str, Any]:
    def text(name: str, value: Any) -> str | None:
        if name in exact:
            return json.dumps(value)
        return value if value is None or isinstance(value, str) else repr(value)

    return {name: text(name, value) if name in _VALUES else value for name, value in line.items()}


def _line(
    value: "Value", found: "Answer", rows: "Mapping[str, Behind | None]", none: Mapping[str, str]
) -> dict[str, Any]:
    from ml_assets.monitoring.skew import SCORE

    same = {True: "yes", False: "NO", None: "not compared"}[value.same]
    line = {"input": value.name, "served": value.served, "lake": value.then, "same": same, "now": value.now}
    if value.ref is None:
        made_from = "the inputs" if value.name == SCORE else "the request"
        return {**line, "view": None, "row at": None, "made from": made_from}
    at, window = found.row_at[value.ref.name], value.name.rpartition("_")[2]
    of_view = {"view": _version(value.ref), "row at": said_moment(at) if at else None}
    behind = rows[value.ref.name]
    return {**line, **of_view, "made from": behind.counted(window) if behind else none[value.ref.name]}


def _version(ref: "ViewRef") -> str:
    return f"{ref.name}@{ref.version}"


def _no_row(ref: "ViewRef", found: "Answer") -> str:
    from ml_assets.steps.trace import missing

    return f"no row counts ({missing(found, ref.name)}): {'its defaults' if ref.defaults else 'nulls'}"


def _rows_behind(con: "duckdb.DuckDBPyConnection", found: "Answer", view: str) -> "duckdb.DuckDBPyRelation":
    """The rows of the table; where there are several tables, each row as JSON."""
    from ml_assets.steps.trace import behind

    name, _, number = view.removeprefix("features/").partition("@")
    rows = behind(found, name)
    ref = next(each for each in found.bundle.schema.views if each.name == name)
    if number and number != str(ref.version):
        raise MlAssetsError(f"The answer was made with {_version(ref)}, not with {view}.")
    at = found.row_at[name]
    note(f"{_version(ref)}{f' of {said_moment(at)}' if at else ''}: {rows.counted() if rows else _no_row(ref, found)}.")
    parts = {table: _beside(rows, table) for table in rows.origin.rows} if rows else {}
    if not rows or not parts:
        return con.sql("SELECT NULL::TIMESTAMPTZ AS known_at WHERE false")
    for n, part in enumerate(parts.values()):
        con.register(f"rows_{n}", rows.origin.rows[[*parts][n]])
        con.register(f"beside_{n}", part)
    if len(parts) == 1:
        (table,) = rows.origin.rows.values()
        return con.sql(f"SELECT {', '.join(_columns(table, rows))} FROM rows_0 POSITIONAL JOIN beside_0")
    each = [
        f"""SELECT {literal(rows.places[table][0])} AS "table", known_at, "day's deliveries", to_json(r) AS row
            FROM rows_{n} r POSITIONAL JOIN beside_{n}"""
        for n, table in enumerate(parts)
    ]
    return con.sql(" UNION ALL ".join(each))


def _beside(rows: "Behind", table: str) -> "pa.Table":
    """What is said of each row, which no column of it says."""
    import pyarrow as pa

    said = {"day's deliveries": pa.array(rows.delivered[table], pa.string())}
    return pa.table({"in windows": pa.array(rows.origin.windows, pa.string()), **said} if rows.origin.windows else said)


def _columns(table: "pa.Table", rows: "Behind") -> Iterator[str]:
    """The key, when it was known, windows and deliveries, and then what else the row says."""
    first, *others = [name for name in table.column_names if name not in ("known_at", "partition_key")]
    beside = ["in windows"] * bool(rows.origin.windows) + ["day's deliveries"]
    yield from map(quote, (first, "known_at", *beside, *others))
