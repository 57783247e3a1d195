"""The online store in Redis, for endpoints on several machines.

    <prefix>views            the set of views          <prefix><view>:schema    names of keys and features (JSON)
    <prefix><view>:entities  the set of entities       <prefix><view>:newest    the time of the newest row
    <prefix><view>:expired   what of it has expired, where it is whole otherwise
    <prefix><view>:rows:<entity>   its rows by time (sorted set)      <prefix><view>:staged:<id>   rows on their way

A write brings its rows in pieces under a name of its own, which expires if the writer dies; then one script
(`apply.lua`) takes them in. What is too old goes afterwards, a few entities at a time. Times are scores, which are
exact until the year 2255.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from ml_assets.adapters.online.base import Expiry, Found, OnlineStore
from ml_assets.adapters.online.rows import Encoded, ViewSchema, decode, encode_key, encoded
from ml_assets.errors import StoreUnavailableError, TableNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa
    import redis

_PREFIX = "ml_assets:online:"
_CHUNK_ROWS = 2000  # three parts each: an array of up to 65,535
_EXPIRED_AT_ONCE = 2000
_STAGED_SECONDS = 3600
_READ_SECONDS, _WRITE_SECONDS = 1.0, 120.0
_DROP = """
for _, entity in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('UNLINK', ARGV[1] .. entity) end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SREM', KEYS[5], ARGV[2])
"""


class RedisOnlineStore(OnlineStore):
    """An online store at `redis://host:port/db`; threads may share it, and it may be pickled."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client()

    def __reduce__(self) -> tuple:
        return type(self), (self.url,)

    def lookup(self, view: str, key: tuple, at_us: int) -> Found | None:
        """See `OnlineStore`."""
        with self._reached():
            return _found(self._reader.zrevrangebyscore(_rows(view) + encode_key(key), at_us, "-inf", 0, 1))

    def lookup_many(self, view: str, keys: Sequence[tuple], at_us: Sequence[int]) -> list[Found | None]:
        """See `OnlineStore`."""
        if len(keys) == 1:
            return [self.lookup(view, keys[0], at_us[0])]
        prefix = _rows(view)
        with self._reached(), self._reader.pipeline(transaction=True) as pipe:
            for key, at in zip(keys, at_us, strict=True):
                pipe.zrevrangebyscore(prefix + encode_key(key), at, "-inf", 0, 1)
            return [_found(answer) for answer in pipe.execute()]

    def schema(self, view: str) -> ViewSchema:
        """See `OnlineStore`."""
        with self._reached():
            found: Any = self._reader.get(_key(view, "schema"))
        known = _schema(found)
        if known is None:
            raise TableNotFoundError(f"No view '{view}' in the online store {self.shown}. Materialize it first.")
        return known

    def newest(self, view: str) -> int | None:
        """See `OnlineStore`."""
        with self._reached():
            found: Any = self._reader.get(_key(view, "newest"))
        return int(found) if found else None

    def expired(self, view: str) -> Expiry | None:
        """See `OnlineStore`."""
        with self._reached():
            found: Any = self._reader.get(_key(view, "expired"))
        since, lasting = map(int, found.split()) if found else (None, None)
        return None if since is None else Expiry(since, bool(lasting))

    def hold(self, view: str, expired: Expiry) -> None:
        """See `OnlineStore`."""
        with self._reached():
            self._writer.set(_key(view, "expired"), f"{expired.since} {int(expired.lasting)}")

    def views(self) -> list[str]:
        """See `OnlineStore`."""
        with self._reached():
            found: Any = self._reader.smembers(_PREFIX + "views")
        return sorted(view.decode() for view in found)

    def drop(self, view: str) -> None:
        """See `OnlineStore`."""
        keys = [*(_key(view, part) for part in ("entities", "newest", "schema", "expired")), _PREFIX + "views"]
        with self._reached():
            self._writer.register_script(_DROP)(keys=keys, args=[_rows(view), view])

    @property
    def shown(self) -> str:
        """The address without a password."""
        return urlsplit(self.url)._replace(netloc=urlsplit(self.url).netloc.rpartition("@")[2]).geturl()

    def _put(
        self, view: str, schema: ViewSchema, rows: "pa.Table", span: tuple[int, int] | None, expiry: Expiry | None
    ) -> int:
        with self._reached():
            while (taken := self._taken_in(view, schema, rows, span or ("", ""))) is None:
                pass  # another writer changed the schema meanwhile
            if expiry:
                self._expire(view, expiry)
            return taken

    def _taken_in(
        self, view: str, schema: ViewSchema, rows: "pa.Table", span: tuple[int | str, int | str]
    ) -> int | None:
        seen: Any = self._writer.get(_key(view, "schema"))
        known = _schema(seen)
        stored = known.merged(view, schema) if known else schema
        added = len(stored.features) - len(known.features) if known else 0
        taken = encoded(stored, rows)
        times = [at for _, at, _ in taken] or [0]
        staged, n_pieces = self._stage(view, taken)
        keys = [_key(view, "schema"), _PREFIX + "views", _key(view, "entities"), _key(view, "newest"), staged]
        values = [view, seen or b"", msgspec.json.encode(stored), added, _rows(view), *span, n_pieces]
        return len(taken) if self._apply(keys=keys, args=[*values, min(times), max(times)]) else None

    def _expire(self, view: str, expiry: Expiry) -> None:
        keys = [_key(view, part) for part in ("entities", "newest", "expired")]
        rule = [_rows(view), expiry.since, int(expiry.lasting)]
        cursor = -1
        while cursor:
            found: Any = self._writer.sscan(keys[0], max(cursor, 0), count=_EXPIRED_AT_ONCE)
            cursor, some = found
            self._expire_some(keys=keys, args=[*rule, *some])

    def _stage(self, view: str, taken: Sequence[Encoded]) -> tuple[str, int]:
        name = _key(view, f"staged:{uuid4().hex}")
        starts = range(0, len(taken), _CHUNK_ROWS)
        with self._writer.pipeline(transaction=True) as pipe:  # no piece without its expiry
            for start in starts:
                pipe.rpush(name, _piece(taken[start : start + _CHUNK_ROWS]))
                pipe.expire(name, _STAGED_SECONDS)
                pipe.execute()
        return name, len(starts)

    @cached_property
    def _apply(self) -> Callable[..., Any]:
        return self._script("apply.lua")

    @cached_property
    def _expire_some(self) -> Callable[..., Any]:
        return self._script("expire.lua")

    def _script(self, name: str) -> Callable[..., Any]:
        return self._writer.register_script(
            files("ml_assets.adapters.online").joinpath(name).read_text(encoding="utf-8")
        )

    @cached_property
    def _reader(self) -> "redis.Redis":
        return self._client(_READ_SECONDS)

    @cached_property
    def _writer(self) -> "redis.Redis":
        return self._client(_WRITE_SECONDS)

    def _client(self, seconds: float = _READ_SECONDS) -> "redis.Redis":
        redis = _library()
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))  # a server that came back is a new one
        limits = {"socket_timeout": seconds, "socket_connect_timeout": _READ_SECONDS}
        return redis.Redis.from_url(self.url, retry=once, **limits)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except _library().RedisError as error:
            raise StoreUnavailableError(f"The online store {self.shown} cannot be used: {error}.") from error


def _library() -> Any:
    try:
        import redis
    except ImportError as error:
        raise StoreUnavailableError("An online store in Redis needs `pip install ml_assets[redis]`.") from error
    return redis


def _key(view: str, part: str) -> str:
    return f"{_PREFIX}{view}:{part}"


def _rows(view: str) -> bytes:
    return _key(view, "rows:").encode()


def _schema(content: bytes | None) -> ViewSchema | None:
    return ViewSchema(*map(tuple, msgspec.json.decode(content))) if content else None


def _piece(rows: Sequence[Encoded]) -> bytes:
    """Pack rows as one msgpack array of texts, the only type whose bytes Redis' reader leaves alone.

    Times are texts too: Lua would write a number of this size roundly.
    """
    parts = chain.from_iterable((k, str(at).encode(), at.to_bytes(8, signed=True) + values) for k, at, values in rows)
    texts = [b"\xdb" + len(part).to_bytes(4) + part for part in parts]
    return b"\xdc" + len(texts).to_bytes(2) + b"".join(texts)


def _found(answer: Any) -> Found | None:
    if not answer:
        return None
    return int.from_bytes(answer[0][:8], signed=True), tuple(decode(answer[0][8:]))
