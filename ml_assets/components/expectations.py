"""What is written under `expectations:` of a table, and the expectations that it stands for."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from ml_assets.components.declared import Declared, Schema
from ml_assets.errors import shorten
from ml_assets.tables.expectations import (
    Action,
    Expectation,
    Missing,
    MissingSpike,
    Outliers,
    References,
    Severity,
    Shift,
    Volume,
)
from ml_assets.tables.schema import Column

_NUMBERS, _SHIFTING = ("BIGINT", "DOUBLE"), ("BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN")
_SEVERITIES = ("warn", "error")


def _severity(default: Severity) -> Severity:
    said = "`error` refuses the partition, `warn` only says so."
    return Field(default=default, description=said, examples=["warn"])


class Spikes(Schema):
    """Missing values against the column's own history, for every column that may be null."""

    spreads: float = Field(
        default=3.0, gt=0, description="How many robust standard deviations above the median.", examples=[3]
    )
    at_least: float = Field(
        default=0.03,
        ge=0,
        le=1,
        description="And at least this much above: 0.03 is 3 percentage points.",
        examples=[0.03],
    )
    severity: Severity = _severity("warn")


class OutlierRule(Schema):
    """Values far from the quartiles of their partition."""

    action: Action = Field(
        default="flag",
        description="`flag` counts them, `clip` puts the fence in their place, `quarantine` takes the rows out.",
        examples=["flag"],
    )
    factor: float = Field(
        default=1.5, gt=0, description="The fences are Q1 - factor x IQR and Q3 + factor x IQR.", examples=[1.5]
    )
    at_most: float = Field(
        default=0.05, ge=0, le=1, description="The check fails when a larger share lies beyond.", examples=[0.05]
    )
    severity: Severity = _severity("warn")


class VolumeRule(Schema):
    """The number of rows against the median of the last 28 partitions, of the same weekday where there are four."""

    at_least: float = Field(default=0.5, ge=0, description="Fewer than this times the median fails.", examples=[0.5])
    at_most: float = Field(default=2.0, gt=0, description="More than this times the median fails.", examples=[2.0])
    severity: Severity = _severity("warn")


class ShiftRule(Schema):
    """The distribution of a column against that of the days before."""

    reference: str = Field(default="28d", description="How long the stretch before is.", examples=["28d"])
    current: str = Field(
        default="1d", description="How long the judged stretch is, up to and with the partition.", examples=["7d"]
    )
    psi: float = Field(
        default=0.2,
        gt=0,
        description="A larger population stability index fails; 0.2 is the textbook's.",
        examples=[0.2],
    )
    severity: Severity = _severity("warn")


class ReferenceRule(Schema):
    """Values that are found in another table; nulls refer to nothing."""

    table: str = Field(description="The table that is referred to.", examples=["aircraft"])
    column: str = Field(description="Its column that holds the values.", examples=["tailnum"])
    at_least: float = Field(default=1.0, ge=0, le=1, description="A smaller share fails.", examples=[0.8])
    severity: Severity = _severity("error")


class _OfColumns(Schema):
    """What is expected of single columns, of a table and of a feature view."""

    outliers: dict[str, OutlierRule] = Field(
        default={},
        description="Columns with values that may lie far out, and what happens to those.",
        examples=[{"arrival_delay_minutes": {"action": "flag", "factor": 1.5}}],
    )
    shift: dict[str, ShiftRule] = Field(
        default={},
        description="Columns that are distributed as before.",
        examples=[{"arrival_delay_minutes": {"reference": "28d", "psi": 0.2}}],
    )


