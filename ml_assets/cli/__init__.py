"""The command line, thin: each command says what it did and leaves the work to the packages below.

What costs time to import is imported by the command that needs it, so that `ml-assets --help` answers at once.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.cli.contract import contract
from ml_assets.cli.explain import explain
from ml_assets.cli.features import features
from ml_assets.cli.leaks import leaks
from ml_assets.cli.materialize import materialize
from ml_assets.cli.project import importable
from ml_assets.cli.quarantine import quarantine
from ml_assets.cli.table import table
from ml_assets.cli.trace import trace
from ml_assets.errors import EndpointError, MlAssetsError, shorten

if TYPE_CHECKING:
    from ml_assets.adapters.deployment import EndpointStatus, LocalEndpoint

app = typer.Typer(
    name="ml-assets",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""The dbt of models, on Dagster.

    Declare tables, feature views, models and endpoints in YAML below [b]defs/[/b]: they become one graph of assets that
    runs itself, from delivered files to an endpoint that is watched.

    [b]See it:[/b] [cyan]ml-assets demo[/cyan] builds the flights example before your eyes;
    [cyan]ml-assets feed flights --until 2013-05-07[/cyan] lands more of its data.

    [b]In a project:[/b] [cyan]ml-assets check[/cyan] says what is wrong in the declarations,
    [cyan]ml-assets materialize[/cyan] runs what is due, [cyan]ml-assets endpoint status[/cyan] says where it answers;
    or [cyan]ml-assets dev[/cyan] runs the UI and a daemon that does the same by itself.

    Commands work on the project in the working directory; without one ([b]\\[tool.dg.project][/b] in pyproject.toml),
    on the flights example. What is written goes below [b]ML_ASSETS_HOME[/b] (default: [b]var/[/b] there).""",
)
feed = typer.Typer(no_args_is_help=True, help="Land data of an example, as its source systems would deliver it.")
endpoint = typer.Typer(no_args_is_help=True, help="Look at the endpoints of this installation, or end their servers.")
app.add_typer(feed, name="feed")
app.add_typer(endpoint, name="endpoint")
app.add_typer(table, name="table")
features.command()(trace)
app.add_typer(features, name="features")
app.command()(materialize)
app.command()(explain)
app.command()(leaks)
app.add_typer(quarantine, name="quarantine")
app.add_typer(contract, name="contract")

_FIRST_DAY = datetime(2013, 1, 1)  # noqa: DTZ001  only its date counts
_DAY: Any = {"formats": ["%Y-%m-%d"], "metavar": "DATE"}


class Grain(StrEnum):
    """How much time a landed file covers."""

    DAY = "day"
    HOUR = "hour"


def main() -> None:
    """Run the command line; what a user can correct is said in one red sentence, without a traceback."""
    with _errors_said():
        app()


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"ml_assets {installed('ml_assets')}")
        context.exit()


@feed.command()
def flights(
    until: Annotated[datetime, typer.Option(help="The world as it was at the end of this UTC day.", **_DAY)],
    since: Annotated[
        datetime, typer.Option("--from", help="The first day to land.", show_default="2013-01-01", **_DAY)
    ] = _FIRST_DAY,
    grain: Annotated[Grain, typer.Option(help="A file per day, as a back-delivery, or per hour.")] = Grain.DAY,
    to: Annotated[str | None, typer.Option(help="Where to land. [dim]default: the configured place[/dim]")] = None,
) -> None:
    """Land the flights out of New York: schedules, outcomes, weather, aircraft, airports.

    Files that are there already with the same content are left alone, so a repeated feed lands nothing new.
    """
    from ml_assets.adapters.filesystem import is_local
    from ml_assets.feeds.flights import land

    place = to or Settings.from_environment().landing_uri
    if not is_local(place):
        raise MlAssetsError(f"{place} is not on this machine. Land in a folder (--to), then copy it there.")
    landed = land(place.removeprefix("file://"), since=since.date(), until=until.date(), grain=grain.value)
    typer.echo(_landed(landed, place))


