"""What things cost, each as a ratio to a named peer or floor in the same run: `make bench`, or some of it by name.

`python -m benchmarks [paths] [ingestion] [profiles] [validation] [chaos] [--write]`; `--write` keeps the tables in
docs/benchmarks.md. A ratio over its bar, or a row that a killed writer cost, ends with exit code 1.
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

SUITES = ("paths", "ingestion", "profiles", "validation")
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
        PAGE.write_text(page(found, survived))
    missed = [cost.what for costs in found.values() for cost in costs if cost.bar and cost.ratio > cost.bar]
    if missed:
        sys.exit(f"Over the bar: {', '.join(missed)}")
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
    table = Table(*_HEADER, title=f"{suite}: CPU seconds, unless it says otherwise")
    for cost in costs:
        table.add_row(*cells(cost))
    Console(width=150).print(table)
    return costs


def cells(cost: Cost) -> tuple[str, ...]:
    """A line of the table."""
    bar = f"<= {cost.bar:g}" if cost.bar else ""
    return cost.what, f"{cost.ours:.3f}", cost.peer, f"{cost.theirs:.3f}", f"{cost.ratio:.2f}", bar


def page(found: dict[str, list[Cost]], survived: dict[str, object]) -> str:
    """The tables as a page, with what they were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "deltalake", "pyarrow", "dagster"))
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks --write`; `make bench` prints the same. Each number is compared with a named",
        "peer or floor in the same run: CPU seconds of the process and its children, unless the line says otherwise.",
        "The ratio is what counts, since seconds differ by machine.",
        "",
        f"{clock.now():%Y-%m-%d}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},",
        f"{libraries}.",
    ]
    for suite, costs in found.items():
        lines += ["", f"## {suite}", "", f"| {' | '.join(_HEADER)} |", "|---|---:|---|---:|---:|---:|"]
        lines += [f"| {' | '.join(cells(cost))} |" for cost in costs]
    if survived:
        lines += ["", "## chaos", "", "`kill -9` of an ingestion at random moments, with two readers looking on:", ""]
        lines += [f"- {name}: {value}" for name, value in survived.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