class Expectations(_OfColumns):
    """What is expected of a table beyond its contract; without a word, missing values, spikes and volume."""

    missing: dict[str, float | str | None] = Field(
        default={},
        description="Columns with the share of nulls that they stay below, null for no limit; `default` (0.1) is for"
        " all others that may be null. `severity` is for all; without it a column that is named here fails with an"
        " error, and one that only has the default with a warning.",
        examples=[{"wind_gust": 0.95, "default": 0.1, "severity": "error"}],
    )
    spikes: Spikes | None = Field(
        default=Spikes(),
        description="Sudden rises of the missing share; null to leave it out.",
        examples=[{"spreads": 3}],
    )
    volume: VolumeRule | None = Field(
        default=VolumeRule(),
        description="The number of rows, for a table with partitions; null to leave it out.",
        examples=[{"at_least": 0.5, "at_most": 2.0}],
    )
    references: dict[str, ReferenceRule] = Field(
        default={},
        description="Columns whose values are found in another table.",
        examples=[{"tailnum": {"table": "aircraft", "column": "tailnum", "at_least": 0.8}}],
    )

    def resolve(
        self,
        component: Declared,
        columns: Sequence[Column],
        tables: Mapping[str, Sequence[Column]] | None = None,
        *,
        daily: bool = True,
        of: str = "contract",
    ) -> tuple[Expectation, ...]:
        """The expectations of a table with these columns; what does not fit is an error of the component at its line.

        `tables` are the columns of all declared tables; without them, those that are referred to are not looked up. A
        table that is not `daily` has no earlier partitions to be compared with. `of` is what has the columns.
        """
        asked = _Asked(component, {column.name: column for column in columns}, tables, of)
        found = (
            *self._missing(asked),
            *(_spikes(self.spikes, columns) if self.spikes and daily else ()),
            *self._outliers(asked),
            *([Volume(**vars(asked.ordered(self.volume)))] if self.volume and daily else ()),
            *self._shift(asked, daily=daily),
            *self._references(asked),
        )
        asked.require_different_names(found)
        return found

    def _missing(self, asked: "_Asked") -> Iterator[Missing]:
        severity = self.missing.get("severity")
        if severity not in (None, *_SEVERITIES):
            raise asked.error(f"severity '{severity}' is neither warn nor error.", "missing", "severity")
        limits = {name: limit for name, limit in self.missing.items() if name not in ("default", "severity")}
        for name in limits:
            if not asked.column("missing", name).nullable:
                raise asked.error(f"{name} is never null: the contract forbids it. Remove it here.", "missing", name)
        default = asked.share("missing", "default", self.missing.get("default", 0.1))
        for column in asked.columns.values():
            if not column.nullable:
                continue
            name = column.name
            below = asked.share("missing", name, limits[name]) if name in limits else default
            if below is not None:
                strict = severity == "error" or (severity is None and name in limits)
                yield Missing(name, below, "error" if strict else "warn")

    def _outliers(self, asked: "_Asked") -> Iterator[Outliers]:
        for name, rule in self.outliers.items():
            asked.column("outliers", name, _NUMBERS)
            yield Outliers(name, rule.factor, rule.action, rule.at_most, rule.severity)

    def _shift(self, asked: "_Asked", *, daily: bool) -> Iterator[Shift]:
        if self.shift and not daily:
            raise asked.error("a table without partitions has no days to compare with.", "shift")
        for name, rule in self.shift.items():
            asked.column("shift", name, _SHIFTING)
            days = [
                asked.component.duration(text, "expectations", "shift", name, which)
                for which, text in (("reference", rule.reference), ("current", rule.current))
            ]
            for which, length in zip(("reference", "current"), days, strict=True):
                if length.days < 1 or length.seconds:
                    raise asked.error("give it in whole days, `28d`.", "shift", name, which)
            yield Shift(name, days[0], rule.psi, days[1], rule.severity)

    def _references(self, asked: "_Asked") -> Iterator[References]:
        for name, rule in self.references.items():
            mine = asked.column("references", name)
            theirs = mine if asked.tables is None else asked.referred(name, rule, asked.tables)
            if mine.type != theirs.type:
                problem = f"{name} is {mine.type}, {rule.table}.{rule.column} is {theirs.type}: no value can be found."
                raise asked.error(problem, "references", name, "column")
            yield References(name, rule.table, rule.column, rule.at_least, rule.severity)


