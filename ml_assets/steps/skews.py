"""Skews in words: which inputs differ in how many rows, the first of these, and where the difference lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.past import PastLake
from ml_assets.errors import MlAssetsError, shorten
from ml_assets.monitoring.skew import SCORE, Skew, plain, rows_that_differ, worst
from ml_assets.records import Markdown
from ml_assets.serving.bundle import ServingSchema, ViewRef
from ml_assets.steps import offline
from ml_assets.steps.pictures import markdown_table

if TYPE_CHECKING:
    import pyarrow as pa

Ages = Sequence[Mapping[str, float | None]]


@dataclass(frozen=True)
class Compared:
    """Answers compared with the lake: `rows` as they were asked, `ages` as they were answered, in seconds.

    `answered` says when, where that is known: what the lake held then tells a correction from a skew.
    """

    schema: ServingSchema
    lake: Lake
    rows: "pa.Table"
    ages: Ages
    skews: tuple[Skew, ...]
    answered: Sequence[datetime] = ()

    @property
    def equal(self) -> bool:
        """Whether all rows have equal bits."""
        return not worst(self.skews)

    @property
    def different(self) -> int:
        """The number of rows that differ in anything."""
        return int(rows_that_differ(self.skews).sum())

    def sentence(self, most: int = 3) -> str:
        """Name the inputs that differ, the worst with its first row and the probable cause."""
        found = worst(self.skews)
        if not found:
            return f"all {len(self.skews)} inputs and scores have equal bits"
        first = f"`{found[0].feature}` differs in {found[0].different:,}"
        more = shorten([f"`{skew.feature}` in {skew.different:,}" for skew in found[1:]], most)
        return f"{first}: {self.example(found[0])}" + (f"; also {more}" if more else "")

    def table(self) -> Markdown:
        """One line for each input that differs."""
        header = ("input", "rows that differ", "share", "first")
        lines = [(skew.feature, skew.different, skew.rate, self.example(skew)) for skew in worst(self.skews)]
        return markdown_table(header, lines)

    def example(self, skew: Skew) -> str:
        """The first row that differs, with both values."""
        if skew.first is None:
            return ""
        ref = view_of(self.schema, skew.feature)
        values = f"offline {shown(skew.offline)}, online {shown(skew.online)}{whose(self.schema, self.rows, skew)}"
        if self._is_corrected(skew):
            return f"{values} (the lake gave the same when it was answered, and was corrected since)"
        return f"{values} ({self._cause(ref, skew.first)})" if ref else values

    def _is_corrected(self, skew: Skew) -> bool:
        """Whether the first row that differs was answered with what the lake held then."""
        if not self.answered or skew.first is None or skew.feature == SCORE:
            return False
        then = self._given_then(skew.first)
        return skew.feature in then and plain(then[skew.feature][0]) == skew.online

    def _given_then(self, place: int) -> Mapping[str, Any]:
        """The inputs of a row as the lake gave them when it was answered; none where it does not hold that any more.

        Read once for a row: many inputs differ first in the same one, and each is told about more than once.
        """
        if place not in self._then:
            lake = PastLake(self.lake, self.answered[place])
            try:
                self._then[place] = offline.inputs_of(self.schema, lake, self.rows.slice(place, 1))
            except MlAssetsError:
                self._then[place] = {}
        return self._then[place]

    @cached_property
    def _then(self) -> dict[int, Mapping[str, Any]]:
        return {}

    def late(self, skew: Skew) -> int:
        """How many of the rows that differ were answered before the row that counts for them was online."""
        ref = view_of(self.schema, skew.feature)
        if ref is None or not skew.different:
            return 0
        places = skew.differs.nonzero()[0].tolist()
        known = [place for place in places if ref.name in self.ages[place]]
        return sum(_is_older(self._online(ref, place), self._offline[ref.name][place]) for place in known)

    @cached_property
    def _offline(self) -> Mapping[str, list[datetime | None]]:
        return offline.row_times(self.schema, self.lake, self.rows)

    def _online(self, ref: ViewRef, place: int) -> datetime | None:
        age = self.ages[place][ref.name]
        return None if age is None else self.rows["at"][place].as_py() - timedelta(microseconds=round(age * 1e6))

    def _cause(self, ref: ViewRef, place: int) -> str:
        if ref.name not in self.ages[place]:
            return "the age of the online row is not known"
        here, there = self._offline[ref.name][place], self._online(ref, place)
        if here == there:
            return f"both from the row of {_moment(here)}" if here else "no row counts on either side"
        if there is None:
            return f"no online row was found, offline that of {_moment(here)} counts"
        if here is None:
            return f"the online row of {_moment(there)} counts, offline none does"
        return f"the online row is that of {_moment(there)}, offline that of {_moment(here)} counts"


def whose(schema: ServingSchema, rows: "pa.Table", skew: Skew) -> str:
    """Of which entity and as of when the first row is that differs: ` for carrier UA as of 2013-01-15 20:00:00`."""
    if skew.first is None:
        return ""
    row, ref = rows.slice(skew.first, 1).to_pylist()[0], view_of(schema, skew.feature)
    entity = f" for {', '.join(f'{name} {row[name]}' for name in ref.entity)}" if ref else ""
    return f"{entity} as of {_moment(row['at'])}"


def view_of(schema: ServingSchema, feature: str) -> ViewRef | None:
    """The view that gives an input."""
    refs = (ref for ref in schema.views for name in ref.features if feature == f"{ref.name}__{name}")
    return next(refs, None)


def _is_older(online: datetime | None, of_lake: datetime | None) -> bool:
    return of_lake is not None and (online is None or online < of_lake)


def _moment(instant: datetime | None) -> str:
    return "" if instant is None else instant.isoformat(sep=" ").replace("+00:00", "")


def shown(value: float | str | None) -> str:
    """A value as a sentence gives it."""
    return "null" if value is None else repr(value)
