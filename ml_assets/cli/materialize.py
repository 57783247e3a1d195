"""`ml-assets materialize`: runs what is chosen and due, in order, and says what came of it."""

import atexit
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_assets.adapters.settings import Settings
from ml_assets.cli import project
from ml_assets.cli.explain import assets
from ml_assets.errors import MlAssetsError, shorten

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console

    from ml_assets.orchestration.by_hand import Outcome
    from ml_assets.steps.explain import Verdict
    from ml_assets.steps.works import Asset

# A run says anew of what stands what their checks promise; others would say that nothing has changed since.
_JUDGED_AGAIN = ("features", "training_sets", "evaluations")
_OUTSIDE = "no day in --days"
_SELECTION = "Assets as Dagster selects them; + is with all upstream: +releases/arrival_delay, tables/*, group:flights."


def materialize(
    selection: Annotated[
        list[str] | None,
        typer.Argument(help=f"{_SELECTION} [dim]default: everything[/dim]"),
    ] = None,
    days: Annotated[
        str | None, typer.Option(metavar="A..B", help="Only these UTC days. [dim]default: all that are due[/dim]")
    ] = None,
    upstream: Annotated[bool, typer.Option("--upstream", help="Also all that they are made from.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run now, and run nothing.")] = False,
) -> None:
    """Run assets here and now, without a daemon: what is new, in order, many days at once.

    What stands is left alone, so the command can be repeated: it goes on where it was stopped. Nothing is made from
    what a blocking check stopped. A failed check is named with its sentence; exit code 1 says that something failed.

    The runs are recorded in the Dagster instance of DAGSTER_HOME; where that is not set, in that of `ml-assets dev`.

    [dim]ml-assets materialize --dry-run[/dim]
    [dim]ml-assets materialize +features/carrier_delays --days 2013-01-01..2013-01-31[/dim]
    [dim]ml-assets materialize +releases/arrival_delay[/dim]
    """
    from ml_assets.orchestration import by_hand
    from ml_assets.orchestration.loading import Location, definitions

    known = {name: asset for name, (asset, _) in assets().items()}
    span, settings = _span(days), Settings.from_environment()
    defs = definitions(Location.of(Path.cwd()))
    try:
        wanted = by_hand.selected(defs, selection or ["*"], upstream=upstream, among=known)
    except ValueError as error:
        raise MlAssetsError(project.unknown(str(error), known, "asset or selection")) from error
    with _instance(settings) as (instance, home), _apart(settings.home / "logs" / "materialize.log") as console:
        work = _Work(defs, instance, known, span, console, max(map(len, wanted)))
        try:
            for names in by_hand.operations(defs, wanted):
                work.plan(names) if dry_run else work.do(names)
        except KeyboardInterrupt:
            work.say("Stopped. The same command goes on from here.", "yellow")
            raise typer.Exit(130) from None
        own = "that of `ml-assets dev`" if home == settings.home / "dagster" else "by DAGSTER_HOME"
        work.say(f"{work.summary(dry_run)} Lake: {settings.lake_uri}. Dagster instance: {home}, {own}.")
    raise typer.Exit(1 if work.failed else 0)


@dataclass
class _Due:
    """What there is to do for the assets of one operation; partitions are days, or "" for a whole."""

    partitions: set[str] = field(default_factory=set)
    n_standing: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    waits: str = ""


