"""FeatureView: features of one entity as of any moment, offline and online."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
from pydantic import Field

from ml_assets.components import availability, binding
from ml_assets.components.binding import Pairs
from ml_assets.components.declared import Declared, Freshness, Level, Schema
from ml_assets.components.expectations import FeatureExpectations
from ml_assets.components.project import Project
from ml_assets.components.table import Table
from ml_assets.errors import DeclarationError, shorten
from ml_assets.features.view import FEATURE_TIMESTAMP, Aggregation, Lookup, window_name
from ml_assets.features.view import FeatureView as View
from ml_assets.orchestration import assets, automation, partitions
from ml_assets.orchestration.assets import Node
from ml_assets.steps import catalogue
from ml_assets.steps.specs import DAY, Input, TableSpec, ViewSpec, keep_default
from ml_assets.tables.schema import Column


class Windows(Schema):
    """One expression, reduced by functions over windows."""

    functions: Sequence[str] = Field(
        description="count distinct rate sum mean std min max p50 p90 first last.", examples=[["mean", "count"]]
    )
    windows: Sequence[str] = Field(description="How far each looks back.", examples=[["6h", "1d", "28d"]])
    expression: str | None = Field(
        default=None, description="SQL over a row; default: the column of this name.", examples=["delay > 15"]
    )
    where: str | None = Field(default=None, description="Rows that count.", examples=["NOT cancelled"])


class LookedUp(Schema):
    """Attributes that change slowly, and from when until when a row of them holds."""

    columns: dict[str, str] = Field(
        description="SQL over a row, by name of the feature.", examples=[{"age_years": "2013 - built_year"}]
    )
    valid_from: str | None = Field(
        default=None, description="From when a row holds; default: the table's event time.", examples=["hired_at"]
    )
    valid_until: str | None = Field(
        default=None, description="From when it holds no longer; null: until another takes over.", examples=["left_at"]
    )

    def resolved(self, event_timestamp: str) -> Lookup:
        """As the engine reads it."""
        return Lookup(dict(self.columns), self.valid_from or event_timestamp, self.valid_until)


class FeatureView(Declared):
    """Features of one entity that change on a grid of times, correct as of any moment.

    Makes `features/<name>`: window aggregations of a table, or what a plain SQL statement selects. A row at grid time
    g is made only from what was known at g; a check recomputes the newest day without all later data.
    """

    entity: Sequence[str] = Field(
        description="The columns that name what the features are about.", examples=[["carrier"]]
    )
    table: str | None = Field(
        default=None, description="The table, or view, that is aggregated or looked up.", examples=["flight_outcomes"]
    )
    aggregations: dict[str, Windows] | None = Field(
        default=None,
        description="Window aggregations, by name of the result.",
        examples=[{"arrival_delay_minutes": {"functions": ["mean"], "windows": ["6h", "1d"]}}],
    )
    lookup: LookedUp | None = Field(
        default=None,
        description="Attributes of the entity that change slowly, with validity; needs no grid.",
        examples=[{"columns": {"seats": "seats"}, "valid_from": "registered_at"}],
    )
    sql: str | None = Field(
        default=None,
        description="File beside the YAML, or a statement: selects the entity, `known_at` and features from tables.",
        examples=["inbound_aircraft.sql"],
    )
    every: str | None = Field(
        default=None, description="The grid: features change only at these times. None: static.", examples=["1h"]
    )
    delay: str = Field(default="0s", description="How long after its grid time a row can be served.", examples=["15m"])
    max_age: str | None = Field(default=None, description="An older row counts as missing.", examples=["2d"])
    defaults: dict[str, float | str] = Field(
        default={}, description="Values of features where no row counts; else null.", examples=[{"flights_count_7d": 0}]
    )
    expectations: FeatureExpectations | None = Field(
        default=None,
        description="What the features of a good day are like: missing values, outliers, volume, shift; each with a"
        " severity. Without a word, dead features, unseen categories and unusual distributions are warned of.",
        examples=[{"shift": {"arrival_delay_minutes_mean_1d": {"psi": 0.5, "severity": "error"}}}],
    )
    freshness: Freshness | None = Field(
        default=None, description="How old the features may get.", examples=[{"warn": "26h", "fail": "36h"}]
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The asset with its checks and its condition."""
        project = Project.of(context)
        project.require_unique(self)
        spec = self.spec(project)
        node = Node(
            "features",
            self.name,
            self.description or f"Features of {', '.join(self.entity)}.",
            kinds=frozenset({"duckdb", "deltalake"}),
            deps=[_dep(spec, table) for table in spec.tables],
            checks=catalogue.of_view(spec),
            columns=self.columns(project),
            lineage=self.lineage(project),
            freshness=self.freshness_policy(self.freshness),
            automation=automation.on_new_content(present=[_delivered(spec.tables[0])] if spec.daily else []),
        )
        asset = assets.build(
            self,
            name=self.op_name("features"),
            nodes=[node],
            step=catalogue.step("features.materialize", spec),
            version=catalogue.FEATURES,
            partitions_def=partitions.of(spec.tables[0]) if spec.daily else None,
        )
        return assets.definitions([asset], sensors=[], upkeep=project.upkeep(self))

    def levels(self, project: Project) -> list[Level]:
        """Days whose rows were computed from other inputs than stand now."""
        return [([dg.AssetKey(["features", self.name])], catalogue.step("pending.of_view", self.spec(project)))]

    def spec(self, project: Project) -> ViewSpec:
        """The view with its tables; what does not fit them is an error here."""
        return self.once("spec", lambda: self._expecting(project, self._spec(project)))

    def _expecting(self, project: Project, spec: ViewSpec) -> ViewSpec:
        if not self.expectations:
            return spec
        names = spec.view.features()
        columns = [Column(name, kind, nullable=True) for name, kind in self._bound(project, spec.view) if name in names]
        return replace(spec, expectations=self.expectations.resolve(self, columns, daily=spec.daily))

    def _spec(self, project: Project) -> ViewSpec:
        self._require_no_cycle(project, (self,))
        inputs = [_input(source, project) for source in self._sources(project)]
        inputs.sort(key=lambda table: not table.daily)
        if self.every and not inputs[0].daily:
            problem = f"a grid needs a table with daily partitions, and '{inputs[0].name}' has none"
            raise self.error(f"{problem}: give it `partitions`, or use `sql` without `every`.", "every")
        try:
            view = self._view(inputs)
        except DeclarationError as error:
            raise (error if error.file else self._located(error)) from error
        self._check_history(view, inputs[0])
        if view.aggregations and isinstance(inputs[0], TableSpec):
            self._check_days(view, inputs[0])
        return ViewSpec(view, tuple(inputs), keep_default(view.max_age))

    def _view(self, inputs: Sequence[Input]) -> View:
        event_timestamp = inputs[0].event_timestamp or "known_at"
        return View(
            name=self.name,
            entity=tuple(self.entity),
            every=self.duration(self.every, "every") if self.every else 0 * DAY,
            delay=self.duration(self.delay, "delay"),
            max_age=self.duration(self.max_age, "max_age") if self.max_age else None,
            tables=tuple(table.name for table in inputs),
            keys=tuple(inputs[0].keys),
            event_timestamp=event_timestamp,
            aggregations=self._aggregations(),
            sql=self._statement(),
            lookup=self.lookup and self.lookup.resolved(event_timestamp),
            defaults=dict(self.defaults),
        )

    def _require_no_cycle(self, project: Project, path: Sequence["FeatureView"]) -> None:
        """Refuse views that are made from each other, at the view that closes the circle."""
        for source in self._sources(project):
            if isinstance(source, FeatureView) and source.name in (names := [view.name for view in path]):
                names = [*names[names.index(source.name) :], source.name]
                attribute = "table" if self.table else "sql"
                raise self.error(f"the feature views are made from each other: {' from '.join(names)}.", attribute)
            if isinstance(source, FeatureView):
                source._require_no_cycle(project, (*path, source))  # noqa: SLF001  another of its kind

    def _check_history(self, view: View, table: Input) -> None:
        """Refuse a window that the declared days of the table can never fill."""
        if not (table.first_day and table.last_day):
            return
        days = (table.last_day - table.first_day).days + 1
        for name, part in (view.aggregations or {}).items():
            if (longest := max(part.windows)) > days * DAY:
                problem = f"the window {window_name(longest)} is longer than the history of '{table.name}'"
                raise self.error(f"{problem}: {days} days by its `partitions`.", "aggregations", name, "windows")

    def _check_days(self, view: View, table: TableSpec) -> None:
        """Refuse windows over days that say neither when a row happened nor when it was known.

        Such a row can lie in a day far before the windows that it counts in, which then would not be read.
        """
        column, known_at = table.partition_column, table.known_at or "known_at"
        if table.daily and column not in (view.event_timestamp, known_at):
            problem = f"'{table.name}' has its days by {column}, and windows go by {view.event_timestamp}"
            fix = f"let its `event_timestamp` be {column}, or have its days by the column of `known_at`"
            raise self.error(f"{problem}: a row that happens days after its own would be missed; {fix}.", "table")

    def columns(self, project: Project) -> list["_Column"]:
        """The columns of the feature rows, found by binding the SQL to the tables' contracts."""
        view = self.spec(project).view
        said = self._said(view)
        return [_Column(name, kind, said.get(name)) for name, kind in self._bound(project, view)]

    def _bound(self, project: Project, view: View) -> list[tuple[str, str]]:
        try:
            tables = self._columns_read(project)
            found = binding.view_columns(view, tables)
            availability.require_timely(view, tables)
        except DeclarationError as error:
            raise self._located(error) from error
        return found

    def lineage(self, project: Project) -> dict[str, Pairs]:
        """The (asset, column) pairs that each column of the rows is made from, as far as SQL can be followed."""
        spec = self.spec(project)
        found = binding.view_lineage(spec.view, self._columns_read(project))
        keys = {table.name: table.table for table in spec.tables}
        made = {column: tuple((keys[table], name) for table, name in pairs) for column, pairs in found.items()}
        known = {FEATURE_TIMESTAMP: made.pop("known_at")} if "known_at" in made else {}
        return made | known

    def _said(self, view: View) -> dict[str, str]:
        """What the columns hold, as far as the declaration says it: `mean of delay over 6h`."""
        said = dict.fromkeys(view.entity, "What the features are about.")
        said["feature_timestamp"] = "The moment that it describes; made only from what was known by then."
        for name, part in (view.aggregations or {}).items():
            counted = f" where {part.where}" if part.where else ""
            pairs = [(function, window) for window in part.windows for function in part.functions]
            for feature, (function, window) in zip(part.features(name), pairs, strict=True):
                said[feature] = f"{function} of {part.expression} over {window_name(window)}{counted}"
        return said

    def _located(self, error: DeclarationError) -> DeclarationError:
        problem = error.problem.removeprefix(f"Feature view '{self.name}' ")
        path = self.folder / self.sql if self.sql and self.sql.endswith(".sql") else None
        if path and error.line:
            return DeclarationError(f"FeatureView '{self.name}': {problem}", file=path, line=error.line)
        return self.error(problem, *self._guilty(problem))

    def _guilty(self, problem: str) -> tuple[str, ...]:
        """The attribute that a problem is about."""
        if "default" in problem and (name := next((name for name in self.defaults if f"'{name}'" in problem), None)):
            return ("defaults", name)
        if "leave `every` out" in problem:
            return ("every",)
        if self.sql:
            return ("sql",)
        if self.lookup:
            looked_up = [name for name in self.lookup.columns if f"lookup '{name}'" in problem]
            return ("entity",) if "entity column" in problem else ("lookup", *(("columns", *looked_up[:1])))
        named = [name for name in self.aggregations or {} if f"'{name}'" in problem]
        return ("entity",) if "entity column" in problem else ("aggregations", *named[:1])

    def _statement(self) -> str | None:
        if not self.sql or not self.sql.endswith(".sql"):
            return self.sql
        path = self.folder / self.sql
        if not path.is_file():
            raise self.error(f"there is no file {path}.", "sql")
        return path.read_text()

    def _sources(self, project: Project) -> list["Table | FeatureView"]:
        """The tables and views that it reads; where both have a name, the table counts."""
        if self.table:
            return [self._source(project, self.table, "table")]
        statement = self._statement()
        try:
            names = binding.tables_read(statement) if statement else []
        except DeclarationError as error:
            raise self._located(error) from error
        if not names:
            raise self.error("name a `table`, or `sql` that reads tables.", "sql")
        return [self._source(project, name, "sql") for name in names]

    def _source(self, project: Project, name: str, attribute: str) -> "Table | FeatureView":
        tables, views = project.named(Table), project.named(FeatureView)
        if found := tables.get(name) or views.get(name):
            return found
        known = (
            f"the tables: {shorten(sorted(tables)) or 'none'}; nor among the feature views: {shorten(sorted(views))}"
        )
        raise self.error(f"there is no '{name}' among {known}.", attribute)

    def _columns_read(self, project: Project) -> dict[str, Sequence[Column]]:
        """The columns of each table and view that it reads, by name."""
        read = {source.name: source for source in self._sources(project)}
        return {
            name: source.columns() if isinstance(source, Table) else source._offered(project)  # noqa: SLF001
            for name, source in read.items()
        }

    def _offered(self, project: Project) -> list[Column]:
        """The columns of its rows, as views that read them see them."""
        times = [Column("known_at", "TIMESTAMPTZ", False), Column("event_timestamp", "TIMESTAMPTZ", False)]
        return [*(Column(c.name, c.type, True) for c in self.columns(project)), *times]

    def _aggregations(self) -> dict[str, Aggregation] | None:
        return self.aggregations and {  # pyright: ignore[reportReturnType]  an empty one stays empty
            name: Aggregation(
                expression=windows.expression or name,
                functions=tuple(windows.functions),
                windows=tuple(self.duration(w, "aggregations", name, "windows") for w in windows.windows),
                where=windows.where,
            )
            for name, windows in self.aggregations.items()
        }


class _Column:
    def __init__(self, name: str, kind: str, description: str | None) -> None:
        self.name, self.type, self.description = name, kind, description


def _input(source: "Table | FeatureView", project: Project) -> Input:
    return source.spec() if isinstance(source, Table) else source.spec(project).rows()


def _dep(spec: ViewSpec, table: Input) -> dg.AssetDep | dg.AssetKey:
    key = dg.AssetKey.from_user_string(table.table)
    return partitions.window(key, before=spec.lookback_days(table)) if table.daily and spec.daily else key


def _delivered(table: Input) -> dg.AssetKey:
    """What must be there before a day can be computed: the delivery of a table, or the rows of another view."""
    return dg.AssetKey.from_user_string(table.raw if isinstance(table, TableSpec) else table.table)
