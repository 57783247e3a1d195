"""What is known of each feature: where it comes from, what it holds, how fresh it is, and who uses it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.features.view import FEATURE_TIMESTAMP, window_name
from ml_assets.steps import release, view_state, view_versions
from ml_assets.steps.specs import ModelSpec, ViewSpec
from ml_assets.steps.view_state import State
from ml_assets.tables.profile import profile_partitions


@dataclass(frozen=True)
class Declared:
    """A view with what only its declaration says. `lineage` has (asset, column) pairs by column, as far as known."""

    spec: ViewSpec
    description: str
    owners: tuple[str, ...]
    use_case: str
    place: str
    types: Mapping[str, str]
    said: Mapping[str, str]
    lineage: Mapping[str, Sequence[tuple[str, str]]]
    models: tuple[ModelSpec, ...]


@dataclass(frozen=True)
class Feature:
    """One feature; `profile` is its row of the newest partition's profile, None where there are no rows yet."""

    name: str
    type: str
    description: str
    made_from: tuple[str, ...]
    profile: Mapping[str, Any] | None


@dataclass(frozen=True)
class Known:
    """All that is known of a view. `newest` is the time of its newest row."""

    declared: Declared
    features: tuple[Feature, ...]
    version: int
    versions: tuple[tuple[int, str, str], ...]  # number, what it is, since when
    newest: datetime | None
    n_rows: int
    partitions: tuple[str, ...]
    consumers: Mapping[str, str | None]  # champion versions by model
    state: State

    @property
    def lag(self) -> timedelta | None:
        """How far the newest row of a grid is behind the clock."""
        return clock.now() - self.newest if self.newest and not self.declared.spec.view.is_static else None


def known(declared: Declared, lake: Lake, *, statistics: bool = True) -> Known:
    """Collect what the declaration, the lake and the releases say; without `statistics` no profile is read."""
    spec, name = declared.spec, declared.spec.name
    stored = lake.exists(name)
    partitions = tuple(lake.partitions(name)) if stored else ()
    newest, n_rows = _extent(lake, spec, partitions) if stored else (None, 0)
    profiles = _profiles(lake, spec, partitions) if stored and statistics else {}
    return Known(
        declared,
        tuple(_feature(declared, feature, profiles.get(feature)) for feature in spec.view.features()),
        view_versions.current(spec, lake),
        tuple(_versions(spec, lake)),
        newest,
        n_rows,
        partitions,
        {model.name: _champion(model, lake) for model in declared.models},
        view_state.of(spec, lake, declared.place),
    )


def definition(spec: ViewSpec) -> str:
    """The view in the words of its declaration: the SQL, or a line for each aggregation or attribute."""
    view = spec.view
    if view.sql:
        return view.sql.strip()
    if view.lookup:
        until = f" until {view.lookup.valid_until}" if view.lookup.valid_until else ""
        lines = [f"{name} = {sql}" for name, sql in view.lookup.columns.items()]
        return "\n".join([f"of {view.tables[0]}, from {view.lookup.valid_from}{until}:", *lines])
    lines = [
        f"{name} = {', '.join(part.functions)} of {part.expression}"
        f" over {', '.join(map(window_name, part.windows))}" + (f" where {part.where}" if part.where else "")
        for name, part in (view.aggregations or {}).items()
    ]
    return "\n".join([f"of {view.tables[0]}:", *lines])


def timing(spec: ViewSpec) -> str:
    """When features change, when they can be served, and for how long they count."""
    view = spec.view
    grid = f"every {window_name(view.every)}" if view.every else "from when a row is known"
    if (lookup := view.lookup) and (lookup.valid_from != "known_at" or lookup.valid_until):
        until = f" until {lookup.valid_until}" if lookup.valid_until else ""
        grid = f"from {lookup.valid_from}{until}, once known"
    served = f", served {window_name(view.delay)} later" if view.delay else ""
    return grid + served + (f", counts for {window_name(view.max_age)}" if view.max_age else "")


def in_words(span: timedelta) -> str:
    """A span of time by its largest unit: `15m`, `4d`."""
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if abs(seconds) >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def figures(profile: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    """Share of nulls, least, middle and greatest of a feature, as short text; of texts the most frequent instead."""
    if not profile or not profile["n"]:
        return "", "", "", ""
    nulls = f"{profile['nulls'] / profile['n']:.1%}"
    if profile["type"] == "VARCHAR":
        top = ", ".join(f"{each['value']} {each['n'] / profile['n']:.0%}" for each in (profile["top"] or [])[:3])
        return nulls, "", top or f"{profile['distinct']} values", ""
    if not profile["quantiles"]:
        return nulls, "", "", ""
    middle = profile["quantiles"][len(profile["quantiles"]) // 2]
    return nulls, _short(profile["minimum"]), f"{middle:.4g}", _short(profile["maximum"])


def _short(number: str) -> str:
    return f"{float(number):.4g}"


def _champion(model: ModelSpec, lake: Lake) -> str | None:
    released = release.latest(model, lake)
    return released.version if released else None


def _feature(declared: Declared, name: str, profile: Mapping[str, Any] | None) -> Feature:
    made = tuple(f"{asset}.{column}" for asset, column in declared.lineage.get(name, ()))
    return Feature(name, declared.types.get(name, ""), declared.said.get(name, ""), made, profile)


def _extent(lake: Lake, spec: ViewSpec, partitions: Sequence[str]) -> tuple[datetime | None, int]:
    newest = [partitions[-1]] if partitions else None
    with connect() as con:
        rows = lake.read(spec.name, con, partitions=newest, columns=[FEATURE_TIMESTAMP])
        ((time,),) = rows.aggregate(f"max({FEATURE_TIMESTAMP})").fetchall()
    return time, lake.dataset(spec.name).count_rows()


def _profiles(lake: Lake, spec: ViewSpec, partitions: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The newest partition's, as kept with the rows, else made now."""
    newest = [partitions[-1]] if partitions else None
    kept = lake.exists(spec.profiles) and (not newest or newest[0] in lake.partitions(spec.profiles))
    if kept:
        found = lake.dataset(spec.profiles, partitions=newest).to_table()
    else:
        rows = lake.dataset(spec.name, partitions=newest).to_table()
        rows = rows.select([name for name in spec.view.features() if name in rows.column_names])
        with connect() as con:
            found = profile_partitions(con, rows)
    return {row["column"]: row for row in found.to_pylist()}


def _versions(spec: ViewSpec, lake: Lake) -> Iterable[tuple[int, str, str]]:
    current = view_versions.current(spec, lake)
    for each in view_versions.versions(spec.view.name, lake):
        state = "kept, since a model was trained with it" if each.state == view_versions.KEPT else "a draft"
        yield each.number, ("as declared, " if each.number == current else "") + state, each.made_at
