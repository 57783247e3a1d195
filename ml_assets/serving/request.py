"""The request contract of a model version: JSON decoders made from its schema, and columns made from request rows.

The columns follow one convention, online and offline, so that `request_features` functions see the same arrays:
VARCHAR is an object array of str or None; BIGINT, DOUBLE and BOOLEAN are float64 with NaN for null; TIMESTAMPTZ and
the prediction time are datetime64[us] in UTC with NaT.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np

from ml_assets.errors import RequestError, shorten
from ml_assets.serving.bundle import RequestField, ServingSchema

MOST_ROWS = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US, _LAST_US = -2_208_988_800_000_000, 7_258_118_400_000_000  # 1900 and 2200: inside every time type we use
_NULL_TIME = np.iinfo(np.int64).min
_INSTANT: Any = Annotated[datetime, msgspec.Meta(tz=True)]
_TYPES: dict[str, Any] = {
    "VARCHAR": Annotated[str, msgspec.Meta(max_length=256)],
    "BOOLEAN": bool,
    "TIMESTAMPTZ": _INSTANT,
}
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)

Row = tuple[Any, ...]


def microseconds(instant: datetime) -> int:
    """Count from 1970 in UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(microseconds_: int | None) -> datetime | None:
    """Turn a count from 1970 into a UTC datetime; null stays null."""
    return None if microseconds_ is None else _EPOCH + timedelta(microseconds=microseconds_)


