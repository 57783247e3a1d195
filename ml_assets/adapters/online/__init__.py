"""The newest feature rows by entity, for answers in microseconds: one contract, in a SQLite file or in Redis."""

from ml_assets.adapters.online.base import OnlineStore, ViewSchema, microseconds
from ml_assets.adapters.online.opening import open_store

__all__ = ["OnlineStore", "ViewSchema", "microseconds", "open_store"]
