"""The resource `mlflow` for a team's own assets: dagster-mlflow's, with two faults mended around it.

Alone it leaves the MLflow run RUNNING for ever when an asset is materialized without its hook, as the UI and
automation do, and gives steps that start side by side a run each (`facts/dagster.md`, section 8). Here steps take turns
to find or open the one run of their Dagster run, and end it, as FAILED when a step failed. Models of the graph do
not use it: `adapters/registry.py` opens one MLflow run per model and Dagster run.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from ml_assets.adapters.settings import Settings
from ml_assets.errors import MlAssetsError

_PATIENCE_SECONDS = 60


@dg.resource(
    config_schema={"experiment_name": dg.Field(str, default_value="assets")},
    description="MLflow's API, in the one MLflow run of a Dagster run: context.resources.mlflow.log_metric(...).",
)
def mlflow(context: dg.InitResourceContext) -> Iterator[Any]:
    """Gives dagster-mlflow's object; imports MLflow (3 s) only where a step asks for it."""
    from dagster_mlflow.resources import MlFlow
    from mlflow import end_run

    run = context.run
    if run is None or context.instance is None:
        raise MlAssetsError("The resource `mlflow` belongs to a Dagster run; there is none.")
    settings = {"mlflow_tracking_uri": Settings.from_environment().mlflow_uri, **context.resource_config}
    given = SimpleNamespace(log=context.log, dagster_run=run, run_id=run.run_id, resource_config=settings)
    with _turn(run.run_id):
        bound = MlFlow(given)
    yield bound
    failed = context.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    end_run(status="FAILED" if failed else "FINISHED")


@contextmanager
def _turn(run_id: str) -> Iterator[None]:
    from ml_assets.adapters.deployment import held_lock

    name = hashlib.sha256(run_id.encode()).hexdigest()[:16]
    with held_lock(Path(tempfile.gettempdir()) / f"ml_assets-mlflow-{name}.lock", wait=_PATIENCE_SECONDS):
        yield
