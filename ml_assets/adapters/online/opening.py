"""Which online store a place names."""

from ml_assets.adapters.online.base import OnlineStore

REMOTE = ("redis://", "rediss://", "unix://")


def is_remote(place: str) -> bool:
    """Whether a place is the address of a server rather than a file."""
    return place.startswith(REMOTE)


def open_store(place: str) -> OnlineStore:
    """Open the store at a path (SQLite), or at `redis://host:port/db` (also `rediss://`, `unix://socket?db=0`)."""
    if is_remote(place):
        from ml_assets.adapters.online.redis import RedisOnlineStore

        return RedisOnlineStore(place)
    from ml_assets.adapters.online.sqlite import SqliteOnlineStore

    return SqliteOnlineStore(place)
