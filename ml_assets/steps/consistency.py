"""Consistency: what real traffic was answered with, day by day, against what the lake gives for the same requests.

The proof before traffic is about history; this is about what happened: a server that read late, stale or other rows
than training will is found here, by feature and by version.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.errors import FeatureError, shorten
from ml_assets.records import Finding, StepResult, unchanged
from ml_assets.serving.bundle import ViewRef
from ml_assets.steps import catalogue, evaluation, view_versions
from ml_assets.steps.answers import Answered, compared
from ml_assets.steps.arrow import as_table
from ml_assets.steps.days import shift
from ml_assets.steps.memo import Memo, Work, by_day, digest
from ml_assets.steps.run import Run
from ml_assets.steps.specs import DAY, EndpointSpec

if TYPE_CHECKING:
    import pyarrow as pa

_DAYS_AT_ONCE = 14


def materialize(spec: EndpointSpec, run: Run) -> Mapping[str, StepResult]:
    """Compute the inputs of each day's answers again, and compare them and the scores bit for bit."""
    memo, inputs = work(spec, run, run.partitions)
    produced, due = memo.survey(inputs)
    if not due:
        return {spec.consistency: StepResult(produced, _stood(memo, produced))}
    spans = (due[n : n + _DAYS_AT_ONCE] for n in range(0, len(due), _DAYS_AT_ONCE))
    found = [each for span in spans for each in compared(spec, run, span)]
    commit = run.lake.write(spec.consistency, _rows(found), partitions=due)
    for day in due:
        own = [each for each in found if each.day == day]
        metadata = _metadata(own) | {"lake version": commit.version}
        entry = memo.write(day, inputs[day], commit.content[day].hash, metadata, [_finding(spec, own)])
        tables = {f"version {each.version}": each.compared.table() for each in own if not each.compared.equal}
        produced[day] = entry.produced(tables)
    return {spec.consistency: StepResult(produced, (_finding(spec, found),))}


def _stood(memo: Memo, days: Iterable[str]) -> tuple[Finding, ...]:
    """What is said when nothing was compared anew: a day that differed then differs still."""
    said = [found for day in days if (entry := memo.read(day)) for found in entry.findings()]
    return tuple(sorted(said, key=lambda found: found.warn)[:1]) or unchanged(catalogue.CONSISTENT.name)


