"""Rows of history that a server can be asked about again: spread evenly over what its online store still holds."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.engine import connect, literal, quote
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.serving.bundle import ServingSchema, ViewRef
from ml_assets.steps import offline
from ml_assets.steps.days import shift, start_of
from ml_assets.steps.frames import within
from ml_assets.steps.kept import Kept
from ml_assets.steps.run import Run
from ml_assets.steps.specs import AHEAD_DAYS, DAY, ModelSpec, keep_default

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

OUT_OF_BOUNDS = "their values break the bounds that a request must keep, as rows do from before a rule was added"
ANOTHER_ROW = "their entity had a row of a view without a grid then that is older than what is kept online"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class History:
    """Rows of the spine with `at`, in its order, as many from each of the spans between two `moments` as there are.

    They are of `total` rows from the first moment to the last, of which `left_out` cannot be asked about, by reason.
    """

    rows: "pa.Table"
    moments: tuple[datetime, ...]
    total: int
    left_out: dict[str, int]

    def times(self) -> int:
        """How many different as-of times there are."""
        return len(self.rows["at"].unique())

    def counts(self) -> list[int]:
        """The number of rows of each span."""
        at = self.rows["at"].to_pylist()
        spans = zip(self.moments, self.moments[1:], strict=False)
        return [sum(since <= each < until for each in at) for since, until in spans]


def history(spec: ModelSpec, run: Run, schema: ServingSchema, *, rows: int, moments: int) -> History:
    """Choose rows for a version, the same each time; all of them where there are fewer."""
    since, until = _held(spec, run, schema)
    width = (until - since) / moments
    bounds = (*(since + n * width for n in range(moments)), until)
    return _chosen(spec, run.lake, schema, bounds, rows)


def _held(spec: ModelSpec, run: Run, schema: ServingSchema) -> tuple[datetime, datetime]:
    """From when to when the online store has all that a request needs; to the end of the last day with features."""
    tables = offline.tables_of(schema, run.lake)
    days = [(ref, found) for ref in schema.views if (found := run.lake.partitions(tables[ref.name]))]
    known = [found for _, found in days] or [run.lake.partitions(spec.spine.table)]
    first, newest = max(found[0] for found in known), min(found[-1] for found in known)
    until = start_of(newest) + DAY
    oldest = [until - keep_default(None), start_of(first), *(_oldest(spec, run, ref, until) for ref, _ in days)]
    return min(max(oldest), until - DAY), until


def _oldest(spec: ModelSpec, run: Run, ref: ViewRef, until: datetime) -> datetime:
    max_age = None if ref.max_age_us is None else timedelta(microseconds=ref.max_age_us)
    keep = min([keep_default(max_age), *(view.keep for view in spec.views if view.view.name == ref.name)])
    stored = run.online_store.newest(ref.stored)
    newest = until if stored is None else _EPOCH + timedelta(microseconds=stored)
    return newest - keep + (max_age or timedelta(0))


def _chosen(spec: ModelSpec, lake: Lake, schema: ServingSchema, bounds: tuple[datetime, ...], wanted: int) -> History:
    since, until, keys = bounds[0], bounds[-1], ", ".join(quote(key) for key in spec.spine.keys)
    width = (bounds[1] - bounds[0]) // timedelta(microseconds=1)
    span = PartitionRange(shift(since.date().isoformat(), -AHEAD_DAYS), shift(until.date().isoformat(), AHEAD_DAYS))
    names = ", ".join(quote(name) for name in dict.fromkeys([*(f.name for f in schema.request_fields), "at"]))
    with connect() as con:
        lake.register(con, "spine", spec.spine.table, partitions=span)
        joins, conditions = _askable(con, lake, schema)
        con.execute(
            f"""
            CREATE TEMP TABLE rows AS
            SELECT s.*, CASE WHEN NOT ({within(schema.request_fields)}) THEN {literal(OUT_OF_BOUNDS)}
                WHEN NOT (true {conditions}) THEN {literal(ANOTHER_ROW)} END AS _why
            FROM (SELECT *, ({spec.at}) AS "at" FROM spine) s {joins}
            WHERE "at" >= $since AND "at" < $until""",
            {"since": since, "until": until},
        )
        counts = dict(con.execute("SELECT _why, count(*) FROM rows GROUP BY ALL ORDER BY ALL").fetchall())
        chosen = con.sql(
            f"""
            SELECT {names} FROM (
                SELECT *, row_number() OVER (
                    PARTITION BY (epoch_us("at") - epoch_us($since)) // $width
                    ORDER BY md5(concat_ws('|', epoch_us("at"), {keys}))
                ) AS _rank
                FROM rows WHERE _why IS NULL
            )
            QUALIFY row_number() OVER (ORDER BY _rank, "at", {keys}) <= $wanted
            ORDER BY "at", {keys}""",
            params={"since": since, "width": width, "wanted": wanted},
        ).to_arrow_table()
    return History(chosen, bounds, sum(counts.values()), {why: n for why, n in counts.items() if why})


def _askable(con: "duckdb.DuckDBPyConnection", lake: Lake, schema: ServingSchema) -> tuple[str, str]:
    """Leave rows out whose entity had a row of a view without a grid then that has left the online store since."""
    joins, conditions = "", ""
    for n, (ref, table) in enumerate(zip(schema.views, offline.tables_of(schema, lake).values(), strict=True)):
        if lake.partitions(table):
            continue
        entity, name, cut = ", ".join(map(quote, ref.entity)), f"e{n}", f'epoch_us("at") - {ref.delay_us}'
        lake.register(con, table, table)
        at = f"epoch_us({FEATURE_TIMESTAMP})"
        ((newest,),) = con.sql(f"SELECT coalesce(max({at}), 0) FROM {quote(table)}").fetchall()
        since = Kept(keep_default(None), lasting=True, daily=False).expiry(newest).since
        several = f"""(SELECT {entity}, min({at}) AS first, max({at}) FILTER ({at} <= {since}) AS held
            FROM {quote(table)} GROUP BY ALL HAVING count(*) > 1) {name}"""
        equal = " AND ".join(f"s.{quote(column)} = {name}.{quote(column)}" for column in ref.entity)
        joins += f" LEFT JOIN {several} ON {equal}"
        conditions += f" AND NOT coalesce({name}.first <= {cut} AND {name}.held > {cut}, false)"
    return joins, conditions
