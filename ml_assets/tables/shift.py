"""Whether a column is distributed as before: population stability index over bins of the days before.

One statement gives the sorted numbers, or the counted words, of every partition. The bins of a partition are tenths of
its own reference, so the verdict does not depend on what else is judged with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ml_assets import engine
from ml_assets.tables.by_profile import not_judged
from ml_assets.tables.evidence import Evidence, day, on, types
from ml_assets.tables.expectations import LEAST_HISTORY, Shift, Verdict

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

_BINS, _WORDS, _SAMPLES, _MOST_EXAMPLES = 10, 20, 200, 10


@dataclass(frozen=True)
class _Bins:
    """How many values of the reference and of the judged partitions lie in each bin."""

    labels: list[str]
    before: "np.ndarray"
    now: "np.ndarray"


def shifts(expected: Sequence[Shift], partitions: Sequence[str], given: Evidence) -> Iterator[Verdict]:
    """Judge all columns in all partitions; without rows nothing is judged."""
    if given.con is None or given.rows is None or not expected:
        return
    values = _values(expected, given.con, given.rows)
    for i, each in enumerate(expected):
        mine = _Column(values, f"x{i}")
        for partition in partitions:
            yield _judge(each, partition, mine, given)


def _values(expected: Sequence[Shift], con: "duckdb.DuckDBPyConnection", rows: str) -> "pa.Table":
    kinds = types(con, rows)
    parts = []
    for i, each in enumerate(expected):
        name = engine.quote(each.column)
        words = kinds[each.column] in ("VARCHAR", "BOOLEAN")
        sql = f"histogram(CAST({name} AS VARCHAR))" if words else f"list(CAST({name} AS DOUBLE) ORDER BY {name})"
        parts.append(f"{sql} FILTER ({name} IS NOT NULL) AS x{i}")
    statement = f"SELECT partition_key, {', '.join(parts)} FROM {rows} GROUP BY 1 ORDER BY 1"
    return con.sql(statement).to_arrow_table()


class _Column:
    """The values of one column by day: sorted numbers, or words with their counts."""

    def __init__(self, values: Any, name: str) -> None:
        import numpy as np

        column = values.column(name)
        self.words = str(column.type).startswith("map")
        self.by_day: dict[Any, Any] = {}
        for key, found in zip(values.column("partition_key").to_pylist(), column, strict=True):
            if (at := day(key)) and found.is_valid:
                self.by_day[at] = dict(found.as_py()) if self.words else found.values.to_numpy(zero_copy_only=False)
        self.days = np.array(sorted(self.by_day), dtype="datetime64[D]")

    def between(self, after: Any, until: Any) -> list[Any]:
        """The values of each day after one and until another."""
        import numpy as np

        first, last = np.searchsorted(self.days, np.array([after, until], dtype="datetime64[D]"), side="right")
        return [self.by_day[each] for each in self.days[first:last].tolist()]

    def bins(self, before: list[Any], now: list[Any]) -> _Bins:
        """Count both stretches in the bins of the first."""
        return _count_words(before, now) if self.words else _count_numbers(before, now)


def _count_numbers(before: list["np.ndarray"], now: list["np.ndarray"]) -> _Bins:
    import numpy as np

    samples = [x[np.linspace(0, len(x) - 1, min(len(x), _SAMPLES)).astype(int)] for x in before]
    edges = np.unique(np.quantile(np.concatenate(samples), np.arange(1, _BINS) / _BINS))

    def counted(parts: list["np.ndarray"]) -> "np.ndarray":
        below = sum(np.searchsorted(part, edges, side="right") for part in parts)
        return np.diff(np.concatenate([[0], below, [sum(map(len, parts))]]))

    ends = [f"{edge:g}" for edge in edges]
    labels = [f"up to {ends[0]}", *(f"{a} to {b}" for a, b in pairwise(ends))]
    return _Bins([*labels, f"above {ends[-1]}"], counted(before), counted(now))


def _count_words(before: list[dict[str, int]], now: list[dict[str, int]]) -> _Bins:
    import numpy as np

    totals = [_sum(part) for part in (before, now)]
    top = sorted(totals[0], key=lambda word: (-totals[0][word], word))[:_WORDS]
    counts = [
        [*(total.get(word, 0) for word in top), sum(n for w, n in total.items() if w not in top)] for total in totals
    ]
    return _Bins([*top, "others"], np.array(counts[0]), np.array(counts[1]))


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for word, n in part.items():
            total[word] = total.get(word, 0) + n
    return total


def _judge(expected: Shift, partition: str, column: _Column, given: Evidence) -> Verdict:
    until = day(partition)
    if until is None:
        return not_judged(expected, partition, "the partition is no day")
    start = until - expected.current
    before, now = column.between(start - expected.reference, start), column.between(start, until)
    enough = min(LEAST_HISTORY, max(1, expected.reference // timedelta(days=1)))
    if len(before) < enough:
        return not_judged(expected, partition, f"only {len(before)} of {enough} earlier partitions are known")
    if not now:
        return not_judged(expected, partition, "there are no values")
    bins = column.bins(before, now)
    found, limit = psi(bins.before, bins.now), _limit(expected.psi, bins)
    n, m = int(bins.now.sum()), int(bins.before.sum())
    words = "is distributed as before" if found <= limit else "is distributed otherwise than before"
    sentence = (
        f"{expected.column} {words}{on(partition)}: PSI {found:.3f} of {n:,} values against {m:,}, limit {limit:.3f}."
    )
    numbers = {"psi": found, "limit": limit, "n": n, "reference": m, "bins": len(bins.labels)}
    return Verdict(
        expected.check,
        partition,
        found <= limit,
        expected.severity,
        sentence,
        numbers,
        _examples(bins) if found > limit else [],
        given.query(partition, "true"),
    )


def psi(before: "np.ndarray", now: "np.ndarray") -> float:
    """The population stability index of two counts by bin; half a row is added to each, so that none is empty."""
    import numpy as np

    expected, found = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(np.sum((found - expected) * np.log(found / expected)))


def _limit(declared: float, bins: _Bins) -> float:
    """The declared limit beyond what chance gives: see `Shift`.

    Of two samples of one distribution, PSI / (1/n + 1/m) is about chi-squared with bins - 1 degrees of freedom; its
    99.9 % quantile is by Wilson and Hilferty (1931).
    """
    scale = 1 / bins.now.sum() + 1 / bins.before.sum()
    free = max(1, len(bins.labels) - 1)
    rare = free * (1 - 2 / (9 * free) + 3.09 * (2 / (9 * free)) ** 0.5) ** 3
    return float(max(declared + free * scale, rare * scale))


def _examples(bins: _Bins) -> list[dict[str, Any]]:
    """The bins that changed most."""
    expected, found = bins.before / bins.before.sum(), bins.now / bins.now.sum()
    order = sorted(range(len(bins.labels)), key=lambda i: -abs(found[i] - expected[i]))[:_MOST_EXAMPLES]
    return [{"values": bins.labels[i], "before": float(expected[i]), "now": float(found[i])} for i in order]
