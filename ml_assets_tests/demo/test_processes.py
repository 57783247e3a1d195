import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAMILY = str(Path(__file__).with_name("family.py"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_the_whole_tree_ends_the_deaf_and_the_detached_included(tmp_path):
    ran = subprocess.run([sys.executable, FAMILY, "session", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told, children = json.loads(ran.stdout), [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(children) == 3
    assert set(children) < set(told["seen"])
    assert told["left"] == []
    assert not any(alive(pid) for pid in told["seen"])
    assert 1.0 <= told["took"] < 6, "gentle first, then not"
    # Five idle interpreters hold 4 to 8 MiB of their own each; as RSS each would show 10 MiB or more.
    assert 10 < told["memory"] < 80


def test_a_process_that_dies_is_named_and_its_log_kept(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from ml_assets.demo.processes import Tree
tree = Tree(Path({str(tmp_path)!r}))
tree.start("fleeting", [sys.executable, "-c", "print('last words')"], {{}})
while not tree.dead():
    time.sleep(0.02)
print(tree.dead(), tree.log("fleeting").read_text())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert "['fleeting'] last words" in ran.stdout


SLEEPER = """
import os, sys, time
from contextlib import suppress
from ml_assets.demo.interrupts import raised
with suppress(KeyboardInterrupt), raised():
    print("up", flush=True)
    time.sleep(60)
time.sleep(0.3)   # clearing up, which a second Ctrl-C must not disturb
print("cleared up")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_ending_signal_leads_to_the_same_orderly_end(name):
    number = signal.Signals[name]
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[0] == "cleared up\n"
    assert process.returncode == 0
