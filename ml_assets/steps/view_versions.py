"""The versions of feature views: numbers for definitions, which stay once a registered model uses them.

Beside the lake, `views/<view>/<n>.json` holds a definition: as `draft`, which an edit replaces in place, or as `kept`,
which nothing replaces. `views/<view>/stands.json` says which version `features/<view>` holds; those of older ones are
in `features/<view>@<n>`. A definition counts by its meaning: comments and layout do not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_assets.adapters.lake import Lake
from ml_assets.steps import configuration
from ml_assets.steps.memo import digest, flat
from ml_assets.steps.specs import ViewSpec

_FOLDER = "views"
_FIRST = 1
_JOINED = ("keep", "defaults")


@dataclass(frozen=True)
class ViewVersion:
    """A numbered definition of a view; a kept one never changes, since a registered model was trained with it."""

    number: int
    meaning: str
    definition: Mapping[str, Any]
    made_at: str
    kept: bool


@dataclass(frozen=True)
class Standing:
    """Which version `features/<view>` holds; `moving` while the rows of another are taken out of it."""

    number: int
    moving: bool = False


def current(spec: ViewSpec, lake: Lake) -> int:
    """The number of a declared definition: that of one that is known, else the one that it gets when it is computed.

    Reads a few small objects and writes nothing. A definition that no version has takes the place of a draft, or the
    next number.
    """
    found, meant = versions(spec.view.name, lake), meaning_of(spec)
    return next((each.number for each in found if each.meaning == meant), _free(found))


def versions(view: str, lake: Lake) -> list[ViewVersion]:
    """All versions of a view that were ever computed, by number."""
    kept = {n: _read(lake, place, kept=True) for n, place in _places(lake, view, "kept").items()}
    drafts = {n: _read(lake, place, kept=False) for n, place in _places(lake, view, "draft").items()}
    return [found for _, found in sorted((drafts | kept).items())]


def meaning_of(spec: ViewSpec) -> str:
    """The hash of all that decides the rows of a view; how they are joined and how long they stay online does not."""
    meant = configuration.of_view(spec)
    return digest(flat({name: value for name, value in meant.items() if name not in _JOINED}))


def _free(found: list[ViewVersion]) -> int:
    drafts = [each.number for each in found if not each.kept]
    return drafts[-1] if drafts else max([each.number for each in found], default=_FIRST - 1) + 1


def _places(lake: Lake, view: str, state: str) -> dict[int, str]:
    found = lake.objects(f"{_FOLDER}/{view}/{state}/")
    return {int(place.rpartition("/")[2].removesuffix(".json")): place for place in found}


def _read(lake: Lake, place: str, *, kept: bool) -> ViewVersion:
    return ViewVersion(**json.loads(lake.get_object(place)), kept=kept)
