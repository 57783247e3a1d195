"""`ml-assets demo`: feed, start Dagster, watch the graph build itself, ask the endpoint."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from ml_assets.adapters.settings import Settings
from ml_assets.demo import progress, questions, summary
from ml_assets.demo.display import Display, described
from ml_assets.demo.endpoints import deployed, resume
from ml_assets.demo.graph import Graph, Snapshot
from ml_assets.demo.interrupts import raised
from ml_assets.demo.recovery import close_left_runs
from ml_assets.demo.services import Services, session
from ml_assets.errors import EndpointError, MlAssetsError, shorten
from ml_assets.feeds.flights import FIRST_DAY, land, landed_until
from ml_assets.orchestration.loading import Location

LAST_FED_DAY = date(2013, 4, 30)
MODEL = ENDPOINT = "arrival_delay"
_LIMIT_SECONDS = 25 * 60.0
# The reconciling schedule looks every ten minutes: what it does not mend, nothing will.
_STUCK_SECONDS = 11 * 60.0
_POLL_SECONDS = 1.5  # a look costs the webserver 60 ms of CPU
_MEMORY_SECONDS = 3.0
_PLAIN: Any = {"highlight": False, "soft_wrap": True}


@dataclass
class Demo:
    """One demonstration: what it measures on the way, and what it shows."""

    services: Services
    display: Display
    started: float = field(default_factory=time.time)
    stages: dict[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0
    _measured_at: float = 0.0

    @property
    def settings(self) -> Settings:
        """Where things are."""
        return self.services.settings

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part."""
        began = time.monotonic()
        yield
        self.stages[name] = round(time.monotonic() - began, 1)

    def prepare(self) -> Graph:
        """Land the flights, and start what watches them; the code server loads meanwhile."""
        with self.stage("start"):
            self.services.start_code()
            landed = land(self.settings.landing_uri, until=LAST_FED_DAY)
            self.display.say(_fed(len(landed), self.settings.landing_uri))
            close_left_runs(self.services.dagster_home)
            resume(self.settings.endpoints)
            address = self.services.start_dagster()
            self.display.say(f"Dagster is at {address}, with all sensors on. From here on this only watches.")
        return Graph(address, self.services.location.name, self.started)

    def watch(self, graph: Graph) -> Snapshot:
        """Look on until the graph is complete and at rest; MlAssetsError with a diagnosis when it gets stuck."""
        day = landed_until(self.settings.landing_uri) or LAST_FED_DAY
        quiet_since = time.monotonic()
        with self.stage("build"), self.display:
            while True:
                snapshot = self._look(graph)
                missing, restless = progress.missing(snapshot, day), progress.restless(snapshot, self.started)
                self.display.show(snapshot, time.time() - self.started, [*restless, *missing])
                if not missing and not restless:
                    return snapshot
                if restless:
                    quiet_since = time.monotonic()
                if time.monotonic() - quiet_since > _STUCK_SECONDS or time.time() - self.started > _LIMIT_SECONDS:
                    raise MlAssetsError(self._diagnosis(graph, snapshot, missing, restless))
                time.sleep(_POLL_SECONDS)

    def ask(self, graph: Graph, snapshot: Snapshot) -> dict[str, Any]:
        """Ask the endpoint about flights of the next day; everything that the summary holds."""
        with self.stage("ask"):
            url, folder = self.endpoint_url(), self.settings.endpoints / ENDPOINT
            day = (landed_until(self.settings.landing_uri) or LAST_FED_DAY) + timedelta(days=1)
            asked = questions.flights(day)
            shown = summary.examples(asked, questions.ask(folder, url, asked))
            measured = questions.latency(folder, url, asked)
        release = graph.materializations("releases")[f"releases/{MODEL}"][0]
        judged = graph.materializations("evaluations")[f"evaluations/{MODEL}"]
        # The newest evaluation may be of a candidate that was not released.
        evaluation = next(each for each in judged if each["version"] == release["version"])
        self._measure()
        return {
            "elapsed_seconds": round(time.time() - self.started, 1),
            "stages_seconds": self.stages,
            **summary.counts(snapshot, self.started),
            "trainings_in_this_session": summary.trainings(graph.materializations("models"), self.started),
            "model": MODEL,
            "model_version": release["version"],
            "metrics": [vars(metric) for metric in summary.metrics(evaluation)],
            "endpoint": url,
            "latency": summary.latency_json(measured),
            "examples": shown,
            "peak_memory_mib": round(self.peak_mib),
        }

    def endpoint_url(self) -> str:
        """Where the endpoint answers now."""
        found = deployed(self.settings.endpoints).get(ENDPOINT)
        status = found.status() if found else None
        if status is None or status.url is None or status.generation is None:
            raise EndpointError(f"The graph is complete, but endpoint '{ENDPOINT}' does not answer.")
        return status.url

    def _look(self, graph: Graph) -> Snapshot:
        self.services.require_alive()
        if time.monotonic() - self._measured_at > _MEMORY_SECONDS:
            self._measure()
        return graph.snapshot()

    def _measure(self) -> None:
        self.peak_mib = max(self.peak_mib, self.services.tree.memory_mib())
        self._measured_at = time.monotonic()

    def _diagnosis(self, graph: Graph, snapshot: Snapshot, missing: list[str], restless: list[str]) -> str:
        failed = [run for run in snapshot.runs if run.status == "FAILURE"]
        lines = [f"The graph is not complete after {time.time() - self.started:.0f} s."]
        lines += [f"Missing: {shorten(missing, 12)}."] if missing else []
        lines += [f"Under way: {shorten(restless)}."] if restless else ["Nothing runs, and no sensor wants anything."]
        lines += [f"Failed: {described(run)}: {graph.failure(run.run_id)}" for run in failed[:5]]
        lines += [f"Sensor {said}" for said in progress.failed_ticks(snapshot)]
        return "\n".join([*lines, f"Logs: {self.services.tree.log('code')}, {self.services.tree.log('daemon')}"])


