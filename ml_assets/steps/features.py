"""Features: the rows of a view by day, offline in the lake and the newest of them online."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.engine import quote, scratch
from ml_assets.errors import DuplicateRowsError, FeatureError, TableNotFoundError, shorten
from ml_assets.features.compute import compute
from ml_assets.features.grid import ENOUGH, rhythm
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND, window_name
from ml_assets.records import Finding, Markdown, Produced, StepResult, unchanged
from ml_assets.steps import (
    arrival_lag,
    catalogue,
    configuration,
    feature_profiles,
    hindsight,
    online,
    refusals,
    retained,
    window_history,
)
from ml_assets.steps.arrow import among
from ml_assets.steps.days import runs_of, shift, start_of
from ml_assets.steps.memo import Memo, Work, by_day
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, Input, ViewRows, ViewSpec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_FEW = 100_000  # rows of a table
_ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_RHYTHM_DAYS = 100  # so that a source of one delivery a day tells its rhythm after four weeks


def materialize(spec: ViewSpec, run: Run) -> Mapping[str, StepResult]:
    """The rows of a view, and of each older version of it that a model in force or in service needs."""
    return retained.beside(spec, run, _version)


def _version(spec: ViewSpec, run: Run) -> Mapping[str, StepResult]:
    """Compute the partitions whose inputs changed, prove the newest ones, and put them in the lake and online.

    Rows whose proof fails go nowhere: what was there before stays, and the next run tries again. An expectation that
    fails as an error keeps out the rows of its day.
    """
    memo, inputs = work(spec, run, run.partitions)
    if not inputs and not spec.daily:
        raise TableNotFoundError(
            f"{spec.name} is made from {shorten(t.table for t in spec.tables)}. Materialize first."
        )
    produced, due = memo.survey(inputs)
    if not due:
        findings = unchanged(*(check.name for check in catalogue.of_rows(spec)))
        return {spec.name: StepResult(produced, (*findings, *_of_standing(spec, run, list(produced))))}
    asked = {partition: inputs[partition] for partition in due}
    try:
        rows, findings = _compute(spec, run, due)
    except FeatureError as error:
        refusals.keep(spec, run.lake, asked, [str(error)])
        raise
    if rows is None:
        refusals.keep(spec, run.lake, asked, refusals.failed(findings))
        return {spec.name: StepResult(produced, (*findings, *_of_nothing(spec, run, due, produced)))}
    judged = feature_profiles.judge(spec, run, rows, due)
    proven = not any(not finding.passed and not finding.warn for finding in findings)
    good = [partition for partition in due if proven and partition not in judged.refused]
    refused = {partition: made_from for partition, made_from in asked.items() if partition not in good}
    refusals.keep(spec, run.lake, refused, refusals.failed((*findings, *judged.findings)))
    # late rows are right rows: they are served, and what is downstream in this run is stopped by the check
    findings += (*_of_inputs(spec, run, rows, due), *judged.findings)
    if not good:
        return {spec.name: StepResult(produced, (*findings, *online.findings(spec, run, list(produced))))}
    rows = among(rows, "partition_key", good) if judged.refused else rows
    put, stored = _put(spec, run, memo, rows, {partition: inputs[partition] for partition in good}, judged)
    return {spec.name: StepResult(produced | put, (*findings, *stored))}


def _put(
    spec: ViewSpec,
    run: Run,
    memo: Memo,
    rows: "pa.Table",
    inputs: Mapping[str, Mapping[str, str]],
    judged: feature_profiles.Judged,
) -> tuple[dict[str, Produced], tuple[Finding, ...]]:
    """Write the rows of some days to the lake and online, and then what they were made from to the record."""
    commit = run.lake.write(spec.name, rows, partitions=list(inputs) if spec.daily else None)
    feature_profiles.keep(spec, run, judged, list(inputs))
    findings = online.findings(spec, run, list(inputs), fresh=True)
    produced = {}
    for day, made_from in inputs.items():
        content = commit.content[day]
        metadata = {"n_rows": content.n_rows, "lake version": commit.version, "features": len(spec.view.features())}
        shown = judged.shown() if day == max(inputs) else {}
        entry = memo.write(day, made_from, content.hash, metadata)
        produced[day] = entry.produced({"definition": Markdown(_definition(spec)), **shown})
    return produced, findings


def _of_nothing(spec: ViewSpec, run: Run, due: Sequence[str], produced: Mapping[str, Produced]) -> tuple[Finding, ...]:
    """What is said where no row came out."""
    sentence = "No rows came out: nothing was judged."
    judged = (Finding(check.name, False, sentence, warn=True) for check in catalogue.of_features(spec))
    return (*_of_inputs(spec, run, None, due), *judged, *online.findings(spec, run, list(produced)))


def _of_standing(spec: ViewSpec, run: Run, days: Sequence[str]) -> tuple[Finding, ...]:
    """What is said when nothing is due; a store that has lost the view is filled again."""
    return (
        *_of_inputs(spec, run, None, days),
        *feature_profiles.not_judged(spec),
        *online.findings(spec, run, days),
    )


def _of_inputs(spec: ViewSpec, run: Run, rows: "pa.Table | None", days: Sequence[str]) -> tuple[Finding, ...]:
    """What is said of the tables: whether their rows come in time, and reach as far back as windows do."""
    return (*arrival_lag.findings(spec, run, rows, days), *window_history.findings(spec, run, rows))


def work(spec: ViewSpec, run: Run, partitions: Sequence[str]) -> Work:
    """The record of the feature rows, and what those of each partition are made from."""
    memo = Memo(run.lake, spec.name, version=catalogue.FEATURES, config=configuration.of_view(spec))
    return Work(memo, inputs_of(spec, run.lake, partitions) if partitions else {})


def inputs_of(spec: ViewSpec, lake: Lake, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    """The content of everything that a partition is computed from; partitions that were not delivered are left out."""
    if not all(lake.exists(table.table) for table in spec.tables):
        return {}
    if not spec.daily:
        return {
            "": {f"{t.table} {day}".strip(): c.hash for t in spec.tables for day, c in lake.content(t.table).items()}
        }
    static = {t.table: lake.content(t.table)[""].hash for t in spec.tables if not t.daily}
    found = {partition: dict(static) for partition in partitions}
    for table in (t for t in spec.tables if t.daily):
        back = -spec.lookback_days(table)
        span = PartitionRange(shift(min(partitions), back), max(partitions))
        hashes = {day: content.hash for day, content in lake.content(table.table, partitions=span).items()}
        for partition, named in found.items():
            days = [d for d in sorted(hashes) if shift(partition, back) <= d <= partition]
            named |= by_day(table.table, hashes, days)
        if table is spec.tables[0]:
            found = {partition: named for partition, named in found.items() if partition in hashes}
    return found


def open_tables(spec: ViewSpec, lake: Lake, con: "duckdb.DuckDBPyConnection", first: str, last: str) -> None:
    """Make the tables of a view known to SQL, no more of them than a range of partitions needs."""
    for table in spec.tables:
        span = _span(spec, table, first, last)
        if isinstance(table, ViewRows):
            _open_view(table, lake, con, span)
        else:
            lake.register(con, table.name, table.table, partitions=span)


def opened(spec: ViewSpec, lake: Lake, first: str, last: str) -> "duckdb.DuckDBPyConnection":
    """A connection that knows the tables of a view, of one thread for few rows: sharing them out costs a fifth more."""
    counts = [lake.n_rows(table.table, partitions=_span(spec, table, first, last)) for table in spec.tables]
    few = all(n is not None and n <= _FEW for n in counts)
    con = scratch(threads=1 if few else None)
    open_tables(spec, lake, con, first, last)
    return con


def _span(spec: ViewSpec, table: Input, first: str, last: str) -> PartitionRange | None:
    return PartitionRange(shift(first, -spec.lookback_days(table)), last) if table.daily and first else None


def _open_view(rows: ViewRows, lake: Lake, con: "duckdb.DuckDBPyConnection", span: PartitionRange | None) -> None:
    """Another view's rows: each happened at its time, and was known once it could be served."""
    lake.register(con, rows.table, rows.table, partitions=span)
    known = f"{FEATURE_TIMESTAMP} + to_microseconds({rows.delay // MICROSECOND})"
    con.execute(f"""CREATE OR REPLACE TEMP VIEW {quote(rows.name)} AS
        SELECT *, {known} AS known_at, {FEATURE_TIMESTAMP} AS event_timestamp FROM {quote(rows.table)}""")


