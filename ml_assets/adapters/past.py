"""The lake as it was at a moment of the wall clock."""

from datetime import datetime
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

    from ml_assets.adapters.files import Partitions


class PastLake(Lake):
    """The same tables, each in its newest version of then; what is asked for by number is given by number.

    Only to be read. Objects are not versioned: they are those of now. Reading raises TableNotFoundError where a table
    did not exist yet, and LakeError where files of then were deleted since.
    """

    def __init__(self, lake: Lake, moment: datetime) -> None:
        super().__init__(lake.uri, lake.storage_options)
        self.moment = moment

    def _table(self, name: str, version: int | None = None, as_of: datetime | None = None) -> "DeltaTable":
        return super()._table(name, version, as_of or self.moment if version is None else None)

    def _opened(
        self, name: str, partitions: "Partitions", version: int | None, as_of: datetime | None = None
    ) -> "tuple[DeltaTable, ds.Dataset]":
        return super()._opened(name, partitions, version, as_of or self.moment if version is None else None)
