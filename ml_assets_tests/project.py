"""A small project of a user, real in every part: contracts, SQL, YAML, landed files, a lake, a Dagster instance.

Two airlines report a flight every three hours. `flights` is cut by day, `carriers` is whole; of the three views one
aggregates windows (which reach one and a bit days back), one is SQL by day, one is static.
"""

import importlib
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.settings import Settings
from ml_assets.components.feature_view import FeatureView
from ml_assets.components.model import Model
from ml_assets.components.table import Table
from ml_assets.orchestration.library import component_docs
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec, TableSpec, ViewSpec

CONTRACTS = """\
from datetime import datetime
from typing import ClassVar

import pandera.pandas as pa


class Flights(pa.DataFrameModel):
    flight_id: str = pa.Field(description="One flight")
    carrier: str = pa.Field(isin=["UA", "B6", "DL"])
    arrived_at: datetime
    delay: float = pa.Field(nullable=True, ge=-60, le=600)
    known_at: datetime


class Carriers(pa.DataFrameModel):
    carrier: str
    fleet: int = pa.Field(gt=0)
"""
FLIGHTS = """\
type: ml_assets.components.Table
attributes:
  name: flights
  source: {files: "flights/*.parquet"}
  contract: PACKAGE.contracts.Flights
  keys: [flight_id]
  partitions: {column: known_at, start: "2013-01-01", end: "2013-01-31"}
  event_timestamp: arrived_at
  known_at: known_at
  invalid_rows: {fail_above: 0.2}
"""
CARRIERS = """\
type: ml_assets.components.Table
attributes:
  name: carriers
  source: {files: "carriers/*.parquet"}
  contract: PACKAGE.contracts.Carriers
  keys: [carrier]
  known_at: "TIMESTAMPTZ '2012-12-31 00:00:00+00'"
"""
CARRIER_DELAYS = """\
type: ml_assets.components.FeatureView
attributes:
  name: carrier_delays
  table: flights
  entity: [carrier]
  every: 1h
  max_age: 2d
  aggregations:
    delay: {functions: [mean, count], windows: [6h, 1d]}
"""
LAST_FLIGHT = """\
type: ml_assets.components.FeatureView
attributes:
  name: last_flight
  sql: last_flight.sql
  entity: [carrier]
  every: 1h
  max_age: 1d
"""
LAST_FLIGHT_SQL = """\
-- the newest of them counts
SELECT carrier, known_at, arrived_at AS event_timestamp,
    delay AS last_delay
FROM flights
"""
CARRIER_ATTRIBUTES = """\
type: ml_assets.components.FeatureView
attributes:
  name: carrier_attributes
  sql: SELECT carrier, known_at, fleet FROM carriers
  entity: [carrier]
"""
DOCUMENTS = {
    "flights": FLIGHTS,
    "carriers": CARRIERS,
    "carrier_delays": CARRIER_DELAYS,
    "last_flight": LAST_FLIGHT,
    "carrier_attributes": CARRIER_ATTRIBUTES,
}
HOURS = tuple(range(0, 24, 3))


