"""`ml-assets features`: which features there are, what is known of them, and what a model would have seen."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_assets import clock, reading
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.versions import moment, said_moment
from ml_assets.cli import project
from ml_assets.cli.explain import place
from ml_assets.cli.output import Form, Format, Limit, Output, emit, note, shortened, show, writing
from ml_assets.engine import connect, quote
from ml_assets.errors import MlAssetsError, TableNotFoundError, shorten

if TYPE_CHECKING:
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.steps.feature_catalogue import Declared, Known
    from ml_assets.steps.specs import ViewSpec

features = typer.Typer(
    no_args_is_help=True,
    help="""Features: find them, look at them, ask what a model would have seen.

    A [b]VIEW[/b] is a declared feature view
    ([cyan]carrier_delays[/cyan], [cyan]features/carrier_delays[/cyan]).
    Times without zone are UTC.""",
)

_LISTED = ("view", "entity", "features", "times", "version", "owner", "newest", "state", "lag", "used by")
_SEEN = ("view", "feature", "offline", "row at", "age", "missing")
_Versioned = Annotated[
    str, typer.Argument(metavar="VIEW", help="carrier_delays, or a version of it: carrier_delays@1.")
]
_View = Annotated[str, typer.Argument(metavar="VIEW", help="carrier_delays or features/carrier_delays.")]


@features.command("list")
def list_views(form: Form = Format.TABLE, output: Output = None) -> None:
    """List the feature views with entity, times, owner, freshness, and the models that use them.

    [dim]ml-assets features list
    ml-assets features list --format json[/dim]
    """
    from ml_assets.steps.feature_catalogue import known

    lake = reading.lake()
    found = [known(each, lake, statistics=False) for each in _declared().values()]
    _emit([_line(each) for each in found], form, output=output, columns=_LISTED)
    for each in found:
        for sentence in each.state.sentences:
            note(sentence)


@features.command("show")
def show_view(
    name: _View, form: Annotated[Format, typer.Option("--format", help="`table` or `json`.")] = Format.TABLE
) -> None:
    """Show all that is known of a view: its definition, its features with statistics and origin, who uses it.

    Statistics are those of the newest partition.

    [dim]ml-assets features show carrier_delays[/dim]
    """
    from ml_assets.steps.feature_catalogue import known

    if form not in (Format.TABLE, Format.JSON):
        raise MlAssetsError("A view is shown as `table` or `json`.")
    found = known(_one(name), reading.lake())
    if form is Format.JSON:
        typer.echo(json.dumps(_facts(found), indent=1, default=str))
    else:
        _show(found)


@features.command()
def preview(
    name: _Versioned,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="What counts for each entity at this moment.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="The rows of this day. [dim]default: the newest[/dim]")] = None,
    limit: Limit = None,
    form: Form = Format.TABLE,
    output: Output = None,
) -> None:
    """Show rows of a view: those of a day, the newest first, or what counts for each entity at a moment.

    [dim]ml-assets features preview carrier_delays --limit 5
    ml-assets features preview inbound_aircraft --at 2013-03-01T12:00 --format csv[/dim]
    """
    from ml_assets.steps import feature_lookup, view_state
    from ml_assets.steps.feature_lookup import require_rows

    if at and partition:
        raise MlAssetsError("Give --at or --partition, not both.")
    lake = reading.lake()
    spec, where = _version(name, lake)
    require_rows(spec, lake)
    with connect() as con:
        if at:
            when = moment(at)
            rows = con.from_arrow(feature_lookup.preview(spec, lake, when))
            said = feature_lookup.outdated(spec, lake, where, when)
        else:
            days = [_day(spec, lake, partition)] if spec.daily else None
            rows = lake.read(spec.name, con, partitions=days)
            entity = ", ".join(map(quote, spec.view.entity))
            rows = rows.order(f"feature_timestamp DESC, {entity}").project("* EXCLUDE (partition_key)" if days else "*")
            said = view_state.of(spec, lake, where, days or [""]).sentences
        for sentence in said:
            note(sentence)
        emit(con, rows, form, limit=limit, output=output)


@features.command()
def get(
    names: Annotated[
        list[str], typer.Argument(metavar="MODEL|VIEW...", help="All views of a model, or these: carrier_delays@1 too.")
    ],
    entity: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Whom to ask about: carrier=UA origin=JFK.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="[dim]default: now[/dim]")] = None,
    with_online: Annotated[bool, typer.Option("--online", help="Ask the online store too, and compare.")] = False,
    form: Form = Format.TABLE,
    output: Output = None,
) -> None:
    """Say what a model would have seen at a moment: each feature with its value and the age of its row.

    Offline is what the lake says, with nothing that was known later; --online puts what serving would look up beside
    it, and whether both are the same.

    [dim]ml-assets features get carrier_delays --entity carrier=UA --at 2013-03-01T12:00
    ml-assets features get arrival_delay --entity carrier=UA origin=JFK destination=LAX tailnum=N14228 --online[/dim]
    """
    from ml_assets.cli.seen import described, entities, reasons, seen
    from ml_assets.steps.feature_lookup import outdated, require_entity

    # A word with `=` behind the first one is a name to the parser, and an entity to people.
    wanted = entities([*(entity or []), *(word for word in names if "=" in word)])
    lake = reading.lake()
    asked = _asked([word for word in names if "=" not in word], lake)
    when = moment(at) if at else clock.now()
    exact = form in (Format.JSON, Format.JSONL)
    is_shown = form is Format.TABLE and not output
    written = json.dumps if exact else _short if is_shown else str
    require_entity([spec for spec, _ in asked], wanted)
    note(f"As of {said_moment(when)}.")
    lines: list[dict[str, Any]] = []
    for spec, where in asked:
        found = seen(spec, lake, wanted, when, with_online=with_online)
        lines += list(described(spec, found, when, written))
        for sentence in (*reasons(spec, found), *outdated(spec, lake, where, when, found["offline"].row_at)):
            note(sentence)
    if is_shown:  # said in the notes
        lines = [{name: value for name, value in line.items() if "missing" not in name} for line in lines]
    _emit(lines, form, limit=0, output=output, columns=_SEEN, exact=("offline", "online") if exact else ())


@features.command()
def catalogue(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("features.html"),
) -> None:
    """Write all that is known of all features as one HTML page that needs nothing else.

    [dim]ml-assets features catalogue --output features.html[/dim]
    """
    from ml_assets.steps.feature_catalogue import known
    from ml_assets.steps.feature_page import html

    lake = reading.lake()
    page = html([known(each, lake) for each in _declared().values()], now=clock.now())
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, "utf-8")
    note(f"Wrote {output}.")


def _declared() -> "dict[str, Declared]":
    from ml_assets.components.feature_view import FeatureView

    return {name: _of(view) for name, view in sorted(project.project().named(FeatureView).items())}


def _of(view: "FeatureView") -> "Declared":
    from ml_assets.components.model import Model
    from ml_assets.steps.feature_catalogue import Declared

    known = project.project()
    columns = view.columns(known)
    models = [model for model in known.named(Model).values() if view.name in model.features]
    return Declared(
        spec=view.spec(known),
        description=view.description or "",
        owners=tuple(view.owners),
        use_case=view.use_case,
        place=place(view),
        types={column.name: column.type for column in columns},
        said={column.name: column.description or "" for column in columns},
        lineage=view.lineage(known),
        models=tuple(model.spec(known) for model in models),
    )


def _one(name: str) -> "Declared":
    from ml_assets.components.feature_view import FeatureView

    views = project.project().named(FeatureView)
    prefix, _, plain = name.rpartition("/")
    if plain in views and prefix in ("", "features", views[plain].use_case):
        return _of(views[plain])
    raise TableNotFoundError(project.unknown(name, views, "feature view called"))


def _version(name: str, lake: Lake) -> "tuple[ViewSpec, str]":
    """A declared view, or a version of it that the lake holds (`carrier_delays@1`), and where it is declared."""
    from ml_assets.steps.feature_lookup import of_version

    plain, _, number = name.partition("@")
    declared = _one(plain)
    if not number:
        return declared.spec, declared.place
    return of_version(declared.spec, int(number) if number.isdecimal() else 0, lake), declared.place


def _asked(names: Sequence[str], lake: Lake) -> "list[tuple[ViewSpec, str]]":
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.components.model import Model

    known = project.project()
    models, views = known.named(Model), known.named(FeatureView)
    if not names:
        raise MlAssetsError("Name a model or feature views.")
    found: dict[str, tuple[ViewSpec, str]] = {}
    for name in names:
        plain = name.removeprefix("models/")
        model = models.get(plain) if plain not in views else None
        if not model and name.removeprefix("features/").partition("@")[0] not in views:
            raise TableNotFoundError(project.unknown(name, [*views, *models], "model or feature view called"))
        specs = [_version(view, lake) for view in model.features] if model else [_version(name, lake)]
        found |= {spec.name: (spec, where) for spec, where in specs}
    return list(found.values())


def _short(value: Any) -> str:
    return shortened(value) if isinstance(value, float) else str(value)


def _day(spec: "ViewSpec", lake: Lake, partition: str | None) -> str:
    held = lake.partitions(spec.name)
    if partition and partition not in held:
        span = f"it has {held[0]} .. {held[-1]}" if held else "it is empty"
        raise TableNotFoundError(f"{spec.name} has no partition {partition}; {span}.")
    return partition or held[-1]


def _emit(
    lines: Sequence[Mapping[str, Any]],
    form: Format,
    *,
    columns: Sequence[str],
    limit: int | None = None,
    output: Path | None = None,
    exact: Sequence[str] = (),
) -> None:
    """Write lines, where there are none the names of the columns; texts in the columns `exact` are JSON already."""
    import pyarrow as pa

    with connect() as con:
        none = pa.schema([(name, pa.string()) for name in columns])
        rows = con.from_arrow(pa.Table.from_pylist(list(lines)) if lines else none.empty_table())
        if exact:
            parts = [f"CAST({quote(c)} AS JSON) AS {quote(c)}" if c in exact else quote(c) for c in rows.columns]
            rows = rows.project(", ".join(parts))
        emit(con, rows, form, limit=limit, output=output)


def _line(found: "Known") -> dict[str, Any]:
    from ml_assets.steps.feature_catalogue import in_words, timing

    declared = found.declared
    users = [f"{model} ({f'version {v}' if v else 'not released'})" for model, v in found.consumers.items()]
    return {
        "view": declared.spec.view.name,
        "entity": ", ".join(declared.spec.view.entity),
        "features": len(found.features),
        "times": timing(declared.spec),
        "version": found.version,
        "owner": ", ".join(declared.owners),
        "newest": said_moment(found.newest) if found.newest else "not yet",
        "state": found.state.word,
        "lag": in_words(found.lag) if found.lag is not None else None,
        "used by": shorten(users) or "no model",
    }


def _facts(found: "Known") -> dict[str, Any]:
    from ml_assets.steps.feature_catalogue import definition

    declared = found.declared
    return {
        **_line(found),
        "description": declared.description,
        "declared": declared.place,
        "problem": found.state.sentence,
        "definition": definition(declared.spec),
        "rows": found.n_rows,
        "partitions": [found.partitions[0], found.partitions[-1]] if found.partitions else [],
        "defaults": dict(declared.spec.view.defaults),
        "consumers": dict(found.consumers),
        "versions": [{"version": n, "state": state, "since": since} for n, state, since in found.versions],
        "features": [
            {
                "name": f.name,
                "type": f.type,
                "description": f.description,
                "made from": f.made_from,
                "profile": f.profile,
            }
            for f in found.features
        ],
    }


def _show(found: "Known") -> None:
    from ml_assets.steps.feature_catalogue import definition

    facts = _facts(found)
    typer.secho(f"{found.declared.spec.name}  ({facts['declared']})", bold=True)
    typer.echo(facts["description"])
    for name in ("entity", "times", "owner", "version", "used by"):
        typer.echo(f"{name:<9}{facts[name]}")
    span = " .. ".join(facts["partitions"])
    lag = f", {facts['lag']} behind the clock" if facts["lag"] else ""
    typer.echo(f"{'rows':<9}{found.n_rows:,}{f' in {span}' if span else ''}; newest {facts['newest']}{lag}")
    for sentence in found.state.sentences:
        typer.secho(f"{'':<9}{sentence}", fg="yellow")
    for number, state, since in found.versions:
        typer.echo(f"{'':<9}version {number}, {state}, since {since[:19]}Z")
    typer.echo("\n" + "\n".join(f"  {line}" for line in definition(found.declared.spec).splitlines()) + "\n")
    columns = ("feature", "type", "nulls", "low", "median", "high", "made from")
    show(columns, [_row(feature) for feature in found.features], numbers=columns[2:6])


def _row(feature: Any) -> tuple[Any, ...]:
    from ml_assets.steps.feature_catalogue import figures

    return (feature.name, feature.type, *figures(feature.profile), shorten(feature.made_from) or "not known")
