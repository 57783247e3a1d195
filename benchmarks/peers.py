"""Where peers live: virtual environments that the benchmarks make and keep, apart from the project's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def environment(name: str, needed: Sequence[str], peers: str) -> str:
    """The Python of an environment with these packages, made on first use; "" and a loud word where it cannot be."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "ml_assets" / name
    python = place / "bin" / "python"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    try:
        if not python.exists():
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *needed], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"NOT MEASURED: {peers}: {error}. They need uv and a package index.\n")
        return ""
    return str(python)
