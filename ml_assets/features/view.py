"""What a feature view is: the declaration alone, without data.

What it costs and gives is computed in `compute`; whether its SQL fits its tables is checked in `check`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from ml_assets.errors import DeclarationError, shorten
from ml_assets.features.statements import selected_names

SUM_FUNCTIONS = ("count", "sum", "mean", "std", "rate", "distinct")
ORDER_FUNCTIONS = ("min", "max", "first", "last", "p50", "p90")
FUNCTIONS = (*SUM_FUNCTIONS, *ORDER_FUNCTIONS)
TEXT_FUNCTIONS = ("count", "distinct", "first", "last")
FEATURE_TIMESTAMP = "feature_timestamp"

MICROSECOND = timedelta(microseconds=1)

_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))
_RESERVED = {FEATURE_TIMESTAMP, "partition_key", "at", "known_at"}


def window_name(window: timedelta) -> str:
    """Name a window by its largest whole unit: `6h`, `1d` (also for 24 h), `28d`, `90s`."""
    for unit, length in _UNITS:
        if window > timedelta(0) and window % length == timedelta(0):
            return f"{window // length}{unit}"
    raise DeclarationError(f"The window {window} is not a positive number of whole seconds. Write it as `6h` or `7d`.")


def grid_time(us: str, every: int) -> str:
    """SQL that rounds microseconds up to the grid; also right before 1970, where `%` is negative."""
    return f"({us} + ({every} - {us} % {every}) % {every})"


@dataclass(frozen=True)
class Aggregation:
    """One expression over the rows of a table, and the functions and windows to reduce it by."""

    expression: str
    functions: tuple[str, ...]
    windows: tuple[timedelta, ...]
    where: str | None = None

    def features(self, name: str) -> tuple[str, ...]:
        """Name the features, functions within windows: `<name>_mean_6h`, `<name>_count_6h`, `<name>_mean_1d`."""
        return tuple(f"{name}_{function}_{window_name(w)}" for w in self.windows for function in self.functions)

    @property
    def condition(self) -> str:
        """The value that a row contributes, as SQL: null when `where` is not true."""
        return f"CASE WHEN ({self.where}) THEN ({self.expression}) END" if self.where else f"({self.expression})"


@dataclass(frozen=True)
class Lookup:
    """Attributes that change slowly: SQL over a row by name of the feature, and from when until when the row holds.

    `valid_until` is the first moment at which it no longer holds; null, or no column: until another row takes over.
    """

    columns: Mapping[str, str] = field(hash=False)
    valid_from: str
    valid_until: str | None = None


@dataclass(frozen=True)
class FeatureView:
    """Features of one entity that change on the grid `every`, counted from 1970-01-01 UTC.

    One of three forms: `aggregations` of the first table, by name; a `lookup` in it; or `sql` that selects the entity,
    `known_at`, the features and, where rows can arrive late, `event_timestamp`. With `every` zero the view is static:
    its rows hold from their `known_at` on, off any grid. A table may be another view, which has `known_at` and
    `event_timestamp` too. `history` is how far back an SQL view looks for a newer event of the entity. `defaults` are
    the values of features where no row counts. Raises DeclarationError when the declaration contradicts itself.
    """

    name: str
    entity: tuple[str, ...]
    every: timedelta
    tables: tuple[str, ...]
    delay: timedelta = timedelta(0)
    max_age: timedelta | None = None
    keys: tuple[str, ...] = ()
    event_timestamp: str = "event_timestamp"
    aggregations: Mapping[str, Aggregation] | None = field(default=None, hash=False)
    sql: str | None = None
    history: timedelta = timedelta(0)
    lookup: Lookup | None = None
    defaults: Mapping[str, float | str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise DeclarationError(f"Feature view '{self.name}' {problem}")

    def features(self) -> tuple[str, ...]:
        """The features in the order of their columns; an SQL view must name them, `SELECT *` is refused."""
        if self.aggregations:
            return tuple(feature for name, part in self.aggregations.items() for feature in part.features(name))
        if self.lookup:
            return tuple(self.lookup.columns)
        around = {*self.entity, "known_at", "event_timestamp"}
        return tuple(name for name in selected_names(self.sql or "") if name not in around)

    def qualified_features(self) -> tuple[str, ...]:
        """The features as they are named when joined to a spine: `<view>__<feature>`."""
        return tuple(f"{self.name}__{feature}" for feature in self.features())

    def lookback(self) -> timedelta:
        """How long before a range's first grid time an event or arrival can still change its rows."""
        windows = [w for part in (self.aggregations or {}).values() for w in part.windows]
        return self.every + max([*windows, self.every, self.history])

    @property
    def is_static(self) -> bool:
        """Whether the view has no grid."""
        return not self.every


def _problems(view: FeatureView) -> list[str]:
    forms = [form for form in ("aggregations", "lookup", "sql") if getattr(view, form)]
    found = [
        (not view.entity, "names no entity. Add the columns that identify what the features are about."),
        (not view.tables, "names no table. Add `table:`, or the tables that its SQL reads."),
        (len(forms) != 1, f"needs one of `aggregations`, `lookup` and `sql`; it has {' and '.join(forms) or 'none'}."),
        (view.every < timedelta(0), f"has a negative grid `every: {view.every}`."),
        (view.delay < timedelta(0), f"has a negative `delay: {view.delay}`."),
        (view.history < timedelta(0), f"has a negative `history: {view.history}`."),
        (bool(view.aggregations) and view.is_static, "aggregates over windows and needs a grid, such as `every: 1h`."),
        (bool(view.lookup) and not view.is_static, "looks up what holds at any moment: leave `every` out."),
    ]
    problems = [text for wrong, text in found if wrong]
    return problems or _aggregation_problems(view) or _name_problems(view)


def _aggregation_problems(view: FeatureView) -> list[str]:
    problems = []
    for name, part in (view.aggregations or {}).items():
        unknown = [function for function in part.functions if function not in FUNCTIONS]
        short = [window_name(window) for window in part.windows if window < view.every]
        if unknown:
            problems.append(f"aggregates '{name}' by {shorten(unknown)}. Known functions: {', '.join(FUNCTIONS)}.")
        if short:
            problems.append(f"has the window {shorten(short)} for '{name}', shorter than its grid: rows would be lost.")
        if not part.functions or not part.windows:
            problems.append(f"gives '{name}' no functions or no windows.")
    return problems


def _name_problems(view: FeatureView) -> list[str]:
    if view.sql:
        return []
    names = view.features()
    doubled = sorted({name for name in names if names.count(name) > 1})
    taken = sorted(set(names) & (_RESERVED | set(view.entity)))
    problems = [f"has the feature {shorten(doubled)} twice."] if doubled else []
    return problems + ([f"has the feature {shorten(taken)}, a reserved name."] if taken else [])