@app.command()
def dev(
    port: Annotated[int | None, typer.Option(help="Port of the UI. [dim]default: 3000, or a free one[/dim]")] = None,
) -> None:
    """Run the Dagster UI and daemon with all sensors on, until Ctrl-C, which ends everything this started.

    Its history is in [b]dagster/[/b] below ML_ASSETS_HOME, whatever DAGSTER_HOME says.
    """
    from ml_assets.demo.development import run
    from ml_assets.orchestration.loading import Location

    run(Settings.from_environment(), Location.of(Path.cwd()), port)


@app.command()
def demo(
    stop: Annotated[
        bool, typer.Option("--exit", help="Stop by itself when all is done, and write var/demo/summary.json.")
    ] = False,
) -> None:
    """Watch the flights example build itself, from landed files to an endpoint that answers about real flights."""
    from ml_assets.demo.session import run

    raise typer.Exit(run(Settings.from_environment(), leave=stop))


@app.command()
def check() -> None:
    """Load the definitions of the project in the working directory, and say what is wrong as file:line."""
    from ml_assets.orchestration.loading import Location, listed, load

    importable()
    location = Location.of(Path.cwd())
    typer.echo(listed(location, load(location)))


@endpoint.command()
def status(name: Annotated[str | None, typer.Argument(help="The endpoint. [dim]default: all[/dim]")] = None) -> None:
    """Say what serves: address, versions and their shares of the traffic.

    The address itself shows what serves, and ADDRESS/docs how to ask, with the fields of a request.
    """
    for each in _endpoints(name):
        typer.echo(_sentence(each.status()))


@endpoint.command()
def stop(name: Annotated[str | None, typer.Argument(help="The endpoint. [dim]default: all[/dim]")] = None) -> None:
    """End the servers, gently first. What they served stays installed.

    `ml-assets materialize endpoints/NAME` starts a server again, and so does a sensor of `ml-assets dev`.
    """
    for each in _endpoints(name):
        ended = each.stop()
        typer.echo(f"{each.config.name}: {'stopped' if ended else 'no server was running'}.")


def _let_flow(commands: typer.Typer) -> None:
    """Let paragraphs of help fill the terminal, which Typer does for the first alone; lists of examples keep lines."""
    for each in (commands.info, *commands.registered_commands):
        text = each.help if isinstance(each.help, str) else each.callback.__doc__ if each.callback else None
        paragraphs = cleandoc(text or "").split("\n\n")
        each.help = "\n\n".join(part if _is_list(part) else part.replace("\n", " ") for part in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance:
            _let_flow(group.typer_instance)


def _is_list(paragraph: str) -> bool:
    return paragraph.startswith("[dim]") or all(line.startswith("[") for line in paragraph.splitlines())


_let_flow(app)


@contextmanager
def _errors_said() -> Iterator[None]:
    try:
        yield
    except MlAssetsError as error:
        typer.secho(str(error), fg="red", err=True)
        sys.exit(1)


def _landed(files: Sequence[Path], place: str) -> str:
    if not files:
        return f"Nothing new: {place} holds all of it already."
    by_table = Counter(file.parent.name for file in files)
    size = sum(file.stat().st_size for file in files) / 1e6
    tables = ", ".join(f"{table} {n}" for table, n in sorted(by_table.items()))
    return f"Landed {len(files)} files ({size:.1f} MB) in {place}: {tables}."


def _endpoints(name: str | None) -> list["LocalEndpoint"]:
    from ml_assets.demo.endpoints import deployed

    found = deployed(Settings.from_environment().endpoints)
    if name and name not in found:
        raise EndpointError(f"There is no endpoint '{name}' here, but: {shorten(sorted(found)) or 'none'}.")
    if not found:
        typer.echo("No endpoint has been started here yet.")
    return [found[name]] if name else list(found.values())


def _sentence(found: "EndpointStatus") -> str:
    if not found.alive:
        return f"{found.name}: no server is running."
    total = sum(found.weights.values()) or 1.0
    shares = ", ".join(f"version {version} ({weight / total:.0%})" for version, weight in found.weights.items())
    refused = f" The last change was refused: {found.refused}" if found.refused else ""
    return f"{found.name}: {found.url} serves {shares or 'nothing yet'}; process {found.pid}.{refused}"
