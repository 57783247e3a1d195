"""The online store: the newest feature rows of every entity, as they stand in the lake."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ml_assets import clock
from ml_assets.adapters.lake import Lake, PartitionRange
from ml_assets.adapters.online import Expiry, Found, OnlineStore, ViewSchema, instant, microseconds
from ml_assets.adapters.online.rows import decode, encode, encoded
from ml_assets.engine import literal, quote, scratch
from ml_assets.errors import FeatureError, StoreUnavailableError, shorten
from ml_assets.features.view import FEATURE_TIMESTAMP, MICROSECOND
from ml_assets.records import Finding
from ml_assets.steps import catalogue, view_versions
from ml_assets.steps.arrow import among
from ml_assets.steps.days import start_of
from ml_assets.steps.kept import counting, kept
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, ViewSpec
from ml_assets.steps.turns import alone

if TYPE_CHECKING:
    import pyarrow as pa

_ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_COMPARED, _AT_ONCE = 10_000, 500
_Part = tuple["pa.Table", datetime, datetime]
_AT, _LAST, _OF, _TWICE = "_ml_assets_at", "_ml_assets_last", "_ml_assets_of", "_ml_assets_twice"
_NOTHING = "The lake holds no row of an entity yet."


def stored_name(spec: ViewSpec, lake: Lake) -> str:
    """The name of a view's rows in the online store."""
    return f"{spec.view.name}@{view_versions.current(spec, lake)}"


def findings(spec: ViewSpec, run: Run, days: Sequence[str], *, fresh: bool = False) -> tuple[Finding, ...]:
    """Put days that were just written to the lake online (`fresh`), and compare what is there with the lake.

    A store that has lost the view, or lags, or holds other values, gets all that is kept from the lake; where no rows
    are fresh that is said as a warning. Raises StoreUnavailableError when fresh rows have nowhere to go,
    FeatureError when another process does not let them in.
    """
    if not run.lake.exists(spec.name):
        return (_finding(True, _NOTHING),)
    name = stored_name(spec, run.lake)
    try:
        with alone(f"{name}.online", run):  # what one puts back the other must not let expire
            return (_settled(spec, run, name, days, fresh=fresh),)
    except (StoreUnavailableError, FeatureError) as error:
        if fresh:
            raise
        return (Finding(catalogue.ONLINE.name, passed=False, sentence=str(error)),)


def complete(spec: ViewSpec, run: Run, name: str) -> None:
    """Put back online what has expired and is kept now, as where a version lets rows count for longer than before.

    A store that never held all of the view is left as it is: what it lacks is no matter of age.
    """
    if run.online_store.expired(name):
        with alone(f"{name}.online", run):
            _completed(spec, run, name)


def keep(spec: ViewSpec, run: Run, name: str, days: Sequence[str]) -> Expiry:
    """Write what the lake has of some days under a name of the store, in place of all that was there of them.

    Again where another run wrote to the lake meanwhile: whoever is last puts what is right. Gives what expires.
    """
    store, entity = run.online_store, spec.view.entity
    if name in store.views() and _edited(spec, run, store.schema(name)):
        store.drop(name)
    version, expiry = None, Expiry(0)
    while version != (now := run.lake.version(spec.name)):
        version, expiry = now, _expiry(spec, run)
        for rows, first, last in _parts(spec, run.lake, days, expiry):
            features = [feature for feature in spec.view.features() if feature in rows.column_names]
            columns = rows.select([*entity, FEATURE_TIMESTAMP, *features])
            store.replace(name, entity, features, columns, first=first, last=last, expiry=expiry)
    return expiry


def _edited(spec: ViewSpec, run: Run, stored: ViewSchema) -> bool:
    """Whether a version that no model uses was edited in place.

    Its rows are laid out anew: a lost store must be filled in the order that servers know of the version later.
    """
    if stored == (spec.view.entity, spec.view.features()):
        return False
    return stored.entity != spec.view.entity or view_versions.is_draft(spec, run.lake)


