"""The rows of its tables that a feature row is made from, shown by computing it from nothing else.

Windows say themselves which rows they hold. Of a lookup or SQL the rows are found by leaving rows out for as long as
the feature row stays what it is: delta debugging (Zeller and Hildebrandt 2002, "Simplifying and Isolating
Failure-Inducing Input", IEEE TSE 28(2), `ddmin`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from ml_assets.engine import literal, quote, scratch
from ml_assets.errors import FeatureError
from ml_assets.features.compute import compute, plan_of
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView, window_name

if TYPE_CHECKING:
    import pyarrow as pa

WINDOWS = "windows"
_ROW, _KEPT = "_ml_assets_row", "_ml_assets_kept"
_TRIES = 300  # of some ten milliseconds
_Place = tuple[str, int]  # a table and the number of a row in it


@dataclass(frozen=True)
class Origin:
    """By table the rows that a feature row is made from; those of windows say in a column `windows` which hold them.

    `same`: computed from these rows alone it has equal bits. `smallest`: without any single one of them it has not;
    rows of windows are all that the longest one holds, whether their values count or not.
    """

    rows: "Mapping[str, pa.Table]"
    same: bool
    smallest: bool = False

    @property
    def n_rows(self) -> int:
        """How many rows these are."""
        return sum(rows.num_rows for rows in self.rows.values())


def origin(con: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> Origin:
    """Find the rows behind a feature row, given with entity, `feature_timestamp` and features as it is stored.

    Reads the tables of the view from `con`, which hold what `compute` needs for that time. Rows that were known only
    after it are left out first, so a row that needed one of them is not the `same`.
    """
    with scratch() as past:
        for table in view.tables:
            _copy(con, past, table, row)
        if view.aggregations:
            return _of_windows(past, view, row)
        return _found(_Kept(past, view, row))


def _copy(con: duckdb.DuckDBPyConnection, past: duckdb.DuckDBPyConnection, table: str, row: Mapping[str, Any]) -> None:
    """The rows of a table that were known by the time of a feature row, numbered."""
    moment = literal(row[FEATURE_TIMESTAMP].isoformat())
    known = con.sql(f"FROM {quote(table)} WHERE known_at <= TIMESTAMPTZ {moment}").to_arrow_table()
    past.register("_known", known)
    numbered = f"SELECT *, row_number() OVER () AS {_ROW} FROM _known"
    past.execute(f"CREATE OR REPLACE TEMP TABLE {quote(_whole(table))} AS {numbered}")
    past.unregister("_known")


def _whole(table: str) -> str:
    return f"_known {table}"


def _of_windows(past: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> Origin:
    """The rows in the longest window; the row that closes it has none, and follows from there being none."""
    import pyarrow as pa

    (table, *_), held = view.tables, _in_windows(past, view, row)
    kept, places = _Kept(past, view, row), [(table, number) for number in held]
    rows = kept.rows(places)[table].append_column(WINDOWS, pa.array(list(held.values()), pa.string()))
    return Origin({table: rows}, kept.gives(places) if places else _is_closing(view, row))


def _is_closing(view: FeatureView, row: Mapping[str, Any]) -> bool:
    """Whether a row says that nothing happened: counts of zero and nulls."""
    return not any(row[name] for name in view.features())


def _in_windows(past: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> dict[int, str]:
    """By the number of each row that the longest window holds, the newest event first, the windows that do."""
    table, moment = view.tables[0], row[FEATURE_TIMESTAMP]
    past.execute(f"CREATE OR REPLACE TEMP VIEW {quote(table)} AS FROM {quote(_whole(table))}")
    plan = plan_of(past, view, moment, moment + view.every, carried=(_ROW,))
    names = [literal(window_name(window)) for window in plan.windows]
    holding = ", ".join(f"CASE WHEN leave{j} > {plan.first} THEN {name} END" for j, name in enumerate(names))
    entity = " AND ".join(f"e{i} = ?" for i in range(len(view.entity)))
    return dict(
        past.execute(
            f"""SELECT {_ROW}, concat_ws(', ', {holding}) AS held FROM ({plan.versions()})
                WHERE enter <= {plan.first} AND held <> '' AND {entity} ORDER BY happened DESC, known DESC, {_ROW}""",
            [row[name] for name in view.entity],
        ).fetchall()
    )


def _found(kept: "_Kept") -> Origin:
    """The rows of a lookup or SQL; those of the entity are looked at first, which mostly are enough."""
    every = kept.places(of_entity=False)
    near = kept.places(of_entity=True)
    start = near if kept.gives(near) else every
    if start is every and not kept.gives(every):
        return Origin(kept.rows(every), same=False)
    places, smallest = _reduced(start, kept.gives)
    return Origin(kept.rows(places), same=True, smallest=smallest)


def _reduced(places: Sequence[_Place], gives: Callable[[Sequence[_Place]], bool]) -> tuple[Sequence[_Place], bool]:
    """Leave places out, half of them first and single ones last; also tells whether it came to an end."""
    parts, tries = 2, 0
    while len(places) > 1 and tries < _TRIES:
        size = -(-len(places) // parts)
        for start in range(0, len(places), size):
            tries += 1
            fewer = [*places[:start], *places[start + size :]]
            if gives(fewer):
                places, parts = fewer, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return places, True
            parts = min(2 * parts, len(places))
    return places, len(places) <= 1


class _Kept:
    """The tables of a view with only some of their rows, and whether these give the feature row."""

    def __init__(self, past: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> None:
        self._past, self._view, self._row = past, view, row
        self._keep([])
        for table in view.tables:
            past.execute(f"""CREATE OR REPLACE TEMP VIEW {quote(table)} AS SELECT * EXCLUDE ({_ROW})
                FROM {quote(_whole(table))} WHERE {self._is_kept(table)}""")

    def places(self, *, of_entity: bool) -> list[_Place]:
        """Rows of all tables; with `of_entity` only those of the entity, where a table has its columns."""
        return [(table, n) for table in self._view.tables for n in self._numbers(table, of_entity)]

    def gives(self, places: Sequence[_Place]) -> bool:
        """Whether the feature row comes out of these rows, bit for bit."""
        view, moment = self._view, self._row[FEATURE_TIMESTAMP]
        self._keep(places)
        try:
            found = compute(self._past, view, first=moment, last=moment + MICROSECOND)
        except FeatureError:  # SQL may need what was left out
            return False
        identity = (*view.entity, FEATURE_TIMESTAMP)
        wanted = {name: self._row[name] for name in (*identity, *view.features())}
        return wanted in found.select(list(wanted)).to_pylist()

    def rows(self, places: Sequence[_Place]) -> "dict[str, pa.Table]":
        """These rows by table, each with the columns of its table, in the order of the places."""
        self._keep(places)
        return {table: self._past.sql(self._ordered(table)).to_arrow_table() for table in self._view.tables}

    def _numbers(self, table: str, of_entity: bool) -> list[int]:
        whole = quote(_whole(table))
        columns = {name for name, *_ in self._past.execute(f"DESCRIBE {whole}").fetchall()}
        asked = [name for name in self._view.entity if of_entity and name in columns]
        where = " AND ".join([f"{quote(name)} = ?" for name in asked] or ["true"])
        found = self._past.execute(
            f"SELECT {_ROW} FROM {whole} WHERE {where} ORDER BY known_at, {_ROW}", [self._row[name] for name in asked]
        )
        return [number for (number,) in found.fetchall()]

    def _keep(self, places: Sequence[_Place]) -> None:
        import pyarrow as pa

        names, numbers = [table for table, _ in places], [number for _, number in places]
        kept = {"name": pa.array(names, pa.string()), "number": pa.array(numbers, pa.int64())}
        self._past.register(_KEPT, pa.table({**kept, "place": pa.array(range(len(places)), pa.int64())}))

    def _is_kept(self, table: str) -> str:
        return f"{_ROW} IN (SELECT number FROM {_KEPT} WHERE name = {literal(table)})"

    def _ordered(self, table: str) -> str:
        return f"""SELECT w.* EXCLUDE ({_ROW}) FROM {quote(_whole(table))} w JOIN {_KEPT} k ON k.number = w.{_ROW}
            WHERE k.name = {literal(table)} ORDER BY k.place"""
