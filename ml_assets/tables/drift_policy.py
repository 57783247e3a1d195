"""Applies a schema policy to the cells of a file: which rows stay, which are refused, which values are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from ml_assets import engine
from ml_assets.errors import DeliveryError, shorten
from ml_assets.tables.format import SchemaPolicy
from ml_assets.tables.formats.cells import Cells, Typed, arrow_type
from ml_assets.tables.schema import RESERVED, Column, Contract

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

NO_UNEXPECTED_COLUMNS = "no_unexpected_columns"
_MOST_UNEXPECTED = 1000


@dataclass(frozen=True)
class Settled:
    """A file under a policy.

    rows: the contract's columns and _row. refused: row, rule, rules, record. discarded: dropped values by column.
    new: columns that the contract does not name and that the policy takes, of `cells`, at the rows of `kept`.
    """

    rows: pa.Table
    refused: pa.Table
    discarded: dict[str, int]
    cells: Cells
    new: tuple[str, ...] = ()
    kept: Any = None


def type_rule(column: str) -> str:
    """The rule that a value of another type than its column's breaks."""
    return f"{column}__has_type"


def settle(cells: Cells, name: str, contract: Contract, policy: SchemaPolicy) -> Settled:
    """Type the cells; DeliveryError names everything that the policy does not take."""
    if cells.n_rows == 0:
        raise DeliveryError(f"{name}: it holds no rows; deliver it again, or remove it")
    unexpected = [column for column in cells.names if contract.column(column) is None]
    problems = _differences(cells, unexpected, contract, policy)
    typed = _typed(cells, contract)
    if policy.data_type == "freeze":
        problems += [_wrong_type(cells, column, typed[column.name]) for column in _with_bad(contract, typed)]
    if problems:
        raise DeliveryError(f"{name}: {shorten(problems)}; correct the delivery, or change {contract.reference}")
    return _Judged(cells, contract, policy, typed, unexpected).settled()


def _differences(cells: Cells, unexpected: Sequence[str], contract: Contract, policy: SchemaPolicy) -> list[str]:
    evolves = policy.columns == "evolve"
    missing = [c.name for c in contract.columns if c.name not in cells.names and not (evolves and c.nullable)]
    problems = [f"missing column {shorten(missing)}"] if missing else []
    if unexpected and policy.columns == "freeze":
        problems.append(f"unexpected column {shorten([name or repr(name) for name in unexpected])}")
    if len(unexpected) > _MOST_UNEXPECTED:
        problems.append(f"{len(unexpected):,} columns that the contract does not name: a mapping became columns")
    if evolves:
        problems += [_not_new(name, contract) for name in unexpected if _not_new(name, contract)]
    for there, here in _alike(unexpected, missing):
        problems.append(f"column {there!r} is not {here!r}: write names exactly so")
    return problems


def _alike(unexpected: Sequence[str], missing: Sequence[str]) -> list[tuple[str, str]]:
    by_fold = {name.casefold(): name for name in missing}
    return [(name, by_fold[name.strip().casefold()]) for name in unexpected if name.strip().casefold() in by_fold]


def _not_new(name: str, contract: Contract) -> str:
    """Why a column cannot come into the table; names differ by more than case there."""
    if name.casefold() in {*RESERVED, "known_at"}:
        return f"unexpected column {name}, a name that ml_assets uses itself"
    if name.strip() == "":
        return "unexpected column without a name"
    taken = next((known for known in contract.names() if known.casefold() == name.casefold()), None)
    return f"unexpected column {name} beside {taken}" if taken else ""


def _typed(cells: Cells, contract: Contract) -> dict[str, Typed]:
    present = [column for column in contract.columns if column.name in cells.names]
    cells.load([column.name for column in present])
    typed = {column.name: cells.typed(column) for column in present}
    for column in contract.columns:
        nothing = pa.chunked_array([pa.nulls(cells.n_rows, arrow_type(column.type))])
        typed.setdefault(column.name, Typed(nothing))
    return typed


def _with_bad(contract: Contract, typed: dict[str, Typed]) -> list[Column]:
    bad = {name: column.bad for name, column in typed.items()}
    return [column for column in contract.columns if bad[column.name] is not None and pc.any(bad[column.name]).as_py()]


def _wrong_type(cells: Cells, column: Column, typed: Typed) -> str:
    first = pc.index(typed.bad, True).as_py()
    wrong, hint = f"column {column.name} is not {column.type}", cells.hint(column, first)
    if typed.found:
        return f"{wrong}: found {typed.found}{hint}"
    others = pc.sum(typed.bad).as_py() - 1
    more = f" (and {others:,} more)" if others else ""
    return f"{wrong}: {cells.place} {cells.numbers[first]} holds {cells.shown(column.name, first)}{more}{hint}"


