"""Windows on a grid: each row enters once and leaves once per window, and sums run along the grid.

There is no range join: the cost grows with rows times windows, not with the length of the windows. Sums are kept as
integers of millionths, so they do not depend on the order of rows or on where the computation starts.
Medians and the like are in `order_statistics`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from ml_assets.engine import quote
from ml_assets.features.order_statistics import Intervals, by_entity
from ml_assets.features.view import (
    FEATURE_TIMESTAMP,
    MICROSECOND,
    ORDER_FUNCTIONS,
    Aggregation,
    FeatureView,
    grid_time,
    window_name,
)

if TYPE_CHECKING:
    import pyarrow as pa

_MILLIONTHS = 1_000_000

_REDUCED = {
    "count": "coalesce({n}, 0)::DOUBLE",
    "sum": f"CASE WHEN {{n}} > 0 THEN {{s}}::DOUBLE / {_MILLIONTHS} END",
    "mean": f"CASE WHEN {{n}} > 0 THEN {{s}}::DOUBLE / ({{n}} * {_MILLIONTHS})::DOUBLE END",
    "std": f"CASE WHEN {{n}} > 1 THEN sqrt(({{n}} * {{q}} - {{s}} * {{s}})::DOUBLE / ({{n}} * ({{n}} - 1))::DOUBLE)"
    f" / {_MILLIONTHS} END",
}
_SUMS = {"count": "n", "sum": "ns", "mean": "ns", "std": "nsq"}
_SUMMAND = {"n": "count({v})", "s": "sum({x})", "q": "sum({x} * {x})"}
_VERSIONS, _STATES = "_ml_assets_versions", "_ml_assets_states"


@dataclass(frozen=True)
class Sum:
    """A running sum: of an aggregation (by position), in a window (by position), of values, squares or their count."""

    kind: str
    part: int
    window: int

    @property
    def column(self) -> str:
        """Its column."""
        return f"{self.kind}_{self.part}_{self.window}"


@dataclass(frozen=True)
class Plan:
    """The statements that compute a view for grid times from `first` to before `end`, in microseconds since 1970."""

    view: FeatureView
    first: int
    end: int

    @cached_property
    def every(self) -> int:
        """The step of the grid in microseconds."""
        return self.view.every // MICROSECOND

    @property
    def start(self) -> int:
        """One step before `first`, since an entity that was there then gets a closing row."""
        return self.first - self.every

    @cached_property
    def parts(self) -> list[tuple[str, Aggregation]]:
        """The aggregations with their names."""
        return list((self.view.aggregations or {}).items())

    @cached_property
    def windows(self) -> list[timedelta]:
        """All windows, shortest first; the last one decides how long an entity has rows."""
        return sorted({window for _, part in self.parts for window in part.windows})

    @cached_property
    def sums(self) -> list[Sum]:
        """The running sums that the functions need."""
        return [
            Sum(kind, i, self.windows.index(window))
            for i, (_, part) in enumerate(self.parts)
            for window in dict.fromkeys(part.windows)
            for kind in sorted({kind for function in part.functions for kind in _SUMS.get(function, "")})
        ]

    def versions(self) -> str:
        """Every version of a row that counts somewhere in the range: when it enters, and when it leaves each window."""
        entity = [f"e{i}" for i in range(len(self.view.entity))]
        keys = ", ".join(f"k{i}" for i in range(len(self.view.keys)))
        order = ", ".join(["known", "happened", *entity, *(f"v{i}" for i in range(len(self.parts)))])
        replaced = f"lead(known) OVER (PARTITION BY {keys} ORDER BY {order})" if keys else "NULL::BIGINT"
        entered = f"greatest({grid_time('greatest(happened, known)', self.every)}, {self.start})"
        leaves = [
            f"least({grid_time(f'least(happened + {w // MICROSECOND}, replaced)', self.every)}, {self.end}) AS leave{j}"
            for j, w in enumerate(self.windows)
        ]
        return f"""
            WITH replaced AS (SELECT *, {replaced} AS replaced FROM ({self._source()})),
            placed AS (SELECT *, {entered} AS enter, {", ".join(leaves)} FROM replaced
                WHERE {" AND ".join(f"{column} IS NOT NULL" for column in entity)})
            SELECT *, dense_rank() OVER (ORDER BY {", ".join(entity)}) - 1 AS entity_no FROM placed
            WHERE enter < leave{len(self.windows) - 1}"""

    def _source(self) -> str:
        main = self.view
        named = [f"{quote(column)} AS e{i}" for i, column in enumerate(main.entity)]
        named += [f"{quote(column)} AS k{i}" for i, column in enumerate(main.keys)]
        named += [f"{_value(part)} AS v{i}" for i, (_, part) in enumerate(self.parts)]
        happened = f"coalesce(epoch_us({quote(main.event_timestamp)}), epoch_us(known_at))"
        return f"""SELECT {", ".join(named)}, epoch_us(known_at) AS known, {happened} AS happened
            FROM {quote(main.tables[0])} WHERE epoch_us(known_at) < {self.end}"""

    def states(self, versions: str) -> str:
        """What the running sums are from each change on, `g`, until the next."""
        columns = ["present", *(s.column for s in self.sums)]
        changed = ", ".join(f"sum({column})::HUGEINT AS {column}" for column in columns)
        running = ", ".join(f"sum({column}) OVER along AS {column}" for column in columns)
        return f"""
            WITH changes AS (SELECT entity_no, g, {changed} FROM ({" UNION ALL BY NAME ".join(self._deltas(versions))})
                GROUP BY entity_no, g),
            running AS (SELECT entity_no, g, coalesce(lead(g) OVER along, {self.end}) AS until, {running} FROM changes
                WINDOW along AS (PARTITION BY entity_no ORDER BY g))
            SELECT *, coalesce(lag(present) OVER (PARTITION BY entity_no ORDER BY g), 0) AS before FROM running"""

    def _deltas(self, versions: str) -> Iterator[str]:
        last = len(self.windows) - 1
        entering = ["count(*)::HUGEINT AS present"]
        entering += [f"{_summand(s, f'enter < leave{s.window}')} AS {s.column}" for s in self.sums]
        yield f"SELECT entity_no, enter AS g, {', '.join(entering)} FROM {versions} GROUP BY ALL"
        for j in range(len(self.windows)):
            leaving = ["-count(*)::HUGEINT AS present"] if j == last else []
            leaving += [f"-{_summand(s)} AS {s.column}" for s in self.sums if s.window == j]
            if leaving:
                yield f"""SELECT entity_no, leave{j} AS g, {", ".join(leaving)} FROM {versions}
                    WHERE enter < leave{j} AND leave{j} < {self.end} GROUP BY ALL"""

    def rows(self, versions: str, states: str, ordered: dict[tuple[int, int], str]) -> str:
        """The feature rows: states spread over the grid, with the order statistics beside them."""
        entity = [f"e{i} AS {quote(column)}" for i, column in enumerate(self.view.entity)]
        sources = {key: f"o{number}" for number, key in enumerate(ordered)}
        joins = "".join(f" LEFT JOIN {ordered[key]} {name} USING (entity_no, g)" for key, name in sources.items())
        until = f"CASE WHEN present > 0 THEN until ELSE g + {self.every} END"
        numbered = ", ".join(["entity_no", *(f"e{i}" for i in range(len(entity)))])
        return f"""
            WITH entities AS (SELECT DISTINCT {numbered} FROM {versions}),
            spread AS (SELECT * REPLACE (unnest(range(g, {until}, {self.every})) AS g) FROM {states}
                WHERE present > 0 OR before > 0)
            SELECT {", ".join(entity)}, make_timestamptz(g) AS {FEATURE_TIMESTAMP},
                strftime(make_timestamptz(g), '%Y-%m-%d') AS partition_key, {", ".join(self._features(sources))}
            FROM spread JOIN entities USING (entity_no){joins} WHERE g >= {self.first} ORDER BY entity_no, g"""

    def _features(self, sources: dict[tuple[int, int], str]) -> Iterator[str]:
        for i, (name, part) in enumerate(self.parts):
            for window in part.windows:
                j = self.windows.index(window)
                columns = {kind: f"{kind}_{i}_{j}" for kind in "nsq"}
                for function in part.functions:
                    source = f"{sources.get((i, j))}.{function}"
                    value = _REDUCED[function].format(**columns) if function in _REDUCED else source
                    yield f"{value} AS {quote(f'{name}_{function}_{window_name(window)}')}"


def _value(part: Aggregation) -> str:
    if set(part.functions) == {"count"}:
        return f"CASE WHEN ({part.condition}) IS NOT NULL THEN 1::DOUBLE END"
    number = f"({part.condition})::DOUBLE"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _summand(wanted: Sum, condition: str = "true") -> str:
    value = f"v{wanted.part}"
    millionths = f"round({value} * {_MILLIONTHS})::HUGEINT"
    return f"({_SUMMAND[wanted.kind].format(v=value, x=millionths)} FILTER ({condition}))::HUGEINT"


def aggregate(con: duckdb.DuckDBPyConnection, plan: Plan) -> duckdb.DuckDBPyRelation:
    """Run the plan; the feature rows, sorted by entity and time, with `partition_key`."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_VERSIONS} AS {plan.versions()}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_STATES} AS {plan.states(_VERSIONS)}")
    ordered = {}
    for i, (_, part) in enumerate(plan.parts):
        names = [function for function in part.functions if function in ORDER_FUNCTIONS]
        for j in sorted({plan.windows.index(window) for window in part.windows if names}):
            ordered[i, j] = f"_ml_assets_ordered_{i}_{j}"
            con.register(ordered[i, j], _ordered(con, plan, i, j, names))
    return con.sql(plan.rows(_VERSIONS, _STATES, ordered))


def forget(con: duckdb.DuckDBPyConnection, plan: Plan) -> None:
    """Drop what `aggregate` left in the connection."""
    for table in (_VERSIONS, _STATES):
        con.execute(f"DROP TABLE IF EXISTS {table}")
    for i, j in product(range(len(plan.parts)), range(len(plan.windows))):
        con.unregister(f"_ml_assets_ordered_{i}_{j}")


def _ordered(con: duckdb.DuckDBPyConnection, plan: Plan, i: int, j: int, names: list[str]) -> "pa.Table":
    import pyarrow as pa

    found = con.execute(f"""
        SELECT entity_no, (enter - {plan.start}) // {plan.every} AS enter,
            (leave{j} - {plan.start}) // {plan.every} AS leave, v{i} AS value
        FROM {_VERSIONS} WHERE v{i} IS NOT NULL AND enter < leave{j} ORDER BY entity_no""").fetchnumpy()
    entity_no, *rows = (np.asarray(found[name]) for name in ("entity_no", "enter", "leave", "value"))
    steps = (plan.end - plan.start) // plan.every
    columns = by_entity(entity_no, Intervals(*rows), names, 1, steps)
    columns["g"] = columns.pop("step") * plan.every + plan.start
    return pa.table(columns)
