"""What differs between two versions of a table: rows added and removed, and by key the columns that changed.

Partitions whose files are the same in both are not read: files are never written twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_assets.adapters import versions
from ml_assets.adapters.content import PARTITION, WHOLE
from ml_assets.adapters.lake import Lake, Version
from ml_assets.engine import connect, literal, quote
from ml_assets.errors import LakeError, shorten

if TYPE_CHECKING:
    import duckdb

_CHANGES = ("added", "removed", "changed")


@dataclass(frozen=True)
class Change:
    """A row that differs: `row` is all of an added or removed one, `columns` give old and new of a changed one."""

    change: str
    partition: str
    key: dict[str, Any]
    row: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """What differs between two versions; `counts` by partition and kind of change, only of partitions with any."""

    name: str
    before: Version
    after: Version
    keys: tuple[str, ...]
    partitions_read: tuple[str, ...]
    new_columns: tuple[str, ...]
    gone_columns: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    changes: tuple[Change, ...]

    def total(self, change: str) -> int:
        """How many rows were added, removed or changed."""
        return sum(counts[change] for counts in self.counts.values())


def difference(
    lake: Lake, name: str, before: Version, after: Version, *, keys: Sequence[str] = (), limit: int | None = None
) -> Difference:
    """Compare two versions; `limit` bounds the rows that are given one by one, never the counts.

    Rows meet by partition and key. Without keys a changed row is one removed and one added.
    """
    partitions = versions.changed(lake, name, before.version, after.version)
    with connect() as con:
        columns = _register(con, lake, name, {"old": before.version, "new": after.version}, partitions)
        old, new = columns["old"], columns["new"]
        if missing := [key for key in keys if key not in old or key not in new]:
            raise LakeError(f"{name} has no column {shorten(missing)} in both versions to compare rows by.")
        con.execute(f"CREATE TEMP TABLE differences AS {_statement(columns, keys)}")
        return Difference(
            name,
            before,
            after,
            tuple(keys),
            partitions,
            tuple(c for c in new if c not in old),
            tuple(c for c in old if c not in new),
            _counts(con),
            tuple(_changes(con, limit)),
        )


def _register(
    con: "duckdb.DuckDBPyConnection", lake: Lake, name: str, wanted: dict[str, int], partitions: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Views `old` and `new` over the partitions that differ; give their columns with their types."""
    found = {}
    for view, version in wanted.items():
        listed = None if partitions == (WHOLE,) else partitions
        relation = lake.read(name, con, partitions=listed or None, version=version)
        rows = relation if partitions else relation.filter("false")
        rows.create_view(view)
        found[view] = dict(zip(rows.columns, map(str, rows.types), strict=True))
    return found


def _statement(columns: dict[str, dict[str, str]], keys: Sequence[str]) -> str:
    """A row for each difference: change, partition, and as JSON the key, the whole row and the changed columns."""
    old, new = columns["old"], columns["new"]
    names = list(dict.fromkeys([*new, *old]))
    partition = quote(PARTITION) if PARTITION in names else literal(WHOLE)
    sides = {side: _side(side, names, columns[side], _retyped(old, new), partition) for side in ("old", "new")}
    shown = [name for name in names if name != PARTITION]
    if not keys:
        return " UNION ALL ".join(
            f"SELECT '{change}' AS change, _partition AS partition, NULL AS key, {_json(shown)} AS row, NULL AS columns"
            f" FROM ({sides[one]} EXCEPT ALL {sides[other]})"
            for change, one, other in (("added", "new", "old"), ("removed", "old", "new"))
        )
    on = " AND ".join(f"o.{quote(c)} IS NOT DISTINCT FROM n.{quote(c)}" for c in ["_partition", *keys])
    compared = [name for name in shown if name not in keys]
    differs = [f"o.{quote(c)} IS DISTINCT FROM n.{quote(c)}" for c in compared]
    pairs = ", ".join(map(_pair, compared, differs))
    return f"""
        SELECT CASE WHEN o._partition IS NULL THEN 'added' WHEN n._partition IS NULL THEN 'removed' ELSE 'changed' END
                AS change, coalesce(n._partition, o._partition) AS partition,
            CASE WHEN n._partition IS NULL THEN {_json(keys, "o.")} ELSE {_json(keys, "n.")} END AS key,
            CASE WHEN o._partition IS NULL THEN {_json(shown, "n.")}
                WHEN n._partition IS NULL THEN {_json(shown, "o.")} END AS row,
            CASE WHEN o._partition IS NOT NULL AND n._partition IS NOT NULL
                THEN to_json(list_filter([{pairs}], lambda pair: pair IS NOT NULL)) END AS columns
        FROM ({sides["old"]}) o FULL OUTER JOIN ({sides["new"]}) n ON {on}
        WHERE o._partition IS NULL OR n._partition IS NULL OR {" OR ".join(differs) or "false"}"""


def _pair(column: str, test: str) -> str:
    old, new = f"to_json(o.{quote(column)})", f"to_json(n.{quote(column)})"
    return f"CASE WHEN {test} THEN {{'name': {literal(column)}, 'old': {old}, 'new': {new}}} END"


def _retyped(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {name for name in old if name in new and old[name] != new[name]}


def _side(view: str, names: Sequence[str], own: dict[str, str], retyped: set[str], partition: str) -> str:
    """All columns of both versions: one that this version has not is null, one of another type compares as text."""
    columns = [
        f"NULL AS {quote(name)}"
        if name not in own
        else f"CAST({quote(name)} AS VARCHAR) AS {quote(name)}"
        if name in retyped
        else quote(name)
        for name in names
    ]
    return f"SELECT {', '.join(columns)}, {partition} AS _partition FROM {view}"


def _json(names: Sequence[str], source: str = "") -> str:
    pairs = ", ".join(f"{literal(name)}, {source}{quote(name)}" for name in names)
    return f"json_object({pairs})"


def _counts(con: "duckdb.DuckDBPyConnection") -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    found = con.sql("SELECT partition, change, count(*) FROM differences GROUP BY ALL ORDER BY ALL").fetchall()
    for partition, change, n in found:
        counts.setdefault(partition, dict.fromkeys(_CHANGES, 0))[change] = n
    return counts


def _changes(con: "duckdb.DuckDBPyConnection", limit: int | None) -> Iterator[Change]:
    import json

    most = f" LIMIT {int(limit)}" if limit is not None else ""
    found = con.sql(f"FROM differences ORDER BY partition, key, change, row{most}").fetchall()
    for change, partition, key, row, columns in found:
        pairs = {each["name"]: (each["old"], each["new"]) for each in json.loads(columns or "[]")}
        yield Change(change, partition, json.loads(key or "{}"), json.loads(row or "{}"), pairs)
