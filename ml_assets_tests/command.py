"""The real command, in a process of its own, as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path

ML_ASSETS = str(Path(sys.executable).with_name("ml-assets"))


def run(
    folder: Path, *arguments: str, without: tuple[str, ...] = ("ML_ASSETS_",), timeout: int = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, in a pipe; variables that begin with one of `without` are not inherited. Seconds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    return subprocess.run(
        [ML_ASSETS, *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