class _Judged:
    """The policy at work, by masks over all rows."""

    def __init__(
        self, cells: Cells, contract: Contract, policy: SchemaPolicy, typed: dict[str, Typed], unexpected: Sequence[str]
    ) -> None:
        self.cells, self.contract, self.policy, self.typed = cells, contract, policy, typed
        self.unexpected = unexpected if policy.columns != "freeze" else []
        self.wrong = _with_bad(contract, typed)
        if self.unexpected:
            cells.load(self.unexpected)

    def settled(self) -> Settled:
        """Rows without the refused ones."""
        columns = {column.name: self.typed[column.name].values for column in self.contract.columns}
        rows = pa.table({**columns, "_row": self.cells.numbers})
        broken = self._broken()
        new = tuple(self.unexpected) if self.policy.columns == "evolve" else ()
        if not broken:
            return Settled(rows, _no_refused(), self._discarded(None), self.cells, new)
        bad = next(iter(broken.values()))
        for mask in list(broken.values())[1:]:
            bad = pc.or_(bad, mask)
        good = pc.invert(bad)
        refused = self._refused(pc.indices_nonzero(bad), broken)
        return Settled(rows.filter(good), refused, self._discarded(good), self.cells, new, good)

    def _broken(self) -> dict[str, Any]:
        """For each rule of the policy that some row breaks, which rows do."""
        broken = {}
        if self.policy.data_type == "discard_row":
            broken = {type_rule(column.name): self.typed[column.name].bad for column in self.wrong}
        if self.policy.columns == "discard_row" and self.unexpected:
            given = self.cells.given(self.unexpected[0])
            for name in self.unexpected[1:]:
                given = pc.or_(given, self.cells.given(name))
            if pc.any(given).as_py():
                broken[NO_UNEXPECTED_COLUMNS] = given
        return broken

    def _discarded(self, good: Any) -> dict[str, int]:
        masks = {}
        if self.policy.data_type == "discard_value":
            masks |= {column.name: self.typed[column.name].bad for column in self.wrong}
        if self.policy.columns == "discard_value":
            masks |= {name: self.cells.given(name) for name in self.unexpected}
        counts = {name: pc.sum(pc.and_(mask, good) if good is not None else mask) for name, mask in masks.items()}
        return {name: n.as_py() for name, n in counts.items() if n.as_py()}

    def _refused(self, at: pa.Array, broken: dict[str, Any]) -> pa.Table:
        """The refused rows as the quarantine has them; the record is the row as delivered.

        Delivered JSON stays as it is. Otherwise the record holds typed values, so that the row can be delivered again
        as JSON, and what was delivered where that has no type of the contract.
        """
        columns: dict[str, Any] = {"row": self.cells.numbers.take(at)}
        columns |= {f"rule {i}": mask.take(at) for i, mask in enumerate(broken.values())}
        record = "line"
        if self.cells.lines is not None:
            columns["line"] = self.cells.lines.take(at)
        else:
            fields = self._fields(columns, at)
            record = f"CAST(json_object({', '.join(fields)}) AS VARCHAR)"
        cases = ", ".join(f'CASE WHEN "rule {i}" THEN {engine.literal(rule)} END' for i, rule in enumerate(broken))
        rules = f"list_filter([{cases}]::VARCHAR[], lambda rule: rule IS NOT NULL)"
        judged = f"SELECT row, {rules} AS rules, {record} AS record FROM refused_rows"
        query = f"SELECT row, rules[1] AS rule, rules, record FROM ({judged})"
        con = engine.scratch()
        con.register("refused_rows", pa.table(columns))
        try:
            return con.sql(query).to_arrow_table().cast(_no_refused().schema)
        finally:
            con.unregister("refused_rows")

    def _fields(self, columns: dict[str, Any], at: pa.Array) -> list[str]:
        """Adds the columns of the record to those of the query, and gives the pairs of its JSON object."""
        pairs = []
        wrong = {column.name for column in self.wrong}
        for i, name in enumerate(self.cells.names):
            if name in self.typed:
                columns[f"typed {i}"] = self.typed[name].values.take(at)
            if name in wrong:
                columns[f"bad {i}"] = self.typed[name].bad.take(at)  # pyright: ignore[reportOptionalMemberAccess]
            if name in wrong or name not in self.typed:
                columns[f"delivered {i}"] = self.cells.delivered(name).take(at)
            value = _json(f"delivered {i}", columns) if name not in self.typed else _json(f"typed {i}", columns)
            if name in wrong:
                value = f'CASE WHEN "bad {i}" THEN {_json(f"delivered {i}", columns)} ELSE {value} END'
            pairs += [engine.literal(name), value]
        return pairs


def _json(name: str, columns: dict[str, Any]) -> str:
    """A column as JSON, which has neither NaN nor infinity: they are written as text."""
    column = engine.quote(name)
    if pa.types.is_floating(columns[name].type):
        return f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json(CAST({column} AS VARCHAR)) END"
    return f"to_json({column})"


def _no_refused() -> pa.Table:
    text = pa.string()
    return pa.schema([("row", pa.int64()), ("rule", text), ("rules", pa.list_(text)), ("record", text)]).empty_table()
