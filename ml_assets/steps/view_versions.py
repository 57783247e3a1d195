"""The versions of feature views: numbers for definitions, which stay once a registered model uses them.

Beside the lake, `views/<view>/draft/<n>.json` holds a definition that an edit replaces in place, and
`views/<view>/kept/<n>.json` one that no edit replaces. `views/<view>/stands.json` says which version `features/<view>`
holds; older ones are in `features/<view>@<n>`. A definition counts by its meaning: comments and layout do not, nor how
its rows are joined, which is written anew whenever the view is materialized.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any

import msgspec

from ml_assets import clock
from ml_assets.adapters.content import PARTITION
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.past import PastLake
from ml_assets.adapters.sources.base import Files
from ml_assets.errors import FeatureError, TrainingError, shorten
from ml_assets.features.view import FeatureView
from ml_assets.steps import configuration
from ml_assets.steps.memo import digest, flat
from ml_assets.steps.specs import Input, TableSpec, ViewRows, ViewSpec

_FOLDER = "views"
_JOINED = ("keep", "defaults")  # not what decides rows: a model's bundle holds its own
_SETTINGS = ("delay", "max_age", "defaults")
DRAFT, KEPT = "draft", "kept"


class _Table(msgspec.Struct, frozen=True):
    """What of a table it takes to compute a view from its rows."""

    name: str
    contract: str
    keys: tuple[str, ...]
    first_day: date | None
    last_day: date | None
    partition_column: str | None
    event_timestamp: str | None
    known_at: str | None


class _Definition(msgspec.Struct, frozen=True):
    view: FeatureView
    tables: tuple[_Table, ...]
    keep: timedelta
    views: dict[str, "_Definition"] = {}  # those among the tables


@dataclass(frozen=True)
class ViewVersion:
    """A numbered definition of a view: a draft, one that is kept since a model was trained with it, or not stored."""

    number: int
    definition: Mapping[str, Any]
    made_at: str
    state: str = ""

    @property
    def meaning(self) -> str:
        """What decides its rows; found anew, so that a release of ml_assets may count more of a definition."""
        return meaning_of(self.spec())

    def spec(self, declared: Sequence[Input] = ()) -> ViewSpec:
        """The view as it was, to be computed beside the declared one, from tables that are declared now if they are."""
        known = {table.name: table for table in declared if isinstance(table, TableSpec)}
        return replace(_spec(msgspec.convert(self.definition, _Definition), known), retained=self.number)


@dataclass(frozen=True)
class Standing:
    """Which version `features/<view>` holds; `moving` while the rows of another are being taken out of it."""

    number: int
    moving: bool = False


def current(spec: ViewSpec, lake: Lake) -> int:
    """The number of a definition: that of one that is known, else the one that it gets when it is computed.

    Reads a few small objects and writes nothing. A definition that no version has takes the place of a draft, or the
    next number.
    """
    return spec.retained or version_of(spec, lake).number


def version_of(spec: ViewSpec, lake: Lake) -> ViewVersion:
    """The version that a definition is, or would be."""
    found, meant = versions(spec.view.name, lake), meaning_of(spec)
    known = next((each for each in found if each.meaning == meant), None)
    return known or ViewVersion(_free(found), _definition(spec), clock.now().isoformat())


def is_draft(spec: ViewSpec, lake: Lake) -> bool:
    """Whether no registered model was trained with a definition, so that an edit replaces it in place."""
    return not spec.retained and version_of(spec, lake).state == DRAFT


def versions(view: str, lake: Lake) -> list[ViewVersion]:
    """All versions of a view that were ever computed, by number."""
    places = [place for place in lake.objects(f"{_FOLDER}/{view}/") if place.count("/") == 3]
    found = [ViewVersion(**json.loads(lake.get_object(place)), state=place.split("/")[2]) for place in places]
    by_number = {each.number: each for each in sorted(found, key=lambda each: each.state)}  # kept before its draft
    return [each for _, each in sorted(by_number.items())]


def joined_as_declared(version: ViewVersion, spec: ViewSpec) -> ViewVersion:
    """A version with the `delay`, `max_age` and `defaults` of a declaration, which make no other version of it."""
    now = _definition(spec)
    view = version.definition["view"] | {name: now["view"][name] for name in _SETTINGS}
    return replace(version, definition={**version.definition, "view": view, "keep": now["keep"]})


def meaning_of(spec: ViewSpec) -> str:
    """The hash of all that decides the rows of a view; how they are joined and how long they stay online does not."""
    return digest(_decisive(flat(configuration.of_view(spec))))


def standing(view: str, lake: Lake) -> Standing | None:
    """What `features/<view>` holds; None where it was never computed, or before versions had numbers."""
    place = f"{_FOLDER}/{view}/stands.json"
    return Standing(**json.loads(lake.get_object(place))) if lake.has_object(place) else None


def stand(view: str, lake: Lake, now: Standing) -> None:
    """Say which version `features/<view>` holds from now on."""
    lake.replace_object(f"{_FOLDER}/{view}/stands.json", json.dumps(asdict(now)).encode())


def store(view: str, lake: Lake, version: ViewVersion, state: str = DRAFT) -> None:
    """Write a definition down; of a kept one only how its rows are joined is ever written again."""
    content = {name: value for name, value in asdict(version).items() if name != "state"}
    lake.replace_object(f"{_FOLDER}/{view}/{state}/{version.number}.json", json.dumps(content).encode())


def table_of(view: str, number: int, lake: Lake) -> str:
    """The lake table that holds the rows of a version."""
    now = standing(view, lake) or Standing(1)
    if now == Standing(number) or (isinstance(lake, PastLake) and not lake.exists(f"features/{view}@{number}")):
        return f"features/{view}"  # where its rows were before an edit took them elsewhere
    if now.number == number or not lake.exists(f"features/{view}@{number}"):
        raise FeatureError(
            f"The rows of version {number} of feature view '{view}' are not in the lake: features/{view} holds"
            f" version {now.number}{', being moved' if now.moving else ''}. Materialize features/{view}."
        )
    return f"features/{view}@{number}"


def computed(view: str, number: int, lake: Lake) -> ViewSpec | None:
    """A version as it was computed last, for its rows where they are now; FeatureError where these are not there."""
    found = next((each for each in versions(view, lake) if each.number == number), None)
    in_place = table_of(view, number, lake) == f"features/{view}"
    return found and replace(found.spec(), retained=None if in_place else number)


def days_in(table: str, lake: Lake) -> list[str] | None:
    """The partitions that hold rows of a view; None for a view without partitions."""
    if not lake.exists(table):
        return []
    return lake.partitions(table) if PARTITION in lake.dataset(table).schema.names else None


def pinned(views: Sequence[ViewSpec], lake: Lake) -> dict[str, dict[str, Any]]:
    """The versions that rows joined now are made from, whole, as a manifest holds them for `claim`.

    With those of the views that they read.

    Raises:
        TrainingError: a view was edited and is not computed anew yet, so that its rows are of another version.
    """
    found = {name: version_of(spec, lake) for name, spec in _with_read(views).items()}
    for view, version in found.items():
        now = standing(view, lake)
        if now and (now != Standing(version.number) or not version.state):
            known = "another" if now.number == version.number else f"version {version.number}"
            raise TrainingError(
                f"features/{view} holds version {now.number} and the declaration is {known}."
                f" Materialize features/{view} first."
            )
    return {view: asdict(version) for view, version in found.items()}


def claim(pins: Mapping[str, Mapping[str, Any]], lake: Lake) -> dict[str, int]:
    """Keep for good the versions that a model was trained with, since it is about to be registered; gives the numbers.

    A draft that was replaced since the training set was made gets a number of its own, with all of its definition.
    """
    return {view: _claim(view, ViewVersion(**pin), lake) for view, pin in pins.items()}


def _claim(view: str, wanted: ViewVersion, lake: Lake) -> int:
    found = versions(view, lake)
    known = next((each for each in found if each.meaning == wanted.meaning), None)
    if known is None:
        taken = {each.number for each in found}
        number = max(taken) + 1 if wanted.number in taken else wanted.number
        known = ViewVersion(number, wanted.definition, wanted.made_at)
    if known.state != KEPT:
        store(view, lake, known, KEPT)
    return known.number


def require_whole(views: Sequence[ViewSpec], lake: Lake) -> None:
    """Raise TrainingError where days of a view are of an older definition, or were emptied for a new one."""
    for spec in _with_read(views).values():
        computed = _computed(spec, lake)
        if old := older_days(spec, lake, computed):
            raise TrainingError(
                f"{spec.name} was edited, and {len(old)} of {len(computed)} partitions are not computed anew:"
                f" {shorten(old, 3)}. Materialize them first."
            )


def older_days(spec: ViewSpec, lake: Lake, days: Sequence[str]) -> list[str]:
    """Of some partitions ("" for a whole) those whose rows are of another definition."""
    config, found = _decisive(flat(configuration.of_view(spec))), _computed(spec, lake)
    places = {day: f"memo/{spec.name}/{day or 'whole'}.json" for day in days if day in found}
    return [day for day, at in places.items() if _decisive(json.loads(lake.get_object(at)).get("config", {})) != config]


def _computed(spec: ViewSpec, lake: Lake) -> list[str]:
    folder = f"memo/{spec.name}/"
    names = sorted(place.removeprefix(folder).removesuffix(".json") for place in lake.objects(folder))
    return ["" if name == "whole" else name for name in names]


def require_read(spec: ViewSpec, lake: Lake) -> None:
    """Raise FeatureError where a view that a view reads was edited and is not computed anew."""
    for name, read in _with_read([rows.of for rows in spec.reads if rows.of]).items():
        now, wanted = standing(name, lake), version_of(read, lake)
        if now and (now != Standing(wanted.number) or not wanted.state):
            raise FeatureError(
                f"{spec.name} reads features/{name}, which holds the rows of an older definition."
                f" Materialize features/{name} first."
            )


def as_it_read(spec: ViewSpec, lake: Lake) -> ViewSpec:
    """An older version of a view over the versions of views that it was defined with; FeatureError without them."""
    tables = [_as_read(table, lake) if isinstance(table, ViewRows) else table for table in spec.tables]
    return replace(spec, tables=tuple(tables))


def reads(view: str, number: int, lake: Lake) -> dict[str, int]:
    """The versions of views that a version of a view is computed from, by view, directly or not."""
    held = [each.spec() for each in versions(view, lake) if each.number == number]
    found = _with_read([rows.of for spec in held for rows in spec.reads if rows.of])
    return {name: version_of(spec, lake).number for name, spec in found.items()}


def _as_read(rows: ViewRows, lake: Lake) -> ViewRows:
    wanted = version_of(rows.of, lake) if rows.of else None
    if wanted is None or not wanted.state:
        raise FeatureError(f"No version of feature view '{rows.name}' has the definition that was read.")
    older = table_of(rows.name, wanted.number, lake) != f"features/{rows.name}"
    return replace(rows, retained=wanted.number if older else None)


def _with_read(views: Sequence[ViewSpec]) -> dict[str, ViewSpec]:
    """Views and all that they read, by name, those that are read first."""
    found: dict[str, ViewSpec] = {}
    for spec in views:
        found |= _with_read([rows.of for rows in spec.reads if rows.of]) | {spec.view.name: spec}
    return found


def _decisive(config: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in config.items() if name.partition(".")[0] not in _JOINED}


def _free(found: Sequence[ViewVersion]) -> int:
    drafts = [each.number for each in found if each.state == DRAFT]
    return drafts[-1] if drafts else max([each.number for each in found], default=0) + 1


def _definition(spec: ViewSpec) -> dict[str, Any]:
    return msgspec.to_builtins(_defined(spec))


def _defined(spec: ViewSpec) -> _Definition:
    tables = tuple(_Table(**{name: getattr(t, name) for name in _Table.__struct_fields__}) for t in spec.tables)
    return _Definition(spec.view, tables, spec.keep, {rows.name: _defined(rows.of) for rows in spec.reads if rows.of})


def _spec(found: _Definition, known: Mapping[str, TableSpec]) -> ViewSpec:
    read = {name: _spec(definition, known).rows() for name, definition in found.views.items()}
    tables = tuple(
        read.get(t.name) or known.get(t.name) or TableSpec(source=Files(""), **msgspec.structs.asdict(t))
        for t in found.tables
    )
    return ViewSpec(found.view, tables, found.keep)
