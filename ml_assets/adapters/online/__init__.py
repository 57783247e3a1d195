"""The newest feature rows by entity, for answers in microseconds: one contract, in a SQLite file or in Redis."""

from ml_assets.adapters.online.base import Expiry, Found, OnlineStore, instant, microseconds
from ml_assets.adapters.online.opening import open_store
from ml_assets.adapters.online.rows import ViewSchema

__all__ = ["Expiry", "Found", "OnlineStore", "ViewSchema", "instant", "microseconds", "open_store"]