class FeatureExpectations(_OfColumns):
    """What is expected of the features of a view, in the words of a table; only what is written is judged."""

    missing: dict[str, float | str | None] = Field(
        default={},
        description="Features with the share of nulls that they stay below; `default` is for all others. `severity` is"
        " for all; without it a feature that is named here fails with an error.",
        examples=[{"arrival_delay_minutes_mean_6h": 0.9, "severity": "warn"}],
    )
    spikes: Spikes | None = Field(
        default=None, description="Sudden rises of the missing share.", examples=[{"spreads": 3}]
    )
    volume: VolumeRule | None = Field(
        default=None, description="The number of rows of a day.", examples=[{"at_least": 0.5, "at_most": 2.0}]
    )

    def resolve(self, component: Declared, columns: Sequence[Column], *, daily: bool) -> tuple[Expectation, ...]:
        """The expectations of a view with these features; its rows are computed, so outliers can only be counted."""
        for name, rule in self.outliers.items():
            if rule.action != "flag":
                problem = f"a feature is computed: `{rule.action}` would make it another one. Write `flag`."
                raise component.error(problem, "expectations", "outliers", name, "action")
        asked = Expectations(
            missing={"default": None, **self.missing},
            spikes=self.spikes,
            outliers=self.outliers,
            volume=self.volume,
            shift=self.shift,
        )
        return asked.resolve(component, columns, daily=daily, of="view")


def _spikes(rule: Spikes, columns: Sequence[Column]) -> Iterator[MissingSpike]:
    for column in columns:
        if column.nullable:
            yield MissingSpike(column.name, rule.spreads, rule.at_least, rule.severity)


class _Asked:
    """The table that is spoken of, to look up names and to point at the line that is wrong."""

    def __init__(
        self,
        component: Declared,
        columns: Mapping[str, Column],
        tables: Mapping[str, Sequence[Column]] | None,
        of: str,
    ) -> None:
        self.component, self.columns, self.tables, self.of = component, columns, tables, of

    def error(self, problem: str, *path: str) -> Exception:
        return self.component.error(problem, "expectations", *path)

    def column(self, kind: str, name: str, types: Sequence[str] = ()) -> Column:
        if name not in self.columns:
            has = shorten(self.columns, 20)
            raise self.error(f"the {self.of} has no column '{name}'. It has: {has}.", kind, name)
        if types and self.columns[name].type not in types:
            problem = f"{name} is {self.columns[name].type}; {kind} needs one of {', '.join(types)}."
            raise self.error(problem, kind, name)
        return self.columns[name]

    def share(self, kind: str, name: str, value: float | str | None) -> float | None:
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1):
            return value
        raise self.error(f"{value} is no share: write a number above 0 and up to 1, or null for no limit.", kind, name)

    def referred(self, name: str, rule: ReferenceRule, tables: Mapping[str, Sequence[Column]]) -> Column:
        path = ("references", name)
        if rule.table not in tables:
            known = shorten(sorted(tables)) or "none"
            raise self.error(f"there is no '{rule.table}' among the tables: {known}.", *path, "table")
        theirs = {column.name: column for column in tables[rule.table]}
        if rule.column not in theirs:
            has = shorten(theirs, 20)
            raise self.error(f"{rule.table} has no column '{rule.column}'. It has: {has}.", *path, "column")
        return theirs[rule.column]

    def ordered(self, rule: VolumeRule) -> VolumeRule:
        if rule.at_least >= rule.at_most:
            raise self.error("`at_least` must be smaller than `at_most`.", "volume", "at_least")
        return rule

    def require_different_names(self, found: Sequence[Expectation]) -> None:
        checks = [each.check for each in found]
        if doubled := sorted({check for check in checks if checks.count(check) > 1}):
            raise self.error(f"two expectations have the name {shorten(doubled)}: rename a column.")