def _parts(spec: ViewSpec, lake: Lake, days: Sequence[str], expiry: Expiry) -> Iterator[_Part]:
    """What is kept of some days, with the time that it is all of; day by day, since Redis answers nobody in a write."""
    if not spec.daily:  # all of them, so that an entity that has left the table leaves the store as well
        yield _counting(spec, lake, None, expiry.since), *_ALWAYS
        return
    whole = [day for day in sorted(days) if microseconds(start_of(day)) >= expiry.since]
    if expiry.lasting and len(whole) < len(days):
        until = instant(expiry.since) - MICROSECOND
        older = PartitionRange(None, until.date().isoformat())
        yield _counting(spec, lake, older, microseconds(until)), _ALWAYS[0], until
    rows = lake.dataset(spec.name, partitions=whole).to_table() if whole else None
    for day in whole:
        yield among(rows, "partition_key", [day]), start_of(day), start_of(day) + DAY - MICROSECOND


def _counting(spec: ViewSpec, lake: Lake, partitions: PartitionRange | None, since: int) -> "pa.Table":
    """Of each entity the row that counts at a moment, and all later ones."""
    with scratch(threads=None) as con:
        lake.register(con, "rows", spec.name, partitions=partitions)
        return con.sql(counting(spec.view.entity, "rows", since)).to_arrow_table()


def _expiry(spec: ViewSpec, run: Run) -> Expiry:
    """What expires online, by the newest row in the lake; of a view by day its day will do."""
    if spec.daily:
        newest = microseconds(start_of(max(run.lake.partitions(spec.name), default="1970-01-01")))
    else:
        with scratch() as con:
            run.lake.register(con, "rows", spec.name)
            ((newest,),) = con.sql(f"SELECT coalesce(epoch_us(max({FEATURE_TIMESTAMP})), 0) FROM rows").fetchall()
    return kept(spec, run).expiry(newest)


def _settled(spec: ViewSpec, run: Run, name: str, days: Sequence[str], *, fresh: bool) -> Finding:
    """Say what was wrong with the stored rows, and put it right; where rows are fresh, what is wrong after that."""
    store = run.online_store
    if fresh and name in store.views():
        keep(spec, run, name, days)
    newest = _wanted(spec, run)
    found = _compared(spec, store, name, newest)
    if found.passed:
        known = name in store.views()  # of a view without rows nothing is
        return replace(found, sentence=found.sentence + _completed(spec, run, name)) if known else found
    run.log(f"{spec.name}: {found.sentence}")
    _fill(spec, run, name)
    again = _compared(spec, store, name, newest)
    if fresh or not again.passed:
        return again
    sentence = f"{found.sentence} The newest days were taken from the lake again: {again.sentence}"
    return replace(found, warn=True, sentence=sentence)


def _completed(spec: ViewSpec, run: Run, name: str) -> str:
    """Put all that is kept online where some of it has expired; says so."""
    held, wanted = run.online_store.expired(name), _expiry(spec, run)
    if held and held.leaves(wanted):
        return ""
    _fill(spec, run, name)
    said = f"Rows from {instant(wanted.since):%Y-%m-%d} on are online again: what had expired is kept now."
    run.log(f"{spec.name}: {said}")
    return f" {said}" if held else ""


def _fill(spec: ViewSpec, run: Run, name: str) -> None:
    """Put all that is kept online."""
    run.online_store.hold(name, keep(spec, run, name, run.lake.partitions(spec.name)))


def _wanted(spec: ViewSpec, run: Run) -> "pa.Table":
    """The rows to compare: of a view by day the newest of each entity that has one on its newest day with rows.

    Of others all that are kept. Where they are many, of some entities, which are others each day.
    """
    lake, days = run.lake, sorted(run.lake.partitions(spec.name), reverse=True) if spec.daily else [""]
    known = " AND ".join(f"{quote(column)} IS NOT NULL" for column in spec.view.entity)
    for day in days:
        with scratch() as con:
            lake.register(con, "stored", spec.name, partitions=[day] if day else None)
            con.execute(f"CREATE TEMP VIEW rows AS SELECT * FROM stored WHERE {known}")
            ((newest,),) = con.sql(f"SELECT epoch_us(max({FEATURE_TIMESTAMP})) FROM rows").fetchall()
            if newest is not None:
                since = newest if spec.daily else kept(spec, run).expiry(newest).since
                return con.sql(_some(spec, since, newest)).to_arrow_table()
    return lake.dataset(spec.name).head(0)


