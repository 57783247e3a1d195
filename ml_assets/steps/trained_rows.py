"""Rows that a model was trained with, encoded again: a bundle with inputs or categories in another order is found.

Both sides of a comparison of answers read the same bundle, so that it cannot tell. The training set can: the bundle
holds some of its rows as they were encoded then, and the version names the table that has their values.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.registry import ModelVersion
from ml_assets.features.encode import Input, encode
from ml_assets.monitoring.skew import Skew, compare
from ml_assets.serving.bundle import Bundle
from ml_assets.steps.frames import as_requests
from ml_assets.steps.offline import columns_of
from ml_assets.steps.specs import ModelSpec

if TYPE_CHECKING:
    import pyarrow as pa


def encoded_again(
    spec: ModelSpec, lake: Lake, packed: Bundle, registered: ModelVersion | None
) -> tuple[int, tuple[Skew, ...]]:
    """Compare the golden rows with the same rows of the training set, encoded by the bundle; how many there are."""
    table_version = registered.tags.get("training_set.lake_version") if registered else None
    if table_version is None or not packed.golden.requests:
        return 0, ()
    rows, places = _rows(spec, lake, packed, int(table_version))
    if not places:
        return 0, ()
    found, golden = encode(columns_of(packed.schema, rows), packed.schema.inputs), packed.golden.matrix()[places]
    codes = [Input(wanted.name, "numeric") for wanted in packed.schema.inputs]
    return len(places), compare(codes, _by_name(codes, golden), _by_name(codes, found))


def example(skew: Skew) -> str:
    """The first row that is encoded otherwise."""
    return f"{skew.offline} then, {skew.online} now, in {skew.different} of {len(skew.differs)} rows"


def _by_name(inputs: Sequence[Input], matrix: np.ndarray) -> dict[str, Any]:
    return {wanted.name: matrix[:, n] for n, wanted in enumerate(inputs)}


def _rows(spec: ModelSpec, lake: Lake, packed: Bundle, version: int) -> tuple["pa.Table", list[int]]:
    """The rows of the training set that golden requests are of, and the places of these requests."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    keys, schema = [*spec.spine.keys, "at"], packed.schema
    dataset = lake.dataset(spec.training_set, version=version)
    wanted = {*keys, *(field.name for field in schema.request_fields), *(each.name for each in schema.inputs)}
    times = pa.array([request["at"] for request in packed.golden.requests]).cast(pa.timestamp("us", "UTC"))
    columns = [name for name in dataset.schema.names if name in wanted]
    rows = dataset.to_table(columns=columns, filter=ds.field("at").isin(times))
    known = {tuple(row.values()): n for n, row in enumerate(as_requests(rows.select(keys)))}
    asked = [tuple(request[key] for key in keys) for request in packed.golden.requests]
    places = [n for n, key in enumerate(asked) if key in known]
    return rows.take([known[asked[n]] for n in places]), places