class Project:
    """One project; give it a folder of its own that Python finds packages in."""

    def __init__(self, folder: Path, documents: Mapping[str, str] = DOCUMENTS) -> None:
        self.folder, self.package = folder, f"project_{uuid4().hex[:10]}"
        self.defs_folder = folder / self.package / "defs" / "airline"
        self.defs_folder.mkdir(parents=True)
        for place in (self.defs_folder.parents[1], self.defs_folder.parent):
            (place / "__init__.py").touch()
        self.write("../../contracts.py", CONTRACTS)
        self.write("last_flight.sql", LAST_FLIGHT_SQL)
        self.declare(*documents.values())
        self.instance = dg.DagsterInstance.ephemeral()

    def write(self, name: str, text: str) -> Path:
        """Write a file beside the YAML."""
        path = (self.defs_folder / name).resolve()
        path.write_text(text)
        self.__dict__.pop("defs", None)
        return path

    def declare(self, *documents: str) -> Path:
        """Write the YAML anew, one document for each component."""
        text = "---\n".join(textwrap.dedent(document) for document in documents)
        return self.write("defs.yaml", text.replace("PACKAGE", self.package))

    def load(self) -> dg.Definitions:
        """Load the definitions as `ml_assets.definitions` does."""
        defs_module = importlib.import_module(f"{self.package}.defs")
        tree = dg.ComponentTree.from_module(defs_module=defs_module, project_root=self.folder)
        return dg.Definitions.merge(tree.build_defs(tree.defs_module_path), component_docs(tree))

    @cached_property
    def defs(self) -> dg.Definitions:
        """The definitions of the YAML as it is now."""
        return self.load()

    def table(self, name: str, **changes: Any) -> TableSpec:
        """A declared table as the steps know it, with other attributes where given."""
        return self._component(Table, DOCUMENTS[name], **changes).spec()

    def view(self, name: str) -> ViewSpec:
        """A declared view as the steps know it, with whatever the YAML says now."""
        return self._declared(FeatureView, name)

    def model(self, name: str) -> ModelSpec:
        """A declared model in the same way."""
        return self._declared(Model, name)

    def step(self, first: str = "", last: str = "", **arguments: Any) -> Run:
        """What a step is given for a range of days."""
        return Run(Settings.from_environment(), days(first, last or first) if first else ("",), **arguments)

    def run(self, *assets: str, first: str = "", last: str = "") -> dg.ExecuteInProcessResult:
        """Run assets as Dagster's daemon would: a day, a range of days, or a whole."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
            tags=tags if last else {},
            partition_key=first if first and not last else None,
            raise_on_error=False,
        )

    def land(self, name: str, content: pa.Table | bytes, *, table: str = "flights") -> Path:
        """Deliver a file, in place of one of the same name."""
        path = self.landing / table / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else parquet(content))
        return path

    def land_days(self, *landed: str) -> None:
        """Deliver a file for each day."""
        for day in landed:
            self.land(f"{day}.parquet", flights(day))

    def land_carriers(self, fleet: int = 100) -> None:
        """Deliver the whole table of airlines."""
        self.land("carriers.parquet", pa.table({"carrier": ["UA", "B6"], "fleet": [fleet, 50]}), table="carriers")

    def _component(self, kind: type, document: str, **changes: Any) -> Any:
        import yaml

        attributes = yaml.safe_load(document.replace("PACKAGE", self.package))["attributes"] | changes
        return kind.from_attributes_dict(attributes=attributes)

    def _declared(self, kind: type[Any], name: str) -> Any:
        from ml_assets.components.declared import Declared
        from ml_assets.components.project import Project as Components

        defs_module = importlib.import_module(f"{self.package}.defs")
        tree = dg.ComponentTree.from_module(defs_module=defs_module, project_root=self.folder)
        components = Components(tree.get_all_components(of_type=Declared))
        return components.named(kind)[name].spec(components)

    def name_package(self) -> None:
        """Write what a command in the folder knows the project by."""
        (self.folder / "pyproject.toml").write_text(f'[tool.dg.project]\nroot_module = "{self.package}"\n')

    @property
    def landing(self) -> Path:
        """Where files land."""
        return Path(os.environ["ML_ASSETS_HOME"]) / "landing"

    @property
    def lake(self) -> Lake:
        """The lake."""
        return Lake(Settings.from_environment().lake_uri)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """All rows of a table of the lake, in an order that does not depend on where they lie."""
        return sorted(self.lake.dataset(name).to_table().to_pylist(), key=repr)

    def versions(self) -> dict[str, int]:
        """The version of every table in the lake."""
        root = Path(self.lake.uri)
        names = sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))
        return {name: self.lake.version(name) for name in names}


def days(first: str, last: str) -> tuple[str, ...]:
    """The days from first to last, both included."""
    start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    return tuple((start + timedelta(days=n)).date().isoformat() for n in range((end - start).days + 1))


def flights(
    day: str, *, hours: Sequence[int] = HOURS, carriers: Sequence[str] = ("UA", "B6"), delay: float | None = None
) -> pa.Table:
    """Flights that land on a day, known half an hour later."""
    rows = list(_rows(day, hours, carriers, delay))
    time = pa.timestamp("us", "UTC")
    kinds = {
        "flight_id": pa.string(),
        "carrier": pa.string(),
        "arrived_at": time,
        "delay": pa.float64(),
        "known_at": time,
    }
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _rows(day: str, hours: Sequence[int], carriers: Sequence[str], delay: float | None) -> Iterator[dict[str, Any]]:
    for hour in hours:
        for number, carrier in enumerate(carriers):
            arrived_at = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour)
            yield {
                "flight_id": f"{carrier}-{day}-{hour:02}",
                "carrier": carrier,
                "arrived_at": arrived_at,
                "delay": float(hour + 100 * number + arrived_at.day) if delay is None else delay,
                "known_at": arrived_at + timedelta(minutes=30),
            }


def parquet(rows: pa.Table) -> bytes:
    """The rows as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return sink.getvalue().to_pybytes()


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, str | None]]:
    """The data version of each partition that a run reported, by asset."""
    found: dict[str, dict[str, str | None]] = {}
    for event in result.all_events:
        if event.event_type_value == "ASSET_MATERIALIZATION":
            made = event.step_materialization_data.materialization
            version = (made.tags or {}).get("dagster/data_version")
            found.setdefault(made.asset_key.to_user_string(), {})[made.partition or ""] = version
    return found


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Whether each check of a run passed, by name."""
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the user reads of a failed run: the messages of the first failed step, outermost first."""
    error = next(event.step_failure_data for event in result.all_events if event.is_step_failure)
    texts = [error.user_failure_data.description or ""] if error.user_failure_data else []
    cause = error.error
    while cause:
        texts.append(cause.message)
        cause = cause.cause
    return "\n".join(texts)