@dataclass
class _Work:
    """One call of the command: what there is, and what came of it."""

    defs: "dg.Definitions"
    instance: "dg.DagsterInstance"
    known: "Mapping[str, Asset]"
    span: tuple[str, str]
    console: "Console"
    width: int
    began: float = field(default_factory=time.monotonic)
    ran: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    halted: set[str] = field(default_factory=set)  # nothing is made from these

    def plan(self, names: Sequence[str]) -> None:
        """Say what would run now; what follows is judged when that has run."""
        before = self._before(names) & set(self.ran)
        if self._is_held(names, but=before):
            return
        due = self._due(names)
        for name in names:
            if due.partitions:
                self._line(name, f"would run  {_said(due.partitions)}", "bold")
            elif before:
                self._line(name, f"follows {shorten(sorted(before))}", "dim")
            else:
                self._idle(name, due)
        self.ran += names if due.partitions or before else []

    def do(self, names: Sequence[str]) -> None:
        """Run what is due, unless something before it has failed."""
        if self._is_held(names):
            return
        due, began = self._due(names), time.monotonic()
        outcomes = self._executed(names, due)
        for name in names:
            if due.partitions:
                seconds = f"{time.monotonic() - began:.1f} s" if name == names[-1] else ""
                self._report(name, outcomes[name], len(due.partitions), seconds)
            else:
                self._idle(name, due)

    def summary(self, dry_run: bool) -> str:
        """What it came to, in a sentence."""
        if dry_run:
            return f"Up to {len(self.ran)} assets would run."
        failed = f" Failed or not run: {shorten(self.failed)}." if self.failed else ""
        seconds = time.monotonic() - self.began
        return f"{len(self.ran)} assets ran in {seconds:.0f} s.{failed}" if self.ran or failed else "Nothing to do."

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _due(self, names: Sequence[str]) -> _Due:
        """By the records that the steps decide by; what this Dagster instance has not seen is due as well."""
        from ml_assets.orchestration import by_hand
        from ml_assets.steps.explain import Decision, verdicts
        from ml_assets.steps.run import Run

        found = _Due()
        for name in names:
            judged = verdicts(self.known[name], Run(Settings.from_environment()))
            inside = {p: verdict for p, verdict in judged.items() if not p or self.span[0] <= p <= self.span[1]}
            recorded = by_hand.known(self.instance, name, daily=any(inside))
            for partition, verdict in inside.items():
                if verdict.runs or (verdict.decision is Decision.STANDS and partition not in recorded):
                    found.partitions.add(partition)
                elif verdict.decision is Decision.STANDS:
                    found.n_standing += 1
                elif verdict.decision is Decision.REFUSED:
                    found.refused[partition] = verdict.reasons[0]
                else:
                    found.waits = verdict.reasons[0]
            if judged and not inside:
                found.waits = _OUTSIDE
            newest = max(judged, default=None)
            if newest in inside and self._is_outdated(name, judged):
                found.partitions.add(newest)
        return found

    def _is_outdated(self, name: str, judged: "Mapping[str, Verdict]") -> bool:
        """Whether a blocking check stopped what is all good by the records: advice followed, or an edit taken back."""
        from ml_assets.orchestration import by_hand
        from ml_assets.steps.explain import Decision

        if name.partition("/")[0] not in _JUDGED_AGAIN:
            return False
        stands = all(verdict.decision is Decision.STANDS for verdict in judged.values())
        return stands and bool(by_hand.failing(self.defs, self.instance, [name]))

    def _is_held(self, names: Sequence[str], but: Collection[str] = ()) -> bool:
        """Whether assets must not run, which is said."""
        reason = self._stopped(names, but)
        if reason:
            self.failed += names
            self.halted |= set(names)
            for name in names:
                self._line(name, f"not run: {reason}", "yellow")
        return bool(reason)

    def _stopped(self, names: Sequence[str], but: Collection[str]) -> str:
        """Why assets must not run: something before them failed, here or at its last run, but for what would run."""
        from ml_assets.orchestration import by_hand

        if halted := self._before(names) & self.halted:
            return f"{shorten(sorted(halted))} failed"
        stops = [each for name in names for each in by_hand.stopped(self.defs, self.instance, name).items()]
        told = [f"{parent} failed its blocking check {check}" for parent, check in stops if parent not in but]
        return told[0] if told else ""

    def _before(self, names: Sequence[str]) -> set[str]:
        from ml_assets.orchestration import by_hand

        return {parent for name in names for parent in by_hand.parents(self.defs, name)} - set(names)

    def _executed(self, names: Sequence[str], due: _Due) -> "dict[str, Outcome]":
        from ml_assets.orchestration import by_hand
        from ml_assets.steps.days import runs_of

        found = {name: by_hand.Outcome() for name in names}
        for days in [None] if "" in due.partitions else runs_of(sorted(due.partitions)):
            with self.console.status(f"{names[-1]} {_said(days) if days else ''}"):
                for name, outcome in by_hand.execute(self.defs, self.instance, names, days).items():
                    found[name].add(outcome)
        return found

    def _report(self, name: str, outcome: "Outcome", n_due: int, seconds: str) -> None:
        bad = bool(outcome.problem or outcome.failures)
        rows = "" if outcome.n_rows is None else f"{outcome.n_rows:,} rows"
        checks = f"{sum(check.passed for check in outcome.checks.values())} of {len(outcome.checks)} checks"
        failed = bad and (n_due == 1 or not outcome.n_partitions)
        done = "FAILED" if failed else _count(outcome.n_partitions, n_due) if outcome.n_partitions else "nothing new"
        self._line(name, f"{done:<14}{rows:>15}{checks:>17}{seconds:>9}", "red" if bad else "")
        for check in outcome.checks.values():
            if not check.passed:
                word, style = ("warns", "yellow") if check.warns else ("fails", "red")
                self.say(f"  {word}  {check.name}: {check.sentence}", style)
        if outcome.problem:
            self.say(f"  {outcome.problem}", "red")
        self._note(name, bad, halts=bool(outcome.problem) or (bad and name.partition("/")[0] not in ("raw", "tables")))

    def _note(self, name: str, bad: bool, halts: bool) -> None:
        """A table is its own gate: what it refuses is not there, and the days around it go on."""
        self.ran.append(name)
        if bad:
            self.failed.append(name)
        if halts:
            self.halted.add(name)

    def _idle(self, name: str, due: _Due) -> None:
        if due.refused:
            days = sorted(due.refused)
            self._line(name, f"{_said(days)} refused: {due.refused[days[-1]]}", "red")
            self.failed.append(name)
        elif due.n_standing:
            self._line(name, "up to date", "dim")
        elif due.waits == _OUTSIDE:
            self._line(name, _OUTSIDE, "yellow")
        else:
            self._line(name, f"waits: {due.waits or 'there is nothing to make it from yet'}", "yellow")

    def _line(self, name: str, text: str, style: str = "") -> None:
        self.say(f"{name:<{self.width}}  {text}".rstrip(), style)


