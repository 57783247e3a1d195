"""Programs for the tests of process trees; run as `python family.py session|parent FOLDER`."""

import json
import subprocess
import sys
import time
from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
DETACH = """
import subprocess, sys
silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **silent, start_new_session=True).pid)
"""


def parent(folder: Path) -> None:
    """Leave three children: a plain one, one that ignores SIGTERM, and a detached one that has lost its parent."""
    plain = subprocess.Popen(SLEEP)
    deaf = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
    deaf.stdout.readline()
    detached = subprocess.run([sys.executable, "-c", DETACH], capture_output=True, text=True, check=True).stdout
    (folder / "pids.new").write_text(f"{plain.pid} {deaf.pid} {detached}")
    (folder / "pids.new").rename(folder / "pids")
    time.sleep(60)


def session(folder: Path) -> None:
    """Start the parent, look at the family, end it, and tell."""
    from ml_assets.demo.processes import Tree

    tree = Tree(folder / "logs")
    tree.start("parent", [sys.executable, __file__, "parent", str(folder)], {})
    while not (folder / "pids").exists():
        time.sleep(0.02)
    seen, memory, began = tree.descendants(), tree.memory_mib(), time.monotonic()
    tree.end(gently=1.0)
    told = {"seen": seen, "memory": memory, "left": tree.descendants(), "took": time.monotonic() - began}
    print(json.dumps(told))


if __name__ == "__main__":
    {"session": session, "parent": parent}[sys.argv[1]](Path(sys.argv[2]))
