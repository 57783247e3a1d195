"""Whether the grid of a view is finer than what it is made from: rows would repeat, and cost, without saying more."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.engine import literal, quote
from ml_assets.features.view import MICROSECOND, FeatureView

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import numpy as np
    from numpy.typing import NDArray

ENOUGH = 24  # moments; with fewer, a common step may be chance


@dataclass(frozen=True)
class Rhythm:
    """At how many moments rows became known, and the largest step from 1970 on that all changes are multiples of.

    These are the moments at which rows became known, and with windows those at which rows enter and leave them.
    """

    n_moments: int
    step: timedelta

    @property
    def tells(self) -> bool:
        """Whether there are so many moments that a common step is no chance."""
        return self.n_moments >= ENOUGH

    def calls_for(self, every: timedelta) -> timedelta | None:
        """The grid that fits, where one of `every` is at least twice as fine as the data."""
        return self.step if self.tells and self.step >= 2 * every else None


def rhythm(
    con: "duckdb.DuckDBPyConnection", view: FeatureView, tables: "Sequence[str]", first: datetime, last: datetime
) -> Rhythm:
    """When the rows of a view changed by the rows of tables that became known from `first` to before `last`."""
    import numpy as np

    span = (
        f"known_at >= TIMESTAMPTZ {literal(first.isoformat())} AND known_at < TIMESTAMPTZ {literal(last.isoformat())}"
    )
    rows = " UNION ALL ".join(f"SELECT known_at FROM {quote(table)} WHERE {span}" for table in tables)
    known = _distinct(con, "epoch_us(known_at)", f"({rows})")
    changes = [known]
    if view.aggregations and view.tables[0] in tables:
        event = f"epoch_us({quote(view.event_timestamp)})"
        windows = {window // MICROSECOND for part in view.aggregations.values() for window in part.windows}
        held = f"{quote(view.tables[0])} WHERE {span} AND {event} + {max(windows)} > epoch_us(known_at)"
        left = _distinct(con, event, held)
        changes += [_distinct(con, event, f"{held} AND {event} > epoch_us(known_at)"), *(left + w for w in windows)]
    return Rhythm(len(known), int(np.gcd.reduce(np.concatenate(changes))) * MICROSECOND)


def _distinct(con: "duckdb.DuckDBPyConnection", value: str, rows: str) -> "NDArray[np.int64]":
    import numpy as np

    return np.asarray(con.execute(f"SELECT DISTINCT {value} AS us FROM {rows}").fetchnumpy()["us"], dtype=np.int64)
