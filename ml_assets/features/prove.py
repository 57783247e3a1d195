"""Proof that feature rows hold nothing from after their time: compute them again without the future."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from ml_assets.engine import literal, quote
from ml_assets.errors import FeatureError, shorten
from ml_assets.features.check import stored_type
from ml_assets.features.compute import compute
from ml_assets.features.statements import require_one_select
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

_CUTS = 4
_POISON = 987_654
_SHOWN = 10

# In words, and which of the rows known later are still there.
_APART = (("removed", "false"), ("poisoned", "true"))
_TOGETHER = tuple((("removed or poisoned", f"rowid % 2 = {half}"),) for half in (0, 1))


@dataclass(frozen=True)
class Difference:
    """A value of a row that came out otherwise; values as text, None where they are null."""

    row: str
    feature: str
    stored: str | None
    without_later_data: str | None


@dataclass(frozen=True)
class Proof:
    """Whether all rows came out the same, how many were compared, the first differences in words, and what to do.

    `values` has the first ten values that differ.
    """

    identical: bool
    n_rows: int
    differences: tuple[str, ...]
    advice: str = ""
    values: tuple[Difference, ...] = ()


def time_travel(
    con: duckdb.DuckDBPyConnection, view: FeatureView, stored: "pa.Table", first: datetime, last: datetime
) -> Proof:
    """Recompute the stored rows of [first, last) as of moments inside it, blind to what was known only later.

    At four moments, the last of them `last`, every stored row up to that moment must come out equal, bit for bit, where
    rows known later are once removed and once poisoned (numbers and texts replaced). Declared windows take rows one by
    one, so for them both go together: every other of the later rows is removed and the rest poisoned, and at the next
    moment the other way round. `con` holds the tables as for `compute`; it may and should hold later rows too. A
    difference means that the SQL uses a row before its `known_at`, or that the stored rows are not those of these
    tables. Raises FeatureError where a recomputation fails.
    """
    differences: list[_Differing] = []
    with con.cursor() as past:  # what it creates is its own
        given = [_given(con, past, view, table) for table in view.tables]
        past.register("_stored", stored)
        step = (last - first) / _CUTS
        cuts = [*(first + number * step for number in range(1, _CUTS)), last]
        for number, cut in enumerate(cuts, 1):
            for manner, stays in _TOGETHER[number % 2] if view.aggregations else _APART:
                for table in given:
                    past.execute(f"CREATE OR REPLACE TEMP VIEW {quote(table.name)} AS {table.hidden(cut, stays)}")
                differences += _differences_at(past, view, first, last, cut, manner)
        ((n_rows,),) = past.execute(f"SELECT count(*) FROM _stored WHERE {_range(view, first, last)}").fetchall()
        advice = _advice(con, past, view, given, cuts) if differences and view.sql else ""
    values = {(value.row, value.feature): value for found in reversed(differences) for value in found.values()}
    said = tuple(found.sentence() for found in differences[:5])
    return Proof(not differences, n_rows, said, advice, tuple(sorted(values.values(), key=_place))[:_SHOWN])


@dataclass(frozen=True)
class _Given:
    """A whole table, and what numbers and texts of it are replaced by."""

    name: str
    poison: dict[str, str]

    def hidden(self, cut: datetime, stays: str) -> str:
        """The table with the rows known later poisoned, and only those of them that stay."""
        then = f"known_at <= {_sql(cut)}"
        altered = [
            f"CASE WHEN {then} THEN {quote(name)} ELSE {poison} END AS {quote(name)}"
            for name, poison in self.poison.items()
        ]
        replaced = f"REPLACE ({', '.join(altered)})" if altered else ""
        return f"SELECT * {replaced} FROM {quote(_whole(self.name))} WHERE {then} OR {stays}"


def _given(con: duckdb.DuckDBPyConnection, past: duckdb.DuckDBPyConnection, view: FeatureView, table: str) -> _Given:
    """Copy a table, batch by batch into one that DuckDB can put on disk."""
    whole = quote(_whole(table))
    past.register("_given", con.sql(f"FROM {quote(table)}").to_arrow_reader())
    past.execute(f"CREATE TEMP TABLE {whole} AS FROM _given")
    past.unregister("_given")
    described = [row[:2] for row in past.execute(f"DESCRIBE {whole}").fetchall()]
    kinds = {name: kind for name, kind in described if name not in {*view.entity, *view.keys, "partition_key"}}
    return _Given(table, {name: _poison(past, whole, name, kind) for name, kind in kinds.items() if stored_type(kind)})


def _poison(past: duckdb.DuckDBPyConnection, whole: str, name: str, kind: str) -> str:
    """Another value of a column, in SQL: the last of its texts, the other of two truths, an odd number."""
    if kind == "BOOLEAN":
        return f"NOT coalesce({quote(name)}, false)"
    if stored_type(kind) != "VARCHAR":
        return f"TRY_CAST({_POISON} AS {kind})"
    ((last,),) = past.execute(f"SELECT max({quote(name)})::VARCHAR FROM {whole}").fetchall()
    return "NULL" if last is None else f"TRY_CAST({literal(last)} AS {kind})"


def _differences_at(
    past: duckdb.DuckDBPyConnection, view: FeatureView, first: datetime, last: datetime, cut: datetime, manner: str
) -> "list[_Differing]":
    rows = compute(past, view, first=first, last=min(last, cut + MICROSECOND))
    past.register("_again", rows)
    reach = f"{FEATURE_TIMESTAMP} <= {_sql(cut)} AND {_range(view, first, last)}"
    return _differences(past, view, rows.column_names, reach, f"rows known after {cut.isoformat()} {manner}")


def _whole(table: str) -> str:
    return f"_whole {table}"


def _sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ {literal(moment.isoformat())}"


def _advice(
    con: duckdb.DuckDBPyConnection,
    past: duckdb.DuckDBPyConnection,
    view: FeatureView,
    given: list[_Given],
    cuts: list[datetime],
) -> str:
    """What to do where rows of the SQL are known at a cut although the rows that they are made from were not."""
    early = 0
    for cut in cuts:
        for table in given:
            past.execute(f"CREATE OR REPLACE TEMP VIEW {quote(table.name)} AS {table.hidden(cut, 'false')}")
        known = f"SELECT count(*) FROM ({require_one_select(view.sql or '')}) WHERE known_at <= {_sql(cut)}"
        (((all_rows,),), ((then,),)) = (each.execute(known).fetchall() for each in (con, past))
        early = max(early, all_rows - then)
    if not early:
        return ""
    tables = shorten(view.tables)
    return (
        f"Its `known_at` is earlier than that of {tables}: {early:,} rows of the SQL are known before the rows that"
        " they are made from. Select `known_at` of the table as it is, or later."
    )


def _range(view: FeatureView, first: datetime, last: datetime) -> str:
    inside = f"{FEATURE_TIMESTAMP} >= {_sql(first)} AND {FEATURE_TIMESTAMP} < {_sql(last)}"
    return f"{FEATURE_TIMESTAMP} <= {_sql(last)}" if view.is_static else inside


@dataclass(frozen=True)
class _Differing:
    """A row that is not the same, or not there, on one of the sides; `features` has name and both values of each."""

    row: str
    is_stored: bool
    is_again: bool
    features: list[dict[str, str | None]]
    hidden: str

    def sentence(self) -> str:
        what = "is stored but not recomputed" if not self.is_again else "is recomputed but not stored"
        if self.is_stored and self.is_again:
            what = f"has other values in {shorten(str(each['name']) for each in self.features)}"
        return f"{self.row} {what} with {self.hidden}"

    def values(self) -> list[Difference]:
        both = self.is_stored and self.is_again
        return [Difference(self.row, str(f["name"]), f["stored"], f["again"]) for f in self.features if both]


def _place(value: Difference) -> tuple[str, str]:
    return value.row, value.feature


def _differences(
    past: duckdb.DuckDBPyConnection, view: FeatureView, columns: list[str], reach: str, hidden: str
) -> list[_Differing]:
    identity = [*view.entity, FEATURE_TIMESTAMP]
    try:
        rows = past.execute(_comparison(identity, columns, reach)).fetchall()
    except duckdb.BinderException as error:
        raise FeatureError(
            f"The stored rows of '{view.name}' lack a column of the view: {shorten(columns)}."
        ) from error
    return [_Differing(_named(view, row), row[-3], row[-2], row[-1], hidden) for row in rows]


def _named(view: FeatureView, row: tuple) -> str:
    *entity, moment = row[: len(view.entity) + 1]
    named = ", ".join(f"{name}={value}" for name, value in zip(view.entity, entity, strict=True))
    return f"{named} at {moment.isoformat()}"


def _comparison(identity: list[str], columns: list[str], reach: str) -> str:
    """At most ten rows: identity, whether stored and recomputed, and the features that differ with both values."""
    features = [name for name in columns if name not in {*identity, "partition_key"}]
    named = ", ".join(f"coalesce(s.{quote(name)}, a.{quote(name)})" for name in identity)
    equal = " AND ".join(f"s.{quote(name)} = a.{quote(name)}" for name in identity)
    unequal = {name: f"s.{quote(name)} IS DISTINCT FROM a.{quote(name)}" for name in features}
    which = ", ".join(f"CASE WHEN {test} THEN {_both(name)} END" for name, test in unequal.items())
    present = f"s.{FEATURE_TIMESTAMP} IS NULL OR a.{FEATURE_TIMESTAMP} IS NULL"
    return f"""
        SELECT {named}, s.{FEATURE_TIMESTAMP} IS NOT NULL, a.{FEATURE_TIMESTAMP} IS NOT NULL,
            list_filter([{which}], lambda each: each IS NOT NULL)
        FROM (FROM _stored WHERE {reach}) s FULL JOIN (FROM _again WHERE {reach}) a ON {equal}
        WHERE {" OR ".join([present, *unequal.values()])} ORDER BY ALL LIMIT {_SHOWN}"""


def _both(feature: str) -> str:
    stored, again = (f"{side}.{quote(feature)}::VARCHAR" for side in "sa")
    return f"{{'name': {literal(feature)}, 'stored': {stored}, 'again': {again}}}"
