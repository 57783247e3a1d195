"""The tree of processes that a session starts: it ends as a whole, and its memory is counted as a whole.

On Linux a session adopts what loses its parent (`PR_SET_CHILD_SUBREAPER`): an endpoint's server that a run started
detached is still found and ended. Elsewhere such a process must be ended by its own name.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_TICK = 0.05


@dataclass
class Tree:
    """Everything that descends from this process. Create it before anything is started."""

    logs: Path
    _started: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Adopt what will lose its parent."""
        self.logs.mkdir(parents=True, exist_ok=True)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
        """Start a process in a session of its own, so that Ctrl-C reaches it only through us; it writes to its log."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment),
                start_new_session=True,
            )
        self._started[name] = process
        return process

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.logs / f"{name}.log"

    def dead(self) -> list[str]:
        """Names of started processes that are no more, although nobody ended them."""
        return [name for name, process in self._started.items() if process.poll() is not None]

    def end(self, *, gently: float = 8.0) -> None:
        """End all descendants: SIGTERM first, SIGKILL to what is left after `gently` seconds."""
        for number, patience in ((signal.SIGTERM, gently), (signal.SIGKILL, 5.0)):
            until = time.monotonic() + patience
            signalled: set[int] = set()
            while (left := self.descendants()) and time.monotonic() < until:
                # Look again after each round: a process may start another while it ends.
                for pid in set(left) - signalled:
                    _signal(pid, number)
                signalled.update(left)
                time.sleep(_TICK)
            if not left:
                return

    def descendants(self) -> list[int]:
        """All living processes below this one; those that have ended are reaped on the way."""
        parents, found, queue = _parents(), [], deque([os.getpid()])
        while queue:
            children = parents.get(queue.popleft(), [])
            queue.extend(children)
            found.extend(children)
        return [pid for pid in found if not self._reaped(pid)]

    def memory_mib(self) -> float:
        """What the whole tree holds, MiB: shared pages count once (PSS), where the system tells it."""
        return sum(_pss_kib(pid) for pid in [os.getpid(), *self.descendants()]) / 1024

    def _reaped(self, pid: int) -> bool:
        for process in self._started.values():
            if process.pid == pid:
                return process.poll() is not None
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return not _alive(pid)


def _parents() -> dict[int, list[int]]:
    """Children by parent."""
    found: dict[int, list[int]] = {}
    for pid, parent in _from_proc() if _PROC.is_dir() else _from_ps():
        found.setdefault(parent, []).append(pid)
    return found


def _from_proc() -> list[tuple[int, int]]:
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything: what follows it is the state, then the parent.
                found.append((int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])))
    return found


def _from_ps() -> list[tuple[int, int]]:
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(parent)) for pid, parent in map(str.split, shown.splitlines())]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not _PROC.is_dir()  # `ps` has just listed it
    return state != "Z"


def _pss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