def _compute(spec: ViewSpec, run: Run, due: list[str]) -> tuple["pa.Table | None", tuple[Finding, ...]]:
    """The rows of days, and what `catalogue.of_rows` promises of them; no rows where none can be told apart."""
    import pyarrow as pa

    parts: list[pa.Table] = []
    found: list[tuple[Finding, ...]] = []
    for first, last in runs_of(due) if spec.daily else [("", "")]:
        run.log(f"{spec.name}: computing {f'{first} to {last}' if first else 'all rows'}")
        with opened(spec, run.lake, first, last) as con:
            start, end = (start_of(first), start_of(last) + DAY) if first else _ALWAYS
            try:
                rows = compute(con, spec.view, first=start, last=end)
            except DuplicateRowsError as error:
                found.append(tuple(_doubled(spec, error)))
                continue
            found.append(_judged(con, spec, run, rows, start, end))
        parts.append(rows)
    return pa.concat_tables(parts) if parts else None, tuple(
        _together(findings) for findings in zip(*found, strict=True)
    )


def _judged(
    con: "duckdb.DuckDBPyConnection", spec: ViewSpec, run: Run, rows: "pa.Table", start: datetime, end: datetime
) -> tuple[Finding, ...]:
    """What `catalogue.of_rows` promises, for one run of days; the proof looks at the newest day that has rows.

    For a `known_at` that the view makes too early leaves its last days empty.
    """
    held = rows["partition_key"].unique().to_pylist() if spec.daily else []
    day = max(held, default=(end - DAY).date().isoformat()) if spec.daily else ""
    newest = among(rows, "partition_key", [day]) if day else rows
    found = (hindsight.finding(con, spec, newest, day), _unique(con, spec, rows))
    return found if spec.view.is_static else (*found, _grid(con, spec, run, start, end))


