"""The small project taken through all of its steps, and edits of it, for tests of what runs after each."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from ml_assets.steps import features, ingest
from ml_assets.steps.specs import TableSpec, ViewSpec
from ml_assets_tests.project import Project, days, flights

FIRST, LAST = "2013-01-01", "2013-01-04"
DAYS = days(FIRST, LAST)
VIEWS = ("carrier_delays", "last_flight", "carrier_attributes")


class Small:
    """The project with four days of flights; `run` gives what was computed, by asset."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.tables: dict[str, TableSpec] = {name: project.table(name) for name in ("flights", "carriers")}
        self.views: dict[str, ViewSpec] = {name: project.view(name) for name in VIEWS}
        project.land_days(*DAYS)
        project.land_carriers()
        self.run()

    def run(self) -> dict[str, set[str]]:
        """Everything there is, in the order of the graph, as a backfill of all days would."""
        results = {}
        for spec in self.tables.values():
            results |= ingest.ingest(spec, self.step(spec.daily))
        for view in self.views.values():
            results |= features.materialize(view, self.step(view.daily))
        made = {name: {p for p, made in r.produced.items() if not made.reused} for name, r in results.items()}
        return {name: partitions for name, partitions in made.items() if partitions and not name.startswith("raw/")}

    def store(self, table: str, *wanted: str) -> None:
        """Only the bytes of a table, not yet judged."""
        self._ingest(table, f"raw/{table}", wanted)

    def judge(self, table: str, *wanted: str) -> None:
        """Only the rows of what is stored."""
        self._ingest(table, f"tables/{table}", wanted)

    def _ingest(self, table: str, output: str, wanted) -> None:
        spec = self.tables[table]
        ingest.ingest(spec, replace(self.step(spec.daily), partitions=wanted or DAYS, outputs=frozenset({output})))

    def step(self, daily: bool):
        return self.project.step(FIRST, LAST) if daily else self.project.step()

    def file(self, day: str = "2013-01-02") -> Path:
        return self.project.landing / "flights" / f"{day}.parquet"

    def touch(self) -> None:
        self.file().touch()

    def recompress(self) -> None:
        pq.write_table(pq.read_table(self.file()), self.file(), compression="gzip", row_group_size=3)

    def reorder(self) -> None:
        rows = pq.read_table(self.file())
        self.project.land(self.file().name, rows.take(list(range(rows.num_rows))[::-1]))

    def deliver_again_under_another_name(self) -> None:
        self.project.land("2013-01-02-again.parquet", pq.read_table(self.file()))

    def restate(self, day: str = "2013-01-02") -> None:
        self.project.land(f"{day}.parquet", flights(day, delay=99.0))

    def comment_in_sql(self) -> None:
        self.sql("-- the newest of them counts", "/* edited: */")
        self.sql("SELECT carrier,", "select  carrier\n  ,")

    def change_sql(self) -> None:
        self.sql("    delay AS last_delay", "    delay + 1 AS last_delay")

    def sql(self, this: str, that: str) -> None:
        place = self.project.defs_folder / "last_flight.sql"
        before = place.read_text()
        assert this in before
        place.write_text(before.replace(this, that))
        self.views["last_flight"] = self.project.view("last_flight")

    def contract(self, this: str, that: str) -> None:
        place = (self.project.defs_folder / "../../contracts.py").resolve()
        before = place.read_text()
        assert this in before
        place.write_text(before.replace(this, that))
        sys.modules.pop(f"{self.project.package}.contracts", None)
        importlib.invalidate_caches()

    def comment_in_contract(self) -> None:
        self.contract("class Flights", "# a comment\n\n\nclass Flights")

    def document_contract(self) -> None:
        self.contract("One flight", "One flight that has landed")

    def allow_more(self) -> None:
        self.contract("le=600", "le=700")

    def refuse_a_carrier(self) -> None:
        self.contract('isin=["UA", "B6", "DL"]', 'isin=["UA", "B6"]')

    def fail_sooner(self) -> None:
        self.tables["flights"] = replace(self.tables["flights"], fail_above=0.1)

    def keep_features_longer(self) -> None:
        self.view("carrier_delays", max_age=self.views["carrier_delays"].view.max_age * 2)

    def serve_later(self) -> None:
        self.view("carrier_delays", delay=self.views["carrier_delays"].view.every)

    def shorter_window(self) -> None:
        parts = self.views["carrier_delays"].view.aggregations or {}
        self.view("carrier_delays", aggregations={n: replace(p, windows=p.windows[:1]) for n, p in parts.items()})

    def view(self, name: str, **changes) -> None:
        spec = self.views[name]
        self.views[name] = replace(spec, view=replace(spec.view, **changes))

    def larger_fleet(self) -> None:
        self.project.land_carriers(200)
