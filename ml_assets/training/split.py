"""Splits of a training set by time: the newest rows judge, the ones before them tune, the rest is learnt from."""

from datetime import timedelta

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_assets.errors import TrainingError

TRAIN, GAP, VALIDATION, TEST = PARTS = ("train", "gap", "validation", "test")


def assign(at: ArrayLike, *, validation: timedelta, test: timedelta, gap: timedelta = timedelta()) -> NDArray[np.str_]:
    """Name the part of each row by its prediction time (datetime64, UTC, any order).

    Counted back from the newest row: `test`, a gap, `validation`, a gap, and the rest for training. The gap stands on
    both borders, since a label that became known within it would tell a part of what comes after; make it at least
    the delay of the labels. Each part ends where the next begins and excludes its own beginning.
    """
    times = _times(at)
    _require(validation > timedelta() and test > timedelta() and gap >= timedelta(), "validation and test must be > 0")
    _require(len(times) > 0, "the training set has no rows")
    begin_of_test = times.max() - np.timedelta64(test)
    end_of_validation = begin_of_test - np.timedelta64(gap)
    begin_of_validation = end_of_validation - np.timedelta64(validation)
    end_of_train = begin_of_validation - np.timedelta64(gap)
    after = [times > begin_of_test, times > end_of_validation, times > begin_of_validation, times > end_of_train]
    parts = np.select(after, [TEST, GAP, VALIDATION, GAP], default=TRAIN)
    _require_all(parts, times)
    return parts


def _times(at: ArrayLike) -> NDArray[np.datetime64]:
    times = np.asarray(at)
    _require(times.dtype.kind == "M", f"prediction times must be datetime64, not {times.dtype}")
    missing = int(np.isnat(times).sum())
    _require(not missing, f"{missing} of {len(times)} rows have no prediction time")
    return times.astype("datetime64[us]")


def _require_all(parts: NDArray[np.str_], times: NDArray[np.datetime64]) -> None:
    empty = [part for part in (TRAIN, VALIDATION, TEST) if not (parts == part).any()]
    span = f"{np.datetime_as_string(times.min(), 's')} to {np.datetime_as_string(times.max(), 's')}"
    _require(not empty, f"no rows for {', '.join(empty)} among {len(times)} rows from {span}")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise TrainingError(f"Cannot split by time: {problem}. Wait for more data, or shorten `validation` or `test`.")
