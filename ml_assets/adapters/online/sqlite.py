"""The online store in one SQLite file, embedded and durable.

In WAL mode readers never wait for the writer, and a killed writer leaves nothing behind.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ml_assets.adapters.online.base import Expiry, Found, OnlineStore
from ml_assets.adapters.online.rows import ViewSchema, decode, encode, encode_key, encoded
from ml_assets.errors import StoreUnavailableError, TableNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = """
CREATE TABLE IF NOT EXISTS views (view TEXT PRIMARY KEY, entity TEXT NOT NULL, features TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS expired (view TEXT PRIMARY KEY, since INTEGER NOT NULL, lasting INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS feature_rows (
    view TEXT NOT NULL, entity BLOB NOT NULL, at INTEGER NOT NULL, features BLOB NOT NULL,
    PRIMARY KEY (view, entity, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON feature_rows (view, at);
"""
_LOOKUP = "SELECT at, features FROM feature_rows WHERE view = ? AND entity = ? AND at <= ? ORDER BY at DESC LIMIT 1"
# Not OR REPLACE, which takes the row out of the index and puts it in again.
_INSERT = "INSERT INTO feature_rows VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET features = excluded.features"
_EXPIRE = "DELETE FROM feature_rows AS old WHERE view = :view AND at < :since"
_PASSED = """ AND EXISTS (SELECT 1 FROM feature_rows AS new
    WHERE new.view = old.view AND new.entity = old.entity AND new.at > old.at AND new.at <= :since)"""
_HOLD = "INSERT OR REPLACE INTO expired VALUES (?, ?, ?)"
_BUSY_SECONDS = 60.0
_CACHE_KIB = 65_536


class SqliteOnlineStore(OnlineStore):
    """An online store in one file; every thread has its own connection, and it may be pickled."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._file: tuple[int, int] | None = None
        self._open()

    def __reduce__(self) -> tuple:
        return type(self), (self.path,)

    def lookup(self, view: str, key: tuple, at_us: int) -> Found | None:
        """See `OnlineStore`."""
        try:
            found = self._connection().execute(_LOOKUP, (view, encode_key(key), at_us)).fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return None if found is None else (found[0], tuple(decode(found[1])))

    def lookup_many(self, view: str, keys: Sequence[tuple], at_us: Sequence[int]) -> list[Found | None]:
        """See `OnlineStore`."""
        if len(keys) == 1:
            return [self.lookup(view, keys[0], at_us[0])]
        with self._transaction("BEGIN"):
            return [self.lookup(view, key, at) for key, at in zip(keys, at_us, strict=True)]

    def schema(self, view: str) -> ViewSchema:
        """See `OnlineStore`."""
        with self._reading() as con:
            known = _schema(con, view)
        if known is None:
            raise TableNotFoundError(f"No view '{view}' in the online store {self.path}. Materialize it first.")
        return known

    def newest(self, view: str) -> int | None:
        """See `OnlineStore`."""
        with self._reading() as con:
            return _newest(con, view)

    def expired(self, view: str) -> Expiry | None:
        """See `OnlineStore`."""
        with self._reading() as con:
            return _expired(con, view)

    def hold(self, view: str, expired: Expiry) -> None:
        """See `OnlineStore`."""
        with self._transaction() as con:
            con.execute(_HOLD, (view, *expired))

    def views(self) -> list[str]:
        """See `OnlineStore`."""
        with self._reading() as con:
            return [view for (view,) in con.execute("SELECT view FROM views ORDER BY view")]

    def drop(self, view: str) -> None:
        """See `OnlineStore`."""
        with self._transaction() as con:
            for table in ("feature_rows", "expired", "views"):
                con.execute(f"DELETE FROM {table} WHERE view = ?", (view,))

    def _put(
        self, view: str, schema: ViewSchema, rows: "pa.Table", span: tuple[int, int] | None, expiry: Expiry | None
    ) -> int:
        with self._transaction() as con:
            if span:
                con.execute("DELETE FROM feature_rows WHERE view = ? AND at BETWEEN ? AND ?", (view, *span))
            taken = encoded(_merge_schema(con, view, schema), rows)
            con.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # an index that does not fit is written over and over
            con.executemany(_INSERT, ((view, *row) for row in taken))
            if expiry:
                if before := _expired(con, view):
                    con.execute(_HOLD, (view, *before.after(expiry)))
                con.execute(_EXPIRE + _PASSED * expiry.lasting, {"view": view, "since": expiry.since})
        return len(taken)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Read what is at the path now: a file that was lost and made again is another one."""
        if _identity(self.path) != self._file:
            self._open()
        try:
            yield self._connection()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            con = _connect(self.path)
            con.executescript(_SCHEMA)
            con.close()
            self._file = _identity(self.path)
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error

    def _connection(self) -> sqlite3.Connection:
        local = self._local
        if getattr(local, "file", None) is not self._file:
            local.connection, local.file = _connect(self.path), self._file
        return local.connection

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One moment to read, or one write; a writer waits for another at its begin, not when it is too late to."""
        try:
            con = self._connection()
            con.execute(begin)
            try:
                yield con
            except BaseException:
                con.execute("ROLLBACK")
                raise
            con.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(f"The online store {self.path} cannot be used: {error}.")


def _connect(path: Path) -> sqlite3.Connection:
    con = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = NORMAL")  # loses no consistency, and after a power cut at most the last writes
    return con


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _merge_schema(con: sqlite3.Connection, view: str, schema: ViewSchema) -> ViewSchema:
    known = _schema(con, view)
    merged = known.merged(view, schema) if known else schema
    added = len(merged.features) - len(known.features) if known else 0
    if added:
        _lengthen(con, view, added)
    values = (view, msgspec.json.encode(merged.entity), msgspec.json.encode(merged.features))
    con.execute("INSERT OR REPLACE INTO views VALUES (?, ?, ?)", values)
    return merged


def _lengthen(con: sqlite3.Connection, view: str, by: int) -> None:
    """Give stored rows a null for each feature that they have no value of."""
    found = con.execute("SELECT entity, at, features FROM feature_rows WHERE view = ?", (view,)).fetchall()
    longer = [(view, entity, at, encode([*decode(features), *repeat(None, by)])) for entity, at, features in found]
    con.executemany(_INSERT, longer)


def _schema(con: sqlite3.Connection, view: str) -> ViewSchema | None:
    found = con.execute("SELECT entity, features FROM views WHERE view = ?", (view,)).fetchone()
    return found and ViewSchema(*(tuple(msgspec.json.decode(names)) for names in found))


def _expired(con: sqlite3.Connection, view: str) -> Expiry | None:
    found = con.execute("SELECT since, lasting FROM expired WHERE view = ?", (view,)).fetchone()
    return found and Expiry(found[0], bool(found[1]))


def _newest(con: sqlite3.Connection, view: str) -> int | None:
    return con.execute("SELECT max(at) FROM feature_rows WHERE view = ?", (view,)).fetchone()[0]
