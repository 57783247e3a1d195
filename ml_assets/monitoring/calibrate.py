"""How far the days of a reference lie from the whole of it, so that an ordinary day is not taken for drift.

Rows of one day are not a sample of a season: in the shipped example the weather of a day lies at a PSI of 1 to 5 from
the quarter before it, far above any fixed threshold, and alarms on 30 days of 30. What varies is the day, so the day is
what is calibrated on.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb

from ml_assets.monitoring.drift import ColumnDrift, Thresholds, compare
from ml_assets.monitoring.profile import Profile, observe_blocks

if TYPE_CHECKING:
    import pyarrow as pa

FEWEST_BLOCKS = 10
REACH = 2.8
"""Standard deviations of log PSI: 0.7 % of quiet days beyond it in a simulated year (log-normal tail)."""


def calibrated(con: duckdb.DuckDBPyConnection, rows: "str | pa.Table", reference: Profile, *, block: str) -> Profile:
    """Give each column of a reference its `usual` PSI, from the blocks of the same rows; one pass.

    `block` names the column that tells blocks apart; let them be as long as the rows that will be compared (days with
    days). With fewer than ten blocks of enough rows `usual` stays None, and the fixed thresholds stand alone.
    """
    blocks = observe_blocks(con, rows, reference, block)
    judged = [compare(reference, profile) for profile in blocks.values() if profile.n >= Thresholds().min_rows]
    if len(judged) < FEWEST_BLOCKS:
        return reference
    columns = zip(reference.columns, zip(*judged, strict=True), strict=True)
    return replace(reference, columns=tuple(replace(column, usual=_usual(drifts)) for column, drifts in columns))


def _usual(drifts: Sequence[ColumnDrift]) -> float:
    # a PSI of 0 has no logarithm; below its noise a PSI says nothing
    logs = [math.log(max(found.psi, found.noise, 1e-6)) for found in drifts]
    return math.exp(statistics.fmean(logs) + REACH * statistics.stdev(logs))
