"""What a column looked like: counts on fixed bins, so that any two profiles on the same bins can be added or compared.

The reference is profiled once, when a model is trained, and stored as a few kilobytes of
JSON; the raw rows are not read again. Comparing two profiles is in `drift`.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import duckdb
import msgspec

from ml_assets.engine import literal, quote
from ml_assets.errors import DeclarationError, shorten

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["numeric", "categorical"]
_REGISTERED = "_ml_assets_profiled_rows"


@dataclass(frozen=True)
class ColumnProfile:
    """Counts of one column.

    Numeric: `counts[i]` are the values in (edges[i-1], edges[i]], the first bin open below, the last one open above.
    Categorical: `counts[i]` belong to `categories[i]`. NaN counts as null; infinities fall into the outer bins.
    `usual` is how far (PSI) single blocks of a reference lie from the whole of it; None until it is calibrated.
    """

    name: str
    kind: Kind
    nulls: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    usual: float | None = None

    @property
    def n(self) -> int:
        """Rows, nulls included."""
        return self.nulls + sum(self.counts)


@dataclass(frozen=True)
class Profile:
    """The profiles of all watched columns of one set of rows."""

    n: int
    columns: tuple[ColumnProfile, ...]

    def to_json(self) -> str:
        """Same profile, same text; floats keep every bit."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Profile":
        """Read what `to_json` wrote; `msgspec.ValidationError` names the wrong field."""
        return msgspec.json.decode(text, type=cls)


ReferenceProfile = Profile


def reference(con: duckdb.DuckDBPyConnection, rows: "str | pa.Table", columns: Mapping[str, Kind]) -> Profile:
    """Profile the rows a model was trained on, with bins of their own: at most nine decile edges, or every category.

    `rows` is a view in `con` or an Arrow table. Two passes: exact quantiles, then counts.
    """
    with _view(con, rows) as view:
        _require_columns(con, view, columns)
        edges = _decile_edges(con, view, [name for name, kind in columns.items() if kind == "numeric"])
        return _count(
            con, view, [ColumnProfile(name, kind, 0, (), edges.get(name, ())) for name, kind in columns.items()]
        )


def observe(con: duckdb.DuckDBPyConnection, rows: "str | pa.Table", bins: Profile) -> Profile:
    """Profile other rows on the bins of a reference, in one pass; categories the reference never saw are kept."""
    with _view(con, rows) as view:
        _require_columns(con, view, [column.name for column in bins.columns])
        return _count(con, view, bins.columns)


def observe_blocks(
    con: duckdb.DuckDBPyConnection, rows: "str | pa.Table", bins: Profile, block: str
) -> dict[str, Profile]:
    """Profile each block of rows on the bins of a reference, by the value of the column `block` as text (null: "")."""
    with _view(con, rows) as view:
        _require_columns(con, view, [block, *(column.name for column in bins.columns)])
        return _count_by(con, view, bins.columns, f"coalesce(CAST({quote(block)} AS VARCHAR), '')")


def add(profiles: Sequence[Profile]) -> Profile:
    """The profile of the rows of several profiles together; all must lie on the bins of one reference."""
    columns = [_add_columns(parts) for parts in zip(*(profile.columns for profile in profiles), strict=True)]
    return Profile(n=sum(profile.n for profile in profiles), columns=tuple(columns))


def _add_columns(parts: tuple[ColumnProfile, ...]) -> ColumnProfile:
    first = parts[0]
    if any((part.name, part.kind, part.edges) != (first.name, first.kind, first.edges) for part in parts):
        raise DeclarationError(f"Profiles of '{first.name}' lie on different bins; observe them with one reference.")
    nulls = sum(part.nulls for part in parts)
    if first.kind == "numeric":
        return replace(
            first, nulls=nulls, counts=tuple(sum(bin_) for bin_ in zip(*(p.counts for p in parts), strict=True))
        )
    totals: dict[str, int] = {}
    for part in parts:
        for category, count in zip(part.categories, part.counts, strict=True):
            totals[category] = totals.get(category, 0) + count
    return _categorical(first.name, nulls, totals)


