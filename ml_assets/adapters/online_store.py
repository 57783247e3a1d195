"""The newest feature rows by entity, embedded and durable, for answers in microseconds.

One SQLite file in WAL mode: readers never wait for the writer, and a killed writer leaves nothing behind.
"""

import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from ml_assets.errors import FeatureError, TableNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa

TIMESTAMP = "feature_timestamp"
Found = tuple[int, tuple[Any, ...]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS views (view TEXT PRIMARY KEY, entity TEXT NOT NULL, features TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS feature_rows (
    view TEXT NOT NULL, entity BLOB NOT NULL, at INTEGER NOT NULL, features BLOB NOT NULL,
    PRIMARY KEY (view, entity, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON feature_rows (view, at);
"""
_LOOKUP = "SELECT at, features FROM feature_rows WHERE view = ? AND entity = ? AND at <= ? ORDER BY at DESC LIMIT 1"
_INSERT = "INSERT OR REPLACE INTO feature_rows VALUES (?, ?, ?, ?)"
_KEEP_NEWEST = """
DELETE FROM feature_rows AS old WHERE view = ? AND EXISTS (
    SELECT 1 FROM feature_rows AS new WHERE new.view = old.view AND new.entity = old.entity AND new.at > old.at)
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BUSY_SECONDS = 60.0


class ViewSchema(NamedTuple):
    """The columns of a view's keys and of its rows, in the order of `lookup`."""

    entity: tuple[str, ...]
    features: tuple[str, ...]


class OnlineStore(Protocol):
    """What every online store does; times are UTC microseconds since 1970 where they are integers.

    A feature keeps its place in the rows of a view for good: new ones come after it, and one that is no longer
    written is null. So a server that looked up the order once reads right while a newer writer is at work.
    """

    def write(
        self, view: str, entity: Sequence[str], features: Sequence[str], rows: "pa.Table", *, keep: timedelta | None
    ) -> int:
        """Insert rows, in place of those of the same entity and `feature_timestamp`; all of them or none.

        Rows older than the view's newest by more than `keep` expire; with None each entity keeps its newest only.
        Gives the number of rows taken; those with a null in their key can never be asked for and are left out.
        """
        ...

    def replace(
        self,
        view: str,
        entity: Sequence[str],
        features: Sequence[str],
        rows: "pa.Table",
        *,
        keep: timedelta | None,
        first: datetime,
        last: datetime,
    ) -> int:
        """Put rows in place of all rows of the view from `first` to `last`, both included, and expire as `write`.

        Raises:
            FeatureError: a row is outside of that time.
        """
        ...

    def lookup(self, view: str, key: tuple, at_us: int) -> Found | None:
        """Give time and features of the entity's newest row from no later than `at_us`; None where there is none."""
        ...

    def schema(self, view: str) -> ViewSchema:
        """Give the names of the key's and the rows' values, in order."""
        ...

    def newest(self, view: str) -> int | None:
        """Give the time of the newest row of a view."""
        ...

    def views(self) -> list[str]:
        """List the views that were ever written."""
        ...

    def drop(self, view: str) -> None:
        """Forget a view and its rows."""
        ...


class SqliteOnlineStore:
    """An online store in one file; every thread has its own connection, and it may be pickled."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection().executescript(_SCHEMA)

    def __reduce__(self) -> tuple:
        return type(self), (self.path,)

    def write(
        self, view: str, entity: Sequence[str], features: Sequence[str], rows: "pa.Table", *, keep: timedelta | None
    ) -> int:
        """See `OnlineStore`."""
        with self._transaction() as con:
            return _insert(con, view, ViewSchema(tuple(entity), tuple(features)), rows, keep)

    def replace(
        self,
        view: str,
        entity: Sequence[str],
        features: Sequence[str],
        rows: "pa.Table",
        *,
        keep: timedelta | None,
        first: datetime,
        last: datetime,
    ) -> int:
        """See `OnlineStore`."""
        span = microseconds(first), microseconds(last)
        _require_within(view, rows, *span)
        with self._transaction() as con:
            con.execute("DELETE FROM feature_rows WHERE view = ? AND at BETWEEN ? AND ?", (view, *span))
            return _insert(con, view, ViewSchema(tuple(entity), tuple(features)), rows, keep)

    def lookup(self, view: str, key: tuple, at_us: int) -> Found | None:
        """See `OnlineStore`."""
        found = self._connection().execute(_LOOKUP, (view, _encode(key), at_us)).fetchone()
        return None if found is None else (found[0], tuple(_decode(found[1])))

    def schema(self, view: str) -> ViewSchema:
        """See `OnlineStore`."""
        known = _schema(self._connection(), view)
        if known is None:
            raise TableNotFoundError(f"No view '{view}' in the online store {self.path}. Materialize it first.")
        return known

    def newest(self, view: str) -> int | None:
        """See `OnlineStore`."""
        return _newest(self._connection(), view)

    def views(self) -> list[str]:
        """See `OnlineStore`."""
        return [view for (view,) in self._connection().execute("SELECT view FROM views ORDER BY view")]

    def drop(self, view: str) -> None:
        """See `OnlineStore`."""
        with self._transaction() as con:
            con.execute("DELETE FROM feature_rows WHERE view = ?", (view,))
            con.execute("DELETE FROM views WHERE view = ?", (view,))

    def _connection(self) -> sqlite3.Connection:
        try:
            return self._local.connection
        except AttributeError:
            self._local.connection = _connect(self.path)
            return self._local.connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        con = self._connection()
        con.execute("BEGIN IMMEDIATE")  # wait for another writer now, not when it is too late to wait
        try:
            yield con
        except BaseException:
            con.execute("ROLLBACK")
            raise
        con.execute("COMMIT")


def microseconds(instant: datetime) -> int:
    """Count the microseconds since 1970 in UTC, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _connect(path: Path) -> sqlite3.Connection:
    con = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = NORMAL")  # loses no consistency, and after a power cut at most the last writes
    return con


def _insert(con: sqlite3.Connection, view: str, schema: ViewSchema, rows: "pa.Table", keep: timedelta | None) -> int:
    stored = _merge_schema(con, view, schema)
    taken = [row for row in _encoded(view, stored, rows) if row is not None]
    con.executemany(_INSERT, taken)
    _expire(con, view, keep)
    return len(taken)


def _expire(con: sqlite3.Connection, view: str, keep: timedelta | None) -> None:
    newest = _newest(con, view)
    if keep is None:
        con.execute(_KEEP_NEWEST, (view,))
    elif newest is not None:
        oldest = newest - keep // timedelta(microseconds=1)
        con.execute("DELETE FROM feature_rows WHERE view = ? AND at < ?", (view, oldest))


def _merge_schema(con: sqlite3.Connection, view: str, schema: ViewSchema) -> ViewSchema:
    known = _schema(con, view) or schema
    if known.entity != schema.entity:
        raise FeatureError(
            f"{view}: its keys in the online store are {known.entity}, those of the rows {schema.entity}."
            " Give the view another name, or drop it from the store."
        )
    added = tuple(name for name in schema.features if name not in known.features)
    merged = ViewSchema(known.entity, known.features + added)
    if added and known is not schema:
        _lengthen(con, view, len(added))
    values = (view, msgspec.json.encode(merged.entity), msgspec.json.encode(merged.features))
    con.execute("INSERT OR REPLACE INTO views VALUES (?, ?, ?)", values)
    return merged


def _lengthen(con: sqlite3.Connection, view: str, by: int) -> None:
    """Give stored rows a null for each feature that they have no value of."""
    found = con.execute("SELECT entity, at, features FROM feature_rows WHERE view = ?", (view,)).fetchall()
    longer = [(view, entity, at, _encode([*_decode(features), *repeat(None, by)])) for entity, at, features in found]
    con.executemany(_INSERT, longer)


def _schema(con: sqlite3.Connection, view: str) -> ViewSchema | None:
    found = con.execute("SELECT entity, features FROM views WHERE view = ?", (view,)).fetchone()
    return found and ViewSchema(*(tuple(msgspec.json.decode(names)) for names in found))


def _newest(con: sqlite3.Connection, view: str) -> int | None:
    return con.execute("SELECT max(at) FROM feature_rows WHERE view = ?", (view,)).fetchone()[0]


def _encoded(view: str, schema: ViewSchema, rows: "pa.Table") -> Iterator[tuple[str, bytes, int, bytes] | None]:
    keys = zip(*(rows[name].to_pylist() for name in schema.entity), strict=True) if schema.entity else repeat(())
    columns = [_values(rows, name) for name in schema.features]
    values = zip(*columns, strict=True) if columns else repeat((), len(rows))
    for key, at, row in zip(keys, _times(rows), values, strict=bool(schema.entity)):
        yield None if None in key else (view, _encode(key), at, _encode(row))


def _values(rows: "pa.Table", name: str) -> Iterable[Any]:
    if name not in rows.column_names:
        return repeat(None, len(rows))
    return [None if isinstance(value, float) and math.isnan(value) else value for value in rows[name].to_pylist()]


def _times(rows: "pa.Table") -> list[int]:
    import pyarrow as pa

    return rows[TIMESTAMP].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()


def _require_within(view: str, rows: "pa.Table", first: int, last: int) -> None:
    outside = sum(not first <= at <= last for at in _times(rows))
    if outside:
        raise FeatureError(f"{view}: {outside} of {len(rows)} rows are outside of the time they are to replace.")


def _plain(value: Any) -> Any:
    """Turn a numpy scalar into the Python value that the same key has in storage."""
    return value.item()


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_decode = msgspec.msgpack.Decoder().decode
