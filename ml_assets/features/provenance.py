"""The rows of its tables that a feature row is made from, and whether they give it.

Windows say themselves which rows they hold. Of a lookup or SQL it is tried: a row counts where the feature row becomes
another one when the row is left out, or when its values are others: large ones as well as small ones, so that a row
which a filter keeps out does not count. Rows are tried in groups, and only a group that counts is split (adaptive group
testing, Dorfman 1943).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from ml_assets.engine import literal, quote, scratch
from ml_assets.errors import FeatureError
from ml_assets.features.check import stored_type
from ml_assets.features.compute import compute, plan_of
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView, window_name

if TYPE_CHECKING:
    import pyarrow as pa

_ROW, _KEPT = "_ml_assets_row", "_ml_assets_kept"
_TRIES = 400  # each some ten milliseconds
_AS_IT_IS, _LARGE, _SMALL = range(3)
_ODD = 987_654
_Place = tuple[str, int]  # a table and the number of a row in it


@dataclass(frozen=True)
class Origin:
    """By table the rows that a feature row is made from; `windows` names for each row of windows those that hold it.

    `same`: the tables give the feature row with equal bits from what was known by its time; else `rows` are all of its
    entity. `alone`: these rows alone give it. `complete`: every one of them was found to count; those of windows are
    all that the longest one holds, whether their values count or not.
    """

    rows: "Mapping[str, pa.Table]"
    same: bool
    alone: bool = False
    complete: bool = False
    windows: tuple[str, ...] = ()


def origin(con: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> Origin:
    """Find the rows behind a feature row, given with entity, `feature_timestamp` and features as it is stored.

    Reads the tables of the view from `con`, which hold what `compute` needs for that time.
    """
    with scratch() as past:
        for table in view.tables:
            _copy(con, past, table, row)
        kept = _Kept(past, view, row)
        every, own = kept.places(of_entity=False), kept.places(of_entity=True)
        if not kept.gives(every):
            return Origin(kept.rows(own), same=False)
        if view.aggregations:
            return _of_windows(past, view, row, kept)
        search = _Search(kept, every, own)
        return Origin(kept.rows(search.found), True, kept.gives(search.found), search.complete)


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


def _of_windows(past: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any], kept: "_Kept") -> Origin:
    """The rows in the longest window; a row that closes it has none, and follows from there having been some."""
    held = _in_windows(past, view, row)
    kept.restore()
    places = [(view.tables[0], number) for number in held]
    return Origin(kept.rows(places), True, not places or kept.gives(places), True, tuple(held.values()))


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
                WHERE enter <= {plan.first} AND held <> '' AND {entity}
                ORDER BY happened DESC, known DESC, {_ROW}""",
            [row[name] for name in view.entity],
        ).fetchall()
    )


class _Search:
    """The places that count, found in as few tries as it takes; `complete` is False where the tries ran out."""

    def __init__(self, kept: "_Kept", every: Sequence[_Place], own: Sequence[_Place]) -> None:
        self._kept, self._every, self._tries, self.complete = kept, list(every), 0, True
        mine = set(own)
        others = [place for place in every if place not in mine]
        if others and not self._counts(others):  # then the entity's rows are all that is computed from here on
            self._every, others = list(own), []
        self.found = [*self._counting(others), *self._counting(list(own))]

    def _counting(self, places: list[_Place]) -> list[_Place]:
        """Those that count; all of a group that counts where neither of its halves does, as equal rows do."""
        if self._tries >= _TRIES:
            self.complete = False
            return places
        if not places or not self._counts(places):
            return []
        if len(places) == 1:
            return places
        half = len(places) // 2
        first = self._counting(places[:half])
        return [*first, *self._counting(places[half:])] or places

    def _counts(self, places: Sequence[_Place]) -> bool:
        """Whether it is another feature row without these, or with large values as well as with small ones."""
        self._tries += 1
        out = set(places)
        if not self._kept.gives([place for place in self._every if place not in out]):
            return True
        return not any(self._kept.gives(self._every, dict.fromkeys(places, way)) for way in (_LARGE, _SMALL))


