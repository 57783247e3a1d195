"""Windows on a grid: each row enters once and leaves once per window, and sums run along the grid.

There is no range join: the cost grows with rows times windows, not with the length of the windows. Sums are kept as
integers of millionths, so they do not depend on the order of rows or on where the computation starts. What is no sum,
such as the last value and medians, is in `ordered`.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import duckdb

from ml_assets.engine import quote
from ml_assets.features import ordered
from ml_assets.features.view import (
    FEATURE_TIMESTAMP,
    MICROSECOND,
    ORDER_FUNCTIONS,
    Aggregation,
    FeatureView,
    grid_time,
    window_name,
)

_MILLIONTHS = 1_000_000

_REDUCED = {
    "count": "coalesce({n}, 0)::DOUBLE",
    "sum": f"CASE WHEN {{n}} > 0 THEN {{s}}::DOUBLE / {_MILLIONTHS} END",
    "mean": f"CASE WHEN {{n}} > 0 THEN {{s}}::DOUBLE / ({{n}} * {_MILLIONTHS})::DOUBLE END",
    "std": f"CASE WHEN {{n}} > 1 THEN sqrt(({{n}} * {{q}} - {{s}} * {{s}})::DOUBLE / ({{n}} * ({{n}} - 1))::DOUBLE)"
    f" / {_MILLIONTHS} END",
}
_REDUCED["rate"] = _REDUCED["mean"]
_REDUCED["distinct"] = "coalesce({d}, 0)::DOUBLE"
_SUMS = {"count": "n", "sum": "ns", "mean": "ns", "rate": "ns", "std": "nsq", "distinct": "d"}
_SUMMAND = {"n": "count({v})", "s": "sum({x})", "q": "sum({x} * {x})"}
_VERSIONS, _STATES, _CHOSEN = "_ml_assets_versions", "_ml_assets_states", "_ml_assets_chosen"


@dataclass(frozen=True)
class Sum:
    """A running sum: of an aggregation (by position), in a window (by position), of what `kind` says.

    `n` is the count of values, `s` of their millionths, `q` of their squares, `d` of values that differ.
    """

    kind: str
    part: int
    window: int

    @property
    def column(self) -> str:
        """Its column."""
        return f"{self.kind}_{self.part}_{self.window}"


@dataclass(frozen=True)
class Plan:
    """The statements that compute a view for grid times from `first` to before `end`, in microseconds since 1970.

    `texts` names the aggregations of text; `carried` are columns of the table that its versions keep beside.
    """

    view: FeatureView
    first: int
    end: int
    texts: Set[str] = frozenset()
    carried: tuple[str, ...] = ()

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
            placed AS (SELECT *, {", ".join([f"{entered} AS enter", *leaves, *self._millionths()])} FROM replaced
                WHERE {" AND ".join(f"{column} IS NOT NULL" for column in entity)})
            SELECT *, dense_rank() OVER (ORDER BY {", ".join(entity)}) - 1 AS entity_no{self._numbered()}
            FROM placed WHERE enter < leave{len(self.windows) - 1}"""

    def _millionths(self) -> Iterator[str]:
        """Values as they are summed."""
        for i in sorted({s.part for s in self.sums if s.kind in "sq"}):
            yield f"round(v{i} * {_MILLIONTHS})::HUGEINT AS x{i}"

    def _numbered(self) -> str:
        """A number by event, then by when it was known, then by the row itself: for what is first and last."""
        if not any(function in ("first", "last") for _, part in self.parts for function in part.functions):
            return ""
        keys, values = (f"k{i}" for i in range(len(self.view.keys))), (f"v{i}" for i in range(len(self.parts)))
        return f", row_number() OVER (ORDER BY {', '.join(['happened', 'known', *keys, *values])}) AS row_no"

    def _source(self) -> str:
        main = self.view
        named = [f"{quote(column)} AS e{i}" for i, column in enumerate(main.entity)]
        named += [f"{quote(column)} AS k{i}" for i, column in enumerate(main.keys)]
        named += [f"{_value(part, name in self.texts)} AS v{i}" for i, (name, part) in enumerate(self.parts)]
        named += map(quote, self.carried)
        happened = f"coalesce(epoch_us({quote(main.event_timestamp)}), epoch_us(known_at))"
        return f"""SELECT {", ".join(named)}, epoch_us(known_at) AS known, {happened} AS happened
            FROM {quote(main.tables[0])} WHERE epoch_us(known_at) < {self.end}"""

    def states(self, versions: str) -> str:
        """What the running sums are from each change on, `g`, until the next."""
        columns = ["present", *(s.column for s in self.sums)]
        changed = ", ".join(f"sum({column}) AS {column}" for column in columns)
        running = ", ".join(f"sum({column}) OVER along AS {column}" for column in columns)
        return f"""
            WITH changes AS (SELECT entity_no, g, {changed} FROM ({" UNION ALL BY NAME ".join(self._deltas(versions))})
                GROUP BY entity_no, g),
            running AS (SELECT entity_no, g, coalesce(lead(g) OVER along, {self.end}) AS until, {running} FROM changes
                WINDOW along AS (PARTITION BY entity_no ORDER BY g))
            SELECT *, coalesce(lag(present) OVER (PARTITION BY entity_no ORDER BY g), 0) AS before FROM running"""

    def _deltas(self, versions: str) -> Iterator[str]:
        last, plain = len(self.windows) - 1, [s for s in self.sums if s.kind != "d"]
        entering = ["count(*) AS present"]
        entering += [f"{_summand(s)} FILTER (enter < leave{s.window}) AS {s.column}" for s in plain]
        yield f"SELECT entity_no, enter AS g, {', '.join(entering)} FROM {versions} GROUP BY ALL"
        for j in range(len(self.windows)):
            leaving = [f"{'-count(*)' if j == last else '0'} AS present"]
            leaving += [f"-{_summand(s)} AS {s.column}" for s in plain if s.window == j]
            yield f"""SELECT entity_no, leave{j} AS g, {", ".join(leaving)} FROM {versions}
                WHERE enter < leave{j} AND leave{j} < {self.end} GROUP BY ALL"""
        yield from (self._differing(versions, s) for s in self.sums if s.kind == "d")

    def _differing(self, versions: str, wanted: Sum) -> str:
        """Values that differ: one more where the first row of a value enters, one less where its last row has left.

        Of rows that enter and leave together the one that begins a span comes first, else the others would be one more.
        """
        value, leave = f"v{wanted.part}", f"leave{wanted.window}"
        along = f"OVER (PARTITION BY entity_no, {value} ORDER BY enter, {leave}"
        before = f"{along} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        return f"""
            SELECT entity_no, unnest([begins, ends]) AS g, unnest([1, -1]) AS {wanted.column} FROM (
                SELECT entity_no, min(enter) AS begins, max({leave}) AS ends FROM (
                    SELECT *, count(*) FILTER (begins) {along}, begins DESC ROWS UNBOUNDED PRECEDING) AS span FROM (
                        SELECT entity_no, {value}, enter, {leave},
                            coalesce(enter > max({leave}) {before}, true) AS begins
                        FROM {versions} WHERE {value} IS NOT NULL AND enter < {leave}))
                GROUP BY entity_no, {value}, span)"""

    def rows(self, versions: str, states: str, chosen: str) -> str:
        """The feature rows: states spread over the grid, with what the table `chosen`, if any, holds beside them."""
        entity = [f"e{i} AS {quote(column)}" for i, column in enumerate(self.view.entity)]
        beside = f" JOIN {chosen} USING (entity_no, g)" if chosen else ""
        until = f"CASE WHEN present > 0 THEN until ELSE g + {self.every} END"
        numbered = ", ".join(["entity_no", *(f"e{i}" for i in range(len(entity)))])
        return f"""
            WITH entities AS (SELECT DISTINCT {numbered} FROM {versions}),
            spread AS (SELECT * REPLACE (unnest(range(g, {until}, {self.every})) AS g) FROM {states}{beside}
                WHERE present > 0 OR before > 0)
            SELECT {", ".join(entity)}, make_timestamptz(g) AS {FEATURE_TIMESTAMP},
                strftime(make_timestamptz(g), '%Y-%m-%d') AS partition_key, {", ".join(self._features())}
            FROM spread JOIN entities USING (entity_no) WHERE g >= {self.first} ORDER BY entity_no, g"""

    def _features(self) -> Iterator[str]:
        for i, (name, part) in enumerate(self.parts):
            for window in part.windows:
                j = self.windows.index(window)
                columns = {kind: f"{kind}_{i}_{j}" for kind in "nsqd"}
                for function in part.functions:
                    value = _REDUCED.get(function, f"{function}_{i}_{j}").format(**columns)
                    yield f"{value} AS {quote(f'{name}_{function}_{window_name(window)}')}"

    def ordered(self) -> Iterator[ordered.Wanted]:
        """What is no sum, by aggregation and window."""
        for i, (_, part) in enumerate(self.parts):
            functions = [function for function in part.functions if function in ORDER_FUNCTIONS]
            for j in sorted({self.windows.index(window) for window in part.windows if functions}):
                names = {function: f"{function}_{i}_{j}" for function in functions}
                yield ordered.Wanted(names, f"v{i}", f"leave{j}")


def _value(part: Aggregation, text: bool) -> str:
    """The value of a row, as it is counted and stored; zero has one sign, or the result would depend on the range."""
    if set(part.functions) == {"count"}:
        return f"CASE WHEN ({part.condition}) IS NOT NULL THEN 1::DOUBLE END"
    if text:
        return f"({part.condition})::VARCHAR"
    number = f"({part.condition})::DOUBLE"
    return f"CASE WHEN {number} = 0 THEN 0::DOUBLE WHEN isfinite({number}) THEN {number} END"


def _summand(wanted: Sum) -> str:
    return _SUMMAND[wanted.kind].format(v=f"v{wanted.part}", x=f"x{wanted.part}")


def aggregate(con: duckdb.DuckDBPyConnection, plan: Plan) -> duckdb.DuckDBPyRelation:
    """Run the plan; the feature rows, sorted by entity and time, with `partition_key`."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_VERSIONS} AS {plan.versions()}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_STATES} AS {plan.states(_VERSIONS)}")
    wanted = list(plan.ordered())
    if wanted:
        grid = ordered.Grid(plan.start, plan.every, plan.end)
        ordered.create(con, _CHOSEN, _VERSIONS, _STATES, grid, wanted)
    return con.sql(plan.rows(_VERSIONS, _STATES, _CHOSEN if wanted else ""))


def forget(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what `aggregate` left in the connection."""
    for table in (_VERSIONS, _STATES, _CHOSEN):
        con.execute(f"DROP TABLE IF EXISTS {table}")
