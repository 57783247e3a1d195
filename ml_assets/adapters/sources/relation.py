"""The rows of one table or query of a database, within one transaction: counted, hashed and read by day."""

from collections import defaultdict
from collections.abc import Generator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.sources import columns
from ml_assets.adapters.sources.base import Sql, Subject
from ml_assets.errors import DeliveryError, shorten

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa


@dataclass(frozen=True)
class Summary:
    """How many rows there are, how many of them have no cursor, and the highest cursor of the others."""

    n_rows: int
    n_without: int
    newest: Any

    def problem(self, day: str, cursor: str | None) -> str:
        """What is wrong with the rows that have no cursor, or ""."""
        days = f" of {day}" if day else ""
        text = f"{self.n_without} rows{days} have no {cursor}, and so are never new. Fill it, or read a query with"
        return f"{text} coalesce(...)." if self.n_without else ""


class Relation:
    """Values come as the driver gives them, so that SQLAlchemy's idea of a type does not stand in between."""

    def __init__(self, con: "sa.Connection", spec: Sql, subject: Subject, label: str) -> None:
        self.con, self.spec, self.subject, self.label = con, spec, subject, label
        self._flags: set[str] = set()  # columns that are declared as bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns, the declared ones among them."""
        names = self._of_table() if self.spec.table else self._of_query()
        for declared in (self.spec.cursor, self.subject.column):
            if declared and declared not in names:
                raise DeliveryError(f"{self.label}: there is no column {declared}; there are {shorten(names, 50)}.")
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise DeliveryError(f"{self.label}: more than one column is called {shorten(double)}; use AS.")
        return tuple(names)

    def summary(self, days: Sequence[str] | None = None) -> dict[str, "Summary"]:
        """What is there of each day, or of the whole."""
        import sqlalchemy as sa

        counts: list[Any] = [sa.func.count(), sa.func.count(self._cursor), sa.func.max(self._cursor)]
        query = sa.select(sa.literal("", sa.String), *counts).select_from(self._rows)
        if self.subject.daily:
            query = sa.select(self._day, *counts).where(*self._on(days)).group_by(self._day)
        found: list[Any] = [row for row in self.con.execute(query) if row[1]]
        return {str(day): Summary(n, n - n_cursors, newest) for day, n, n_cursors, newest in found}

    def days_since(self, cursor: Any) -> list[str]:
        """The days that have rows from a cursor on."""
        import sqlalchemy as sa

        if not self.subject.daily:
            return [""]
        query = sa.select(self._day).where(*self._on(None), self._cursor >= sa.literal(cursor)).distinct()
        return sorted(str(day) for (day,) in self.con.execute(query) if day is not None)

    def digests(self) -> dict[str, str]:
        """By day, a hash of all rows, whatever their order; Postgres makes it itself."""
        if self.con.dialect.name == "postgresql":
            return self._hashed_there()
        sums, counts = defaultdict(int), defaultdict(int)
        day = [self._day] if self.subject.daily else []
        for page in self._pages(*day, *self._columns, where=self._on(None)):
            for row in page:
                key, values = (str(row[0]), row[1:]) if day else ("", row)
                sums[key] += _hash(values)
                counts[key] += 1
        return {key: f"{counts[key]}-{total % 2**128:032x}" for key, total in sums.items()}

    def _hashed_there(self) -> dict[str, str]:
        import sqlalchemy as sa

        whole_row = sa.cast(sa.literal_column("(source_rows.*)"), sa.Text)
        totals = [sa.func.count(), sa.func.sum(sa.func.hashtextextended(whole_row, 0))]
        query = sa.select(sa.literal("", sa.String), *totals).select_from(self._rows)
        if self.subject.daily:
            query = sa.select(self._day, *totals).select_from(self._rows).where(*self._on(None)).group_by(self._day)
        found: list[Any] = [row for row in self.con.execute(query) if row[1]]
        return {str(day): f"{n}-{total}" for day, n, total in found}

    def problems(self) -> tuple[str, ...]:
        """Rows that belong to no day, where all days are looked at."""
        import sqlalchemy as sa

        if not self.subject.daily:
            return ()
        n = self.con.scalar(sa.select(sa.func.count()).select_from(self._rows).where(self._day.is_(None)))
        return (f"{self.label}: {n} rows have no day in {self.subject.column}",) if n else ()

    def count_before(self, partition: str, cursor: Any) -> int:
        """How many rows of a partition are before a cursor."""
        import sqlalchemy as sa

        where = [*self._on([partition]), self._cursor < sa.literal(cursor)]
        return self.con.scalar(sa.select(sa.func.count()).select_from(self._rows).where(*where)) or 0

    def since(self, partition: str, cursor: Any, digest: str) -> "list[sa.ColumnElement[bool]]":
        """The condition for what is new: rows after a cursor, and those at it if they are not those of the digest."""
        import sqlalchemy as sa

        known = sa.literal(cursor)
        same = self.digest_at(partition, cursor) == digest
        return [self._cursor > known if same else self._cursor >= known]

    def digest_at(self, partition: str, cursor: Any) -> str:
        """A hash of the rows at one cursor."""
        import sqlalchemy as sa

        where, total = [*self._on([partition]), self._cursor == sa.literal(cursor)], 0
        for page in self._pages(*self._columns, where=where):
            total += sum(map(_hash, page))
        return f"{total % 2**128:032x}"

    def table(self, partition: str, where: "Sequence[sa.ColumnElement[bool]]") -> "pa.Table | None":
        """The rows in one order, by cursor and then by all columns; None where there are none."""
        with closing(self._pages(*self._columns, where=[*self._on([partition]), *where])) as found:
            pages = [
                columns.table_of(dict(zip(self.names, zip(*page, strict=True), strict=True)), self.label)
                for page in found
            ]
        if not pages:
            return None
        table = columns.concatenated(pages, self.label)
        first = [self.spec.cursor] if self.spec.cursor else []
        order = [*first, *(name for name in self.names if name not in first)]
        table = table.sort_by([(name, "ascending") for name in order])
        return _typed(table, self._flags) if self.con.dialect.name == "sqlite" else table

    def _pages(self, *select: Any, where: Sequence[Any]) -> "Generator[Sequence[sa.Row]]":
        import sqlalchemy as sa

        options = {"stream_results": True, "yield_per": self.spec.page_rows}
        with self.con.execute(sa.select(*select).where(*where), execution_options=options) as result:
            yield from result.partitions()

    @cached_property
    def _rows(self) -> "sa.FromClause":
        import sqlalchemy as sa

        if self.spec.table:
            schema, _, name = self.spec.table.rpartition(".")
            table = sa.table(name, *map(sa.column, self.names), schema=schema or None)
            return table.alias("source_rows")
        return _text(self.spec.query or "").columns(*map(sa.column, self.names)).subquery("source_rows")

    @property
    def _columns(self) -> "list[sa.ColumnElement]":
        return [self._rows.c[name] for name in self.names]

    @property
    def _cursor(self) -> "sa.ColumnElement":
        return self._rows.c[self.spec.cursor or ""]

    @property
    def _day(self) -> "sa.ColumnElement":
        """The UTC day of a row; the session's time zone is UTC."""
        import sqlalchemy as sa

        column = self._rows.c[self.subject.column or ""]
        if self.con.dialect.name == "sqlite":
            return sa.case((sa.func.typeof(column) == "text", sa.func.date(column)))
        return sa.cast(column, sa.Date)

    def _on(self, days: Sequence[str] | None) -> "list[sa.ColumnElement[bool]]":
        """The condition for rows of these days; without, of the days that the table has."""
        if self.subject.first_day is None:
            return []
        if days is None:
            return self._between(self.subject.first_day, self.subject.last_day)
        chosen = sorted(map(date.fromisoformat, days))
        others = [self._day.in_(list(map(self._as_day, chosen)))] if len(chosen) != 1 else []
        return [*others, *(self._between(chosen[0], chosen[-1]) if chosen else [])]

    def _between(self, first: date, last: date | None) -> "list[sa.ColumnElement[bool]]":
        import sqlalchemy as sa

        if self.con.dialect.name != "postgresql":
            upper = [self._day <= self._as_day(last)] if last else []
            return [self._day >= self._as_day(first), *upper]
        column = self._rows.c[self.subject.column or ""]  # bare, so that its index serves
        upper = [column < sa.literal(_start(last + timedelta(days=1)))] if last else []
        return [column >= sa.literal(_start(first)), *upper]

    def _as_day(self, day: date) -> Any:
        return day.isoformat() if self.con.dialect.name == "sqlite" else day

    def _of_table(self) -> list[str]:
        import sqlalchemy as sa
        from sqlalchemy.exc import NoSuchTableError

        schema, _, name = (self.spec.table or "").rpartition(".")
        inspector = sa.inspect(self.con)
        try:
            described = inspector.get_columns(name, schema or None)
        except NoSuchTableError as error:
            there = sorted([*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)])
            problem = f"{self.label}: there is no such table; there are {shorten(there, 20) or 'none'}."
            raise DeliveryError(problem) from error
        self._flags = {column["name"] for column in described if isinstance(column["type"], sa.Boolean)}
        return [column["name"] for column in described]

    def _of_query(self) -> list[str]:
        import sqlalchemy as sa

        inner = _text(self.spec.query or "").columns().subquery("source_rows")
        probe = sa.select(sa.literal_column("*")).select_from(inner).where(sa.false())
        with self.con.execute(probe) as result:
            return list(result.keys())


