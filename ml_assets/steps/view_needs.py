"""Which versions of feature views models need: those of every version in force, and of every one that is served."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ml_assets.errors import RegistryUnavailableError
from ml_assets.serving import bundle
from ml_assets.serving.routing import Routing
from ml_assets.steps.run import Run
from ml_assets.steps.view_versions import ViewVersion

VERSIONS_TAG = "features.versions"
_UNKNOWN = "unknown, since the registry is away"

Needs = Mapping[int, tuple[str, ...]]


def tag_of(numbers: Mapping[str, int]) -> str:
    """View versions as a tag of a registered model: `carrier_delays@1, weather@2`."""
    return ", ".join(f"{view}@{number}" for view, number in numbers.items())


def of_view(view: str, older: Sequence[ViewVersion], run: Run) -> Needs:
    """Of some versions of a view those that are needed, with who does; all of them while the registry is away.

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
    return {each.number: tuple(found[each.number]) for each in older if each.number in found}


def _in_force(run: Run) -> Iterator[tuple[dict[str, int], str]]:
    for alias, version in run.registry.in_force():
        named = [part.rpartition("@") for part in version.tags.get(VERSIONS_TAG, "").split(", ") if part]
        yield {view: int(number) for view, _, number in named}, f"{version.name} version {version.version} ({alias})"


def _served(run: Run) -> Iterator[tuple[dict[str, int], str]]:
    for place in sorted(Path(run.settings.endpoints).glob("*/routing.json")):
        for version in msgspec.json.decode(place.read_bytes(), type=Routing).weights:
            schema = bundle.read(place.parent / "versions" / version).schema
            who = f"{schema.model} version {version} (endpoint {place.parent.name})"
            yield {view.name: view.version for view in schema.views}, who
