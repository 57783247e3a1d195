"""Rows of a database, by any SQLAlchemy URL; with a cursor column only those that are new."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets import clock
from ml_assets.adapters.sources import columns
from ml_assets.adapters.sources.base import Fetched, Look, PartitionState, Sql, Subject
from ml_assets.adapters.sources.relation import Relation, Summary
from ml_assets.errors import DeclarationError, DeliveryError, MlAssetsError, SourceUnavailableError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.exc import DBAPIError

_CURSORS = {
    "int": int,
    "float": float,
    "str": str,
    "Decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_HINT = "Install its driver: pip install 'ml_assets[postgres]' for PostgreSQL, or the package of the URL's driver"


@dataclass(frozen=True)
class _Position:
    """How far a partition was read: the highest cursor, how many rows were before it, and what the rows at it were."""

    relation: str
    cursor: tuple[str, str]
    n_before: int
    digest: str

    @property
    def value(self) -> Any:
        """The cursor as the database gave it."""
        kind, text = self.cursor
        return _CURSORS[kind](text)


class SqlSource:
    """A table, view or query.

    Without `cursor` each fetch gives the whole partition. With it a fetch gives the rows from the highest value on
    that was fetched: those at this very value too, where they are not the same as before. A partition that has more
    rows below that value than were fetched (of a transaction that ended late) is given whole again. What no cursor
    can tell are deleted rows, and a late row in a partition that lost another one meanwhile.
    """

    def __init__(self, spec: Sql, subject: Subject) -> None:
        if bool(spec.table) == bool(spec.query):
            raise DeclarationError(f"The source of {subject.name}: write either `table` or `query`.")
        if subject.daily and not subject.column:
            raise DeclarationError(f"The source of {subject.name}: say which column holds the day of a row.")
        self.spec, self.subject = spec, subject
        self.url = _url(spec.url)

    @property
    def label(self) -> str:
        """The URL without secrets, and the table."""
        return f"{self._masked(self.url.render_as_string(hide_password=True))} {self.spec.table or 'query'}"

    def look(self, known: Mapping[str, PartitionState]) -> Look:
        """With a cursor, what a partition counts and its highest value; without, a hash of all rows.

        Days are counted again that have rows from the highest value on which any day had; all of them once an hour.
        """
        with self._engine() as engine, self._snapshot(engine) as rows:
            if self.spec.cursor is not None:
                return self._counted(rows, known)
            states = {day: PartitionState(digest, 1, 0, digest) for day, digest in sorted(rows.digests().items())}
            return Look(states, rows.problems())

    def _counted(self, rows: Relation, known: Mapping[str, PartitionState]) -> Look:
        hour = f"{self._relation} {clock.now():%Y-%m-%dT%H}"
        since = _newest(known, hour)
        days = None if since is None else rows.days_since(since)
        found = rows.summary(days)
        problems = {day: each.problem(day, self.spec.cursor) for day, each in found.items()}
        counted = {day: _state(each, hour) for day, each in found.items() if not problems[day]}
        merged = counted if days is None else {**known, **counted}
        without_day = rows.problems() if days is None else ()
        return Look(dict(sorted(merged.items())), (*without_day, *filter(None, problems.values())))

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:
        """Each partition is read in one transaction, which ends before its rows are given."""
        with self._engine() as engine:
            for partition in partitions:
                with self._snapshot(engine) as rows:
                    delivery = self._delivery(rows, partition, positions.get(partition))
                if delivery is not None:
                    yield delivery

    def _delivery(self, rows: Relation, partition: str, position: str | None) -> Fetched | None:
        name, since, left = "all.parquet", [], None
        if self.spec.cursor is not None:
            left = position if self._is_own(position) else None
            known = self._known(rows, partition, left)
            name = _name(known)
            since = rows.since(partition, known.value, known.digest) if known else []
        table = rows.table(partition, since)
        if table is None:
            return None
        # Rows that are again what they were before are other bytes than then, and so a newer delivery.
        return Fetched(partition, name, columns.parquet(table, after=left), self._position(rows, partition))

    def _is_own(self, position: str | None) -> bool:
        return position is not None and f'"relation": "{self._relation}"' in position

    def _known(self, rows: Relation, partition: str, position: str | None) -> _Position | None:
        """The position, unless rows came in behind it."""
        if position is None:
            return None
        known = _Position(**json.loads(position))
        return None if rows.count_before(partition, known.value) > known.n_before else known

    def _position(self, rows: Relation, partition: str) -> str | None:
        if self.spec.cursor is None:
            return None
        found = rows.summary([partition])[partition]
        if problem := found.problem(partition, self.spec.cursor):
            raise DeliveryError(f"{self.label}: {problem}")
        newest = found.newest
        n_before, digest = rows.count_before(partition, newest), rows.digest_at(partition, newest)
        return json.dumps(asdict(_Position(self._relation, _encoded(newest), n_before, digest)))

    @property
    def _relation(self) -> str:
        return sha256(json.dumps([self.spec.table, self.spec.query, self.spec.cursor]).encode()).hexdigest()[:8]

    @contextmanager
    def _engine(self) -> "Iterator[sa.Engine]":
        import sqlalchemy as sa
        from sqlalchemy.exc import NoSuchModuleError

        if self.url.get_backend_name() == "sqlite" and not _is_there(self.url.database):
            raise SourceUnavailableError(f"{self.label}: there is no file {self.url.database}.")
        try:
            engine = sa.create_engine(self.url, hide_parameters=True)
        except ModuleNotFoundError as error:
            raise DeclarationError(f"{self.label}: there is no module {error.name}. {_HINT}.") from error
        except NoSuchModuleError as error:
            raise DeclarationError(f"{self.label}: {error}. {_HINT}.") from error
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def _snapshot(self, engine: "sa.Engine") -> Iterator[Relation]:
        """A transaction that sees one state of the database throughout."""
        from sqlalchemy.exc import DBAPIError

        try:
            with engine.execution_options(**_ISOLATION.get(engine.dialect.name, {})).connect() as con:
                for statement in _BEGIN.get(engine.dialect.name, ()):
                    con.exec_driver_sql(statement)
                yield Relation(con, self.spec, self.subject, self.label)
        except DBAPIError as error:
            raise self._judged(error) from None  # what the driver says, and only with the password masked

    def _judged(self, error: "DBAPIError") -> MlAssetsError:
        from sqlalchemy import exc

        text = self._masked(str(error.orig).strip())
        lasts = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_ERROR" or "Could not decode" in text
        passes = error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)
        if passes and not lasts:
            return SourceUnavailableError(f"{self.label} does not answer: {text}")
        return DeliveryError(f"{self.label} refuses to be read: {text}")

    def _masked(self, text: str) -> str:
        query = {name: value for name, value in self.url.query.items() if _SECRET.search(name)}
        for secret in [self.url.password, *query.values()]:
            for part in [secret] if isinstance(secret, str) else secret or ():
                text = text.replace(part, "***") if part else text
        return text


# A transaction of SQLite begins with a statement; pysqlite would begin one for writing only.
_ISOLATION = {
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
    "sqlite": {"isolation_level": "AUTOCOMMIT"},
}
_BEGIN = {"postgresql": ("SET LOCAL TIME ZONE 'UTC'",), "sqlite": ("PRAGMA query_only = ON", "BEGIN")}


def _url(url: str) -> "sa.URL":
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError):
        example = "postgresql+psycopg://user:password@host/database"
        raise DeclarationError(f"`url` of a database cannot be read; write it like {example}.") from None


def _is_there(database: str | None) -> bool:
    return not database or database == ":memory:" or database.startswith("file:") or Path(database).exists()


def _state(found: Summary, hour: str) -> PartitionState:
    cursor = _encoded(found.newest)
    digest = sha256(json.dumps([found.n_rows, cursor]).encode()).hexdigest()[:32]
    return PartitionState(digest, n_files=1, n_bytes=0, stat=json.dumps([hour, cursor]))


def _newest(known: Mapping[str, PartitionState], hour: str) -> Any:
    """The highest cursor value of a last look at this relation within this hour, if there was one."""
    if not known or any(json.dumps(hour) not in state.stat for state in known.values()):
        return None
    cursors = [json.loads(state.stat)[1] for state in known.values()]
    return max(_CURSORS[kind](text) for kind, text in cursors) if len({kind for kind, _ in cursors}) == 1 else None


def _encoded(cursor: Any) -> tuple[str, str]:
    kind = type(cursor).__name__
    naive = isinstance(cursor, datetime) and cursor.utcoffset() is None
    if kind not in _CURSORS or naive or cursor != cursor:  # noqa: PLR0124  not a number is not itself
        raise DeliveryError(
            f"A cursor cannot be {cursor!r} ({kind}): take a column of numbers, days, or times with their zone."
        )
    return kind, cursor.isoformat() if isinstance(cursor, date) else str(cursor)


def _name(known: _Position | None) -> str:
    if known is None:
        return "since-start.parquet"
    value = re.sub("[^0-9A-Za-z]+", "-", known.cursor[1])[:40].strip("-")
    unique = sha256(json.dumps(asdict(known)).encode()).hexdigest()[:8]
    return f"since-{value}-{unique}.parquet"
