"""Training rows made again from the tables, blind to all that was known after them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import PartitionRange
from ml_assets.engine import connect, literal, quote
from ml_assets.errors import shorten
from ml_assets.features.compute import compute
from ml_assets.features.join import join_as_of
from ml_assets.features.prove import Difference
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.steps import catalogue, configuration, features, pins, view_state, view_versions
from ml_assets.steps.days import shift, start_of
from ml_assets.steps.memo import Entry, Memo, flat
from ml_assets.steps.run import Run
from ml_assets.steps.specs import AHEAD_DAYS, ModelSpec, ViewSpec
from ml_assets.steps.view_versions import ViewVersion

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_MOMENTS = (0.2, 0.5, 0.8, 1.0)  # places in the time of the rows
_ROWS, _REACH = 200, timedelta(minutes=15)
_TICK = timedelta(microseconds=1)
_SHOWN = 10


@dataclass(frozen=True)
class Repetition:
    """How many rows were made again, what came out otherwise in words, and views that wait to be computed again.

    `values` has up to ten values of each feature and moment that came out otherwise.
    """

    n_rows: int
    moments: tuple[datetime, ...]
    differences: tuple[str, ...]
    waiting: tuple[str, ...]
    values: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class _Differing:
    """What is wrong in a sentence, the view that it is about ("" for the spine), and some of the values."""

    sentence: str
    view: str
    values: tuple[Difference, ...] = ()


def repeat(spec: ModelSpec, run: Run, rows: "pa.Table") -> Repetition:
    """Make rows at a few moments again, from tables that end there, and compare them bit for bit with those given.

    Each moment is the `at` of a row; the rows within a quarter of an hour before it are made again. A difference tells
    nothing, and its table is `waiting`, where a declaration was edited since, a view was computed from rows that its
    tables no longer hold, or the set was joined from tables that hold something else, and right, now.
    """
    n_rows, moments, found, waiting = 0, [], [], set()
    for moment, sample in _samples(spec, rows):
        moments.append(moment)
        n_rows += sample.num_rows
        again = _joined(spec, run, sample, moment, partial(_blind, run=run, moment=moment))
        differing = list(_differences(spec, sample, again, moment))
        excused = _excused(spec, run, sample, again, moment) if differing else {}
        waiting |= {excused[each.view] for each in differing if each.view in excused}
        found += [each for each in differing if each.view not in excused]
    said, values = tuple(each.sentence for each in found), tuple(value for each in found for value in each.values)
    return Repetition(n_rows, tuple(moments), said, tuple(sorted(waiting)), values)


def _samples(spec: ModelSpec, rows: "pa.Table") -> "Iterator[tuple[datetime, pa.Table]]":
    keys = ", ".join(map(quote, spec.spine.keys))
    with connect() as con:
        con.register("rows", rows)
        places = f'SELECT unnest(quantile_disc("at", {list(_MOMENTS)})) AS m FROM rows'
        for (moment,) in con.execute(f"SELECT DISTINCT m FROM ({places}) ORDER BY m").fetchall():
            inside = f'"at" <= {_sql(moment)} AND "at" > {_sql(moment - _REACH)}'
            yield moment, con.sql(f'FROM rows WHERE {inside} ORDER BY "at" DESC, {keys} LIMIT {_ROWS}').to_arrow_table()


def _sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ {literal(moment.isoformat())}"


def _joined(
    spec: ModelSpec,
    run: Run,
    sample: "pa.Table",
    moment: datetime,
    features_of: "Callable[[ViewSpec], pa.Table]",
    version: int | None = None,
) -> "pa.Table":
    """The sampled rows from the spine, as of a version of it, joined with feature rows from elsewhere."""
    keys = ", ".join(quote(key) for key in (*spec.spine.keys, "at"))
    day = moment.date().isoformat()
    span = PartitionRange(shift(day, -1), shift(day, AHEAD_DAYS)) if spec.spine.daily else None
    with connect() as con:
        run.lake.register(con, "spine", spec.spine.table, partitions=span, version=version)
        con.register("sampled", sample.select([*spec.spine.keys, "at"]))
        con.execute(f"""
            CREATE TEMP TABLE asked AS SELECT * EXCLUDE (partition_key)
            FROM (SELECT *, ({spec.at}) AS "at" FROM spine) SEMI JOIN sampled USING ({keys})""")
        for view in spec.views:
            con.register(view.name, features_of(view))
        return join_as_of(con, "asked", [view.view for view in spec.views])


def _blind(spec: ViewSpec, run: Run, moment: datetime) -> "pa.Table":
    """The feature rows that can count at a moment, made from what was known by then."""
    since, days = _counting(spec, run, moment)
    with connect() as con, connect() as past:
        features.open_tables(spec, run.lake, con, *days)
        for table in spec.view.tables:
            known = con.sql(f"FROM {quote(table)} WHERE known_at <= {_sql(moment)}").to_arrow_table()
            past.register(table, known)
        return compute(past, spec.view, first=since, last=moment + _TICK)


def _stored(spec: ViewSpec, run: Run, moment: datetime, versions: Mapping[str, int]) -> "pa.Table":
    """The same as the lake holds them, or as it held them in a version."""
    days = PartitionRange(*_counting(spec, run, moment)[1]) if spec.daily else None
    columns = [*spec.view.entity, FEATURE_TIMESTAMP, *spec.view.features()]
    return run.lake.dataset(spec.name, partitions=days, version=versions.get(spec.name)).to_table(columns)


def _counting(spec: ViewSpec, run: Run, moment: datetime) -> tuple[datetime, tuple[str, str]]:
    """From when on feature rows can count at a moment, and the days of these."""
    since = _since(spec, run, moment)
    return since, (since.date().isoformat(), moment.date().isoformat()) if spec.daily else ("", "")


def _since(spec: ViewSpec, run: Run, moment: datetime) -> datetime:
    view = spec.view
    if view.max_age is not None:
        return moment - _REACH - view.delay - view.max_age - view.every
    return min([start_of(day) for day in run.lake.partitions(spec.name) if day], default=moment)


def _differences(spec: ModelSpec, stored: "pa.Table", again: "pa.Table", moment: datetime) -> Iterator[_Differing]:
    keys = [*spec.spine.keys, "at"]
    made = [name for name in again.column_names if name not in (*keys, "known_at")]
    for name in (n for n in made if n not in stored.column_names and "__" in n):
        yield _Differing(f"the training rows have no '{name}'", _view_of(spec, name))
    with connect() as con:
        con.register("stored", stored)
        con.register("again", again)
        yield from _unknown(con, keys, moment)
        for name in (n for n in made if n in stored.column_names):
            yield from _of_column(con, spec, keys, name, moment)


def _unknown(con: "duckdb.DuckDBPyConnection", keys: Sequence[str], moment: datetime) -> Iterator[_Differing]:
    named = ", ".join(map(quote, keys))
    found = con.execute(f"SELECT {named} FROM stored ANTI JOIN again USING ({named}) ORDER BY ALL").fetchall()
    if found:
        which = shorten(map(str, found[0]))
        yield _Differing(f"{len(found)} rows at {moment.isoformat()} are none of the spine, such as {which}", "")


def _of_column(
    con: "duckdb.DuckDBPyConnection", spec: ModelSpec, keys: Sequence[str], name: str, moment: datetime
) -> Iterator[_Differing]:
    named, column = ", ".join(map(quote, keys)), quote(name)
    row_keys = ", ".join(f"s.{quote(key)}" for key in keys)
    found = con.execute(f"""
        SELECT s.{column}, a.{column}, {row_keys}
        FROM stored s JOIN again a USING ({named}) WHERE s.{column} IS DISTINCT FROM a.{column}
        ORDER BY ALL""").fetchall()
    values = [
        Difference(_row(keys, row), name, *(None if value is None else str(value) for value in (was, is_now)))
        for was, is_now, *row in found[:_SHOWN]
    ]
    if found:
        was, is_now, *row = found[0]
        which = ", ".join(f"{key}={value}" for key, value in zip(keys[:-1], row, strict=False))
        said = (
            f"'{name}' of {len(found)} rows at {moment.isoformat()} holds what was not known then: {which} has {was},"
            f" without later data it is {is_now}"
        )
        yield _Differing(said, _view_of(spec, name), tuple(values))


def _row(keys: Sequence[str], row: Sequence[Any]) -> str:
    named = ", ".join(f"{key}={value}" for key, value in zip(keys[:-1], row[:-1], strict=True))
    return f"{named} at {row[-1].isoformat()}"


def _view_of(spec: ModelSpec, column: str) -> str:
    return next((v.view.name for v in spec.views if column in v.view.qualified_features()), "")


def _excused(spec: ModelSpec, run: Run, sample: "pa.Table", again: "pa.Table", moment: datetime) -> Mapping[str, str]:
    """Views, and "" for the spine, of which a difference tells nothing, with the table that waits for its next run."""
    made = Memo(run.lake, spec.training_set, version=catalogue.TRAINING_SET, config=None).read()
    if made and _declared_otherwise(spec, made):
        return dict.fromkeys(("", *(view.view.name for view in spec.views)), spec.training_set)
    manifest = pins.read(run.lake, made.metadata["manifest"]) if made else {}
    edited = _edited_since(spec, manifest)
    late = {v.view.name: v.name for v in spec.views if v.name in edited or _waits(v, run, moment)}
    others = replace(spec, views=tuple(view for view in spec.views if view.view.name not in late))
    restated = _restated(others, run, sample, again, moment, manifest["versions"]) if made else set[str]()
    return late | dict.fromkeys(restated, spec.training_set)


def _restated(
    spec: ModelSpec, run: Run, sample: "pa.Table", again: "pa.Table", moment: datetime, versions: Mapping[str, int]
) -> set[str]:
    """Views, and "" for the spine, that were joined as the sample has them, and are right as they are now."""
    then, now = (
        _joined(
            spec, run, sample, moment, partial(_stored, run=run, moment=moment, versions=of), of.get(spec.spine.table)
        )
        for of in (versions, {})
    )
    wrong = (*_differences(spec, sample, then, moment), *_differences(spec, again, now, moment))
    return {"", *(view.view.name for view in spec.views)} - {each.view for each in wrong}


def _edited_since(spec: ModelSpec, manifest: Mapping[str, Any]) -> set[str]:
    """Views that were edited after the training set was made from them."""
    pinned = {view: ViewVersion(**pin).meaning for view, pin in manifest.get("views", {}).items()}
    return {v.name for v in spec.views if pinned.get(v.view.name, "") not in ("", view_versions.meaning_of(v))}


def _declared_otherwise(spec: ModelSpec, made: Entry) -> bool:
    """Whether the training set was joined by another declaration than there is now."""
    of_splits = {"window", "validation", "test", "gap"}
    now = flat(configuration.of_training_set(spec))
    return any(made.config.get(name) != now.get(name) for name in {*now, *made.config} - of_splits)


def _waits(spec: ViewSpec, run: Run, moment: datetime) -> bool:
    """Whether the feature rows that count were made from other content than the tables hold, or before an edit."""
    first, last = _since(spec, run, moment).date().isoformat(), moment.date().isoformat()
    days = [day for day in run.lake.partitions(spec.name) if first <= day <= last] if spec.daily else [""]
    return bool(view_state.overdue(spec, run, days))
