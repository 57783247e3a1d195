"""Where a model comes from: commit, code, data versions, libraries and machine, as plain tags."""

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ml_assets.features.meaning import of_function
from ml_assets.steps.configuration import of_view
from ml_assets.steps.memo import Entry, digest, flat
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec

_LIBRARIES = ("ml_assets", "lightgbm", "duckdb", "numpy", "dagster", "mlflow", "optuna")


def lineage_tags(spec: ModelSpec, run: Run, manifest: Entry) -> dict[str, str]:
    """The tags of a registered version: enough to find and rebuild what it was made from."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return {
        "dagster.run_id": run.run_id,
        "dagster.asset_key": spec.model,
        "training_set": manifest.data_version,
        "training_set.manifest": str(manifest.metadata["manifest"]),
        "training_set.lake_version": str(manifest.metadata["lake version"]),
        "watermark": str(manifest.metadata["watermark"]),
        "seed": str(spec.budget.seed),
        "code.features": digest({view.name: flat(of_view(view)) for view in spec.views}),
        "code.request_features": of_function(spec.request_features) if spec.request_features else "none",
        "commit": commit(),
        "libraries": libraries,
        "machine": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
    }


@cache
def commit() -> str:
    """The commit of the code, `+dirty` when files differ from it; `unknown` outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "HEAD")
    return f"{head}+dirty" if head and git("status", "--porcelain", "--untracked-files=no") else head or "unknown"
