"""What the features of each day look like, against their history: alive, of known categories, and as expected."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets import clock
from ml_assets.engine import connect, literal, quote, scratch
from ml_assets.errors import shorten
from ml_assets.features.expected import Lifeless, Moved, Rows, lifeless, moved, recent
from ml_assets.records import Finding, unchanged
from ml_assets.steps import catalogue, categories, evidence
from ml_assets.steps.arrow import among
from ml_assets.steps.categories import MOST, Counted
from ml_assets.steps.pictures import markdown_table, trend_metadata
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.verdicts import named, of_verdicts
from ml_assets.tables import fences
from ml_assets.tables.evaluate import Evidence
from ml_assets.tables.evidence import percent
from ml_assets.tables.expectations import RECENT, Outliers, Verdict
from ml_assets.tables.trend import REMEMBERED, Step, together

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_EXAMPLES = 10
_FEW = 100_000  # rows


@dataclass(frozen=True)
class Judged:
    """What was found of rows that do not stand yet; `profiles` are theirs, `history` those before.

    `refused` are the days whose rows may not stand.
    """

    findings: tuple[Finding, ...]
    refused: frozenset[str]
    profiles: "pa.Table"
    history: "pa.Table"
    steps: tuple[Step, ...]
    values: tuple[Counted, ...]

    def shown(self) -> Mapping[str, Any]:
        """The newest day for the user interface: statistics, small multiples with the trend, what is out of line."""
        return trend_metadata(self.profiles, self.history, flagged=self.steps)


def judge(spec: ViewSpec, run: Run, rows: "pa.Table", days: Sequence[str]) -> Judged:
    """Profile the features of rows just computed and judge them; nothing is written."""
    rows = _features(spec, rows)
    history = evidence.history(spec, run.lake, days)
    values = tuple(categories.counted(rows))
    # opening a database costs as much as a day's profile
    with connect() if rows.num_rows > _FEW else scratch() as con:
        profiles = evidence.profiled(con, rows, days)
        known = together(history, profiles)
        verdicts = _verdicts(spec, run, con, rows, days, known)
    refused = frozenset(verdict.partition for verdict in verdicts if verdict.refuses)
    steps = tuple(_steps(spec, known, profiles, verdicts))
    features = recent(known)
    findings = (
        _alive(tuple(lifeless(features)), features),
        _known(spec, run, values, days, rows.num_rows),
        _as_expected(steps, tuple(moved(features)) if spec.daily else (), features),
        *of_verdicts(spec.expectations, verdicts),
    )
    return Judged(findings, refused, profiles, history, steps, values)


def keep(spec: ViewSpec, run: Run, judged: Judged, days: Sequence[str]) -> None:
    """Put the profiles of rows that stand now beside them."""
    if spec.daily:
        run.lake.write(spec.profiles, among(judged.profiles, "partition_key", days), partitions=days)
    else:
        run.lake.write(spec.profiles, judged.profiles.drop_columns(["partition_key"]))
    categories.remember(spec, run.lake, [each for each in judged.values if each.first not in judged.refused])


def not_judged(spec: ViewSpec) -> tuple[Finding, ...]:
    """What the checks say when nothing was computed."""
    return unchanged(*(check.name for check in catalogue.of_features(spec)))


def _features(spec: ViewSpec, rows: "pa.Table") -> "pa.Table":
    """The features of rows, with the day that they belong to."""
    import pyarrow as pa

    features = rows.select(spec.view.features())
    day = rows["partition_key"] if spec.daily else pa.repeat("", rows.num_rows)
    return features.append_column("partition_key", day)


def _verdicts(
    spec: ViewSpec, run: Run, con: "duckdb.DuckDBPyConnection", rows: "pa.Table", days: Sequence[str], known: "pa.Table"
) -> list[Verdict]:
    if not spec.expectations:
        return []
    judged = days if spec.daily else ()
    con.register("judged_rows", evidence.with_reference(run.lake, spec.name, spec.expectations, rows, judged))
    con.register("new_rows", rows)
    outliers = [each for each in spec.expectations if isinstance(each, Outliers)]
    erected = fences.erect(con, "FROM new_rows", outliers) if outliers else ()
    view = spec.view.name
    given = Evidence(view, clock.now(), known, erected, con, "judged_rows", layer="features")
    return evidence.verdicts(spec.expectations, sorted(days), given, ())


def _steps(spec: ViewSpec, known: "pa.Table", profiles: "pa.Table", verdicts: Sequence[Verdict]) -> Iterable[Step]:
    """What is out of line in the newest 28 days: what older days of a long run were like is no news."""
    keys = sorted(set(known["partition_key"].to_pylist()))
    refused = {verdict.partition for verdict in verdicts if verdict.refuses}
    newest = [key for key in keys[-RECENT:] if key not in refused]
    before = [key for key in keys[-RECENT - REMEMBERED :] if key not in refused]
    return evidence.steps(
        spec, among(known, "partition_key", before), among(profiles, "partition_key", newest), verdicts, ()
    )


def _alive(found: Sequence[Lifeless], features: Mapping[str, Rows]) -> Finding:
    days = max((len(rows) for rows in features.values()), default=0)
    return Finding(
        catalogue.ALIVE.name,
        not found,
        named([each.sentence for each in found]) or f"{len(features)} features have different values in {days} days.",
        warn=True,
        numbers={"features": {each.feature: each.value for each in found}} if found else {},
    )


def _as_expected(steps: Sequence[Step], moves: Sequence[Moved], features: Mapping[str, Rows]) -> Finding:
    shifted = [move for move in moves if move.out_of_line]
    sentences = [*(move.sentence for move in shifted), *(step.sentence for step in steps)]
    days = max((len(rows) for rows in features.values()), default=0) - 1
    compared = f"No feature is out of line with the {days} days before."
    header = ("feature", "PSI", "usual up to", "missing", "missing before")
    lines = [(each.feature, each.psi, each.usual, each.missing, each.missing_before) for each in moves]
    return Finding(
        catalogue.AS_EXPECTED.name,
        not sentences,
        named(sentences) or (compared if days > 0 else "There is nothing to compare with."),
        warn=True,
        numbers={
            "out of line": len(steps),
            "shifted": len(shifted),
            **({"distributions": markdown_table(header, lines)} if lines else {}),
        },
    )


def _known(spec: ViewSpec, run: Run, values: Sequence[Counted], days: Sequence[str], n_rows: int) -> Finding:
    """Values that are in no earlier row and in no training data; a feature that was never seen has none to miss."""
    before = categories.seen(spec, run.lake)
    trained = list(categories.trained(spec.view.name, run.lake)) if values else []
    new: list[Counted] = []
    for feature in dict.fromkeys(each.feature for each in values):
        mine = [each for each in values if each.feature == feature]
        known = set(_earlier(spec, before.get(feature, {}), days)).union(*(m.get(feature, ()) for _, m in trained))
        if known and max(len(known), len(mine)) <= MOST:
            new += [each for each in mine if each.value not in known]
    blind = [who for who, features in trained if any(each.feature in features for each in new)]
    sentences = list(_unseen(new, n_rows))
    more = [f"{shorten(blind)} knows none of these and reads them as missing."] if blind else []
    return Finding(
        catalogue.KNOWN_CATEGORIES.name,
        not new,
        " ".join([named(sentences), *more]) if new else _all_known(values, before),
        warn=True,
        numbers=_examples(spec, new) if new else {},
    )


def _earlier(spec: ViewSpec, seen: Mapping[str, str], days: Sequence[str]) -> Iterator[str]:
    """What was seen on other days than those that are judged."""
    return (value for value, first in seen.items() if not spec.daily or first not in days)


def _unseen(new: Sequence[Counted], n_rows: int) -> Iterator[str]:
    for feature in dict.fromkeys(each.feature for each in new):
        mine = sorted((each for each in new if each.feature == feature), key=lambda each: (-each.n, each.value))
        n = sum(each.n for each in mine)
        listed = shorten([f"'{each.value}' ({each.n:,} rows)" for each in mine])
        values = "value was" if len(mine) == 1 else "values were"
        yield f"{len(mine)} {values} never seen in '{feature}': {listed}; {percent(n / n_rows)} of the rows."


def _all_known(values: Sequence[Counted], before: Mapping[str, Any]) -> str:
    if not values:
        return "No feature is text."
    return "All values were seen before." if before else "There is nothing to compare with: these are the first rows."


def _examples(spec: ViewSpec, new: Sequence[Counted]) -> dict[str, Any]:
    most = sorted(new, key=lambda each: (-each.n, each.feature, each.value))[:_EXAMPLES]
    lines = [(each.feature, each.value, each.n, each.first) for each in most]
    named_in = " OR ".join(f"{quote(each.feature)} = {literal(each.value)}" for each in most)
    return {
        "new values": len(new),
        "rows": sum(each.n for each in new),
        "examples": markdown_table(("feature", "value", "rows", "first day"), lines),
        "query": f"SELECT * FROM {spec.name.replace('/', '.')} WHERE {named_in}",
    }
