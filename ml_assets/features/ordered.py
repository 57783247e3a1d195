"""First, last, extremes and quantiles of windows: groups of entities are taken to numpy and their results brought back.

A group has at most half a million rows, unless a single entity has more; so memory does not grow with the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from ml_assets.features.order_statistics import QUANTILES, Intervals, covering, quantiles

if TYPE_CHECKING:
    import pyarrow as pa

# The order in which rows stand so that the one that is wanted is the last that is in the window. Rows that tie in
# `happened` and `known` are told apart by the row itself, so that no order of storage shows.
_ORDERS = {"min": "{v} DESC", "max": "{v}", "last": "row_no", "first": "row_no DESC"}
_ROWS = 1 << 19
_GROUP = "_ml_assets_group"


@dataclass(frozen=True)
class Wanted:
    """Functions of one column of `versions` in one of its windows, each with the name of its result."""

    names: Mapping[str, str]
    value: str
    leave: str


@dataclass(frozen=True)
class Grid:
    """The steps that times are counted by, in microseconds; `end` itself is one more, at which rows leave."""

    start: int
    every: int
    end: int

    @property
    def steps(self) -> int:
        """How many there are for each entity."""
        return (self.end - self.start) // self.every + 1

    def flat(self, column: str) -> str:
        """SQL for an entity and a time as one number, in the order of both."""
        return f"entity_no * {self.steps} + ({column} - {self.start}) // {self.every}"

    def unflat(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Entities and times of such numbers."""
        return {"entity_no": flat // self.steps, "g": flat % self.steps * self.every + self.start}


def create(
    con: duckdb.DuckDBPyConnection, table: str, versions: str, states: str, grid: Grid, wanted: Sequence[Wanted]
) -> None:
    """Create a table of `entity_no`, `g` and all that is wanted, for the times of `states`."""
    columns = ", ".join(f"{each.value} AS {name}" for each in wanted for name in each.names.values())
    con.execute(f"""CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT s.entity_no, s.g, {columns} FROM {states} s, {versions} LIMIT 0""")
    for first, last in _groups(con, versions):
        among = f"entity_no BETWEEN {first} AND {last}"
        found = con.execute(f"SELECT {grid.flat('g')} AS flat FROM {states} WHERE {among} ORDER BY 1").fetchnumpy()
        con.register(_GROUP, _Group(con, versions, among, grid, np.asarray(found["flat"])).table(wanted))
        con.execute(f"INSERT INTO {table} FROM {_GROUP}")
        con.unregister(_GROUP)


def _groups(con: duckdb.DuckDBPyConnection, versions: str) -> Iterator[tuple[int, int]]:
    """First and last entity of each group."""
    found = con.execute(f"SELECT entity_no, count(*) AS n FROM {versions} GROUP BY 1 ORDER BY 1").fetchnumpy()
    number, before = np.asarray(found["entity_no"]), np.cumsum(np.asarray(found["n"])) - np.asarray(found["n"])
    borders = np.flatnonzero(np.diff(before // _ROWS, prepend=-1))
    yield from ((int(number[a]), int(number[b - 1])) for a, b in pairwise([*borders, len(number)]))


@dataclass(frozen=True)
class _Group:
    """Some entities: their rows are in `versions` where `among` holds, their positions are `flat`."""

    con: duckdb.DuckDBPyConnection
    versions: str
    among: str
    grid: Grid
    flat: np.ndarray

    def table(self, wanted: Sequence[Wanted]) -> "pa.Table":
        """What is wanted, at each position."""
        import pyarrow as pa

        columns: dict[str, Any] = dict(self.grid.unflat(self.flat))
        for each in wanted:
            found = {f: self._chosen(each, order) for f, order in _ORDERS.items() if f in each.names}
            known = [function for function in each.names if function in QUANTILES]
            found |= self._quantiles(each, known) if known else {}
            columns |= {name: found[function] for function, name in each.names.items()}
        return pa.table(columns)

    def _rows(self, wanted: Wanted, order: str) -> tuple[np.ndarray, np.ndarray, "pa.ChunkedArray"]:
        """The rows that have a value: from which position to before which, and the value."""
        value, leave = wanted.value, wanted.leave
        rows = self.con.sql(f"""
            SELECT {self.grid.flat("enter")} AS enter, {self.grid.flat(leave)} AS leave, {value} AS value
            FROM {self.versions} WHERE {value} IS NOT NULL AND enter < {leave} AND {self.among}
            ORDER BY {order.format(v=value)}""").to_arrow_table()
        enter, leave = (np.searchsorted(self.flat, rows[name].to_numpy()) for name in ("enter", "leave"))
        return enter, leave, rows["value"]

    def _chosen(self, wanted: Wanted, order: str) -> "pa.ChunkedArray":
        import pyarrow as pa

        enter, leave, values = self._rows(wanted, order)
        row = covering(enter, leave, len(self.flat))
        return values.take(pa.array(row, mask=row < 0))

    def _quantiles(self, wanted: Wanted, names: Sequence[str]) -> dict[str, "pa.Array"]:
        import pyarrow as pa

        enter, leave, values = self._rows(wanted, "enter")
        value = values.to_numpy()
        borders = [0, *(np.flatnonzero(np.diff(self.flat // self.grid.steps)) + 1), len(self.flat)]
        found = {name: np.full(len(self.flat), np.nan) for name in names}
        for (low, high), (a, b) in zip(pairwise(borders), pairwise(np.searchsorted(enter, borders)), strict=True):
            own = Intervals(enter[a:b], leave[a:b], value[a:b])
            for positions, *columns in quantiles(own, names, int(low), int(high)):
                for name, column in zip(names, columns, strict=True):
                    found[name][positions] = column
        return {name: pa.array(column, from_pandas=True) for name, column in found.items()}
