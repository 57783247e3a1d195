"""Table: from delivered files to the rows that keep a contract."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal, Self

import dagster as dg
from pydantic import Field

from ml_assets.components import availability, binding
from ml_assets.components.declared import Declared, Freshness, Level, Schema
from ml_assets.components.expectations import Expectations
from ml_assets.components.project import Project
from ml_assets.components.source import Source, refuse_secrets
from ml_assets.engine import quote
from ml_assets.errors import DeclarationError, shorten
from ml_assets.orchestration import assets, automation, partitions, sensors
from ml_assets.orchestration.assets import Node
from ml_assets.steps import catalogue
from ml_assets.steps.catalogue import Check
from ml_assets.steps.specs import TableSpec
from ml_assets.tables.contract import outline
from ml_assets.tables.expectations import References
from ml_assets.tables.format import Evolution, SchemaPolicy
from ml_assets.tables.schema import Column, Promise


class Partitions(Schema):
    """How the table is cut."""

    column: str = Field(description="The time that says which day a row belongs to.", examples=["known_at"])
    start: str = Field(description="First day.", examples=["2013-01-01"])
    end: str | None = Field(
        default=None, description="Last day, for data that has ended; default: today.", examples=["2013-12-31"]
    )
    grain: Literal["daily"] = Field(default="daily", description="UTC days.", examples=["daily"])


class InvalidRows(Schema):
    """What happens to rows that break the contract."""

    action: Literal["quarantine"] = Field(
        default="quarantine", description="They are kept beside the table with the rule.", examples=["quarantine"]
    )
    fail_above: float = Field(
        default=0.02, ge=0, le=1, description="A larger share of a partition refuses all of it.", examples=[0.02]
    )


class SchemaDrift(Schema):
    """What happens to a delivery whose columns or types are not those of the contract, in the words of dlt.

    `freeze` refuses the file. `discard_row` sends the rows to the quarantine, `discard_value` drops the values and
    counts them. `evolve` takes new columns into the table, and lets a nullable column be absent.
    """

    columns: Evolution = Field(
        default="freeze", description="For columns that the contract does not name.", examples=["evolve"]
    )
    data_type: Literal["freeze", "discard_row", "discard_value"] = Field(
        default="freeze", description="For values of another type than the column's.", examples=["discard_row"]
    )


class Retry(Schema):
    """How often a run asks again when a source does not answer."""

    times: int = Field(default=2, ge=0, le=20, description="Attempts after the first one.", examples=[2])
    delay: str = Field(default="2s", description="Before the second attempt; doubled each time.", examples=["5m"])


class Table(Declared):
    """Rows that keep their contract, from files, a database, an API or a function.

    Makes `raw/<name>` (what was delivered, byte for byte, by partition, with arrival time and hash) and
    `tables/<name>` (the valid rows; the others go to the quarantine with the rule that they broke), a check for each
    rule of the contract and each expectation, and a sensor that runs exactly the partitions whose content is new.
    """

    source: Source = Field(description="Where the rows come from.", examples=[{"files": "flight_outcomes/*.parquet"}])
    contract: str = Field(
        description="The pandera model that every row keeps: `package.module.Class`.",
        examples=["my_project.defs.flights.contracts.FlightOutcomes"],
    )
    keys: Sequence[str] = Field(description="The columns that identify a row.", examples=[["flight_id"]])
    partitions: Partitions | None = Field(
        default=None,
        description="Daily partitions; without: one whole table.",
        examples=[{"grain": "daily", "column": "known_at", "start": "2013-01-01"}],
    )
    event_timestamp: str | None = Field(
        default=None, description="The column that says when it happened.", examples=["arrived_at"]
    )
    known_at: str | None = Field(
        default=None,
        description="SQL for the moment a row could first be used; default: the event timestamp, else the arrival.",
        examples=["arrived_at + INTERVAL 15 MINUTE"],
    )
    invalid_rows: InvalidRows = Field(
        default=InvalidRows(), description="What happens to rows that break it.", examples=[{"fail_above": 0.02}]
    )
    schema_drift: SchemaDrift = Field(
        default=SchemaDrift(),
        description="What happens to other columns and other types than the contract's.",
        examples=[{"columns": "evolve", "data_type": "discard_row"}],
    )
    expectations: Expectations = Field(
        default=Expectations(),
        description="What a good partition is like, beyond its single rows: missing values, outliers, volume, shift,"
        " references to other tables; each with a severity.",
        examples=[{"missing": {"wind_gust": 0.95}, "volume": {"at_least": 0.5, "severity": "error"}}],
    )
    retry: Retry = Field(
        default=Retry(), description="How often a silent source is asked again.", examples=[{"times": 2, "delay": "5m"}]
    )
    freshness: Freshness | None = Field(
        default=None, description="How old the table may get.", examples=[{"warn": "26h", "fail": "36h"}]
    )

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> Self:
        """Load, and refuse secrets as they were written."""
        component = super().load(attributes, context)
        refuse_secrets(attributes.source, component)
        return component

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Raw, table, checks and the sensor of arrivals."""
        project = Project.of(context)
        project.require_unique(self)
        spec = self.spec()
        self._check_references(project)
        asset = assets.build(
            self,
            name=self.op_name("ingest"),
            nodes=self._nodes(),
            step=catalogue.step("ingest.ingest", spec),
            version=catalogue.INGEST,
            partitions_def=partitions.of(spec),
            retry=self._retry_policy(),
        )
        return assets.definitions([asset], sensors=[sensors.arrivals(spec)], upkeep=project.upkeep(self))

    def levels(self, project: Project) -> list[Level]:
        """Deliveries that are not stored."""
        del project
        keys = [dg.AssetKey([layer, self.name]) for layer in ("raw", "tables")]
        return [(keys, catalogue.step("pending.of_table", self.spec()))]

    def spec(self) -> TableSpec:
        """The table as the steps know it."""
        return self.once("spec", self._spec)

    def columns(self) -> tuple[Column, ...]:
        """The columns of the contract, read without importing it."""
        return self.once("columns", self._columns)

    def _spec(self) -> TableSpec:
        self._check_columns()
        self._check_known_at()
        self._check_days()
        cut = self.partitions
        return TableSpec(
            name=self.name,
            source=self.source.spec(self, daily=self.partitions is not None),
            contract=self.contract,
            keys=tuple(self.keys),
            first_day=self._day(cut.start, "start") if cut else None,
            last_day=self._day(cut.end, "end") if cut and cut.end else None,
            partition_column=cut.column if cut else None,
            event_timestamp=self.event_timestamp,
            known_at=self.known_at or (quote(self.event_timestamp) if self.event_timestamp else None),
            fail_above=self.invalid_rows.fail_above,
            schema_drift=SchemaPolicy(self.schema_drift.columns, self.schema_drift.data_type),
            expectations=self.expectations.resolve(self, self.columns(), daily=self.partitions is not None),
        )

    def _columns(self) -> tuple[Column, ...]:
        try:
            return outline(self.contract)
        except DeclarationError as error:
            raise (error if error.file else self.error(error.problem, "contract")) from error

    def _check_references(self, project: Project) -> None:
        tables = project.named(Table)
        self.expectations.resolve(
            self,
            self.columns(),
            {name: table.columns() for name, table in tables.items()},
            daily=self.partitions is not None,
        )
        for column, rule in self.expectations.references.items():
            if self.name in _reached(rule.table, tables):
                problem = f"{rule.table} refers back to {self.name}: neither could be made before the other."
                raise self.error(problem, "expectations", "references", column)

    def _retry_policy(self) -> dg.RetryPolicy:
        seconds = self.duration(self.retry.delay, "retry", "delay").total_seconds()
        return automation.retries(self.retry.times, seconds)

    def _nodes(self) -> list[Node]:
        spec, policy = self.spec(), self.freshness_policy(self.freshness)
        checks = catalogue.of_table(spec)
        self._check_names(checks)
        referred = dict.fromkeys(each.table for each in spec.expectations if isinstance(each, References))
        raw = Node(
            "raw",
            self.name,
            f"Deliveries of `{self.name}` byte for byte, with arrival time and hash.",
            kinds=frozenset({"file"}),
            checks=(catalogue.KEPT,),
            freshness=policy,
        )
        table = Node(
            "tables",
            self.name,
            self.description or f"Rows of `{self.name}` that keep their contract.",
            kinds=frozenset({"deltalake", "pandera", "duckdb"}),
            deps=[raw.key, *(dg.AssetKey(["tables", each]) for each in referred)],
            checks=checks,
            columns=self.columns(),
            rules=_by_column(spec.promises(), availability.late(self.columns())),
            freshness=policy,
        )
        return [raw, table]

    def _day(self, text: str, which: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise self.error(f"'{text}' is no day. Write it as 2013-01-05.", "partitions", which) from error

    def _check_days(self) -> None:
        cut = self.partitions
        if cut and cut.end and self._day(cut.end, "end") < self._day(cut.start, "start"):
            raise self.error(f"the last day {cut.end} is before the first, {cut.start}.", "partitions", "end")

    def _check_known_at(self) -> None:
        """Bind the SQL to the columns of the contract, as it will be bound to the delivered rows."""
        columns = self.columns()
        own = "known_at" in [column.name for column in columns]
        if own and self.known_at and self.known_at != "known_at":
            raise self.error("the contract has a column known_at, and that counts: leave `known_at` out.", "known_at")
        path = "known_at" if self.known_at else "event_timestamp"
        sql = self.known_at or (quote(self.event_timestamp) if self.event_timestamp and not own else None)
        if not sql:
            return
        try:
            binding.check_expression(columns, path, sql, "TIMESTAMPTZ")
        except DeclarationError as error:
            raise self.error(error.problem, path) from error

    def _check_columns(self) -> None:
        known = {column.name: column for column in self.columns()}
        named = [(key, ("keys",)) for key in self.keys]
        named += [(self.event_timestamp, ("event_timestamp",))] if self.event_timestamp else []
        named += [(self.partitions.column, ("partitions", "column"))] if self.partitions else []
        for column, path in named:
            if column not in known:
                raise self.error(f"the contract has no column '{column}'. It has: {shorten(known, 20)}.", *path)
        if null := [key for key in self.keys if known[key].nullable]:
            raise self.error(f"the key {shorten(null)} may be null in the contract: remove nullable=True.", "keys")
        if self.partitions and (kind := known[self.partitions.column].type) not in ("TIMESTAMPTZ", "DATE"):
            problem = f"{self.partitions.column} is {kind}: a day needs a datetime or a date."
            raise self.error(problem, "partitions", "column")

    def _check_names(self, checks: Sequence[Check]) -> None:
        names = [check.name for check in checks]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            problem = f"two checks are named {shorten(doubled)}: give the rule of the contract another name."
            raise self.error(problem, "contract")


def _by_column(promises: Sequence[Promise], late: Sequence[str]) -> dict[str, list[str]]:
    """What is to be known of each column: that it comes only after the event, and its rules beyond its own line."""
    found = {column: ["known only after the event"] for column in late}
    for promise in promises:
        if promise.column and not promise.check.endswith("__is_not_null"):
            found.setdefault(promise.column, []).append(
                promise.sentence.removeprefix(f"In every row {promise.column} ").rstrip(".")
            )
    return found


def _reached(name: str, tables: Mapping[str, Table]) -> set[str]:
    """A table and all that it refers to, directly or not."""
    found, new = set[str](), {name}
    while new:
        found |= new
        referred = [tables[each].expectations.references.values() for each in new & set(tables)]
        new = {rule.table for rules in referred for rule in rules} - found
    return found
