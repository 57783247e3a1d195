"""The SQL of a validation, over rows that may be larger than memory: `validate` materializes what is lazy here.

Made for many good rows and few bad ones. Duplicates and ties are found by the hashes of keys alone, sorted as plain
numbers; only rows that share a hash are compared. Of the rows that break a rule, and of no others, the broken rules
and the record are written.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb

from ml_assets import engine
from ml_assets.errors import DeclarationError
from ml_assets.tables import expression, fences
from ml_assets.tables.expectations import Fences, Outliers
from ml_assets.tables.promises import KNOWN_AT_CHECK, in_partition_check
from ml_assets.tables.schema import Column, Contract, Rule

if TYPE_CHECKING:
    import numpy as np

STAGED, CONTESTED, COMPARED = "_staged", "_contested", "_compared"
_QUARANTINE = "partition_key, file, row, rule, rules, record, arrived_at"


@dataclass(frozen=True)
class Judged:
    """SELECTs of the two outcomes, in order, valid while `judged` is open; and what was counted on the way.

    `duplicates` are the good rows by partition that a newer one of the same key replaces.
    """

    valid: str
    quarantine: str
    fences: tuple[Fences, ...]
    duplicates: dict[str, int]


@dataclass(frozen=True)
class Question:
    """What rows are judged by; see `validate.validate`."""

    contract: Contract
    known_at: str | None = None
    partition_column: str | None = None
    partitioned: bool = True
    evolved: Sequence[Column] = ()
    outliers: Sequence[Outliers] = ()

    @property
    def columns(self) -> list[Column]:
        """The columns of the valid rows, but for known_at and partition_key."""
        return [*self.contract.columns, *self.evolved]

    def rules(self) -> tuple[Rule, ...]:
        """The rules of the contract, and what the table adds; the keys are no rule that a row could break."""
        rules = {rule.name: rule for rule in self.contract.rules}
        if self.moment():
            own = Rule("known_at is not null", None, "_known_at IS NOT NULL", check=KNOWN_AT_CHECK)
            rules.setdefault(own.name, own)
        if self.partition_column:
            rule = _in_partition(self.contract, self.partition_column)
            rules.setdefault(rule.name, rule)
        return tuple(rules.values())

    def moment(self) -> str | None:
        """SQL for when a row was known; None for its first arrival."""
        own = self.contract.column("known_at")
        if own and self.known_at and self.known_at.strip().strip('"') != "known_at":
            problem = "has a column known_at: let known_at be that column, or give the column an alias"
            raise DeclarationError(f"{self.contract.reference} {problem}")
        if self.known_at:
            expression.check(self.contract.columns, {"known_at": (self.known_at, "TIMESTAMPTZ")})
        return self.known_at or (engine.quote("known_at") if own else None)


@contextlib.contextmanager
def judged(con: duckdb.DuckDBPyConnection, delivered: str, refused: str | None, asked: Question) -> Iterator[Judged]:
    """Judge the stamped rows of a view or table; `refused` is one of rows that are in quarantine already."""
    plan = _Plan(con, asked)
    try:
        con.execute(f"CREATE OR REPLACE TEMP VIEW {STAGED} AS {plan.staged(delivered)}")
        kept = plan.kept()
        erected = fences.erect(con, kept, asked.outliers) if asked.outliers else ()
        yield Judged(plan.valid(kept), plan.quarantine(kept, refused, erected), erected, plan.duplicates)
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        problem = f"{asked.contract.reference}: a rule or known_at fails on the delivered rows; use TRY_CAST: {error}"
        raise DeclarationError(problem) from error
    finally:
        con.execute(f"DROP VIEW IF EXISTS {STAGED}")
        for table in (CONTESTED, COMPARED, fences.TABLE, *plan.doubled):
            con.execute(f"DROP TABLE IF EXISTS {table}")


class _Plan:
    def __init__(self, con: duckdb.DuckDBPyConnection, asked: Question) -> None:
        self.con, self.asked = con, asked
        self.keys = [engine.quote(key) for key in asked.contract.keys]
        self.names = [engine.quote(column.name) for column in asked.columns]
        self.moment = asked.moment()
        rules = asked.rules()
        self.row_rules = [rule for rule in rules if not rule.unique]
        self.unique = [rule for rule in rules if rule.unique]
        self.only: str | None = None  # the partition, if there is just one
        self.doubled: list[str] = []
        self.duplicates: dict[str, int] = {}

    def staged(self, delivered: str) -> str:
        """The delivered rows with NaN as null, and when each was known."""
        columns = [
            f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" if column.type == "DOUBLE" else name
            for name, column in zip(self.names, self.asked.columns, strict=True)
        ]
        stamps = "coalesce(partition_key, '') AS partition_key, _file, _row, _arrived_at"
        known_at = f"(\n{self.moment}\n)" if self.moment else "_arrived_at"
        return f"SELECT *, {known_at} AS _known_at FROM (SELECT {', '.join(columns)}, {stamps} FROM {delivered})"

    def kept(self) -> str:
        """The good rows without duplicates by key, each with whether it keeps the rules of uniqueness."""
        flags = [f"_unique_{i}" for i, _ in enumerate(self.unique)]
        good = f"SELECT * FROM {STAGED} WHERE {_all(self.row_rules)}"
        found = self.con.execute(f"SELECT DISTINCT partition_key FROM {STAGED} LIMIT 2").fetchall()
        self.only = found[0][0] if len(found) == 1 else None
        contested = self._contested()
        alone = f"SELECT *{''.join(f', true AS {flag}' for flag in flags)} FROM ({good})"
        if not contested:
            return alone
        judged = "".join(f", (\n{rule.sql}\n) AS {flag}" for rule, flag in zip(self.unique, flags, strict=True))
        winners = f"SELECT * EXCLUDE (_wins){judged} FROM {CONTESTED} WHERE _wins"
        rows = self._with_winners(f"{good} AND ({contested})")
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {CONTESTED} AS {rows}")
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {COMPARED} AS {winners}")
        lost = f"SELECT partition_key, count(*) FROM {CONTESTED} WHERE NOT _wins GROUP BY 1"
        self.duplicates = dict(self.con.execute(lost).fetchall())
        return f"{alone} WHERE NOT ({contested}) UNION ALL SELECT * FROM {COMPARED}"

    def _contested(self) -> str:
        """SQL that is true for rows that might share a key, or what should be unique, with another; "" for none."""
        hashes = [f"hash(partition_key, {', '.join(self.keys)})"] if self.keys else []
        for rule in self.unique:
            columns = [engine.quote(name) for name in rule.unique]
            null = " OR ".join(f"{name} IS NULL" for name in columns)
            hashes.append(f"CASE WHEN {null} THEN NULL ELSE hash(partition_key, {', '.join(columns)}) END")
        if not hashes:
            return ""
        listed = ", ".join(f"{sql} AS h{i}" for i, sql in enumerate(hashes))
        found = self.con.sql(f"SELECT {listed} FROM {STAGED}").fetchnumpy()
        parts = []
        for i, sql in enumerate(hashes):
            if len(twice := _twice(found.pop(f"h{i}"))):
                self._remember(f"_doubled_{i}", twice)
                parts.append(f"coalesce({sql} IN (SELECT h FROM _doubled_{i}), false)")
        return " OR ".join(parts)

    def _remember(self, table: str, hashes: "np.ndarray") -> None:
        import pyarrow as pa

        self.con.register("_hashes", pa.table({"h": hashes}))
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT h FROM _hashes")
        self.con.unregister("_hashes")
        self.doubled.append(table)

    def _with_winners(self, rows: str) -> str:
        if not self.keys:
            return f"SELECT *, true AS _wins FROM ({rows})"
        first = "_known_at"
        if not self.moment:  # an exact copy that arrives again was known before
            first = f"min(_known_at) OVER (PARTITION BY partition_key, {', '.join(self.names)})"
        keys = ", ".join(["partition_key", *self.keys])
        newest = "_arrived_at DESC, _file DESC, _row DESC"
        wins = f"row_number() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1"
        return f"SELECT * REPLACE ({first} AS _known_at), {wins} AS _wins FROM ({rows})"

    def valid(self, kept: str) -> str:
        """The kept rows that are unique and no outliers to be taken out, clipped where that is asked."""
        columns = list(self.names)
        for i, outliers in enumerate(self.asked.outliers):
            if outliers.action == "clip":
                at = self.names.index(engine.quote(outliers.column))
                columns[at] = fences.clipped(i, outliers, self.asked.columns[at].type)
        if self.asked.contract.column("known_at") is None:
            columns.append("_known_at AS known_at")
        if self.asked.partitioned and self.only is None:
            columns.append("partition_key")
        place = self.keys or ["_file", "_row"]  # a short order: to sort by these too would cost half as much again
        order = ", ".join(f"rows.{name}" for name in ([] if self.only else ["partition_key"]) + place)
        good = _all(self._comparing())
        rows = f"SELECT {', '.join(columns)} FROM ({self._fenced(kept)}) AS rows WHERE {good} ORDER BY {order}"
        if not (self.asked.partitioned and self.only):
            return rows
        return f"SELECT *, {engine.literal(self.only)} AS partition_key FROM ({rows})"  # not to sort it along

    def quarantine(self, kept: str, refused: str | None, erected: Sequence[Fences]) -> str:
        """Broken rows, kept rows that compare badly with the others, and those that were refused before."""
        parts = [self._broken(STAGED, self.row_rules)]
        if comparing := self._comparing():
            suspects = f"SELECT * FROM ({kept}) WHERE {self._suspect(erected)}"
            parts.append(self._broken(f"({self._fenced(suspects)})", comparing))
        if refused:
            parts.append(f"SELECT {_QUARANTINE} FROM {refused}")
        return f"SELECT {_QUARANTINE} FROM ({' UNION ALL '.join(parts)}) ORDER BY partition_key, file, row, arrived_at"

    def _suspect(self, erected: Sequence[Fences]) -> str:
        ties = [f"NOT _unique_{i}" for i, _ in enumerate(self.unique)] if self.doubled else []
        return " OR ".join(
            [*ties, *(fences.suspect(o, erected) for o in self.asked.outliers if o.action == "quarantine")]
        )

    def _comparing(self) -> list[Rule]:
        """Rules that compare a kept row with the others; outliers that are not taken out break none."""
        unique = [replace(rule, sql=f"_unique_{i}") for i, rule in enumerate(self.unique)] if self.doubled else []
        each = [(i, o) for i, o in enumerate(self.asked.outliers) if o.action == "quarantine"]
        return unique + [Rule(o.rule, o.column, fences.within(i, o), check=o.check) for i, o in each]

    def _fenced(self, kept: str) -> str:
        if all(outliers.action == "flag" for outliers in self.asked.outliers):
            return kept
        return f"SELECT * FROM ({kept}) LEFT JOIN {fences.TABLE} USING (partition_key)"

    def _broken(self, rows: str, rules: Sequence[Rule]) -> str:
        cases = ", ".join(f"CASE WHEN (\n{r.sql}\n) IS FALSE THEN {engine.literal(r.name)} END" for r in rules)
        names = f"list_filter([{cases}]::VARCHAR[], lambda rule: rule IS NOT NULL)"
        return f"""
            SELECT partition_key, file, row, rules[1] AS rule, rules, record, arrived_at FROM (
                SELECT partition_key, _file AS file, _row AS row, {names} AS rules, {self._record()} AS record,
                    _arrived_at AS arrived_at
                FROM {rows} WHERE NOT ({_all(rules)}))"""

    def _record(self) -> str:
        """The row as JSON, which has no infinity: that is written as text. A struct is twice as fast as an object."""
        columns = list(zip(self.names, self.asked.columns, strict=True))
        doubles = [name for name, column in columns if column.type == "DOUBLE"]
        record = f"to_json({{{', '.join(f'{name}: {name}' for name in self.names)}}})"
        if doubles:
            finite = " AND ".join(f"isfinite({name}) IS NOT FALSE" for name in doubles)
            texts = ", ".join(
                f"{name}: CASE WHEN isfinite({name}) THEN to_json({name}) ELSE to_json(CAST({name} AS VARCHAR)) END"
                if column.type == "DOUBLE"
                else f"{name}: {name}"
                for name, column in columns
            )
            record = f"CASE WHEN {finite} THEN {record} ELSE to_json({{{texts}}}) END"
        return f"CAST({record} AS VARCHAR)"


def _twice(hashes: Any) -> "np.ndarray":
    """The numbers that occur more than once."""
    import numpy as np

    values = hashes.compressed() if isinstance(hashes, np.ma.MaskedArray) else hashes
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def _all(rules: Sequence[Rule]) -> str:
    return " AND ".join(f"(\n{rule.sql}\n) IS NOT FALSE" for rule in rules) or "true"


def _in_partition(contract: Contract, name: str) -> Rule:
    column = contract.column(name)
    if column is None or column.type not in ("TIMESTAMPTZ", "DATE"):
        raise DeclarationError(f"partitions: {contract.reference} has no datetime or date column {name}")
    day = engine.quote(name) if column.type == "DATE" else f"{engine.quote(name)} AT TIME ZONE 'UTC'"
    sql = f"coalesce(CAST(CAST({day} AS DATE) AS VARCHAR) = partition_key, false)"
    return Rule(f"{name}_in_partition", name, sql, check=in_partition_check(name))
