"""What the expectations of a table are judged by, and in which order: no partition by one that was refused."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Protocol

from ml_assets import clock
from ml_assets.adapters.lake import Lake
from ml_assets.engine import literal
from ml_assets.steps.arrow import other_than
from ml_assets.steps.days import shift
from ml_assets.steps.specs import DAY, TableSpec
from ml_assets.tables.evaluate import Evidence, evaluate
from ml_assets.tables.expectations import Expectation, MissingSpike, References, Shift, Verdict, Volume
from ml_assets.tables.profile import PROFILE_SCHEMA, ROWS, profile_partitions
from ml_assets.tables.trend import REMEMBERED, Step, steps_out_of_line
from ml_assets.tables.validate import Validation

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds

_BY_HISTORY = (MissingSpike, Volume, Shift)
_ROUNDS = 20  # more refusals by history than that in one run are judged with each other as history


class Profiled(Protocol):
    """What is profiled by day: a table, or a feature view."""

    @property
    def daily(self) -> bool:
        """Whether it is partitioned by UTC day."""
        ...

    @property
    def profiles(self) -> str:
        """Name of its statistics in the lake."""
        ...


def profiled(con: "duckdb.DuckDBPyConnection", rows: "pa.Table", partitions: Iterable[str]) -> "pa.Table":
    """The profiles of rows; a partition that has none, since all are in quarantine say, has one that says so."""
    import pyarrow as pa

    profiles = profile_partitions(con, rows)
    without = sorted(set(partitions) - set(profiles["partition_key"].to_pylist()))
    nothing = {"column": ROWS, "type": "", "n": 0, "nulls": 0, "distinct": 0, "histogram": [], "top": []}
    empty = [{"partition_key": partition, **nothing} for partition in without]
    return pa.concat_tables([profiles, pa.Table.from_pylist(empty, PROFILE_SCHEMA())])


def history(spec: Profiled, lake: Lake, partitions: Sequence[str]) -> "pa.Table":
    """The profiles that the first of these partitions is compared with, and those that lie among them."""
    if not (spec.daily and partitions and lake.exists(spec.profiles)):
        return PROFILE_SCHEMA().empty_table()
    first, last = min(partitions), max(partitions)
    stored = [p for p in lake.partitions(spec.profiles) if p < last]
    before = [p for p in stored if p < first][-REMEMBERED:]
    wanted = before + sorted({p for p in stored if p > first} - set(partitions))
    return lake.dataset(spec.profiles, partitions=wanted).to_table().select(PROFILE_SCHEMA().names)


def collected(
    spec: TableSpec,
    lake: Lake,
    con: "duckdb.DuckDBPyConnection",
    validation: Validation,
    before: "pa.Table",
    profiles: "pa.Table",
) -> Evidence:
    """The profiles, the valid rows and the tables that they refer to, as `evaluate` wants them."""
    import pyarrow as pa

    con.register("refused_rows", validation.quarantine)
    judged = validation.counts if spec.daily else ()
    con.register("judged_rows", with_reference(lake, spec.table, spec.expectations, validation.valid, judged))
    tables = {}
    for each in spec.expectations:
        if not (isinstance(each, References) and lake.exists(f"tables/{each.table}")):
            continue
        referred = lake.dataset(f"tables/{each.table}")
        if _holds(referred, each.to, validation.valid.schema.field(each.column).type):
            tables[each.table] = f"referred_{each.table}"
            con.register(tables[each.table], referred)
    known = pa.concat_tables([before, profiles])
    return Evidence(spec.name, clock.now(), known, validation.fences, con, "judged_rows", tables, "refused_rows")


def verdicts(
    expectations: Sequence[Expectation], partitions: Sequence[str], given: Evidence, broken: Collection[str]
) -> list[Verdict]:
    """Judge partitions; what a refused one held is no history for those after it, as if each had come alone.

    `broken` are refused whatever is expected of them. What fails without looking back is refused at once; of those that
    fail by their history only the first is sure, since it may be the history of the others.
    """
    own = {each.check for each in expectations if not isinstance(each, _BY_HISTORY)}
    out, kept = set(broken), []
    found = evaluate(expectations, partitions, given)
    for _ in range(_ROUNDS):
        errors = [verdict for verdict in found if verdict.refuses]
        failed = {v.partition for v in errors if v.check in own} | (set(broken) & {v.partition for v in found})
        by_history = {v.partition for v in errors} - failed
        out_now = failed or ({min(by_history)} if by_history else set())
        if not out_now or max(partitions) <= min(out_now):
            break
        out |= out_now
        kept += [verdict for verdict in found if verdict.partition in out_now]
        found = evaluate(expectations, [p for p in partitions if p not in out], without(given, out))
    return kept + found


def without(given: Evidence, partitions: Collection[str]) -> Evidence:
    """The evidence with nothing of some partitions."""
    profiles = other_than(given.profiles, "partition_key", sorted(partitions))
    if given.rows is None:
        return replace(given, profiles=profiles)
    listed = ", ".join(map(literal, partitions))
    return replace(given, profiles=profiles, rows=f"(SELECT * FROM {given.rows} WHERE partition_key NOT IN ({listed}))")


def steps(
    spec: Profiled, before: "pa.Table", profiles: "pa.Table", judged: Iterable[Verdict], broken: Collection[str]
) -> list[Step]:
    """The statistics that are out of line, of the partitions that are not refused."""
    if not spec.daily:
        return []
    out = sorted({*broken, *(verdict.partition for verdict in judged if verdict.refuses)})
    return steps_out_of_line(before, other_than(profiles, "partition_key", out))


def with_reference(
    lake: Lake, table: str, expectations: Sequence[Expectation], rows: "pa.Table", judged: Collection[str]
) -> "pa.Table":
    """The rows of the days that are judged, and for a shift those of the days that they are compared with."""
    import pyarrow as pa

    shifts = [each for each in expectations if isinstance(each, Shift)]
    if not (shifts and judged and lake.exists(table)):
        return rows
    first, last = min(judged), max(judged)
    reach = max(each.reference + each.current for each in shifts)
    since = shift(first, -ceil(reach / DAY))
    days = [p for p in lake.partitions(table) if since <= p < last and p not in judged]
    stored, schema = lake.dataset(table, partitions=days), rows.schema
    columns = dict.fromkeys(["partition_key", *(each.column for each in shifts)])
    before = stored.to_table(columns=[name for name in columns if _holds(stored, name, schema.field(name).type)])
    return pa.concat_tables([rows, before], promote_options="default")


def _holds(stored: "ds.Dataset", column: str, kind: "pa.DataType") -> bool:
    """Whether rows have a column of this type: those of another contract may not."""
    return column in stored.schema.names and stored.schema.field(column).type == kind
