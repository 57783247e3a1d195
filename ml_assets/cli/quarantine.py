"""`ml-assets quarantine`: look at refused rows, release them through the contract, or drop them, with a log."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets import reading
from ml_assets.cli import project
from ml_assets.cli.output import Format, emit, note, show
from ml_assets.engine import connect
from ml_assets.errors import MlAssetsError, shorten

if TYPE_CHECKING:
    import duckdb

    from ml_assets.steps.quarantine import Choice, Outcome
    from ml_assets.steps.specs import TableSpec

quarantine = typer.Typer(
    no_args_is_help=True,
    help="""Refused rows: look at them, release them corrected, or drop them.

    Rows that break their contract are kept beside the table as delivered.
    Nothing here edits or deletes them: a release delivers them again, a drop
    says that they are not wanted, and both leave a line in the log.""",
)

_Table = Annotated[str, typer.Argument(metavar="TABLE", help="flight_outcomes or flights/flight_outcomes.")]
_Rules = Annotated[list[str] | None, typer.Option("--rule", help="Rows that break this rule. Can be repeated.")]
_Partitions = Annotated[list[str] | None, typer.Option("--partition", help="Rows of this day. Can be repeated.")]
_File = Annotated[str | None, typer.Option(help="Rows of this delivered file.")]
_Row = Annotated[int | None, typer.Option(min=1, help="This row of the file, as `show` numbers it: file:row.")]
_Reason = Annotated[str, typer.Option(help="Why; it is kept in the log.")]
_Actor = Annotated[str | None, typer.Option(help="Who decides. [dim]default: $USER[/dim]")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
_ROWS = "partition_key AS partition, file, row, rules, arrived_at, record"
_DECIDED = "action, actor, decided_at, reason, delivery"


@quarantine.command("show")
def show_rows(
    name: _Table,
    partition: _Partitions = None,
    rule: _Rules = None,
    every: Annotated[bool, typer.Option("--all", help="Also rows that were released or dropped.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Example rows, 0 is all. [dim]default: 10 for a table, else all[/dim]")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.TABLE,
) -> None:
    """Count refused rows by rule and partition, and show some as they were delivered.

    [dim]ml-assets quarantine show weather
    ml-assets quarantine show weather --partition 2013-01-05 --format jsonl[/dim]
    """
    from ml_assets.steps.quarantine import Choice, register

    lake, spec = reading.lake(), project.table_spec(name)
    with connect() as con:
        register(con, lake, spec)
        wanted = Choice(tuple(rule or ()), tuple(partition or ())).sql()
        rows = con.sql(f"FROM refused WHERE {wanted}{'' if every else ' AND action IS NULL'}")
        if form is Format.TABLE:
            _show(con, rows, spec, every=every, limit=10 if limit is None else limit)
        else:
            columns = f"{_ROWS}, {_DECIDED}" if every else _ROWS
            emit(con, rows.project(columns).order("partition, file, row"), form, limit=limit)


@quarantine.command()
def release(  # noqa: PLR0913, PLR0917  options of a command
    name: _Table,
    reason: _Reason,
    rule: _Rules = None,
    partition: _Partitions = None,
    file: _File = None,
    row: _Row = None,
    corrections: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="COLUMN=SQL", help="Correct a column by SQL over the row as delivered. Can be repeated."
        ),
    ] = None,
    actor: _Actor = None,
    dry_run: _DryRun = False,
) -> None:
    """Deliver refused rows again, corrected where asked, so that they re-enter through the contract.

    Rows that would still break a rule stay where they are, and the same rows
    are released once. In --set, columns have the types of the contract, and
    _record->>'column' is the text as it was delivered.

    [dim]ml-assets quarantine release weather --partition 2013-02-12 --set wind_speed_mph=NULL --reason fault[/dim]
    """
    from ml_assets.steps import quarantine as steps

    lake, spec = reading.lake(), project.table_spec(name)
    choice = _choice(rule, partition, file, row)
    verdict = steps.Verdict("released", _said(reason), _who(actor, dry_run=dry_run))
    found = steps.release(spec, lake, choice, verdict, _assignments(corrections or ()), dry_run=dry_run)
    _require(spec, found)
    _tell_release(spec, found, dry_run=dry_run)


@quarantine.command()
def drop(  # noqa: PLR0917  options of a command
    name: _Table,
    reason: _Reason,
    rule: _Rules = None,
    partition: _Partitions = None,
    file: _File = None,
    row: _Row = None,
    actor: _Actor = None,
    dry_run: _DryRun = False,
) -> None:
    """Say that refused rows are not wanted: they are shown no longer, and kept.

    [dim]ml-assets quarantine drop weather --rule "wind_speed_mph <= 200" --reason "sensor fault"[/dim]
    """
    from ml_assets.steps import quarantine as steps

    lake, spec = reading.lake(), project.table_spec(name)
    choice = _choice(rule, partition, file, row)
    found = steps.drop(
        spec, lake, choice, steps.Verdict("dropped", _said(reason), _who(actor, dry_run=dry_run)), dry_run=dry_run
    )
    _require(spec, found)
    done = "would be dropped" if dry_run else "dropped; they are kept, and `quarantine show --all` shows them"
    typer.echo(f"{_rows(found.n_decided)} of {spec.name} ({_days(found.decided)}) {done}.")


@quarantine.command()
def log(
    name: _Table, form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TABLE
) -> None:
    """List the decisions on refused rows: who, when, what, why.

    [dim]ml-assets quarantine log weather[/dim]
    """
    from ml_assets.steps.quarantine import register_log

    lake, spec = reading.lake(), project.table_spec(name)
    with connect() as con:
        register_log(con, lake, spec)
        emit(con, con.sql("FROM log"), form, limit=0)


def _show(
    con: "duckdb.DuckDBPyConnection", rows: "duckdb.DuckDBPyRelation", spec: "TableSpec", *, every: bool, limit: int
) -> None:
    rows.create_view("shown")
    counts = con.sql("""
        SELECT rule, partition_key, count(*) FROM (SELECT unnest(rules) AS rule, partition_key FROM shown)
        GROUP BY ALL ORDER BY ALL""").fetchall()
    ((total,),) = con.sql("SELECT count(*) FROM shown").fetchall()
    if not total:
        typer.echo(f"No row of {spec.name} is in quarantine{'' if every else ' without a decision'}.")
        return
    show(("rule", "partition", "rows"), [(rule, day or "all", n) for rule, day, n in counts], numbers=("rows",))
    typer.echo()
    examples = con.sql(f"SELECT {_ROWS}, {_DECIDED} FROM shown ORDER BY ALL{f' LIMIT {limit}' if limit else ''}")
    for example in examples.fetchall():
        _example(dict(zip(examples.columns, example, strict=True)))
    shown = min(total, limit) if limit else total
    note(f"{shown} of {_rows(total)}{'; --limit 0 shows all' if shown < total else ''}.")


def _example(row: Mapping[str, Any]) -> None:
    """A refused row: where it came from, when, what it breaks, and all of it as it was delivered."""
    said = [f"partition {row['partition']}"] if row["partition"] else []
    said += [f"arrived {row['arrived_at']:%Y-%m-%d %H:%M:%S}Z"] if row["arrived_at"] else []
    typer.secho(f"{row['file']}:{row['row']} ({', '.join(said)})", bold=True)
    typer.secho(f"  breaks: {'; '.join(row['rules'])}", fg="red")
    if row["action"]:
        delivery = f" as {row['delivery']}" if row["delivery"] else ""
        typer.echo(
            f"  {row['action']}{delivery} by {row['actor']}, {row['decided_at']:%Y-%m-%d %H:%M}Z: {row['reason']}"
        )
    typer.echo(f"  {row['record']}")


def _choice(
    rules: Sequence[str] | None, partitions: Sequence[str] | None, file: str | None, row: int | None
) -> "Choice":
    from ml_assets.steps.quarantine import Choice

    if row is not None and file is None:
        raise MlAssetsError("A --row is one of a --file. Give both; `quarantine show` says which there are.")
    if not (rules or partitions or file):
        raise MlAssetsError("Which rows? Give --rule, --partition, or --file with --row.")
    return Choice(tuple(rules or ()), tuple(partitions or ()), file, row)


def _assignments(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        column, equals, expression = text.partition("=")
        if not equals or not expression.strip():
            raise MlAssetsError(f"--set {text}: write it as column=SQL, such as wind_speed_mph=NULL.")
        found[column.strip()] = expression
    return found


def _who(actor: str | None, *, dry_run: bool) -> str:
    found = actor or os.environ.get("USER") or os.environ.get("LOGNAME") or ("nobody" if dry_run else None)
    if not found:
        raise MlAssetsError("Who decides? Give --actor; USER is not set here.")
    return found


def _said(reason: str) -> str:
    if not reason.strip():
        raise MlAssetsError("Give a --reason; it is what the log is for.")
    return reason.strip()


def _require(spec: "TableSpec", found: "Outcome") -> None:
    if not found.chosen:
        raise MlAssetsError(
            f"No row of {spec.name} in quarantine without a decision matches."
            f" `ml-assets quarantine show {spec.name} --all` shows all of them."
        )


def _tell_release(spec: "TableSpec", found: "Outcome", *, dry_run: bool) -> None:
    if found.breaking:
        show(
            ("rows", "would still break"), [(n, rule) for rule, n in sorted(found.breaking.items())], numbers=("rows",)
        )
        typer.echo()
    left = found.chosen - found.n_decided
    if not found.n_decided:
        raise MlAssetsError(f"0 of {_rows(left)} would keep the contract. Correct them with --set, or drop them.")
    replaced = f" {found.replacing} of them replace a row with the same key." if found.replacing else ""
    stay = f" {_rows(left)} would still break the contract and stay in quarantine." if left else ""
    verb = "would be released" if dry_run else "released"
    typer.echo(f"{_rows(found.n_decided)} of {spec.name} ({_days(found.decided)}) {verb}.{replaced}{stay}")
    if not dry_run:
        typer.echo(
            "They are delivered to raw, and in the table once it is materialized: the schedule that reconciles does"
        )
        typer.echo(f"so within twenty minutes, or now: {project.materialize(spec.name, found.decided)}")


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def _days(counts: Mapping[str, int]) -> str:
    return shorten([f"{partition}: {n}" if partition else "all" for partition, n in counts.items()], 3)
