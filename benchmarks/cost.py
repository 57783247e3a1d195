"""How costs are measured: CPU seconds against a peer in the same run, and peak memory of a process of its own.

Wall time on a shared machine says little.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What something costs against a peer, in CPU seconds; `bar` is the ratio that it is held to.

    With `at_least` more is better: the ratio must not be below the bar.
    """

    what: str
    ours: float
    peer: str
    theirs: float
    bar: float | None = None
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether the ratio is on the wrong side of its bar."""
        return self.bar is not None and (self.ratio < self.bar if self.at_least else self.ratio > self.bar)

    @property
    def ratio(self) -> float:
        """Ours in theirs."""
        return self.ours / self.theirs


def cpu(run: Callable[[], object], times: int = 3) -> float:
    """The least CPU time of several runs, children included."""
    spent = []
    for _ in range(times):
        before = spent_cpu()
        run()
        spent.append(spent_cpu() - before)
    return min(spent)


def spent_cpu() -> float:
    """CPU seconds of this process and its children so far."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def peak_memory() -> float:
    """The most memory that this process has held, in GiB.

    Linux carries `ru_maxrss` over from the process that started this one, so its own high-water mark is asked first.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def report(run: Callable[[], object]) -> None:
    """Run something, and print its CPU seconds and the peak memory of the process; for `measured`."""
    before = spent_cpu()
    run()
    sys.stdout.write(json.dumps({"cpu": spent_cpu() - before, "peak": peak_memory()}) + "\n")


def measured(command: Sequence[str], times: int = 2) -> tuple[float, float]:
    """Run a command that ends with `report`: the least CPU seconds and the least peak, in GiB, of several runs."""
    runs = [subprocess.run(list(command), check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(times)]
    found = [json.loads(output.splitlines()[-1]) for output in runs]
    return min(each["cpu"] for each in found), min(each["peak"] for each in found)
