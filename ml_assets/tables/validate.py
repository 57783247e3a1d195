"""Splits delivered rows into those that keep the contract, those in quarantine, and duplicates. Nothing is lost.

Order: first every row by itself (a broken rule means quarantine), then duplicates by key among the good rows of a
partition (the newest delivery wins, so a broken restatement never replaces a good row), then rules that compare rows
(unique). A partition is judged alone, so that it comes out the same whatever was delivered with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from ml_assets import engine
from ml_assets.errors import DeclarationError
from ml_assets.tables import expression
from ml_assets.tables.delivery import DeliveredFile, FileProblem, gather, read_delivery, stamp
from ml_assets.tables.schema import Contract, Rule

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Counts", "DeliveredFile", "FileProblem", "Validation", "gather", "read_delivery", "stamp", "validate"]


@dataclass(frozen=True)
class Counts:
    """Rows of a partition: delivered = valid + quarantined + duplicates; a row can break several rules of `by_rule`."""

    delivered: int = 0
    valid: int = 0
    quarantined: int = 0
    duplicates: int = 0
    by_rule: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Validation:
    """The outcome; `counts` by partition key, "" for rows without partition.

    valid: the contract's columns, known_at (unless it is one of them) and partition_key (if the delivered rows have any
    that is not null), ordered by partition and key. quarantine: partition_key, file, row, rule (the first that was
    broken), rules (all), record (JSON).
    """

    valid: "pa.Table"
    quarantine: "pa.Table"
    counts: dict[str, Counts]


def validate(
    con: duckdb.DuckDBPyConnection,
    delivered: "pa.Table",
    contract: Contract,
    *,
    known_at: str | None = None,
    partition_column: str | None = None,
) -> Validation:
    """Judge stamped rows (see `delivery.stamp`).

    `known_at` is an SQL expression over the row; without it, the contract's column known_at, or else the first arrival
    of the row. With `partition_column`, the UTC day of that column must be the row's partition_key.
    """
    plan = _Plan(contract, known_at, partition_column, partitioned=_is_partitioned(delivered))
    con.register(plan.source, delivered)
    try:
        return plan.run(con)
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        problem = f"{contract.reference}: a rule or known_at fails on the delivered rows; use TRY_CAST: {error}"
        raise DeclarationError(problem) from error
    finally:
        con.execute(f"DROP TABLE IF EXISTS {plan.source}_kept")
        con.unregister(plan.source)


def _is_partitioned(delivered: "pa.Table") -> bool:
    column = delivered.column("partition_key")
    return column.null_count < len(column) or len(column) == 0


class _Plan:
    """The SQL of one validation."""

    def __init__(
        self, contract: Contract, known_at: str | None, partition_column: str | None, *, partitioned: bool
    ) -> None:
        self.contract, self.partitioned = contract, partitioned
        self.source = "delivered_to_validate"
        self.names = [engine.quote(name) for name in contract.names()]
        self.known_at = _known_at(contract, known_at)
        self.unique = [rule for rule in contract.rules if rule.unique]
        self.rules = [rule for rule in contract.rules if not rule.unique]
        if self.known_at:
            self.rules.append(Rule("known_at is not null", None, "_known_at IS NOT NULL"))
        if partition_column:
            self.rules.append(_in_partition(contract, partition_column))

    def run(self, con: duckdb.DuckDBPyConnection) -> Validation:
        """Two scans of the delivered rows: one for the broken rows, one for the good ones; a third counts."""
        broken, kept = self._broken(self._staged(), self.rules, _all(self.rules)), self._kept()
        if not self.unique:
            valid = con.sql(self._valid(kept, "true")).to_arrow_table()
            quarantine = con.sql(f"{broken} ORDER BY ALL").to_arrow_table()
        else:
            con.execute(f"CREATE TEMP TABLE {self.source}_kept AS {self._judge_unique(kept)}")
            kept = f"SELECT * FROM {self.source}_kept"
            flags = [Rule(rule.name, rule.column, f"_unique_{i}") for i, rule in enumerate(self.unique)]
            ties = self._broken(kept, flags, _all(flags))
            valid = con.sql(self._valid(kept, _all(flags))).to_arrow_table()
            quarantine = con.sql(f"({broken}) UNION ALL ({ties}) ORDER BY ALL").to_arrow_table()
        return Validation(valid, quarantine, self._counts(con, valid, quarantine))

    def _staged(self) -> str:
        """The delivered rows with NaN as null, and when each was known."""
        columns = [
            f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" if column.type == "DOUBLE" else name
            for name, column in zip(self.names, self.contract.columns, strict=True)
        ]
        stamps = "coalesce(partition_key, '') AS partition_key, _file, _row, _arrived_at"
        known_at = f"(\n{self.known_at}\n)" if self.known_at else "_arrived_at"
        return f"SELECT *, {known_at} AS _known_at FROM (SELECT {', '.join(columns)}, {stamps} FROM {self.source})"

    def _broken(self, rows: str, rules: Sequence[Rule], good: str) -> str:
        cases = ", ".join(f"CASE WHEN (\n{r.sql}\n) IS FALSE THEN {engine.literal(r.name)} END" for r in rules)
        names = f"list_filter([{cases}]::VARCHAR[], lambda rule: rule IS NOT NULL)"
        return f"""
            SELECT partition_key, file, row, rules[1] AS rule, rules, record FROM (
                SELECT partition_key, _file AS file, _row AS row, {names} AS rules, {self._record()} AS record
                FROM ({rows}) WHERE NOT ({good}))"""

    def _record(self) -> str:
        """The row as JSON, which has no infinity: that is written as text."""
        values = [
            f"CASE WHEN isfinite({name}) THEN to_json({name}) ELSE to_json(CAST({name} AS VARCHAR)) END"
            if column.type == "DOUBLE"
            else f"to_json({name})"
            for name, column in zip(self.names, self.contract.columns, strict=True)
        ]
        pairs = ", ".join(f"{engine.literal(n)}, {v}" for n, v in zip(self.contract.names(), values, strict=True))
        return f"CAST(json_object({pairs}) AS VARCHAR)"

    def _kept(self) -> str:
        """The good rows without duplicates by key."""
        rows = f"SELECT * FROM ({self._staged()}) WHERE {_all(self.rules)}"
        if not self.contract.keys:
            return rows
        keys = ", ".join(["partition_key", *map(engine.quote, self.contract.keys)])
        first = "_known_at"
        if not self.known_at:  # an exact copy that arrives again was known before
            first = f"min(_known_at) OVER (PARTITION BY partition_key, {', '.join(self.names)})"
        return f"""
            SELECT * REPLACE ({first} AS _known_at) FROM ({rows})
            QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY _arrived_at DESC, _file DESC, _row DESC) = 1"""

    def _judge_unique(self, kept: str) -> str:
        flags = ", ".join(f"(\n{rule.sql}\n) AS _unique_{i}" for i, rule in enumerate(self.unique))
        return f"SELECT *, {flags} FROM ({kept})"

    def _valid(self, kept: str, good: str) -> str:
        columns = list(self.names)
        if self.contract.column("known_at") is None:
            columns.append("_known_at AS known_at")
        if self.partitioned:
            columns.append("partition_key")
        order = ", ".join(["partition_key", *map(engine.quote, self.contract.keys), "_file", "_row"])
        return f"SELECT {', '.join(columns)} FROM ({kept}) WHERE {good} ORDER BY {order}"

    def _counts(self, con: duckdb.DuckDBPyConnection, valid: "pa.Table", quarantine: "pa.Table") -> dict[str, Counts]:
        delivered = con.execute(
            f"SELECT coalesce(partition_key, ''), count(*) FROM {self.source} GROUP BY 1 ORDER BY 1"
        )
        totals = dict(delivered.fetchall())
        good = _by_partition(valid) if self.partitioned else {"": valid.num_rows}
        bad, rules = _by_partition(quarantine), _by_rule(quarantine)
        return {
            key: Counts(
                n, good.get(key, 0), bad.get(key, 0), n - good.get(key, 0) - bad.get(key, 0), rules.get(key, {})
            )
            for key, n in totals.items()
        }


def _all(rules: Sequence[Rule]) -> str:
    return " AND ".join(f"(\n{rule.sql}\n) IS NOT FALSE" for rule in rules) or "true"


def _known_at(contract: Contract, stated: str | None) -> str | None:
    own = contract.column("known_at")
    if own and stated and stated.strip().strip('"') != "known_at":
        problem = "has a column known_at: let known_at be that column, or give the column an alias"
        raise DeclarationError(f"{contract.reference} {problem}")
    if stated:
        expression.check(contract.columns, {"known_at": (stated, "TIMESTAMPTZ")})
    return stated or (engine.quote("known_at") if own else None)


def _in_partition(contract: Contract, name: str) -> Rule:
    column = contract.column(name)
    if column is None or column.type not in ("TIMESTAMPTZ", "DATE"):
        raise DeclarationError(f"partitions: {contract.reference} has no datetime or date column {name}")
    day = engine.quote(name) if column.type == "DATE" else f"{engine.quote(name)} AT TIME ZONE 'UTC'"
    return Rule(f"{name}_in_partition", name, f"coalesce(CAST(CAST({day} AS DATE) AS VARCHAR) = partition_key, false)")


def _by_partition(rows: "pa.Table") -> dict[str, int]:
    counts = rows.column("partition_key").value_counts()
    return {item["values"]: item["counts"] for item in counts.to_pylist()}


def _by_rule(quarantine: "pa.Table") -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for key, rules in zip(*(quarantine.column(name).to_pylist() for name in ("partition_key", "rules")), strict=True):
        for rule in rules:
            counts.setdefault(key, {}).setdefault(rule, 0)
            counts[key][rule] += 1
    return counts
