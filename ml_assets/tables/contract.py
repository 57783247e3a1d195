"""Contracts of tables: a pandera model, read quickly from its source (`outline`) or compiled to SQL rules (`load`).

    class FlightOutcomes(pa.DataFrameModel):
        flight_id: str = pa.Field(str_length={"min_value": 1}, description="Unique id of the flight")
        departed_at: datetime = pa.Field(nullable=True)
        arrived_at: datetime = pa.Field(nullable=True)
        arrival_delay_minutes: float = pa.Field(in_range={"min_value": -120, "max_value": 2000}, nullable=True)

        class Config:
            metadata: ClassVar = {"rules": {"arrives after departure": "arrived_at >= departed_at"}}

Types: str, int, float, bool, datetime (an instant; zones are converted to UTC, a time without zone is refused) and
date. A column is required and not null unless it says `nullable=True`; a delivery has exactly the declared columns.
`rules` are SQL expressions over one row that are true, or null, for a good one. What cannot be run in SQL is refused
when the contract loads.
"""

from collections.abc import Sequence

from ml_assets.errors import DeclarationError, shorten
from ml_assets.tables import event
from ml_assets.tables.outline import Outline, outline, read
from ml_assets.tables.schema import Column, Contract, Promise, Rule

__all__ = ["Column", "Contract", "Promise", "Rule", "load", "outline", "promises"]


def load(reference: str, *, keys: Sequence[str] = (), passed: Sequence[str] = ()) -> Contract:
    """Import the model and compile its rules; a rule that SQL cannot run, or a wrong key, is a DeclarationError.

    With `passed` (see `event.times`), a row with an outcome must not be known before these times.
    Takes about 2 s of CPU the first time, for importing pandera; `outline` answers the same columns in a millisecond.
    """
    from ml_assets.tables.rules import compile_rules

    source = read(reference)
    columns = tuple(item.column for item in source.declared)
    _check_keys(columns, keys, source)
    rules = compile_rules(reference, source, keys=tuple(keys))
    added = (event.rule(columns, passed),) if passed else ()
    return Contract(reference, columns, (*rules, *added), tuple(keys))


def promises(
    reference: str,
    *,
    keys: Sequence[str],
    partition_column: str | None,
    has_known_at: bool,
    passed: Sequence[str] = (),
) -> tuple[Promise, ...]:
    """A named promise for every rule that a table judges its rows by, read from the source text in a millisecond.

    The names are those of `Rule.check` in what `load` compiles (it refuses a contract in which they differ), then of
    what `validate` adds: a known_at, the day of the partition, one row for each key.
    """
    from ml_assets.tables.promises import of_table

    source = read(reference)
    return of_table(source, keys=keys, partition_column=partition_column, has_known_at=has_known_at, passed=passed)


def _check_keys(columns: Sequence[Column], keys: Sequence[str], source: Outline) -> None:
    by_name = {column.name: column for column in columns}
    for key in keys:
        if key not in by_name:
            problem = f"the key {key} is no column of the contract; its columns: {shorten(by_name, 20)}"
            raise DeclarationError(problem, file=source.file, line=source.line)
        if by_name[key].nullable:
            problem = f"the key {key} may not be null: remove nullable=True"
            raise DeclarationError(problem, file=source.file, line=source.line_of(key))
