"""What things cost, each as a ratio to a named peer or floor in the same run: `make bench`, or some of it by name.

`python -m benchmarks [paths] [ingestion] [profiles] [validation] [--write]`; `--write` keeps the tables in
docs/benchmarks.md. A ratio over its bar ends with exit code 1.
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
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_HEADER = ("what", "ours", "against", "theirs", "ratio", "bar")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], help="default: all")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    asked = parser.parse_args()
    found = {suite: run(suite) for suite in asked.suites or SUITES}
    if asked.write:
        PAGE.write_text(page(found))
    missed = [cost.what for costs in found.values() for cost in costs if cost.bar and cost.ratio > cost.bar]
    if missed:
        sys.exit(f"Over the bar: {', '.join(missed)}")


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


def page(found: dict[str, list[Cost]]) -> str:
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
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
