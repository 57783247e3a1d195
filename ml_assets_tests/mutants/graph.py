"""The graph that deliveries are taken through, and what holds for every one of them, good or bad."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import dagster as dg

from ml_assets import reading
from ml_assets.steps.days import shift
from ml_assets_tests.mutants.delivery import CONTRACTS, TABLES, Mutant, aircraft, documents
from ml_assets_tests.project import Project, days, failure, materialized

FIRST = "2012-02-27"  # two days before a 29 February
GOOD = Mutant()


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery: what Dagster recorded, and what the lake holds of its day."""

    project: Project
    table: str
    day: str
    result: dg.ExecuteInProcessResult

    @cached_property
    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """What the checks said, by name."""
        return {each.check_name: each for each in self.result.get_asset_check_evaluations()}

    @property
    def failed(self) -> set[str]:
        """The checks that did not pass; that statistics are as usual is not asked of mutants."""
        return {name for name, each in self.checks.items() if not each.passed} - {"statistics_are_as_usual"}

    def says(self, check: str) -> str:
        """The sentence of a check."""
        return self.checks[check].description or ""

    def shown(self, check: str, name: str) -> Any:
        """What a check shows beside its sentence."""
        return self.checks[check].metadata[name].value

    def found(self, check: str) -> list[dict[str, Any]]:
        """The rows that the query of a check finds, as a person would run it."""
        with reading.connect() as con:
            return con.sql(self.shown(check, "query")).to_arrow_table().to_pylist()

    @property
    def refused(self) -> bool:
        """Whether the day was not let in."""
        return f"tables/{self.table}" not in materialized(self.result)

    @property
    def error(self) -> str:
        """What the user reads of the failed step."""
        return failure(self.result)

    def number(self, name: str) -> Any:
        """A number of the table's materialization."""
        assert not self.refused, self.error
        (made,) = [
            event.step_materialization_data.materialization
            for event in self.result.all_events
            if event.event_type_value == "ASSET_MATERIALIZATION"
            and event.asset_key == dg.AssetKey(["tables", self.table])
        ]
        return made.metadata[name].value

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Rows delivered, valid, quarantined and duplicates, as Dagster shows them."""
        delivered, valid = self.number("delivered"), self.number("dagster/row_count")
        return delivered, valid, self.number("quarantined"), self.number("duplicates")

    def rows(self, layer: str = "tables") -> list[dict[str, Any]]:
        """The rows of the day in a layer of the lake."""
        found = self.project.lake.dataset(f"{layer}/{self.table}", partitions=[self.day]).to_table().to_pylist()
        return sorted(found, key=lambda row: (row.get("flight_id", ""), row.get("row", 0), row.get("arrived_at")))

    def row(self, line: int) -> dict[str, Any]:
        """The row of the table that was delivered on a line."""
        (found,) = [row for row in self.rows() if row["flight_id"] == f"UA-{self.day}-{line - 2:04}"]
        return found

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        """The refused rows of the day."""
        return self.rows("quarantine")


class Graph:
    """Tables with good days in them, each day for one mutant; the tables stand until a mutant is let in."""

    def __init__(self, project: Project, tables: Mapping[str, str]) -> None:
        self.project, self.cursor, self.tables = project, None, tuple(tables)
        self._free: dict[str, Iterator[str]] = {}
        project.write("../../contracts.py", CONTRACTS)
        project.declare(*documents(tables).values())
        self.tick()

    @classmethod
    def standing_on(cls, project: Project, *tables: str, n_days: int, good: Mutant = GOOD) -> Self:
        """Tables of files with the same good delivery on each day."""
        last = shift(FIRST, n_days - 1)
        graph = cls(project, {name: TABLES[name] for name in tables})
        project.land("aircraft.parquet", aircraft(), table="aircraft")
        assert project.run("raw/aircraft", "tables/aircraft").success
        for table in tables:
            graph._free[table] = iter(days(FIRST, last))
            for day in days(FIRST, last):
                project.land(f"{day}.csv", good.content(day), table=table)
            assert project.run(*_assets(table), first=FIRST, last=last).success
        graph.tick()
        graph.tick()
        return graph

    def free_day(self, table: str) -> str:
        """A day with a good delivery that no mutant has touched."""
        return next(self._free[table])

    def restate(self, mutant: Mutant, table: str = "flights") -> Outcome:
        """Deliver a mutant in place of a good day, which stands."""
        day = self.free_day(table)
        outcome = self.deliver(table, day, f"{day}{mutant.suffix}", mutant.content(day))
        assert outcome.refused or outcome.counts[0] == len(mutant.rows(day))
        return outcome

    def deliver(self, table: str, day: str, name: str, content: bytes) -> Outcome:
        """Deliver a file and run its day as the daemon would; look at all that holds whatever the file is."""
        self.project.land(name, content, table=table)
        return self.run(table, day, (name, content))

    def run(self, table: str, day: str, *delivered: tuple[str, bytes]) -> Outcome:
        """Run a day and look at all that holds whatever was delivered."""
        before = self.standing()
        outcome = Outcome(self.project, table, day, self.project.run(*_assets(table), first=day))
        after = self.standing()
        for name, content in delivered:
            self._require_kept(table, day, name, content)
        mine = (f"tables/{table}", day)
        others = [{place: held for place, held in each.items() if place != mine} for each in (before, after)]
        assert others[0] == others[1], "other days or tables changed"
        if outcome.refused:
            assert not outcome.result.success
            assert before.get(mine) == after.get(mine), "what stood before does not stand"
        else:
            assert outcome.result.success
            _require_reconciled(outcome)
        changed = before.get(mine) != after.get(mine)
        requested = self.tick()
        assert requested == (self._behind(table, day) if changed else set())
        self.tick()  # Dagster forgets a change that comes in the tick after a request: see `on_new_content`
        return outcome

    def _behind(self, table: str, day: str) -> set[tuple[str, str | None]]:
        """The features of a day and of the next: a flight of the evening is the last one in the morning."""
        standing = self.project.lake.partitions(f"tables/{table}")
        return {(f"features/{table}_delays", each) for each in (day, shift(day, 1)) if each in standing}

    def standing(self) -> dict[tuple[str, str], str]:
        """The hash of the rows of each partition of each table."""
        names = [name for name in reading.tables() if name.startswith("tables/")]
        return {(name, p): held.hash for name in names for p, held in self.project.lake.content(name).items()}

    def tick(self) -> set[tuple[str, str | None]]:
        """What the daemon would request of the assets behind the tables."""
        result = dg.evaluate_automation_conditions(self.project.defs, self.project.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return set(self._requested(result))

    def _requested(self, result: dg.EvaluateAutomationConditionsResult) -> Iterator[tuple[str, str | None]]:
        for table in self.tables:
            view = f"features/{table}_delays"
            for day in result.get_requested_partitions(dg.AssetKey.from_user_string(view)):
                yield view, day

    def _require_kept(self, table: str, day: str, name: str, content: bytes) -> None:
        """Raw holds the bytes as they were delivered, and as the newest of their name."""
        lines = self.project.lake.dataset(f"raw/{table}", partitions=[day]).to_table().to_pylist()
        (line,) = [line for line in lines if line["name"] == name and line["current"]]
        assert line["sha256"] == hashlib.sha256(content).hexdigest()
        assert self.project.lake.get_object(line["object"]) == content


def _assets(table: str) -> tuple[str, str]:
    return f"raw/{table}", f"tables/{table}"


def _require_reconciled(outcome: Outcome) -> None:
    """The numbers that are said are those of the lake, and every delivered row is one of them."""
    delivered, valid, quarantined, duplicates = outcome.counts
    assert delivered == valid + quarantined + duplicates
    assert (len(outcome.rows()), len(outcome.quarantined)) == (valid, quarantined)
    assert outcome.checks["no_row_is_lost"].passed
