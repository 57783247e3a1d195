"""Splits delivered rows into those that keep the contract, those in quarantine, and duplicates. Nothing is lost.

Order: first every row by itself (a broken rule means quarantine), then duplicates by key among the good rows of a
partition (the newest delivery wins, so a broken restatement never replaces a good row), then rules that compare rows
(unique, outliers). A partition is judged alone, so that it comes out the same whatever was delivered with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from ml_assets.errors import DeclarationError
from ml_assets.tables.delivery import DeliveredFile, FileProblem, gather
from ml_assets.tables.expectations import Fences, Outliers
from ml_assets.tables.judging import Judged, Question, judged
from ml_assets.tables.schema import Column, Contract, Rule

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Counts",
    "DeliveredFile",
    "FileProblem",
    "Judged",
    "Question",
    "Validation",
    "count",
    "gather",
    "judged",
    "rules_of",
    "validate",
]

_DELIVERED, _REFUSED, _VALID, _QUARANTINE = "delivered_rows", "refused_rows", "valid_rows", "quarantined_rows"


@dataclass(frozen=True)
class Counts:
    """Rows of a partition: delivered = valid + quarantined + duplicates; a row can break several rules of `by_rule`."""

    delivered: int = 0
    valid: int = 0
    quarantined: int = 0
    duplicates: int = 0
    by_rule: dict[str, int] = field(default_factory=dict)

    def reconciles(self) -> bool:
        """Whether each delivered row is accounted for, once; all four are counted by themselves."""
        return self.delivered == self.valid + self.quarantined + self.duplicates


@dataclass(frozen=True)
class Validation:
    """The outcome; `counts` by partition key, "" for rows without partition.

    valid: the contract's columns, then the evolved ones, known_at (unless it is a column of the contract) and
    partition_key (if the delivered rows have any that is not null), ordered by partition and key. quarantine:
    partition_key, file, row, rule (the first that was broken), rules (all), record (JSON), arrived_at.
    """

    valid: "pa.Table"
    quarantine: "pa.Table"
    counts: dict[str, Counts]
    fences: tuple[Fences, ...] = ()


def validate(
    con: duckdb.DuckDBPyConnection,
    delivered: "pa.Table",
    contract: Contract,
    *,
    known_at: str | None = None,
    partition_column: str | None = None,
    evolved: Sequence[Column] = (),
    refused: "pa.Table | None" = None,
    outliers: Sequence[Outliers] = (),
) -> Validation:
    """Judge stamped rows (see `delivery.stamp`).

    `known_at` is an SQL expression over the row; without it, the contract's column known_at, or else the first arrival
    of the row. With `partition_column`, the UTC day of that column must be the row's partition_key. `evolved` columns
    are carried along; `refused` rows are in quarantine already, and count as delivered.
    """
    partitioned = _is_partitioned(delivered, refused)
    _check_evolved(contract, evolved)
    asked = Question(contract, known_at, partition_column, partitioned, tuple(evolved), tuple(outliers))
    views = {_DELIVERED: delivered} | ({} if refused is None else {_REFUSED: refused})
    try:
        for name, rows in views.items():
            con.register(name, rows)
        with judged(con, _DELIVERED, None if refused is None else _REFUSED, asked) as outcome:
            valid = con.sql(outcome.valid).to_arrow_table()
            quarantine = con.sql(outcome.quarantine).to_arrow_table()
        views |= {_VALID: valid, _QUARANTINE: quarantine}
        con.register(_VALID, valid)
        con.register(_QUARANTINE, quarantine)
        keyed = _VALID if partitioned else f"(SELECT '' AS partition_key FROM {_VALID})"
        given = [name for name in (_DELIVERED, _REFUSED) if name in views]
        counts = count(con, given, keyed, _QUARANTINE, outcome.duplicates)
        return Validation(valid, quarantine, counts, outcome.fences)
    finally:
        for name in views:
            con.unregister(name)


def rules_of(contract: Contract, *, known_at: str | None, partition_column: str | None) -> tuple[Rule, ...]:
    """The rules that `validate` judges rows by, each with the name of its asset check."""
    return Question(contract, known_at, partition_column).rules()


def count(
    con: duckdb.DuckDBPyConnection,
    delivered: Sequence[str],
    valid: str,
    quarantine: str,
    duplicates: Mapping[str, int],
) -> dict[str, Counts]:
    """Count rows by partition, given views or tables of what was delivered and of the outcomes, and the duplicates."""
    sources = " UNION ALL ".join(f"SELECT partition_key FROM {name}" for name in delivered)
    total, good, bad = (_by_partition(con, rows) for rows in (f"({sources})", valid, quarantine))
    rules: dict[str, dict[str, int]] = {}
    broken = f"SELECT coalesce(partition_key, '') AS p, unnest(rules) AS r FROM {quarantine}"
    for key, rule, n in con.execute(f"SELECT p, r, count(*) FROM ({broken}) GROUP BY ALL ORDER BY ALL").fetchall():
        rules.setdefault(key, {})[rule] = n
    return {
        key: Counts(n, good.get(key, 0), bad.get(key, 0), duplicates.get(key, 0), rules.get(key, {}))
        for key, n in total.items()
    }


def _by_partition(con: duckdb.DuckDBPyConnection, rows: str) -> dict[str, int]:
    found = con.execute(f"SELECT coalesce(partition_key, ''), count(*) FROM {rows} GROUP BY 1 ORDER BY 1")
    return dict(found.fetchall())


def _is_partitioned(delivered: "pa.Table", refused: "pa.Table | None") -> bool:
    keys = [rows.column("partition_key").unique().to_pylist() for rows in (delivered, refused) if rows is not None]
    found = {key for listed in keys for key in listed}
    return not found or bool(found - {"", None})


def _check_evolved(contract: Contract, evolved: Sequence[Column]) -> None:
    if "known_at" in [column.name.lower() for column in evolved]:
        problem = f"the delivered rows have a new column known_at: declare it in {contract.reference}"
        raise DeclarationError(problem)
