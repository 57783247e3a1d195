"""The form of a row in every online store: key and features as msgpack, which keeps each bit of a double."""

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from ml_assets.errors import FeatureError

if TYPE_CHECKING:
    import pyarrow as pa

TIMESTAMP = "feature_timestamp"
Encoded = tuple[bytes, int, bytes]


class ViewSchema(NamedTuple):
    """The columns of a view's keys and of its rows, in the order of `lookup`."""

    entity: tuple[str, ...]
    features: tuple[str, ...]

    def merged(self, view: str, given: "ViewSchema") -> "ViewSchema":
        """Give what is stored after rows of another schema come: the known features stay in place, new ones follow.

        Raises:
            FeatureError: the keys are others.
        """
        if self.entity != given.entity:
            raise FeatureError(
                f"{view}: its keys in the online store are {self.entity}, those of the rows {given.entity}."
                " Give the view another name, or drop it from the store."
            )
        added = tuple(name for name in given.features if name not in self.features)
        return ViewSchema(self.entity, self.features + added)


def encoded(schema: ViewSchema, rows: "pa.Table") -> list[Encoded]:
    """Give key, microseconds and features of each row, in the order of keys, in which a B-tree takes them fastest.

    Rows with a null in their key are left out; of rows with one key and time the later one comes later. A feature
    that the rows lack is null, and so is one that is not a number.
    """
    columns = [_values(rows, name) for name in schema.features]
    values = zip(*columns, strict=True) if columns else repeat((), len(rows))
    keys = zip(*(_keys(rows, name) for name in schema.entity), strict=True) if schema.entity else repeat(())
    listed = zip(keys, times(rows), map(encode, values), strict=bool(schema.entity))
    taken = [(encode_key(key), at, row) for key, at, row in listed if None not in key]
    return sorted(taken, key=itemgetter(0, 1))


def times(rows: "pa.Table", name: str = TIMESTAMP) -> list[int]:
    """Give the grid time of each row, or another moment, in microseconds."""
    import pyarrow as pa

    return rows[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()


def require_within(view: str, rows: "pa.Table", first: int, last: int) -> None:
    """Raise FeatureError for rows that are not from `first` to `last`."""
    outside = sum(not first <= at <= last for at in times(rows))
    if outside:
        raise FeatureError(f"{view}: {outside} of {len(rows)} rows are outside of the time they are to replace.")


def _keys(rows: "pa.Table", name: str) -> Sequence[Any]:
    """Values of a key; a moment is in microseconds, as a request row has it."""
    import pyarrow as pa

    return times(rows, name) if pa.types.is_timestamp(rows[name].type) else rows[name].to_pylist()


def _values(rows: "pa.Table", name: str) -> Sequence[Any]:
    import pyarrow as pa

    if name not in rows.column_names:
        return [None] * len(rows)
    if not pa.types.is_floating(rows[name].type):
        return rows[name].to_pylist()
    numbers = rows[name].to_numpy()  # a null is NaN here
    listed = numbers.tolist()
    for place in np.flatnonzero(np.isnan(numbers)).tolist():
        listed[place] = None
    return listed


def _plain(value: Any) -> Any:
    """Turn a numpy scalar into the Python value that the same key has in storage."""
    return value.item()


encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def encode_key(key: Sequence[Any]) -> bytes:
    """The key as stored and looked up. Minus zero is zero, as in a join offline; all other bits stay."""
    return encode([value + 0.0 if isinstance(value, float) else value for value in key])


decode = msgspec.msgpack.Decoder().decode