class RequestContract:
    """Decodes and checks request rows of one schema; every refusal is a RequestError without the value."""

    def __init__(self, schema: ServingSchema) -> None:
        self.fields, self.time_field = schema.request_fields, schema.time_field
        self.instance = msgspec.defstruct(
            "Instance",
            [*map(_declared, self.fields), _time(schema.time_field)],
            forbid_unknown_fields=True,
            kw_only=True,
        )
        rows = Annotated[list[self.instance], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
        self.instances = msgspec.defstruct("Instances", [("instances", rows)], forbid_unknown_fields=True)
        self._one, self._many = msgspec.json.Decoder(self.instance), msgspec.json.Decoder(self.instances)
        self._names = tuple(field.name for field in self.fields)
        self._times = [(n, f.name) for n, f in enumerate(self.fields) if f.type == "TIMESTAMPTZ"]
        self._chosen = [(n, f, frozenset(f.choices)) for n, f in enumerate(self.fields) if f.choices]

    def decode(self, body: bytes, *, now_us: int) -> tuple[list[Row], list[int]]:
        """Give the rows, with times in microseconds, and the prediction time of each (`now_us` where left out)."""
        if b'"instances"' in body:
            return self._rows(_decoded(self._many, body).instances, now_us, "$.instances[{}]")
        return self._rows([_decoded(self._one, body)], now_us, "$")

    def convert(self, rows: Sequence[dict], *, now_us: int, path: str) -> tuple[list[Row], list[int]]:
        """The same for rows that were JSON objects; `path` has a place for the row number."""
        if not 1 <= len(rows) <= MOST_ROWS:
            raise RequestError(f"must hold 1 to {MOST_ROWS} rows", path="$")
        return self._rows([self._instance(row, path.format(n)) for n, row in enumerate(rows)], now_us, path)

    def named(self, row: Row) -> dict[str, Any]:
        """Give a decoded row by field, with times as datetimes again: the form of the prediction log."""
        values = dict(zip(self._names, row, strict=True))
        for _, name in self._times:
            values[name] = instant(values[name])
        return values

    def _instance(self, row: dict, path: str) -> Any:
        try:
            return msgspec.convert(row, self.instance)
        except msgspec.ValidationError as error:
            raise _refusal(error, path) from None

    def _rows(self, instances: Sequence[Any], now_us: int, path: str) -> tuple[list[Row], list[int]]:
        rows, ats = [], []
        for number, instance in enumerate(instances):
            *values, at = msgspec.structs.astuple(instance)
            ats.append(now_us if at is None else _within(at, path, number, self.time_field))
            for position, name in self._times:
                if values[position] is not None:
                    values[position] = _within(values[position], path, number, name)
            for position, field, choices in self._chosen:
                if values[position] is not None and values[position] not in choices:
                    rule = f"must be one of {shorten(field.choices)}"
                    raise RequestError(rule, path=f"{path.format(number)}.{field.name}")
            rows.append(tuple(values))
        return rows, ats


def request_columns(schema: ServingSchema, rows: Sequence[Row], at: Sequence[int]) -> dict[str, np.ndarray]:
    """Make columns by the convention of this module from decoded rows; the prediction time is a column too."""
    by_field = zip(*rows, strict=True)
    columns = {f.name: _array(f.type, values) for f, values in zip(schema.request_fields, by_field, strict=True)}
    return columns | {schema.time_field: np.array(at, dtype="datetime64[us]")}


def table_columns(schema: ServingSchema, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Make the same columns from an Arrow table that has the request fields and the prediction time."""
    columns = {field.name: _from_arrow(field.type, table[field.name]) for field in schema.request_fields}
    return columns | {schema.time_field: _from_arrow("TIMESTAMPTZ", table[schema.time_field])}


def _declared(field: RequestField) -> tuple:
    kind: Any = _bounded(field) if field.type in {"BIGINT", "DOUBLE"} else _TYPES[field.type]
    if field.choices:
        kind = Annotated[kind, msgspec.Meta(extra_json_schema={"enum": list(field.choices)})]
    kind = Annotated[kind | None if field.nullable else kind, msgspec.Meta(description=field.description)]
    return (field.name, kind, None) if field.nullable else (field.name, kind)


def _bounded(field: RequestField) -> Any:
    low, high = field.minimum, field.maximum
    if field.type == "DOUBLE":
        limits: Any = {"ge": low, "le": high, "gt": field.above, "lt": field.below}
        return Annotated[float, msgspec.Meta(**limits)]
    low, high = (-(2**63) if low is None else math.ceil(low)), (2**63 - 1 if high is None else math.floor(high))
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def _time(name: str) -> tuple:
    text = "Prediction time (RFC 3339 with offset); now when left out. Features known later are not used."
    return name, Annotated[_INSTANT | None, msgspec.Meta(description=text)], None


def _decoded(decoder: msgspec.json.Decoder, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(error, "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError(
            "the body must be well-formed JSON in UTF-8, without NaN or Infinity", path="$", status=400
        ) from None


def _refusal(error: msgspec.ValidationError, root: str) -> RequestError:
    problem, _, place = str(error).rpartition(" - at `$")
    problem, path = (problem, root + place.removesuffix("`")) if problem else (str(error), root)
    named = _NAMED.fullmatch(problem)
    if not named:
        return RequestError(problem.replace("`", ""), path=path)
    rule = "is required" if named[1] == "missing required" else "is not a field of this model: GET /docs lists them"
    return RequestError(rule, path=f"{path}.{named[2][:64]}")


def _within(instant: datetime, path: str, number: int, name: str) -> int:
    value = microseconds(instant)
    if not _FIRST_US <= value < _LAST_US:
        raise RequestError("must lie between the years 1900 and 2200", path=f"{path.format(number)}.{name}")
    return value


def _array(kind: str, values: Sequence[Any]) -> np.ndarray:
    if kind == "VARCHAR":
        return np.array(values, dtype=object)
    if kind == "TIMESTAMPTZ":
        return np.array([_NULL_TIME if value is None else value for value in values], dtype=np.int64).view(
            "datetime64[us]"
        )
    return np.array(values, dtype=np.float64)


def _from_arrow(kind: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    if kind == "TIMESTAMPTZ":
        return _array(kind, column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist())
    return _array(kind, column.to_pylist())
