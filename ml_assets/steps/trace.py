"""One answer of an endpoint, traced back: its inputs, the feature rows that counted, and the rows behind these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.prediction_log import expand, read
from ml_assets.errors import EndpointError, FeatureError, shorten
from ml_assets.features.provenance import Origin, origin
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.monitoring.skew import plain
from ml_assets.serving.bundle import Bundle, ViewRef
from ml_assets.steps import answers, evaluation, feature_lookup, features, offline
from ml_assets.steps.answers import Answered
from ml_assets.steps.arrow import among
from ml_assets.steps.deliver import deliveries
from ml_assets.steps.endpoint import local
from ml_assets.steps.run import Run
from ml_assets.steps.skews import view_of
from ml_assets.steps.specs import EndpointSpec, TableSpec, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

DELIVERED_IN = "delivered_in"


@dataclass(frozen=True)
class Value:
    """An input as it was served and as the lake gives it now; `ref` is None for what the request gave."""

    name: str
    ref: ViewRef | None
    served: float | str | None
    lake: float | str | None
    same: bool


@dataclass(frozen=True)
class Answer:
    """A prediction as it was logged, with the bundle that made it.

    `asked` is the request in its types, `row_at` by view the time of the feature row that counts in the lake.
    """

    endpoint: str
    logged: Mapping[str, Any]
    asked: Mapping[str, Any]
    bundle: Bundle
    values: tuple[Value, ...]
    row_at: Mapping[str, datetime | None]
    sentence: str


@dataclass(frozen=True)
class Behind:
    """The rows that a feature row is made from, by the name that its view calls a table.

    `places` has, by the same name, the table of the lake and its version.
    """

    ref: ViewRef
    origin: Origin
    places: Mapping[str, tuple[str, int]]

    def sentence(self) -> str:
        """How many rows of what these are, and whether they prove it."""
        counts = [
            f"{rows.num_rows:,} row{'s' if rows.num_rows > 1 else ''} of {place} version {version}"
            for (place, version), rows in ((self.places[name], rows) for name, rows in self.origin.rows.items())
            if rows.num_rows
        ]
        found = " and ".join(counts) or "no row: nothing is in its windows"
        return found if self.origin.same else f"NOT from what was known then ({found})"


def answer(specs: Iterable[EndpointSpec], run: Run, prediction_id: str) -> Answer:
    """Find an answer by its id in the lake, else in the log of its server, and compute its inputs again.

    Raises:
        EndpointError: no endpoint has given it.
    """
    looked = []
    for spec in specs:
        logged = _logged(spec, run, prediction_id)
        if logged.num_rows:
            return _again(spec, run, logged)
        looked.append(spec.predictions)
    raise EndpointError(
        f"No answer has the id '{prediction_id}': it is neither in {shorten(looked) or 'any endpoint'} nor in the logs"
        " of their servers. Ids are in the answers of an endpoint, and in"
        f" `ml-assets table read {looked[0] if looked else 'predictions/NAME'}`."
    )


def behind(found: Answer, name: str, run: Run) -> Behind | None:
    """The rows that the feature row of a view is made from; None where no feature row counts.

    Raises:
        FeatureError: the version has no such view, or its feature row is not in the lake any more.
    """
    refs = {ref.name: ref for ref in found.bundle.schema.views}
    if name not in refs:
        raise FeatureError(
            f"Version {found.logged['version']} has no view '{name}', but: {shorten(refs, 20) or 'none'}."
        )
    ref, at = refs[name], found.row_at[name]
    if at is None:
        return None
    spec = feature_lookup.held(f"{ref.name}@{ref.version}", run.lake)
    row = _row(spec, run.lake, ref, found.asked, at)
    day = at.date().isoformat() if spec.daily else ""
    with features.opened(spec, run.lake, day, day) as con:
        made_from = origin(con, spec.view, row)
    tables = {table.name: table for table in spec.tables}
    rows = {table: _delivered(tables[table], run.lake, rows) for table, rows in made_from.rows.items()}
    places = {table.name: (table.table, run.lake.version(table.table)) for table in spec.tables}
    return Behind(ref, Origin(rows, made_from.same, made_from.smallest), places)


def _logged(spec: EndpointSpec, run: Run, prediction_id: str) -> "pa.Table":
    """The one row of an answer, with a column for each input; or none."""
    import pyarrow.compute as pc

    if run.lake.exists(spec.predictions):
        rows = run.lake.dataset(spec.predictions).to_table(filter=pc.field("prediction_id") == prediction_id)
        if rows.num_rows:
            return rows.slice(0, 1)
    rows = among(read(Path(local(spec, run).config.log)), "prediction_id", [prediction_id])
    if not rows.num_rows or rows["status"][0].as_py() != "ok":
        return rows.slice(0, 0)
    return expand(rows, evaluation.fetch(spec.model, run, rows["version"][0].as_py()).schema.inputs)


def _again(spec: EndpointSpec, run: Run, logged: "pa.Table") -> Answer:
    (row,) = logged.to_pylist()
    packed = evaluation.fetch(spec.model, run, row["version"])
    compared, columns = answers.of_one(packed, run, logged)
    asked = compared.compared.rows
    row_at = {name: moment for name, (moment,) in offline.row_times(packed.schema, run.lake, asked).items()}
    values = tuple(_values(packed, compared, columns, row))
    return Answer(spec.name, row, asked.to_pylist()[0], packed, values, row_at, _sentence(compared))


def _sentence(found: Answered) -> str:
    """Whether the lake gives it the same, and what was not compared."""
    same = f"The lake gives all {len(found.compared.skews)} inputs and scores with equal bits."
    said = same if found.compared.equal else f"The lake gives it otherwise: {found.compared.sentence()}."
    return " ".join([said, found.not_compared()]).rstrip()


def _values(
    packed: Bundle, found: Answered, columns: Mapping[str, Sequence[Any]], row: Mapping[str, Any]
) -> "Iterable[Value]":
    differs = {skew.feature: bool(skew.different) for skew in found.compared.skews}
    for wanted in packed.schema.inputs:
        name = wanted.name
        given = plain(columns[name][0]) if name in columns else None
        yield Value(name, view_of(packed.schema, name), row[name], given, not differs.get(name, True))


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


def _delivered(table: Any, lake: Lake, rows: "pa.Table") -> "pa.Table":
    """Rows of a table with the deliveries of their day, each with the beginning of its hash."""
    import pyarrow as pa

    if not isinstance(table, TableSpec):
        return rows
    days = rows["partition_key"].to_pylist() if table.daily else [""] * rows.num_rows
    of_day: dict[str, list[str]] = {}
    for file in deliveries(table, lake, sorted(set(days))) if days else []:
        if file.current:
            of_day.setdefault(file.partition_key, []).append(f"{file.name} ({file.sha256[:12]})")
    return rows.append_column(DELIVERED_IN, pa.array([", ".join(of_day.get(day, [])) for day in days], pa.string()))
