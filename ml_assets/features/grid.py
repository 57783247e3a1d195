"""Whether the grid of a view is finer than what it is made from: rows would repeat, and cost, without saying more."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.engine import literal, quote
from ml_assets.features.view import MICROSECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

ENOUGH = 24  # moments; with fewer, a common step may be chance


@dataclass(frozen=True)
class Rhythm:
    """At how many moments rows became known, and the largest step from 1970 on that all of them are multiples of."""

    n_moments: int
    step: timedelta

    @property
    def tells(self) -> bool:
        """Whether there are so many moments that a common step is no chance."""
        return self.n_moments >= ENOUGH

    def calls_for(self, every: timedelta) -> timedelta | None:
        """The grid that fits, where one of `every` is at least twice as fine as the data."""
        return self.step if self.tells and self.step >= 2 * every else None


def rhythm(con: "duckdb.DuckDBPyConnection", tables: "Sequence[str]", first: datetime, last: datetime) -> Rhythm:
    """When the rows of tables became known, from `first` to before `last`."""
    import numpy as np

    span = (
        f"known_at >= TIMESTAMPTZ {literal(first.isoformat())} AND known_at < TIMESTAMPTZ {literal(last.isoformat())}"
    )
    rows = " UNION ALL ".join(f"SELECT known_at FROM {quote(table)} WHERE {span}" for table in tables)
    found = con.execute(f"SELECT DISTINCT epoch_us(known_at) AS known FROM ({rows})").fetchnumpy()["known"]
    moments = np.asarray(found, dtype=np.int64)
    return Rhythm(len(moments), int(np.gcd.reduce(moments)) * MICROSECOND if len(moments) else timedelta(0))