def _count(n_done: int, n_due: int) -> str:
    days = f"{n_done} of {n_due} days" if n_done < n_due else f"{n_due} days"
    return "done" if n_due == 1 else days


def _said(partitions: Collection[str]) -> str:
    """The days in words: `92 days 2026-08-01..2026-10-31`."""
    listed = sorted(partitions)
    if listed == [""]:
        return ""
    return listed[0] if len(listed) == 1 else f"{len(listed)} days {listed[0]}..{listed[-1]}"


def _span(days: str | None) -> tuple[str, str]:
    """First and last day; either may be left out."""
    first, dots, last = (days or "..").partition("..")
    last = last if dots else first
    try:
        first, last = (date.fromisoformat(day).isoformat() if day else "" for day in (first, last))
    except ValueError as error:
        raise MlAssetsError(f"--days {days}: {error}. Write 2013-01-01..2013-01-31, or one day.") from error
    if first and last and first > last:
        raise MlAssetsError(f"--days {days}: the first day is after the last.")
    return first or "0000", last or "9999"


@contextmanager
def _instance(settings: Settings) -> "Iterator[tuple[dg.DagsterInstance, Path]]":
    """The Dagster instance of DAGSTER_HOME, else that of `ml-assets dev`, and its folder."""
    import dagster as dg

    from ml_assets.demo.services import alone, prepare

    own, chosen = settings.home / "dagster", os.environ.get("DAGSTER_HOME")
    home = Path(chosen).resolve() if chosen else own
    if chosen and not home.is_dir():
        raise MlAssetsError(f"DAGSTER_HOME is {chosen}, which is no folder. Create it, or unset it: then it is {own}.")
    with alone(settings):
        prepare(home)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance, home


@contextmanager
def _apart(log: Path) -> "Iterator[Console]":
    """A console on stdout, while all that Dagster, MLflow and LightGBM print goes to a file."""
    from rich.console import Console

    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with os.fdopen(os.dup(1), "w") as terminal, log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield Console(file=terminal)
        finally:
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)
            # Libraries of C++ have last words when Python has ended: DuckDB lists what it thinks is left behind.
            atexit.register(os.dup2, os.open(log, os.O_WRONLY | os.O_APPEND), 2)