class _Kept:
    """The tables of a view with only some of their rows, some with other values, and whether these give the row."""

    def __init__(self, past: duckdb.DuckDBPyConnection, view: FeatureView, row: Mapping[str, Any]) -> None:
        self._past, self._view, self._row = past, view, row
        self._keep([])
        self._views = {table: self._statement(table) for table in view.tables}
        self.restore()

    def restore(self) -> None:
        """Let the names of the tables mean what is kept."""
        for table, statement in self._views.items():
            self._past.execute(f"CREATE OR REPLACE TEMP VIEW {quote(table)} AS {statement}")

    def places(self, *, of_entity: bool) -> list[_Place]:
        """Rows of all tables; with `of_entity` only those of the entity, where a table has its columns."""
        return [(table, n) for table in self._view.tables for n in self._numbers(table, of_entity)]

    def gives(self, places: Sequence[_Place], ways: Mapping[_Place, int] | None = None) -> bool:
        """Whether the feature row comes out of these rows with equal bits; in `ways` are those with other values."""
        self._keep(places, ways or {})
        view, moment = self._view, self._row[FEATURE_TIMESTAMP]
        try:
            found = compute(self._past, view, first=moment, last=moment + MICROSECOND)
        except FeatureError:  # SQL may need what was left out
            return False
        identity = (*view.entity, FEATURE_TIMESTAMP)
        same = [row for row in found.to_pylist() if all(row[name] == self._row[name] for name in identity)]
        return len(same) == 1 and _bits(view, same[0]) == _bits(view, self._row)

    def rows(self, places: Sequence[_Place]) -> "dict[str, pa.Table]":
        """These rows by table, each with the columns of its table, in the order of the places."""
        self._keep(places)
        return {table: self._past.sql(self._ordered(table)).to_arrow_table() for table in self._view.tables}

    def _numbers(self, table: str, of_entity: bool) -> list[int]:
        asked = [name for name in self._view.entity if of_entity and name in self._kinds(table)]
        where = " AND ".join([f"{quote(name)}::VARCHAR = ?::VARCHAR" for name in asked] or ["true"])
        found = self._past.execute(
            f"SELECT {_ROW} FROM {quote(_whole(table))} WHERE {where} ORDER BY known_at DESC, {_ROW}",
            [self._row[name] for name in asked],
        )
        return [number for (number,) in found.fetchall()]

    def _kinds(self, table: str) -> dict[str, str]:
        return {name: kind for name, kind, *_ in self._past.execute(f"DESCRIBE {quote(_whole(table))}").fetchall()}

    def _statement(self, table: str) -> str:
        """The rows that are kept, their numbers, truths and texts replaced where that is said."""
        fixed, whole = {*self._view.entity, *self._view.keys, "partition_key", _ROW}, quote(_whole(table))
        case = f"CASE k.way WHEN {_LARGE} THEN %s WHEN {_SMALL} THEN %s ELSE w.%s END AS %s"
        replaced = [
            case % (large, small, quote(name), quote(name))
            for name, kind in self._kinds(table).items()
            if name not in fixed
            for large, small in _other_values(whole, name, kind)
        ]
        replacing = f"REPLACE ({', '.join(replaced)})" if replaced else ""
        return f"""SELECT w.* EXCLUDE ({_ROW}) {replacing} FROM {whole} w
            JOIN {_KEPT} k ON k.number = w.{_ROW} AND k.name = {literal(table)}"""

    def _keep(self, places: Sequence[_Place], ways: Mapping[_Place, int] | None = None) -> None:
        import pyarrow as pa

        columns = {
            "name": pa.array([table for table, _ in places], pa.string()),
            "number": pa.array([number for _, number in places], pa.int64()),
            "place": pa.array(range(len(places)), pa.int64()),
            "way": pa.array([(ways or {}).get(place, _AS_IT_IS) for place in places], pa.int64()),
        }
        self._past.register(_KEPT, pa.table(columns))

    def _ordered(self, table: str) -> str:
        return f"""SELECT w.* EXCLUDE ({_ROW}) FROM {quote(_whole(table))} w JOIN {_KEPT} k ON k.number = w.{_ROW}
            WHERE k.name = {literal(table)} ORDER BY k.place"""


def _other_values(whole: str, name: str, kind: str) -> Iterable[tuple[str, str]]:
    """A large and a small value of a column, in SQL; none for moments and what is nested."""
    if kind == "BOOLEAN":
        yield "true", "false"
    elif stored_type(kind) == "DOUBLE":
        yield f"TRY_CAST({_ODD} AS {kind})", f"TRY_CAST(-{_ODD} AS {kind})"
    elif kind == "VARCHAR":
        yield f"(SELECT max({quote(name)}) || '~' FROM {whole})", "NULL"


def _bits(view: FeatureView, row: Mapping[str, Any]) -> list[str]:
    """The features of a row; 0.0 and -0.0 are not the same."""
    return [repr(row[name]) for name in view.features()]
