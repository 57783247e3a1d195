"""What a contract says, as plain data: columns, rules and keys. The words that every other module of tables shares."""

from dataclasses import dataclass, field

TYPES = ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "DATE")
RESERVED = ("partition_key", "_file", "_row", "_arrived_at", "_known_at")  # columns that ml_assets adds to rows


@dataclass(frozen=True)
class Column:
    """A column of a table; `type` is one of `TYPES`, and a TIMESTAMPTZ is an instant in UTC, in microseconds."""

    name: str
    type: str
    nullable: bool
    description: str = ""


@dataclass(frozen=True)
class Rule:
    """Something that a good row keeps: `sql` is TRUE for it, or NULL when the value that is judged is null.

    A rule with `unique` compares rows: its sql is a window over the rows of one partition, so it is judged after
    duplicates by key are gone, and every row of a tie breaks it.
    """

    name: str
    column: str | None
    sql: str
    unique: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """The columns that a delivery has, exactly; the rules that its rows keep; the keys that identify a row."""

    reference: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = field(repr=False)
    keys: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the order of declaration."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)
