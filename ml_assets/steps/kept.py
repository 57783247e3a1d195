"""How much of a view the online store keeps: all that it takes to answer as the lake does, from some moment on."""

from dataclasses import dataclass
from datetime import timedelta

from ml_assets import clock
from ml_assets.adapters.online import Expiry, microseconds
from ml_assets.engine import quote
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND
from ml_assets.steps import view_needs
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec, keep_default


@dataclass(frozen=True)
class Kept:
    """Rows stay for `span` before the newest one, or before now where that one is in the future.

    With `lasting`, so does the row of each entity that counts at the beginning of it, however old.
    """

    span: timedelta
    lasting: bool
    daily: bool

    def expiry(self, newest: int) -> Expiry:
        """What expires where the newest row is of this time, in microseconds; of a view by day, whole days do."""
        since = min(newest, microseconds(clock.now())) - self.span // MICROSECOND
        return Expiry(since - since % (DAY // MICROSECOND) if self.daily else since, self.lasting)


def kept(spec: ViewSpec, run: Run) -> Kept:
    """For as long as the declaration, or any version that an endpoint answers with, lets a row count."""
    served = view_needs.max_ages(spec.view.name, run)
    lasting = spec.view.is_static or None in {spec.view.max_age, *served}
    return Kept(max([spec.keep, *map(keep_default, served)]) + spec.view.delay, lasting, spec.daily)


def counting(entity: tuple[str, ...], rows: str, since: int) -> str:
    """SQL for the rows that count at a moment or later.

    Each has the times of the next one and of the one before (`_next`, `_before`, microseconds).
    """
    columns, at = ", ".join(map(quote, entity)), f"epoch_us({FEATURE_TIMESTAMP})"
    return f"""
        SELECT *, lead({at}) OVER in_time AS _next, lag({at}) OVER in_time AS _before FROM {rows}
        WINDOW in_time AS (PARTITION BY {columns} ORDER BY {at}) QUALIFY coalesce(_next > {since}, true)"""