def work(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Work:
    """The record of the comparisons, and what those of each day are made from: answers, and the feature rows now.

    The rows are those of the versions of views that the answers were made with, whatever is declared by now.
    """
    lake, limits = run.lake, {"consistency.tolerate": spec.tolerated_skew}
    memo = Memo(lake, spec.consistency, version=catalogue.CONSISTENCY, config=limits)
    found = lake.content(spec.predictions, partitions=list(days)) if lake.exists(spec.predictions) else {}
    hashes = {day: content.hash for day, content in found.items() if content.n_rows}
    inputs = {day: by_day(spec.predictions, hashes, [day]) for day in hashes}
    rows: dict[str, _Rows] = {}
    for day, ref in _read(spec, run, list(hashes)):
        known = rows.setdefault(ref.stored, _Rows(ref, lake))
        inputs[day][f"features/{ref.stored}"] = known.as_of(day)
    return Work(memo, inputs)


def _read(spec: EndpointSpec, run: Run, days: Sequence[str]) -> Iterator[tuple[str, ViewRef]]:
    """The views that the answers of each day were made with."""
    if not days:
        return
    with connect() as con:
        run.lake.register(con, "answers", spec.predictions, partitions=days)
        answered = con.sql("SELECT DISTINCT partition_key, version FROM answers ORDER BY ALL").fetchall()
    views = {version: evaluation.fetch(spec.model, run, version).schema.views for _, version in answered}
    yield from ((day, ref) for day, version in answered for ref in views[version])


class _Rows:
    """What is known of the content of a version of a view, from the record of its computation: no row is read."""

    def __init__(self, ref: ViewRef, lake: Lake) -> None:
        self._ref, self._lake, self._hashes = ref, lake, dict[str, str]()
        age = ref.max_age_us
        self._back = None if age is None else ceil(timedelta(microseconds=age) / DAY) + 1

    def as_of(self, day: str) -> str:
        """A hash over all days whose rows may count for requests of a day."""
        if self._days is None:
            return digest([self._hash("")])
        first = "" if self._back is None else shift(day, -self._back)
        counting = [each for each in self._days if first <= each <= shift(day, 1)]
        return digest([f"{each} {self._hash(each)}" for each in counting])

    @cached_property
    def _table(self) -> str:
        """Where the rows of the version are; a name that nothing has, while they are being moved."""
        try:
            return view_versions.table_of(self._ref.name, self._ref.version, self._lake)
        except FeatureError:
            return f"features/{self._ref.stored}"

    @cached_property
    def _days(self) -> list[str] | None:
        return view_versions.days_in(self._table, self._lake)

    def _hash(self, day: str) -> str:
        if day not in self._hashes:
            entry = Memo(self._lake, self._table, version=catalogue.FEATURES, config=None).read(day)
            self._hashes[day] = entry.data_version if entry else ""
        return self._hashes[day]


def _rows(found: Sequence[Answered]) -> "pa.Table":
    """A row for each feature of each version on each day; one without a rate where it was not compared."""
    lines = [line for each in found for line in _lines(each)]
    return as_table({name: [line[name] for line in lines] for name in lines[0]})


def _lines(each: Answered) -> Iterator[dict[str, Any]]:
    whose = {"version": each.version, "partition_key": each.day}
    for skew in each.compared.skews:
        yield whose | {
            "feature": skew.feature,
            "n": len(skew.differs),
            "mismatches": skew.different,
            "rate": skew.rate,
            "late": each.compared.late(skew),
            "example": each.compared.example(skew),
        }
    for name in each.left_out:
        unknown = {"n": 0, "mismatches": 0, "rate": None, "late": 0, "example": each.not_compared()}
        yield whose | {"feature": name} | unknown


def _totals(found: Sequence[Answered]) -> dict[str, Any]:
    return {
        "answers that differ": sum(each.compared.different for each in found),
        "worst rate": max(each.rate for each in found),
        "not compared": sorted({name for each in found for name in each.left_out}),
    }


def _metadata(found: Sequence[Answered]) -> dict[str, Any]:
    said = shorten([each.sentence() for each in found])
    return {"n_rows": sum(each.n for each in found), **_totals(found), "said": said}


def _finding(spec: EndpointSpec, found: Sequence[Answered]) -> Finding:
    guilty = sorted((each for each in found if each.rate > spec.tolerated_skew), key=lambda each: -each.rate)
    numbers = _numbers(spec, found)
    if guilty:
        more = f" And {len(guilty) - 1} more days or versions." if len(guilty) > 1 else ""
        return Finding(catalogue.CONSISTENT.name, False, guilty[0].sentence() + more, numbers=numbers)
    within = "" if not numbers["answers that differ"] else f", but for {numbers['answers that differ']:,} answers,"
    bits = "have the inputs and the scores that the lake gives, bit for bit."
    said = f"{numbers['answers']:,} answers of {len({each.day for each in found})} days{within} {bits}"
    left = sorted({each.not_compared() for each in found if each.left_out})
    return Finding(catalogue.CONSISTENT.name, not left, " ".join([said, *left]), warn=bool(left), numbers=numbers)


def _numbers(spec: EndpointSpec, found: Sequence[Answered]) -> dict[str, Any]:
    n, mismatches = Counter[str](), Counter[str]()
    for skew in (skew for each in found for skew in each.compared.skews):
        n[skew.feature] += len(skew.differs)
        mismatches[skew.feature] += skew.different
    rates = {name: mismatches[name] / n[name] for name in n}
    answers = {"answers": sum(each.n for each in found)}
    return answers | _totals(found) | {"tolerated": spec.tolerated_skew, "mismatch rate": rates}
