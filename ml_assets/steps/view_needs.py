"""Which versions of feature views models need: those of every version in force, and of every one that is served."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from ml_assets.errors import ArtefactError, RegistryUnavailableError, shorten
from ml_assets.features.view import MICROSECOND
from ml_assets.serving import bundle
from ml_assets.serving.routing import Routing
from ml_assets.steps import view_versions
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.view_versions import ViewVersion

VERSIONS_TAG = "features.versions"
_UNKNOWN = "unknown, since the registry is away"
_BROKEN = "unknown, since the bundle of a version that an endpoint serves is broken"

Needs = Mapping[int, tuple[str, ...]]


def tag_of(numbers: Mapping[str, int]) -> str:
    """View versions as a tag of a registered model: `carrier_delays@1, weather@2`."""
    return ", ".join(f"{view}@{number}" for view, number in numbers.items())


def of_view(view: str, older: Sequence[ViewVersion], run: Run) -> Needs:
    """Of some versions of a view those that are needed, with who does; all of them while that cannot be known.

    In force is what has an alias in the registry (candidate, champion, previous champion), or is in the routing table
    of an endpoint of this installation, with or without traffic.
    """
    if not older:
        return {}
    found: dict[int, list[str]] = {}
    try:
        for stored, who in [*_in_force(run), *_served(run)]:
            if view in stored:
                found.setdefault(stored[view], []).append(who)
    except RegistryUnavailableError:
        return {each.number: (_UNKNOWN,) for each in older}
    except ArtefactError:  # whose endpoint cannot be restarted; it must not stop the features of all others
        return {each.number: (_BROKEN,) for each in older}
    return {each.number: tuple(found[each.number]) for each in older if each.number in found}


def max_ages(view: str, run: Run) -> set[timedelta | None]:
    """How old rows of a view may get by the versions that endpoints of this installation serve; None: without limit."""
    found: set[int | None] = set()
    for folder in _folders(run):
        with suppress(ArtefactError):  # a bundle that is broken must not stop the features of all others
            found |= {ref.max_age_us for ref in bundle.read(folder).schema.views if ref.name == view}
    return {None if age is None else age * MICROSECOND for age in found}


def edit_of(spec: ViewSpec, run: Run) -> str:
    """What becomes of the version that `features/<view>` holds, once an edited definition is computed; else empty."""
    view, lake = spec.view.name, run.lake
    now, wanted = view_versions.standing(view, lake), view_versions.version_of(spec, lake)
    if now is None or (wanted.state and now.number == wanted.number):
        return ""
    if now.number == wanted.number:
        return f"the definition replaces version {now.number} in place: no registered model was trained with that"
    if wanted.state:
        return f"the definition is that of version {wanted.number} again, and features/{view} holds {now.number}"
    held = next((each for each in view_versions.versions(view, lake) if each.number == now.number), None)
    users = of_view(view, [held] if held else [], run).get(now.number, ())
    needed = f"needed by {shorten(users)}" if users else "kept, since a model that was trained with it was registered"
    return f"the definition becomes version {wanted.number}: version {now.number} is {needed}"


def _in_force(run: Run) -> Iterator[tuple[dict[str, int], str]]:
    for alias, version in run.registry.in_force():
        named = [part.rpartition("@") for part in version.tags.get(VERSIONS_TAG, "").split(", ") if part]
        yield {view: int(number) for view, _, number in named}, f"{version.name} version {version.version} ({alias})"


def _served(run: Run) -> Iterator[tuple[dict[str, int], str]]:
    for folder in _folders(run):
        schema, place = bundle.read(folder).schema, folder.parents[1]
        who = f"{schema.model} version {folder.name} (endpoint {place.name})"
        read = [view_versions.reads(view.name, view.version, run.lake) for view in schema.views]
        own = {view.name: view.version for view in schema.views}
        yield {name: number for part in (*read, own) for name, number in part.items()}, who


def _folders(run: Run) -> Iterator[Path]:
    """Where the bundles of all versions in the routing tables of endpoints are."""
    for place in sorted(Path(run.settings.endpoints).glob("*/routing.json")):
        for version in msgspec.json.decode(place.read_bytes(), type=Routing).weights:
            yield place.parent / "versions" / version
