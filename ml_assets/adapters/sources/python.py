"""Rows that a function of the project gives."""

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.sources import columns, polling
from ml_assets.adapters.sources.base import Fetched, Look, PartitionState, Python, Subject
from ml_assets.errors import DeclarationError, DeliveryError, MlAssetsError, SourceUnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

_GIVES = "give an Arrow table, a pandas frame, or mappings of column to value"


class PythonSource:
    """Calls `package.module.function(day)`, or with None for a table without days.

    It gives an Arrow table, a pandas frame or mappings. None and no rows mean that a day has nothing (yet). An
    OSError, such as of a connection or a timeout, may pass by itself; whatever else it raises will not.
    """

    def __init__(self, spec: Python, subject: Subject) -> None:
        self.spec, self.subject = spec, subject

    @property
    def label(self) -> str:
        """The function's name."""
        return self.spec.function

    def look(self, known: Mapping[str, PartitionState]) -> Look:  # noqa: ARG002  time tells, not what was known
        """The newest days are due each `every`, older ones once."""
        return polling.look(self.subject, every=self.spec.every, look_back=self.spec.look_back)

    def fetch(self, partitions: Sequence[str], positions: Mapping[str, str]) -> Iterator[Fetched]:  # noqa: ARG002
        """Call the function for each partition; it remembers no positions."""
        function = self._function()
        for partition in partitions:
            rows = self._call(function, date.fromisoformat(partition) if partition else None)
            if rows is not None and rows.num_rows:
                yield Fetched(partition, f"{partition or 'all'}.parquet", columns.parquet(rows))
            elif not partition:
                raise DeliveryError(f"{_place(function)}: {self.label} gave no rows; {_GIVES}.")

    def _function(self) -> Callable[[date | None], Any]:
        module, _, name = self.label.rpartition(".")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            problem = f"{self.label} is no function that can be imported: {error}. Write package.module.function."
            raise DeclarationError(problem) from error
        if not callable(function):
            raise DeclarationError(f"{self.label} is no function but a {type(function).__name__}.")
        return function

    def _call(self, function: Callable[[date | None], Any], day: date | None) -> "pa.Table | None":
        of = f"{self.label}({day or ''})"
        try:
            return _table(function(day), f"{_place(function)}: {of}")
        except MlAssetsError:
            raise
        except OSError as error:
            raise SourceUnavailableError(_raised(function, of, error)) from error
        except Exception as error:
            raise DeliveryError(_raised(function, of, error)) from error


def _table(rows: Any, of: str) -> "pa.Table | None":
    import pandas as pd
    import pyarrow as pa

    if rows is None or isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pd.DataFrame):
        unnamed = all(name is None for name in rows.index.names)
        return pa.Table.from_pandas(rows.reset_index(drop=unnamed), preserve_index=False)
    if isinstance(rows, str | Mapping) or not hasattr(rows, "__iter__"):
        raise DeliveryError(f"{of} gave a {type(rows).__name__}; {_GIVES}.")
    return _from_mappings(list(rows), of)


def _from_mappings(rows: Sequence[Any], of: str) -> "pa.Table":
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DeliveryError(f"{of} gave a {type(row).__name__} as row {number}; {_GIVES}.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = columns.table_of({str(name): [row.get(name) for row in rows] for name in names}, of)
    return table if names else table.slice(0, 0)


def _raised(function: Callable, of: str, error: Exception) -> str:
    """Where in the function's own file it was, as the last line of that file which led there."""
    file = _place(function).rpartition(":")[0]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f"{file}:{own[-1].lineno}" if own else _place(function)
    return f"{place}: {of} raised {type(error).__name__}: {error}"


def _place(function: Callable) -> str:
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else f"{function!r}:0"
