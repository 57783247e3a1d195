"""Decisions on refused rows: release them, corrected or not, or drop them. A decision is a line, never an edit.

A release is a delivery like any other: the rows, corrected, go into raw as JSON lines and re-enter through the
contract. The row that was refused stays in the quarantine, with the decision beside it. Deciding the same again adds
nothing: rows with a decision are not chosen, and a delivery of the same bytes is there already.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.adapters.sources.base import Fetched
from ml_assets.engine import connect, literal
from ml_assets.errors import LakeConflictError, TableNotFoundError
from ml_assets.steps import deliver
from ml_assets.steps.arrow import among
from ml_assets.steps.specs import TableSpec
from ml_assets.tables import corrections
from ml_assets.tables.schema import RELEASED, Contract

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ATTEMPTS = 5
_SAME_ROW = "c.partition_key = g.partition_key AND c.file = g._file AND c.row = g._row"
_DECISION = {
    "partition_key": "VARCHAR",
    "file": "VARCHAR",
    "row": "BIGINT",
    "action": "VARCHAR",
    "rule": "VARCHAR",
    "reason": "VARCHAR",
    "actor": "VARCHAR",
    "decided_at": "TIMESTAMPTZ",
    "delivery": "VARCHAR",
}


@dataclass(frozen=True)
class Choice:
    """Which refused rows: of any of these rules, and of any of these partitions, and of this file and row."""

    rules: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    file: str | None = None
    row: int | None = None

    def sql(self) -> str:
        """The condition over the view of refused rows."""
        tests = [f"list_has_any(rules, [{', '.join(map(literal, self.rules))}])"] if self.rules else []
        tests += [f"partition_key IN ({', '.join(map(literal, self.partitions))})"] if self.partitions else []
        tests += [f"file = {literal(self.file)}"] if self.file is not None else []
        tests += [f"row = {int(self.row)}"] if self.row is not None else []
        return " AND ".join(tests) or "true"


@dataclass(frozen=True)
class Verdict:
    """Who decides, and why."""

    action: Literal["released", "dropped"]
    reason: str
    actor: str


@dataclass(frozen=True)
class Outcome:
    """What a decision did, or would do.

    `decided` rows by partition; `breaking` rows by the rule that they would break (again), which stay undecided;
    `replacing` counts rows that take the place of one that stands in the table; `deliveries` by partition.
    """

    chosen: int
    decided: Mapping[str, int]
    breaking: Mapping[str, int] = field(default_factory=dict)
    replacing: int = 0
    deliveries: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_decided(self) -> int:
        """Rows that were decided."""
        return sum(self.decided.values())


def audit(spec: TableSpec) -> str:
    """Name of the decisions in the lake."""
    return f"audit/{spec.name}"


def register(con: "duckdb.DuckDBPyConnection", lake: Lake, spec: TableSpec) -> None:
    """Make `refused` known to SQL: the quarantine, each row with its arrival and the decision on it, if any.

    A decision is on what had been delivered by then: the same row of a file that arrived again is open.
    """
    if not lake.exists(spec.quarantine):
        advice = f"`ml-assets explain tables/{spec.name}` says what became of its deliveries"
        raise TableNotFoundError(f"No delivery of {spec.name} has been judged row by row yet: {advice}.")
    for view, name in (("_quarantine", spec.quarantine), ("_raw", spec.raw)):
        _with_partition(con, lake.dataset(name), view)
    _register_decisions(con, lake, spec)
    own = "q.arrived_at" if "arrived_at" in con.sql("FROM _quarantine").columns else "NULL::TIMESTAMPTZ"
    con.execute(f"""
        CREATE VIEW refused AS
        SELECT rows.*, d.action, d.reason, d.actor, d.decided_at, d.delivery
        FROM (
            SELECT q.partition_key, q.file, q.row, q.rule, q.rules, q.record, coalesce({own}, r.arrived_at)
                AS arrived_at
            FROM _quarantine q LEFT JOIN _raw r
            ON r.current AND r.partition_key = q.partition_key AND r.name = q.file) rows
        LEFT JOIN decisions d
        ON d.partition_key = rows.partition_key AND d.file = rows.file AND d.row = rows.row
            AND (rows.arrived_at IS NULL OR d.decided_at >= rows.arrived_at)""")


def release(
    spec: TableSpec,
    lake: Lake,
    choice: Choice,
    verdict: Verdict,
    corrected: Mapping[str, str],
    *,
    dry_run: bool = False,
) -> Outcome:
    """Deliver the chosen rows again that keep the contract as corrected; the others stay as they are.

    `corrected` are SQL expressions by column, over the row as delivered.
    """
    contract = spec.loaded()
    with connect() as con:
        n = _choose(con, lake, spec, choice)
        known_at = None if contract.column("known_at") else spec.known_at
        rows = corrections.Rows(contract, known_at, spec.partition_column, _standing(con, lake, spec, contract))
        judged = corrections.judge(con, "_chosen", rows, corrected)
        con.register("_good", judged.good)
        kept = con.sql(f"FROM _chosen c SEMI JOIN _good g ON {_SAME_ROW}").to_arrow_table()
        contents = corrections.lines(con, judged.good, contract)
    names = {} if dry_run or not contents else _deliver(spec, lake, contents)
    if names:
        _decide(spec, lake, kept, verdict, names)
    return Outcome(n, _by_partition(kept), judged.breaking, judged.replacing, names)


def drop(spec: TableSpec, lake: Lake, choice: Choice, verdict: Verdict, *, dry_run: bool = False) -> Outcome:
    """Decide that the chosen rows are not wanted; nothing is deleted."""
    with connect() as con:
        n = _choose(con, lake, spec, choice)
        rows = con.sql("FROM _chosen").to_arrow_table()
    if n and not dry_run:
        _decide(spec, lake, rows, verdict, {})
    return Outcome(n, _by_partition(rows))


def decided(lake: Lake, spec: TableSpec, refused: "pa.Table") -> dict[str, int]:
    """How many of these refused rows somebody has decided on, by partition: they no longer speak against a delivery."""
    if not lake.exists(audit(spec)) or not refused.num_rows:
        return {}
    with connect() as con:
        _register_decisions(con, lake, spec)
        _with_partition(con, refused, "_rows")
        arrived = "AND d.decided_at >= r.arrived_at" if "arrived_at" in refused.column_names else ""
        found = con.sql(f"""
            SELECT r.partition_key, count(*) FROM _rows r SEMI JOIN decisions d
            ON d.partition_key = r.partition_key AND d.file = r.file AND d.row = r.row {arrived} GROUP BY ALL""")
        return dict(found.fetchall())


def register_log(con: "duckdb.DuckDBPyConnection", lake: Lake, spec: TableSpec) -> None:
    """Make `log` known to SQL: what was decided, a line for each decision of a person."""
    _register_decisions(con, lake, spec)
    con.execute("""
        CREATE VIEW log AS SELECT decided_at, actor, action, count(*) AS rows,
            string_agg(DISTINCT rule, '; ' ORDER BY rule) AS rules,
            concat_ws(' .. ', min(partition_key), nullif(max(partition_key), min(partition_key))) AS partitions, reason
        FROM _decisions GROUP BY decided_at, actor, action, reason ORDER BY decided_at""")


def _with_partition(con: "duckdb.DuckDBPyConnection", rows: "object", view: str) -> None:
    """A view with the column partition_key, "" where a table has none."""
    con.register(f"{view}_stored", rows)
    if "partition_key" in con.sql(f"FROM {view}_stored").columns:
        stored = "* REPLACE (coalesce(partition_key, '') AS partition_key)"
    else:
        stored = "'' AS partition_key, *"
    con.execute(f"CREATE VIEW {view} AS SELECT {stored} FROM {view}_stored")


def _register_decisions(con: "duckdb.DuckDBPyConnection", lake: Lake, spec: TableSpec) -> None:
    """`_decisions`, all of them, and `decisions`, the last on each row."""
    if lake.exists(audit(spec)):
        _with_partition(con, lake.dataset(audit(spec)), "_decisions")
    else:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _DECISION.items())
        con.execute(f"CREATE VIEW _decisions AS SELECT {empty} WHERE false")
    con.execute("""
        CREATE VIEW decisions AS FROM _decisions
        QUALIFY row_number() OVER (PARTITION BY partition_key, file, row ORDER BY decided_at DESC) = 1""")


def _choose(con: "duckdb.DuckDBPyConnection", lake: Lake, spec: TableSpec, choice: Choice) -> int:
    """The table `_chosen`, of rows without a decision."""
    register(con, lake, spec)
    con.execute(f"CREATE TEMP TABLE _chosen AS FROM refused WHERE action IS NULL AND {choice.sql()}")
    return con.sql("SELECT count(*) FROM _chosen").fetchall()[0][0]


def _standing(con: "duckdb.DuckDBPyConnection", lake: Lake, spec: TableSpec, contract: Contract) -> "pa.Table | None":
    """Rows of the table in the partitions of the chosen ones, unless they were made under another contract."""
    if not lake.exists(spec.table):
        return None
    touched = [p for (p,) in con.sql("SELECT DISTINCT partition_key FROM _chosen ORDER BY ALL").fetchall()]
    rows = lake.dataset(spec.table, partitions=touched if spec.daily else None)
    if set(contract.names()) - set(rows.schema.names):
        return None
    _with_partition(con, rows.to_table(), "_in_table")
    return con.sql("FROM _in_table").to_arrow_table()


def _by_partition(rows: "pa.Table") -> dict[str, int]:
    counts = rows.group_by("partition_key").aggregate([([], "count_all")]).sort_by("partition_key")
    return dict(zip(counts["partition_key"].to_pylist(), counts["count_all"].to_pylist(), strict=True))


def _deliver(spec: TableSpec, lake: Lake, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Put one delivery for each partition into raw, in one commit; give their names. The same bytes are there once."""
    base = lake.version(spec.raw)
    before = deliver.deliveries(spec, lake, sorted(contents), version=base)
    known = {(f.partition_key, f.sha256): f.name for f in before if f.name.startswith(RELEASED)}
    names, fresh = {}, []
    for partition, content in contents.items():
        sha256 = hashlib.sha256(content).hexdigest()
        # A release that was killed before it wrote its decisions has delivered these bytes already.
        names[partition] = known.get((partition, sha256), f"{RELEASED}{clock.now():%Y%m%dT%H%M%SZ}-{sha256[:8]}.jsonl")
        if (partition, sha256) not in known:
            fresh.append(Fetched(partition, names[partition], content))
    deliver.add(spec, lake, fresh, before, base)
    return names


