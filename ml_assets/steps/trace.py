"""One answer of an endpoint, traced back: its inputs, the feature rows that counted, and the rows behind these.

The lake is read as it was when the answer was given, so that what was corrected since does not take part; where it
does not hold that any more, as it is.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters import versions
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.past import PastLake
from ml_assets.adapters.prediction_log import expand, read
from ml_assets.errors import EndpointError, FeatureError, LakeError, TableNotFoundError, shorten
from ml_assets.features.provenance import Origin, origin
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.monitoring.skew import SCORE, plain
from ml_assets.serving.bundle import Bundle, ViewRef
from ml_assets.steps import answers, evaluation, feature_lookup, features, offline
from ml_assets.steps.answers import Answered
from ml_assets.steps.deliver import deliveries
from ml_assets.steps.endpoint import local
from ml_assets.steps.run import Run
from ml_assets.steps.skews import view_of
from ml_assets.steps.specs import EndpointSpec, Input, TableSpec, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Value:
    """An input, or the score, as it was served, as the lake gave it when it was asked, and as it gives it now.

    `ref` is None for what the request gave; `same` where it was not compared.
    """

    name: str
    ref: ViewRef | None
    served: float | str | None
    then: float | str | None
    now: float | str | None
    same: bool | None


@dataclass(frozen=True)
class Answer:
    """A prediction as it was logged, with the bundle that made it, and the lake that it is compared with.

    `asked` is the request in its types, `row_at` by view the time of the feature row that counted in that lake.
    """

    endpoint: str
    logged: Mapping[str, Any]
    asked: Mapping[str, Any]
    bundle: Bundle
    lake: Lake
    values: tuple[Value, ...]
    row_at: Mapping[str, datetime | None]
    sentence: str

    @property
    def corrected(self) -> list[str]:
        """The inputs that the lake gives otherwise now."""
        return [value.name for value in self.values if value.now != value.then and value.name != SCORE]


@dataclass(frozen=True)
class Behind:
    """The rows that a feature row is made from, by the name that its view calls a table.

    `places` has, by the same name, the table of the lake and its version; `delivered` the deliveries of the day of
    each row.
    """

    ref: ViewRef
    origin: Origin
    places: Mapping[str, tuple[str, int]]
    delivered: Mapping[str, tuple[str, ...]]

    def counted(self, window: str = "") -> str:
        """How many rows of what these are, and whether they prove it; those of one window, or all."""
        named = {name: self._n_rows(name, window) for name in self.origin.rows}
        counts = [f"{_rows(n)} of {' version '.join(map(str, self.places[name]))}" for name, n in named.items() if n]
        found = " and ".join(counts) or "no row"
        if not self.origin.same:
            return f"NOT what its tables give ({found} of its entity)"
        doubt = "" if self.origin.alone else ", which alone do not give it"
        return found + (doubt if self.origin.complete else ", not all of which may count: the search was cut short")

    def _n_rows(self, name: str, window: str) -> int:
        if not (window and self.origin.windows):
            return self.origin.rows[name].num_rows
        return sum(window in held.split(", ") for held in self.origin.windows)


def _rows(n: int) -> str:
    return f"{n:,} row{'s' if n != 1 else ''}"


def answer(specs: Sequence[EndpointSpec], run: Run, prediction_id: str) -> Answer:
    """Find an answer by its id in the lake, else in the log of its server, and compute its inputs again.

    Raises:
        EndpointError: no endpoint has given it.
    """
    for spec in specs:
        logged = _logged(spec, run, prediction_id)
        if logged.num_rows:
            return _again(spec, run, logged)
    names = {spec.predictions for spec in specs}
    gone = [name for name in versions.tables(run.lake) if name.startswith("predictions/") and name not in names]
    more = f" Not looked through, since their endpoints are not declared: {shorten(gone)}." if gone else ""
    raise EndpointError(
        f"No answer has the id '{prediction_id}': it is neither in {shorten(sorted(names)) or 'any endpoint'} nor in"
        f" the logs of their servers.{more} Ids are in the answers of an endpoint, and in"
        f" `ml-assets table read {min(names, default='predictions/NAME')}`."
    )


def _logged(spec: EndpointSpec, run: Run, prediction_id: str) -> "pa.Table":
    """The one row of an answer, with a column for each input; or none."""
    import pyarrow.compute as pc

    if run.lake.exists(spec.predictions):
        rows = run.lake.dataset(spec.predictions).to_table(filter=pc.field("prediction_id") == prediction_id)
        if rows.num_rows:
            return rows.slice(0, 1)
    rows = read(Path(local(spec, run).config.log), prediction_id=prediction_id)
    if not rows.num_rows:
        return rows
    (row,) = rows.to_pylist()
    if row["status"] != "ok":
        raise EndpointError(f"The request '{prediction_id}' got no answer: {row['status']}, {row['reason']}")
    return expand(rows, evaluation.fetch(spec.model, run, row["version"]).schema.inputs)


def _again(spec: EndpointSpec, run: Run, logged: "pa.Table") -> Answer:
    (row,) = logged.to_pylist()
    packed = evaluation.fetch(spec.model, run, row["version"])
    now = answers.of_one(packed, run.lake, logged)
    lake: Lake = PastLake(run.lake, row["logged_at"])
    try:
        then, before = answers.of_one(packed, lake, logged), ""
    except (TableNotFoundError, LakeError, FeatureError) as error:
        then, lake = now, run.lake
        before = f" This is the lake as it is now: it does not hold any more what it held then ({error})"
    asked = then[0].compared.rows
    row_at = {name: moment for name, (moment,) in offline.row_times(packed.schema, lake, asked).items()}
    values = tuple(_values(packed, *then, now[1], row))
    return Answer(spec.name, row, asked.to_pylist()[0], packed, lake, values, row_at, _sentence(then[0]) + before)


def _values(
    packed: Bundle, found: Answered, then: Mapping[str, Any], now: Mapping[str, Any], row: Mapping[str, Any]
) -> Iterator[Value]:
    differs = {skew.feature: bool(skew.different) for skew in found.compared.skews}
    for name in (*(wanted.name for wanted in packed.schema.inputs), SCORE):
        known = plain(then[name][0]) if name in then else None
        same = not differs[name] if name in differs else None
        yield Value(
            name, view_of(packed.schema, name), row[name], known, plain(now[name][0]) if name in now else None, same
        )


def _sentence(found: Answered) -> str:
    """Whether the lake gives it the same, and what was not compared."""
    what = "inputs" if found.left_out else "inputs and the score"
    n = len(found.compared.skews) - (not found.left_out)
    same = f"The lake gives it the same {n} {what}, bit for bit."
    said = same if found.compared.equal else f"The lake gives it otherwise: {found.compared.sentence()}."
    return " ".join([said, found.not_compared()]).rstrip()


def behind(found: Answer, name: str) -> Behind | None:
    """The rows that the feature row of a view is made from; None where no feature row counts.

    Raises:
        FeatureError: the version has no such view, or its feature row is not in the lake any more.
    """
    refs = {ref.name: ref for ref in found.bundle.schema.views}
    if name not in refs:
        known = shorten(refs, 20) or "none"
        raise FeatureError(f"Version {found.logged['version']} has no view '{name}', but: {known}.")
    ref, at, lake = refs[name], found.row_at[name], found.lake
    if at is None:
        return None
    spec = feature_lookup.held(f"{ref.name}@{ref.version}", lake)
    row = _row(spec, lake, ref, found.asked, at)
    day = at.date().isoformat() if spec.daily else ""
    with features.opened(spec, lake, day, day) as con:
        made_from = origin(con, spec.view, row)
    tables = {table.name: table for table in spec.tables}
    places = {name: (table.table, lake.version(table.table)) for name, table in tables.items()}
    delivered = {name: _delivered(tables[name], lake, rows) for name, rows in made_from.rows.items()}
    return Behind(ref, made_from, places, delivered)


def missing(found: Answer, name: str) -> str:
    """Why no row of a view counts, in the words of an endpoint's answer."""
    ref = next(ref for ref in found.bundle.schema.views if ref.name == name)
    spec = feature_lookup.held(f"{ref.name}@{ref.version}", found.lake)
    asked = {column: None if found.asked[column] is None else str(found.asked[column]) for column in ref.entity}
    return feature_lookup.offline(spec, found.lake, asked, found.asked["at"]).missing or ""


