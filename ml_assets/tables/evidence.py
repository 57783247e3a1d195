"""What a table is judged by: profiles, rows, and the outcome of the validation, read by others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ml_assets import engine
from ml_assets.tables.expectations import RECENT, Fences

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Evidence:
    """Of one table: the profiles of the partitions to judge and of those before; what validation found; and rows.

    `rows` and `quarantine` name views or tables of `con`: the valid rows of the partitions to judge (for `Shift` of
    those before too), and what is in quarantine of them. `tables` gives the view of each table that is referred to.
    What needs rows is left out where there are none. `layer` is where a person finds the rows.
    """

    table: str
    now: datetime
    profiles: "pa.Table"
    fences: Sequence[Fences] = ()
    con: "duckdb.DuckDBPyConnection | None" = None
    rows: str | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    quarantine: str | None = None
    layer: str = "tables"

    def query(self, partition: str, where: str, layer: str = "") -> str:
        """A statement for people, over the view of the table in a layer."""
        day = [f"partition_key = {engine.literal(partition)}"] if partition else []
        return f"SELECT * FROM {layer or self.layer}.{engine.quote(self.table)} WHERE {' AND '.join([*day, where])}"

    def keyed(self) -> "Evidence":
        """The same with a column partition_key in all rows, "" for those without partition."""
        return replace(self, rows=self._keyed(self.rows), quarantine=self._keyed(self.quarantine))

    def _keyed(self, view: str | None) -> str | None:
        if view is None or self.con is None or "partition_key" in types(self.con, view):
            return view
        return f"(SELECT '' AS partition_key, * FROM {view})"


def types(con: "duckdb.DuckDBPyConnection", rows: str) -> dict[str, str]:
    """The columns of a view, table or subselect, with their types."""
    relation = con.sql(f"SELECT * FROM {rows} LIMIT 0")
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


class History:
    """The profiles as arrays over the partitions, in order of their keys."""

    def __init__(self, profiles: "pa.Table") -> None:
        import numpy as np

        self.partitions: list[str] = sorted(set(profiles.column("partition_key").to_pylist()))
        self.at = {key: place for place, key in enumerate(self.partitions)}
        self.rows = np.full(len(self.partitions), np.nan)
        self._nulls: dict[str, np.ndarray] = {}
        names = ("partition_key", "column", "n", "nulls")
        for key, column, n, nulls in zip(*(profiles.column(name).to_pylist() for name in names), strict=True):
            if not column:
                self.rows[self.at[key]] = n
                continue
            found = self._nulls.setdefault(column, np.full(len(self.partitions), np.nan))
            found[self.at[key]] = nulls

    def nulls(self, column: str) -> "np.ndarray":
        """Rows in which a column is null; NaN for partitions without a profile of it."""
        import numpy as np

        return self._nulls.get(column, np.full(len(self.partitions), np.nan))

    def recent(self, values: "np.ndarray") -> "np.ndarray":
        """For each partition the values of the 28 before it, NaN where there are fewer."""
        import numpy as np

        padded = np.concatenate([np.full(RECENT, np.nan), values])
        return np.lib.stride_tricks.sliding_window_view(padded, RECENT)[: len(values)]


def median(windows: "np.ndarray") -> "np.ndarray":
    """The median of each row without its NaN; NaN for a row that holds nothing else."""
    import numpy as np

    found = np.full(len(windows), np.nan)
    some = ~np.isnan(windows).all(axis=1)
    found[some] = np.nanmedian(windows[some], axis=1)
    return found


def day(partition: str) -> date | None:
    """The day that a partition key names."""
    try:
        return date.fromisoformat(partition)
    except ValueError:
        return None


def on(partition: str) -> str:
    """Words for a partition in a sentence."""
    return f" on {partition}" if partition else ""


def percent(share: float) -> str:
    """A share in words, `9.9 %`."""
    return f"{100 * share:.1f} %"


def plain(value: Any) -> Any:
    """A value that JSON has."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
