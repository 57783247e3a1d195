"""What a model was trained with, against what its bundle says: settings of the joins, rows joined anew, encoded anew.

Both sides of a comparison of answers read the same bundle, so that it cannot tell that the bundle is wrong. The
training set can: its rows were joined and encoded then, and its manifest says how, from which versions of the lake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.registry import ModelVersion
from ml_assets.engine import connect, quote
from ml_assets.features.encode import Input, encode
from ml_assets.monitoring.skew import Skew, compare, rows_that_differ, worst
from ml_assets.serving.bundle import Bundle, ServingSchema, ViewRef
from ml_assets.steps import offline, pins, view_versions
from ml_assets.steps.certificate import Differing, Learnt
from ml_assets.steps.memo import flat
from ml_assets.steps.skews import shown, whose
from ml_assets.steps.specs import ModelSpec
from ml_assets.steps.view_versions import ViewVersion

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = "_place"


@dataclass(frozen=True)
class Trained:
    """Rows of the training set, `n` of them, joined anew; `encoded` of these were in the bundle, and encoded anew.

    `settings` are those of the bundle that are not the training set's, as `<view>.<setting>`. `joined` are the inputs
    that the bundle's settings give otherwise, of the rows in `rows`. `corrected` rows come out otherwise today, and
    as they were from the lake as it was then.
    """

    n: int = 0
    encoded: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    rows: "pa.Table | None" = None
    joined: tuple[Skew, ...] = ()
    encoding: tuple[Skew, ...] = ()
    corrected: int = 0

    def certified(self, schema: ServingSchema) -> Learnt:
        """What a certificate says of it."""
        return Learnt(
            rows=self.n,
            encoded=self.encoded,
            settings=dict(self.settings),
            joined={
                skew.feature: _differing(skew, "joined anew", self._whose(schema, skew)) for skew in worst(self.joined)
            },
            encoding={skew.feature: _differing(skew, "encoded anew") for skew in worst(self.encoding)},
            corrected=self.corrected,
        )

    def _whose(self, schema: ServingSchema, skew: Skew) -> str:
        return whose(schema, self.rows, skew) if self.rows is not None else ""


def compared(
    spec: ModelSpec, lake: Lake, packed: Bundle, registered: ModelVersion | None, asked: "pa.Table"
) -> Trained:
    """Compare a bundle with the rows of the training set that it holds, and with those that the server is asked about.

    Gives nothing for a version that the registry does not tell of, or that an earlier release of ml_assets trained.
    """
    version = registered.tags.get("training_set.lake_version") if registered else None
    if registered is None or version is None:
        return Trained()
    manifest = pins.read(lake, registered.tags["training_set.manifest"])
    if not {"declaration", "views"} <= manifest.keys():
        return Trained()
    rows, golden = _rows(spec, lake, packed, int(version), asked)
    differing, joined = _joined(packed.schema, lake, rows, manifest["versions"])
    return Trained(
        n=rows.num_rows,
        encoded=len(golden),
        settings=_settings(packed.schema, manifest, lake),
        rows=differing,
        joined=joined,
        encoding=_encoded(packed, rows, golden),
        corrected=int((~rows_that_differ(joined)).sum()) if joined else 0,
    )


def _differing(skew: Skew, now: str, row: str = "") -> Differing:
    first = f"{shown(skew.offline)} in the training set, {shown(skew.online)} {now}{row}"
    return Differing(skew.different, skew.offline, skew.online, first)


def _rows(spec: ModelSpec, lake: Lake, packed: Bundle, version: int, asked: "pa.Table") -> tuple["pa.Table", list[int]]:
    """Rows of the training set, first those of golden requests; also the place of each of these among the requests."""
    import pyarrow as pa

    keys, schema = [*spec.spine.keys, "at"], packed.schema
    asked = asked.select(keys)
    held = {key: pa.array([r[key] for r in packed.golden.requests]).cast(asked.schema.field(key).type) for key in keys}
    wanted = pa.concat_tables([pa.table(held, asked.schema), asked])
    dataset = lake.dataset(spec.training_set, version=version)
    needed = {*keys, *(each.name for each in schema.request_fields), *(each.name for each in schema.inputs)}
    columns = [quote(name) for name in dataset.schema.names if name in needed]
    with connect() as con:
        con.register("wanted", wanted.append_column(_PLACE, [np.arange(len(wanted))]))
        con.register("trained", dataset)
        found = con.sql(f"""
            SELECT {", ".join(columns)}, {_PLACE}
            FROM trained JOIN wanted USING ({", ".join(map(quote, keys))})
            QUALIFY row_number() OVER (PARTITION BY {", ".join(map(quote, keys))} ORDER BY {_PLACE}) = 1
            ORDER BY {_PLACE}""").to_arrow_table()
    places = found[_PLACE].to_numpy()
    return found.drop_columns(_PLACE), places[places < len(packed.golden.requests)].tolist()


def _encoded(packed: Bundle, rows: "pa.Table", golden: Sequence[int]) -> tuple[Skew, ...]:
    """Compare the matrix that the bundle holds with that of the same rows of the training set."""
    columns = offline.columns_of(packed.schema, rows.slice(0, len(golden)))
    found, held = encode(columns, packed.schema.inputs), packed.golden.matrix()[golden]
    codes = [Input(wanted.name, "numeric") for wanted in packed.schema.inputs]
    return compare(codes, _by_name(codes, held), _by_name(codes, found))


def _by_name(inputs: Sequence[Input], matrix: np.ndarray) -> dict[str, Any]:
    return {wanted.name: matrix[:, n] for n, wanted in enumerate(inputs)}


def _joined(
    schema: ServingSchema, lake: Lake, rows: "pa.Table", then: Mapping[str, int]
) -> tuple["pa.Table | None", tuple[Skew, ...]]:
    """Join rows anew; those that come out otherwise once more, from the lake as it was `then`."""
    joined = {f"{ref.name}__{feature}" for ref in schema.views for feature in ref.features}
    inputs = [wanted for wanted in schema.inputs if wanted.name in joined]
    if not inputs or not rows.num_rows:
        return None, ()
    asked = rows.select([*(each.name for each in schema.request_fields), schema.time_field])
    today = compare(inputs, offline.columns_of(schema, rows), offline.inputs_of(schema, lake, asked))
    wrong = rows_that_differ(today)
    if not wrong.any():
        return None, ()
    differing, before = rows.filter(wrong), offline.inputs_of(schema, lake, asked.filter(wrong), then)
    return differing, compare(inputs, offline.columns_of(schema, differing), before)


def _settings(schema: ServingSchema, manifest: Mapping[str, Any], lake: Lake) -> dict[str, str]:
    """How the bundle joins its views otherwise than the manifest of the training set says, by `<view>.<setting>`."""
    served = flat({ref.name: _joining(ref) for ref in schema.views})
    declared = flat(manifest["declaration"]["features"])
    return {
        name: f"{served.get(name, 'none')} in the bundle, {declared.get(name, 'none')} in the training set"
        for name in {**declared, **served}
        if served.get(name) != declared.get(name)
    } | _versions(schema, manifest["views"], lake)


def _joining(ref: ViewRef) -> dict[str, Any]:
    """A view's part of `configuration.of_training_set`."""
    return {
        "entity": ref.entity,
        "delay": timedelta(microseconds=ref.delay_us),
        "max_age": None if ref.max_age_us is None else timedelta(microseconds=ref.max_age_us),
        "defaults": ref.defaults,
        "gives": ref.features,
    }


def _versions(schema: ServingSchema, pinned: Mapping[str, Mapping[str, Any]], lake: Lake) -> dict[str, str]:
    """Views whose version in the bundle is not what the training set was made from; a version counts by its meaning."""
    found = {}
    for ref in schema.views:
        meant = [each.meaning for each in view_versions.versions(ref.name, lake) if each.number == ref.version]
        if meant != [ViewVersion(**pinned[ref.name]).meaning]:
            said = f"{ref.version} in the bundle, {pinned[ref.name]['number']} in the training set"
            found[f"{ref.name}.version"] = said
    return found