def _text(query: str) -> "sa.TextClause":
    """The query as it is written: a colon begins no parameter."""
    import sqlalchemy as sa

    return sa.text(query.strip().rstrip(";").replace(":", r"\:") + "\n")


def _hash(row: Sequence[Any]) -> int:
    return int.from_bytes(blake2b(repr(tuple(row)).encode(), digest_size=16).digest())


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _typed(table: "pa.Table", flags: Set[str]) -> "pa.Table":
    """What SQLite has no types for: texts that are all days, or all times with a zone, and bools, kept as 0 and 1."""
    import pyarrow as pa

    for place, name in enumerate(table.column_names):
        values = table.column(name)
        kind = next((kind for pattern, kind in _texts().items() if _all_match(values, pattern)), values.type)
        if name in flags and values.type == pa.int64() and set(values.unique().to_pylist()) <= {0, 1, None}:
            kind = pa.bool_()
        table = table.set_column(place, name, values.cast(kind))
    return table


def _texts() -> "dict[str, pa.DataType]":
    import pyarrow as pa

    date = r"^\d{4}-\d{2}-\d{2}$"
    time = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)$"
    return {date: pa.date32(), time: pa.timestamp("us", "UTC")}


def _all_match(values: "pa.ChunkedArray", pattern: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.type != pa.string():
        return False
    matches = pc.call_function("match_substring_regex", [values], pc.MatchSubstringOptions(pattern))
    return pc.call_function("all", [matches]).as_py()
