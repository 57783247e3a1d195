"""Which values of a view's text features were ever seen: in its rows, and by the models that were trained on them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake
from ml_assets.engine import literal, quote, scratch
from ml_assets.features.encode import Input
from ml_assets.steps.specs import ModelSpec, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 2000  # different values; a feature with more is no category, such as a number of an aircraft

Seen = dict[str, dict[str, str]]  # by feature and value: the first day that has it


@dataclass(frozen=True)
class Counted:
    """A value of a feature in the rows that are judged: how often, and its first day."""

    feature: str
    value: str
    n: int
    first: str


def counted(rows: "pa.Table") -> list[Counted]:
    """The values of all text columns of rows with a column `partition_key`."""
    import pyarrow as pa

    text = [f.name for f in rows.schema if pa.types.is_string(f.type) and f.name != "partition_key"]
    if not text:
        return []
    each = (
        f"SELECT {literal(name)}, {quote(name)} AS value, count(*), min(partition_key) FROM counted"
        f" WHERE value IS NOT NULL GROUP BY value"
        for name in text
    )
    with scratch(threads=None) as con:
        con.register("counted", rows)
        found = con.sql(f"{' UNION ALL '.join(each)} ORDER BY ALL").fetchall()
    return [Counted(name, value, n, first) for name, value, n, first in found]


def seen(spec: ViewSpec, lake: Lake) -> Seen:
    """The values of all rows so far."""
    place = _place(spec.view.name, "seen")
    return json.loads(lake.get_object(place)) if lake.has_object(place) else {}


def remember(spec: ViewSpec, lake: Lake, found: Collection[Counted]) -> None:
    """Add the values of rows that stand now; of what is no category one more than the limit is kept."""
    known = seen(spec, lake)
    before = json.dumps(known)
    for each in found:
        of_feature = known.setdefault(each.feature, {})
        if len(of_feature) <= MOST or each.value in of_feature:
            of_feature[each.value] = min(each.first, of_feature.get(each.value, each.first))
    if json.dumps(known) != before:
        lake.replace_object(_place(spec.view.name, "seen"), json.dumps(known).encode())


def trained(view: str, lake: Lake) -> Iterator[tuple[str, Mapping[str, list[str]]]]:
    """The models that were trained on a view, each with the values that its newest version knows, by feature."""
    for place in lake.object_names(f"categories/{view}/trained/"):
        found = json.loads(lake.get_object(place))
        yield f"version {found['version']} of {found['model']}", found["features"]


def remember_training(spec: ModelSpec, lake: Lake, version: str, inputs: Collection[Input]) -> None:
    """Keep which values a version of a model was trained with, for each view that gives it text."""
    for view in spec.views:
        prefix = f"{view.view.name}__"
        features = {i.name.removeprefix(prefix): list(i.categories) for i in inputs if i.name.startswith(prefix)}
        if known := {name: values for name, values in features.items() if values}:
            content = {"model": spec.name, "version": version, "features": known}
            lake.replace_object(_place(view.view.name, f"trained/{spec.name}"), json.dumps(content).encode())


def _place(view: str, what: str) -> str:
    return f"categories/{view}/{what}.json"
