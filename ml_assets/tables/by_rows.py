"""Judges what needs rows, in one statement for all partitions: references to other tables; and finds examples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_assets import engine
from ml_assets.tables.by_profile import not_judged
from ml_assets.tables.evidence import Evidence, on, percent, plain, types
from ml_assets.tables.expectations import References, Verdict

MOST_EXAMPLES = 10


def references(expected: References, partitions: Sequence[str], given: Evidence) -> Iterator[Verdict]:
    """The share of values that are found in the other table; nulls refer to nothing."""
    if given.con is None or given.rows is None:
        return
    if expected.table not in given.tables:
        why = f"{expected.table}.{expected.to} is not there yet"
        yield from (not_judged(expected, partition, why) for partition in partitions)
        return
    value, key = engine.quote(expected.column), engine.quote(expected.to)
    listed = ", ".join(map(engine.literal, partitions)) or "NULL"
    found = given.con.execute(f"""
        WITH mine AS (
            SELECT partition_key, {value} AS value, count(*) AS n FROM {given.rows}
            WHERE {value} IS NOT NULL AND partition_key IN ({listed}) GROUP BY ALL),
        theirs AS (SELECT DISTINCT {key} AS key FROM {given.tables[expected.table]} WHERE {key} IS NOT NULL)
        SELECT partition_key, sum(n)::BIGINT, coalesce(sum(n) FILTER (key IS NULL), 0)::BIGINT,
            (list({{value: value, rows: n}} ORDER BY n DESC, value) FILTER (key IS NULL))[1:{MOST_EXAMPLES}]
        FROM mine LEFT JOIN theirs ON value = key GROUP BY 1""").fetchall()
    by_partition = {key: (n, lost, unknown or []) for key, n, lost, unknown in found}
    for partition in partitions:
        if partition not in by_partition:
            yield not_judged(expected, partition, f"{expected.column} has no values")
        else:
            yield _referred(expected, partition, *by_partition[partition], given)


def _referred(
    expected: References, partition: str, n: int, lost: int, examples: list[dict[str, Any]], given: Evidence
) -> Verdict:
    share, target = 1 - lost / n, f"{expected.table}.{expected.to}"
    said = f"{expected.column}: {percent(share)} of {n:,} values{on(partition)} are in {target} ({lost:,} are not)"
    value, key = engine.quote(expected.column), engine.quote(expected.to)
    theirs = f"SELECT {key} FROM tables.{engine.quote(expected.table)} WHERE {key} IS NOT NULL"
    return Verdict(
        expected.check,
        partition,
        n - lost >= expected.at_least * n,
        expected.severity,
        f"{said}, at least {100 * expected.at_least:g} % is expected.",
        {"values": n, "not found": lost, "share": share, "at_least": expected.at_least},
        [{expected.column: plain(each["value"]), "rows": each["rows"]} for each in examples],
        given.query(partition, f"{value} NOT IN ({theirs})"),
    )


def examples(given: Evidence, view: str | None, wanted: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Ten rows of each partition for which its SQL condition is true, the first in order of their columns."""
    if given.con is None or view is None or not wanted:
        return {}
    condition = next(iter(wanted.values()))
    listed = ", ".join(map(engine.literal, wanted))
    if any(each != condition for each in wanted.values()):
        cases = " ".join(f"WHEN {engine.literal(key)} THEN ({each})" for key, each in wanted.items())
        condition = f"CASE partition_key {cases} END"
    columns = list(types(given.con, view))
    order = ", ".join(engine.quote(name) for name in columns)
    rows = given.con.execute(
        f"SELECT {order} FROM {view} WHERE partition_key IN ({listed}) AND ({condition}) "
        f"QUALIFY row_number() OVER (PARTITION BY partition_key ORDER BY {order}) <= {MOST_EXAMPLES} ORDER BY {order}"
    ).fetchall()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        record = dict(zip(columns, map(plain, row), strict=True))
        found.setdefault(record.pop("partition_key"), []).append(record)
    return found
