"""What every online store promises; `ml_assets_tests.contracts.online_store` holds it to that."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ml_assets.errors import FeatureError

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[int, tuple[Any, ...]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ViewSchema(NamedTuple):
    """The columns of a view's keys and of its rows, in the order of `lookup`."""

    entity: tuple[str, ...]
    features: tuple[str, ...]

    def merged(self, view: str, given: "ViewSchema") -> "ViewSchema":
        """Give what is stored after rows of another schema come: the known features stay in place, new ones follow.

        Raises:
            FeatureError: the keys are others.
        """
        if self.entity != given.entity:
            raise FeatureError(
                f"{view}: its keys in the online store are {self.entity}, those of the rows {given.entity}."
                " Give the view another name, or drop it from the store."
            )
        added = tuple(name for name in given.features if name not in self.features)
        return ViewSchema(self.entity, self.features + added)


class OnlineStore(Protocol):
    """What every online store does; times are UTC microseconds since 1970 where they are integers.

    A write is seen whole or not at all, whoever reads meanwhile and whenever its process dies. A feature keeps its
    place in the rows of a view for good: new ones come after it, and one that is no longer written is null. So a
    server that looked up the order once reads right while a newer writer is at work.

    Everything raises StoreUnavailableError when the store cannot be reached; it is there again once it can.
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

    def lookup_many(self, view: str, keys: Sequence[tuple], at_us: Sequence[int]) -> list[Found | None]:
        """Give what `lookup` gives for each key and its time, all as of one moment, in one turn."""
        ...

    def schema(self, view: str) -> ViewSchema:
        """Give the names of the key's and the rows' values, in order; TableNotFoundError for a view never written."""
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


def microseconds(instant: datetime) -> int:
    """Count the microseconds since 1970 in UTC, exactly."""
    return (instant - _EPOCH) // _MICROSECOND
