"""What `ml-assets features get` asks and says: one entity, and what each view gives for it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.versions import said_moment
from ml_assets.errors import MlAssetsError

if TYPE_CHECKING:
    from ml_assets.steps.feature_lookup import Seen
    from ml_assets.steps.specs import ViewSpec


def entities(words: Sequence[str]) -> dict[str, str | None]:
    """The value of each column, from words such as `carrier=UA` or `carrier=UA,origin=JFK`; of `carrier=` it is null.

    Raises:
        MlAssetsError: a word without a value, or two values for one column.
    """
    found: dict[str, str | None] = {}
    for part in (part for word in words for part in word.split(",")):
        column, sign, value = part.partition("=")
        name = column.strip()
        if not sign:
            raise MlAssetsError(f"'{column}' names no value. Write an entity as carrier=UA; carrier= is one without.")
        if found.get(name, value or None) != (value or None):
            raise MlAssetsError(
                f"'{name}' is given twice, as '{found[name] or ''}' and as '{value}'. Ask about one at a time."
            )
        found[name] = value or None
    return found


def seen(
    spec: "ViewSpec", lake: Lake, entity: Mapping[str, str | None], at: datetime, *, with_online: bool
) -> "dict[str, Seen]":
    """What a view gives for an entity at a moment, by `offline` and, where it is wanted, `online`."""
    from ml_assets.adapters.settings import Settings
    from ml_assets.steps import feature_lookup
    from ml_assets.steps.run import Run

    offline = feature_lookup.offline(spec, lake, entity, at)
    if not with_online:
        return {"offline": offline}
    store = Run(Settings.from_environment()).online_store
    return {"offline": offline, "online": feature_lookup.online(spec, store, lake, offline.entity, at)}


def described(
    spec: "ViewSpec", found: "Mapping[str, Seen]", at: datetime, written: Callable[[Any], str]
) -> Iterator[dict[str, Any]]:
    """A line for each feature."""
    from ml_assets.steps.feature_catalogue import in_words

    def text(value: Any) -> str | None:
        return None if value is None else written(value)

    offline, online = found["offline"], found.get("online")
    for feature, value in offline.values.items():
        line = {"view": _name(spec), "feature": feature, "offline": text(value)}
        if online:
            line |= {"online": text(online.values[feature]), "same": "yes" if online.gives(offline, feature) else "NO"}
        age = in_words(at - offline.row_at) if offline.row_at else None
        line |= {"row at": said_moment(offline.row_at) if offline.row_at else None, "age": age}
        yield {**line, "missing": offline.missing} | ({"missing online": online.missing} if online else {})


def reasons(spec: "ViewSpec", found: "Mapping[str, Seen]") -> list[str]:
    """Why no row counts, where none does."""
    return [f"{_name(spec)}: no row counts {where}: {s.missing}." for where, s in found.items() if s.missing]


def _name(spec: "ViewSpec") -> str:
    return spec.name.removeprefix("features/")