def _decide(spec: TableSpec, lake: Lake, rows: "pa.Table", verdict: Verdict, deliveries: Mapping[str, str]) -> None:
    """Append a line for each row, however many others decide at the same time."""
    now = clock.now()
    lines = [
        {**row, **asdict(verdict), "decided_at": now, "delivery": deliveries.get(row["partition_key"])}
        for row in rows.select(["partition_key", "file", "row", "rule"]).to_pylist()
    ]
    for left in reversed(range(_ATTEMPTS)):
        try:
            _append_decisions(spec, lake, lines)
            break
        except LakeConflictError:
            if not left:
                raise


def _append_decisions(spec: TableSpec, lake: Lake, lines: Sequence[Mapping[str, Any]]) -> None:
    name = audit(spec)
    base = lake.version(name) if lake.exists(name) else -1
    partitions = sorted({line["partition_key"] for line in lines}) if spec.daily else None
    before = lake.dataset(name, partitions=partitions, version=base).to_table() if base >= 0 else _no_decisions(spec)
    _append(lake, spec, name, before, lines, base)


def _no_decisions(spec: TableSpec) -> "pa.Table":
    import pyarrow as pa

    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "TIMESTAMPTZ": pa.timestamp("us", "UTC")}
    wanted = {name: kinds[kind] for name, kind in _DECISION.items() if spec.daily or name != "partition_key"}
    return pa.schema(list(wanted.items())).empty_table()


def _append(
    lake: Lake, spec: TableSpec, name: str, before: "pa.Table", lines: Sequence[Mapping[str, Any]], base: int
) -> None:
    """Write lines behind those of their partitions in `base`; a conflict, where another writer came first."""
    import pyarrow as pa

    rows = pa.concat_tables([before, pa.Table.from_pylist([dict(line) for line in lines], before.schema)])
    touched = sorted({line["partition_key"] for line in lines})
    if touched:
        wanted = among(rows, "partition_key", touched) if spec.daily else rows
        lake.write(name, wanted, partitions=touched if spec.daily else None, base_version=base)