@contextmanager
def _view(con: duckdb.DuckDBPyConnection, rows: "str | pa.Table") -> Iterator[str]:
    if isinstance(rows, str):
        yield quote(rows)
        return
    con.register(_REGISTERED, rows)
    try:
        yield quote(_REGISTERED)
    finally:
        con.unregister(_REGISTERED)


def _require_columns(con: duckdb.DuckDBPyConnection, view: str, names: Iterable[str]) -> None:
    present = set(con.sql(f"FROM {view}").columns)
    missing = [name for name in names if name not in present]
    if missing:
        raise DeclarationError(
            f"Cannot watch {shorten(missing)}: {view} has no such column, it has {shorten(sorted(present))}."
            " Compare rows with the reference of the model version that scored them."
        )


def _number(name: str) -> str:
    """SQL of a column as a double, where NaN is a null like any other."""
    value = f"CAST({quote(name)} AS DOUBLE)"
    return f"CASE WHEN NOT isnan({value}) THEN {value} END"


def _decile_edges(con: duckdb.DuckDBPyConnection, view: str, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    if not names:
        return {}
    deciles = [f"quantile_disc({_number(name)}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])" for name in names]
    (found,) = con.execute(f"SELECT {', '.join(deciles)} FROM {view}").fetchall()
    return {name: _strict(values or ()) for name, values in zip(names, found, strict=True)}


def _strict(deciles: Sequence[float]) -> tuple[float, ...]:
    """Strictly rising finite edges; a value that fills several deciles (many zeros) gets a bin of its own.

    Deduplicating alone would put a constant column and everything below it into one bin.
    """
    finite = [value for value in deciles if math.isfinite(value)]
    repeated = {value for value, following in itertools.pairwise(finite) if value == following}
    below = {math.nextafter(value, -math.inf) for value in repeated}
    return tuple(sorted(edge for edge in set(finite) | below if math.isfinite(edge)))


def _count(con: duckdb.DuckDBPyConnection, view: str, columns: Sequence[ColumnProfile]) -> Profile:
    return _count_by(con, view, columns, "''").get(
        "", Profile(0, tuple(_profile(column, 0, 0, {}) for column in columns))
    )


def _count_by(
    con: duckdb.DuckDBPyConnection, view: str, columns: Sequence[ColumnProfile], block: str
) -> dict[str, Profile]:
    """Count every column on its bins in one scan; edges travel as parameters, so they keep every bit."""
    selected = [f"count({_value(column)}), {_histogram(column)}" for column in columns]
    edges = [list(column.edges) for column in columns if column.edges]
    query = f"SELECT {', '.join([block, 'count(*)', *selected])} FROM {view} GROUP BY 1 ORDER BY 1"
    return {name: _profiles(columns, n, found) for name, n, *found in con.execute(query, edges).fetchall()}


def _profiles(columns: Sequence[ColumnProfile], n: int, found: Sequence) -> Profile:
    """Put together what was selected: for each column, how many values and their histogram."""
    counted = zip(columns, found[0::2], found[1::2], strict=True)
    return Profile(n=n, columns=tuple(_profile(column, n, present, bins or {}) for column, present, bins in counted))


def _value(column: ColumnProfile) -> str:
    return _number(column.name) if column.kind == "numeric" else f"CAST({quote(column.name)} AS VARCHAR)"


def _histogram(column: ColumnProfile) -> str:
    if column.kind == "categorical":
        return f"histogram({_value(column)})"
    return f"histogram({_value(column)}, CAST(? AS DOUBLE[]))" if column.edges else literal("")


def _profile(column: ColumnProfile, n: int, present: int, bins: Mapping) -> ColumnProfile:
    if column.kind == "categorical":
        return _categorical(column.name, n - present, bins)
    # the reference never had a value: there are no edges, and one bin takes whatever comes
    counts = tuple(bins.get(edge, 0) for edge in (*column.edges, math.inf)) if column.edges else (present,)
    return replace(column, nulls=n - present, counts=counts, usual=None)


def _categorical(name: str, nulls: int, counts: Mapping[str, int]) -> ColumnProfile:
    ordered = sorted(counts.items())
    return ColumnProfile(
        name, "categorical", nulls, tuple(count for _, count in ordered), categories=tuple(name for name, _ in ordered)
    )
