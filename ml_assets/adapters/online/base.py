"""What every online store promises; `ml_assets_tests.contracts.online_store` holds it to that."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_assets.adapters.online.rows import ViewSchema, require_within

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[int, tuple[Any, ...]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Expiry(NamedTuple):
    """Which rows go: those from before `since`; where it is `lasting`, not the one of each entity that counts then."""

    since: int
    lasting: bool = False

    def after(self, other: "Expiry") -> "Expiry":
        """What has gone after both."""
        return Expiry(max(self.since, other.since), self.lasting and other.lasting)

    def leaves(self, other: "Expiry") -> bool:
        """Whether all is left that the other one leaves."""
        return self.since <= other.since and self.lasting >= other.lasting


class OnlineStore(ABC):
    """What every online store does; times are UTC microseconds since 1970 where they are integers.

    A write is seen whole or not at all, whoever reads meanwhile and whenever its process dies. A feature keeps its
    place in the rows of a view for good: new ones come after it, and one that is no longer written is null. So a
    server that looked up the order once reads right while a newer writer is at work.

    Everything raises StoreUnavailableError when the store cannot be reached; it is there again once it can.
    """

    def write(self, view: str, entity: Sequence[str], features: Sequence[str], rows: "pa.Table") -> int:
        """Insert rows, in place of those of the same entity and `feature_timestamp`; all of them or none.

        Gives the number of rows taken; those with a null in their key can never be asked for and are left out.
        """
        return self._put(view, ViewSchema(tuple(entity), tuple(features)), rows, None, None)

    def replace(
        self,
        view: str,
        entity: Sequence[str],
        features: Sequence[str],
        rows: "pa.Table",
        *,
        first: datetime,
        last: datetime,
        expiry: Expiry | None = None,
    ) -> int:
        """Put rows in place of all rows of the view from `first` to `last`, both included; what expires goes with it.

        Raises:
            FeatureError: a row is outside of that time.
        """
        span = microseconds(first), microseconds(last)
        require_within(view, rows, *span)
        return self._put(view, ViewSchema(tuple(entity), tuple(features)), rows, span, expiry)

    @abstractmethod
    def _put(
        self, view: str, schema: ViewSchema, rows: "pa.Table", span: tuple[int, int] | None, expiry: Expiry | None
    ) -> int:
        """Insert rows, in place of all of a span where there is one; gives how many were taken."""

    @abstractmethod
    def lookup(self, view: str, key: tuple, at_us: int) -> Found | None:
        """Give time and features of the entity's newest row from no later than `at_us`; None where there is none."""

    @abstractmethod
    def lookup_many(self, view: str, keys: Sequence[tuple], at_us: Sequence[int]) -> list[Found | None]:
        """Give what `lookup` gives for each key and its time, all as of one moment, in one turn."""

    @abstractmethod
    def schema(self, view: str) -> ViewSchema:
        """Give the names of the key's and the rows' values, in order; TableNotFoundError for a view never written."""

    @abstractmethod
    def newest(self, view: str) -> int | None:
        """Give the time of the newest row of a view."""

    @abstractmethod
    def expired(self, view: str) -> Expiry | None:
        """Give what has expired of a view since `hold` was told that it is whole; None where it never was."""

    @abstractmethod
    def hold(self, view: str, expired: Expiry) -> None:
        """Note that a view is whole, but for what has expired."""

    @abstractmethod
    def views(self) -> list[str]:
        """List the views that were ever written."""

    @abstractmethod
    def drop(self, view: str) -> None:
        """Forget a view and its rows."""


def microseconds(instant: datetime) -> int:
    """Count the microseconds since 1970 in UTC, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(since_1970: int) -> datetime:
    """The moment of a count of microseconds."""
    return _EPOCH + since_1970 * _MICROSECOND