def _some(spec: ViewSpec, since: int, newest: int) -> str:
    """SQL for rows with the last moment at which each counts, the time of the newest, and how many there are."""
    entity, today = ", ".join(map(quote, spec.view.entity)), literal(clock.now().date().isoformat())
    return f"""
        SELECT *, coalesce(_next - 1, {newest}) AS {_AT}, {newest} AS {_LAST}, count(*) OVER () AS {_OF},
            coalesce(_before = epoch_us({FEATURE_TIMESTAMP}), false) AS {_TWICE}
        FROM ({counting(spec.view.entity, "rows", since)}) ORDER BY hash({entity}, {today}) LIMIT {_COMPARED}"""


def _compared(spec: ViewSpec, store: OnlineStore, name: str, wanted: "pa.Table") -> Finding:
    """Hold the store against rows of the lake."""
    n = wanted.num_rows
    if not n:
        return _finding(True, _NOTHING)
    if doubled := _keys(spec, wanted.filter(wanted[_TWICE])):
        return _finding(False, f"The lake holds several rows of {name} of one entity and time: {shorten(doubled)}.")
    last, of, held = wanted[_LAST][0].as_py(), wanted[_OF][0].as_py(), store.newest(name)
    if held is None:
        return _finding(False, f"The online store holds nothing of {name}.", of=of)
    lag = (last - held) / 1e6
    if lag > 0:
        said = f"The online store holds {name} to {lag:,.0f} s before the lake's {instant(last)}."
        return _finding(False, said, of=of, lag=lag)
    differing = _differing(spec, store, name, wanted)
    compared = f"{n:,} compared of {of:,} newest rows of {name}"
    said = f"{compared} are online, bit for bit; the newest is of {instant(last)}."
    if differing:
        said = f"{len(differing):,} of {compared} are others online: {shorten(differing)}."
    return _finding(not differing, said, rows=n, of=of, differing=len(differing), lag=lag)


def _differing(spec: ViewSpec, store: OnlineStore, name: str, wanted: "pa.Table") -> list[str]:
    """The keys whose row online is another one, or holds another bit."""
    stored = store.schema(name)
    if stored.entity != spec.view.entity:
        return [f"stored by {', '.join(stored.entity)}"]
    features = tuple(f for f in spec.view.features() if f in wanted.column_names and f in stored.features)
    places = [stored.features.index(feature) for feature in features]
    of_lake = encoded(ViewSchema(stored.entity, (*features, _AT)), wanted)
    values = [decode(row) for _, _, row in of_lake]
    keys = [tuple(decode(key)) for key, _, _ in of_lake]
    found = _looked_up(store, name, keys, [at for *_, at in values])
    rows = [row and (row[0], encode([row[1][place] for place in places])) for row in found]
    return [
        ", ".join(map(str, key))
        for key, row, (_, at, _), (*wanted_values, _) in zip(keys, rows, of_lake, values, strict=True)
        if row != (at, encode(wanted_values))
    ]


def _keys(spec: ViewSpec, rows: "pa.Table") -> list[str]:
    return [", ".join(map(str, row.values())) for row in rows.select(spec.view.entity).to_pylist()]


def _looked_up(store: OnlineStore, name: str, keys: Sequence[tuple], at: Sequence[int]) -> list[Found | None]:
    """Some at a time, since Redis answers nobody meanwhile."""
    parts = [slice(n, n + _AT_ONCE) for n in range(0, len(keys), _AT_ONCE)]
    return [row for part in parts for row in store.lookup_many(name, keys[part], at[part])]


def _finding(
    passed: bool, sentence: str, *, rows: int = 0, of: int = 0, differing: int = 0, lag: float | None = None
) -> Finding:
    numbers = {"rows": rows, "of": of, "differing": differing} | ({} if lag is None else {"lag_seconds": lag})
    return Finding(catalogue.ONLINE.name, passed, sentence, numbers=numbers)
