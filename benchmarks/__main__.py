"""What things cost, each as a ratio to a named peer or floor in the same run: `make bench`, or some of it by name.

`python -m benchmarks [paths] [ingestion] [profiles] [validation] [joins] [features] [online] [honesty] [chaos]
[--write]`; `--write` puts the tables in docs/benchmarks.md, in the place of those of the same suites. A ratio that
misses its bar, or a row that a killed writer cost, ends with exit code 1.
"""

import argparse
import os
import platform
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cost import Cost
from ml_assets import clock

SUITES = ("paths", "ingestion", "profiles", "validation", "joins", "features", "online", "honesty")
CHAOS = "chaos"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_SAME = "same hashes as undisturbed"
_HEADER = ("what", "ours", "against", "theirs", "ratio", "bar")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES, CHAOS], help="default: all")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    asked = parser.parse_args()
    suites = asked.suites or (*SUITES, CHAOS)
    found = {suite: run(suite) for suite in suites if suite != CHAOS}
    survived = killed() if CHAOS in suites else {}
    if asked.write:
        measured = {suite: table(costs) for suite, costs in found.items()} | told(survived)
        PAGE.write_text(page(sections(PAGE.read_text()) | measured))
    missed = [cost.what for costs in found.values() for cost in costs if cost.missed]
    if missed:
        sys.exit(f"They miss their bar: {', '.join(missed)}")
    if survived and (survived["wrong reads"] or survived["lost deliveries"] or not survived[_SAME]):
        sys.exit(f"Killed writers did harm: {survived}")


def killed() -> dict[str, object]:
    """Kill an ingestion a hundred times, and print what was left of it."""
    from benchmarks.ingestion import chaos

    with tempfile.TemporaryDirectory() as folder:
        survived = chaos(Path(folder))
    Console(width=150).print(survived)
    return survived


def run(suite: str) -> list[Cost]:
    """Measure a suite, and print it when it is done."""
    with tempfile.TemporaryDirectory() as folder:
        costs = import_module(f"benchmarks.{suite}").costs(Path(folder))
    shown = Table(*_HEADER, title=f"{suite}: CPU seconds, unless it says otherwise")
    for cost in costs:
        shown.add_row(*cells(cost))
    Console(width=150).print(shown)
    return costs


def cells(cost: Cost) -> tuple[str, ...]:
    """A line of the table."""
    bar = f"{'>=' if cost.at_least else '<='} {cost.bar:g}" if cost.bar else ""
    return cost.what, _number(cost.ours), cost.peer, _number(cost.theirs), f"{cost.ratio:.3g}", bar


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def table(costs: list[Cost]) -> str:
    """A suite as a section of the page."""
    lines = [f"| {' | '.join(_HEADER)} |", "|---|---:|---|---:|---:|---:|"]
    return "\n".join([_measured(), "", *lines, *(f"| {' | '.join(cells(cost))} |" for cost in costs)])


def told(survived: dict[str, object]) -> dict[str, str]:
    """What was left of the killed ingestion, as a section of the page, if it was killed."""
    said = "`kill -9` of an ingestion at random moments, with two readers looking on:"
    lines = [f"- {name}: {value}" for name, value in survived.items()]
    return {CHAOS: "\n".join([_measured(), "", said, "", *lines])} if survived else {}


def _measured() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "deltalake", "pyarrow", "dagster"))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"{clock.now():%Y-%m-%d}; {machine}, {libraries}."


def sections(written: str) -> dict[str, str]:
    """The sections of a page by their headings."""
    found = [part.partition("\n") for part in written.split("\n## ")[1:]]
    return {heading: body.strip("\n") for heading, _, body in found}


def page(parts: dict[str, str]) -> str:
    """The sections as a page, in the order of the suites."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks --write`; `make bench` prints the same. Each number is compared with a named",
        "peer or floor in the same run: CPU seconds of the process and its children, unless the line says otherwise.",
        "The ratio is what counts, since seconds differ by machine.",
    ]
    for suite in (*SUITES, CHAOS):
        lines += ["", f"## {suite}", "", parts[suite]] if suite in parts else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