def _doubled(spec: ViewSpec, error: DuplicateRowsError) -> Iterator[Finding]:
    """The same where the rows of an entity and time are several, so that there are none to look at."""
    nothing = "Rows cannot be told apart: nothing was compared."
    for check in catalogue.of_rows(spec):
        at_fault = check is catalogue.UNIQUE
        said = str(error) if at_fault else nothing
        yield Finding(check.name, False, said, warn=not at_fault, numbers={"compared": 0})


def _together(findings: Sequence[Finding]) -> Finding:
    """One finding for all runs of days: it passes when each of them does."""
    failed = [finding for finding in findings if not finding.passed]
    telling = [finding for finding in failed if not finding.warn] or failed or findings
    first, compared = telling[0], sum(finding.numbers["compared"] for finding in telling)
    sentence = shorten([finding.sentence for finding in telling])
    numbers = {**first.numbers, "compared": compared}
    return Finding(first.check, first.passed, sentence, warn=first.warn, numbers=numbers)


def _unique(con: "duckdb.DuckDBPyConnection", spec: ViewSpec, rows: "pa.Table") -> Finding:
    con.register("_rows", rows)
    columns = ", ".join(quote(column) for column in (*spec.view.entity, FEATURE_TIMESTAMP))
    doubled = con.sql(f"SELECT {columns} FROM _rows GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL").fetchall()
    con.unregister("_rows")
    named = shorten([", ".join(str(value) for value in row) for row in doubled])
    said = (
        f"{len(doubled)} times of an entity have several rows: {named}." if doubled else "None has the time of another."
    )
    sentence = f"Of {rows.num_rows:,} rows: {said}"
    return Finding(catalogue.UNIQUE.name, not doubled, sentence, numbers={"compared": rows.num_rows})


def _grid(con: "duckdb.DuckDBPyConnection", spec: ViewSpec, run: Run, start: datetime, end: datetime) -> Finding:
    every, tables = spec.view.every, [table.name for table in spec.tables if table.daily]
    found = rhythm(con, spec.view, tables, start, end)
    if not found.tells:  # one day of few deliveries: those before it say more
        since = start - _RHYTHM_DAYS * DAY
        with scratch() as before:
            open_tables(spec, run.lake, before, since.date().isoformat(), (end - DAY).date().isoformat())
            found = rhythm(before, spec.view, tables, since, end)
    fitting, moments = found.calls_for(every), f"Rows became known at {found.n_moments:,} moments"
    sentence = f"{moments}; the grid of {window_name(every)} is no finer than that."
    if not found.tells:
        sentence = f"{moments} in {(end - start).days + _RHYTHM_DAYS} days: too few to tell, for that takes {ENOUGH}."
    if fitting:
        step, also = window_name(fitting), " and left the windows" if spec.view.aggregations else ""
        sentence = (
            f"{moments}{also}, all at multiples of {step}: `every: {window_name(every)}` is finer. Use `every: {step}`."
        )
    return Finding(catalogue.GRID_FITS.name, not fitting, sentence, numbers={"compared": found.n_moments})


def _definition(spec: ViewSpec) -> str:
    view = spec.view
    if view.sql:
        return f"```sql\n{view.sql.strip()}\n```"
    lines = [f"- `{feature}`" for feature in view.features()]
    if view.lookup:
        return f"What holds for {', '.join(view.entity)}, from `{view.lookup.valid_from}` on:\n" + "\n".join(lines)
    return f"By {', '.join(view.entity)}, every {window_name(view.every)}:\n" + "\n".join(lines)