def _row(spec: ViewSpec, lake: Lake, ref: ViewRef, asked: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """The feature row of the entity that was asked about."""
    import pyarrow.compute as pc

    of_entity = pc.field(FEATURE_TIMESTAMP) == at
    for name in ref.entity:
        of_entity &= pc.field(name) == asked[name]
    days = [at.date().isoformat()] if spec.daily else None
    found = lake.dataset(spec.name, partitions=days).to_table(filter=of_entity).to_pylist()
    if len(found) != 1:
        raise FeatureError(f"{spec.name} has {len(found)} rows of {at.isoformat()} for this entity, and needs one.")
    return found[0]


def _delivered(table: Input, lake: Lake, rows: "pa.Table") -> tuple[str, ...]:
    """For each row the current deliveries of its day, with the beginning of their hash; none for rows of a view."""
    if not isinstance(table, TableSpec):
        return ("",) * rows.num_rows
    days: Collection[str] = rows["partition_key"].to_pylist() if table.daily else [""] * rows.num_rows
    of_day: dict[str, list[str]] = {}
    for file in deliveries(table, lake, sorted(set(days))) if days else []:
        if file.current:
            of_day.setdefault(file.partition_key, []).append(f"{file.name} ({file.sha256[:12]})")
    return tuple(", ".join(of_day.get(day, [])) for day in days)
