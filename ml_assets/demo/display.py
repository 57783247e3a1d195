"""What a session shows: a table that lives on a terminal, plain lines in a file."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ml_assets.demo.graph import RunState, Snapshot
from ml_assets.demo.progress import LayerRow, rows


class Display:
    """Shows snapshots of a graph while it builds; what is said in between stays above the table."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        self._seen: dict[str, str] = {}
        self._done: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture standing."""
        if self._live:
            self._live.stop()

    def show(self, snapshot: Snapshot, elapsed: float, waits_for: Sequence[str]) -> None:
        """Draw the graph as it is now; in a file, say what has changed since the last time."""
        layers = rows(snapshot)
        finished = [row.layer for row in layers if row.is_done and row.layer not in self._done]
        self._done |= dict.fromkeys(finished, elapsed)
        if self._live:
            self._live.update(picture(layers, self._done, snapshot.runs, elapsed, waits_for), refresh=True)
            return
        for line in self._changes(snapshot):
            self.say(f"{elapsed:6.1f} s  {line}")
        for layer in finished:
            self.say(f"{elapsed:6.1f} s  {layer}: complete")

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _changes(self, snapshot: Snapshot) -> list[str]:
        changed = [run for run in snapshot.runs if self._seen.get(run.run_id) != run.status]
        self._seen |= {run.run_id: run.status for run in changed}
        return [f"{run.status.lower():9} {described(run)}" for run in changed if run.status in _WORTH_A_LINE]


_WORTH_A_LINE = {"STARTED", "SUCCESS", "FAILURE", "CANCELED"}


def picture(
    layers: Sequence[LayerRow],
    done: dict[str, float],
    runs: Sequence[RunState],
    elapsed: float,
    waits_for: Sequence[str],
) -> Group:
    """The table of layers, what runs, and what is waited for."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("layer", "assets", "partitions", "newest", "checks", "after", "now"):
        table.add_column(name, justify="right" if name in {"assets", "partitions", "after"} else "left")
    for row in layers:
        table.add_row(*_cells(row, done.get(row.layer)))
    active = [f"{described(run)} ({run.status.lower()})" for run in runs if not run.is_over]
    lines = [Text(f"  {line}", style="cyan", overflow="ellipsis", no_wrap=True) for line in active[:4]]
    rest = [Text("  waits for " + "; ".join(waits_for[:3]), style="dim")] if waits_for and not active else []
    return Group(table, Text(f"  {elapsed:.0f} s", style="bold"), *lines, *rest)


def described(run: RunState) -> str:
    """A run in a few words: its assets and partitions."""
    names = ", ".join(run.assets[:3]) + (f" and {len(run.assets) - 3} more" if len(run.assets) > 3 else "")
    return f"{names} {run.partitions}".strip() or run.run_id


def _cells(row: LayerRow, after: float | None) -> list[Text]:
    style = "green" if row.is_done else "yellow" if row.running or row.n_done else "dim"
    return [
        Text(row.layer, style=style),
        Text(f"{row.n_done}/{row.n_assets}", style=style),
        Text(str(row.n_partitions or "")),
        Text(row.newest),
        _checks(row),
        Text(f"{after:.0f} s" if after is not None else ""),
        Text(", ".join(row.running), style="cyan"),
    ]


def _checks(row: LayerRow) -> Text:
    text = Text(f"{row.n_passed} passed" if row.n_passed else "", style="green")
    if row.n_warned:
        text.append(f" {row.n_warned} warned", style="yellow")
    if row.n_failed:
        text.append(f" {row.n_failed} failed", style="bold red")
    return text
