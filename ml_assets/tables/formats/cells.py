"""What a reader gives: the cells of a file, not yet typed, and where each row stands in it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ml_assets.errors import shorten
from ml_assets.tables.schema import Column

pc: Any = pyarrow.compute  # made at run time: type checkers know none of its functions

_TYPES = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "DATE": pa.date32(),
}


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type in which a column of this DuckDB type is kept."""
    return _TYPES[kind]


def table_type(kind: pa.DataType) -> str | None:
    """The DuckDB type of a column that is kept in this Arrow type; None for a type of no contract."""
    return next((name for name, known in _TYPES.items() if known == kind), None)


class UnreadableError(Exception):
    """A file cannot be read; `advice` says what to do."""

    def __init__(self, problem: str, advice: str = "deliver it again") -> None:
        self.advice = advice
        super().__init__(problem)


@dataclass(frozen=True)
class Typed:
    """A column in the type of the contract; null where `bad` is true, because the delivered value has another type.

    `found` names the type of the whole column when that is what is wrong.
    """

    values: pa.ChunkedArray
    bad: pa.ChunkedArray | None = None
    found: str = ""


class Cells(ABC):
    """The rows of a file; `numbers` says for each row which line or row of the file (the first is 1) it is.

    Text formats count lines as an editor does; a header is line 1. `lines` are rows that were delivered as JSON.
    """

    place: str
    lines: pa.ChunkedArray | None = None

    def __init__(self, names: Sequence[str], numbers: pa.Array) -> None:
        self.names, self.numbers = tuple(names), numbers

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.numbers)

    def load(self, names: Sequence[str]) -> None:  # noqa: B027  most readers have nothing to do
        """Make columns ready together, where that is cheaper."""

    @abstractmethod
    def typed(self, column: Column) -> Typed:
        """A column in the type of the contract."""

    @abstractmethod
    def delivered(self, name: str) -> pa.ChunkedArray:
        """A column as it was delivered: text in text formats."""

    def given(self, name: str) -> pa.ChunkedArray:
        """Whether each row holds anything in a column."""
        return pc.is_valid(self.delivered(name))

    @abstractmethod
    def infer(self, name: str) -> str | None:
        """The narrowest type of `schema.TYPES` that holds every value exactly; None if there is no value.

        UnreadableError for values that have no such type, as lists.
        """

    @abstractmethod
    def hint(self, column: Column, at: int) -> str:
        """What to write in place of the value of a wrong type at a position, as the end of a sentence, or nothing."""

    def shown(self, name: str, at: int) -> str:
        """The value at a position, as a message has it."""
        return repr(self.delivered(name)[at].as_py())


def require_unique(names: Sequence[str]) -> None:
    """Two columns of one name could not be told apart."""
    doubled = sorted(name for name, n in Counter(names).items() if n > 1)
    if doubled:
        raise UnreadableError(f"two columns have the name {shorten(doubled)}", "give every column a name of its own")


def row_numbers(n: int) -> pa.Array:
    """1 to n."""
    return pa.array(np.arange(1, n + 1, dtype=np.int64))