def run(settings: Settings, *, leave: bool) -> int:
    """Run the demonstration; exit code 0, or 130 when it was interrupted before it was complete."""
    console = Console()
    complete = False
    try:
        with session(settings, Location()) as services, raised():
            demo = Demo(services, Display(console))
            graph = demo.prepare()
            found = demo.ask(graph, demo.watch(graph))
            complete = True
            with demo.stage("mlflow"):
                services.start_mlflow()
            _tell(console, demo, found)
            if leave:
                summary.write(settings.home / "demo" / "summary.json", found | {"stages_seconds": demo.stages})
                return 0
            _stay(services, lambda: console.print("Ctrl-C ends it all.", style="bold"))
    except KeyboardInterrupt:
        console.print("Ended.", style="dim")
    return 0 if complete else 130


def _stay(services: Services, say: Callable[[], None]) -> None:
    say()
    while True:
        services.require_alive()
        time.sleep(1)


def _tell(console: Console, demo: Demo, found: dict[str, Any]) -> None:
    measured = ", ".join(str(summary.Metric(**metric)) for metric in found["metrics"])
    latency = found["latency"]
    console.print(f"\n{MODEL} version {found['model_version']} is the champion: {measured}.", **_PLAIN)
    console.print(
        f"{found['assets_materialized']} of {found['assets']} assets, {found['checks_passed']} checks passed,"
        f" {found['checks_failed']} failed, trainings: {found['trainings_in_this_session']},"
        f" in {found['elapsed_seconds']:.0f} s; at most {found['peak_memory_mib']} MiB."
        f" The endpoint answers in {latency['p50_ms']:.1f} ms (p99 {latency['p99_ms']:.1f} ms).\n",
        **_PLAIN,
    )
    console.print("Real flights of the next day, half of them late (more than 15 min), asked about two hours before:")
    console.print(summary.answers_table(found["examples"]))
    addresses = {**demo.services.addresses, "Endpoint": found["endpoint"]}
    console.print()
    for name, address in addresses.items():
        console.print(f"  {name:9} {address}", **_PLAIN)
    console.print()


def _fed(n_files: int, place: str) -> str:
    if not n_files:
        return f"Flights from {FIRST_DAY} to {LAST_FED_DAY} are in {place} already."
    return f"Landed flights from {FIRST_DAY} to {LAST_FED_DAY}: {n_files} files in {Path(place)}."
