"""A team's own asset with the resource `mlflow`: one MLflow run per Dagster run, ended as it ended."""

import dagster as dg
import pytest

from ml_assets.adapters.registry import Registry
from ml_assets.adapters.settings import Settings
from ml_assets.orchestration.mlflow_resource import mlflow


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """All MLflow runs of a fresh store, as (status, metrics)."""
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = Settings.from_environment().mlflow_uri
    Registry(uri, "other").require()

    def found() -> list[tuple[str, dict]]:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("assets")
        return [(run.info.status, run.data.metrics) for run in client.search_runs([experiment.experiment_id])]

    yield found
    import mlflow as library

    library.set_tracking_uri(None)  # MLflow keeps it for the whole process


def own_assets(*, fails: bool) -> list[dg.AssetsDefinition]:
    @dg.asset(required_resource_keys={"mlflow"})
    def first(context: dg.AssetExecutionContext) -> None:
        context.resources.mlflow.log_metric("first", 1.0)

    @dg.asset(required_resource_keys={"mlflow"}, deps=[first])
    def second(context: dg.AssetExecutionContext) -> None:
        context.resources.mlflow.log_metric("second", 2.0)
        if fails:
            raise dg.Failure("as planned")

    return [first, second]


@pytest.mark.parametrize(("fails", "status"), [(False, "FINISHED"), (True, "FAILED")])
def test_the_steps_of_a_run_share_an_mlflow_run_that_ends_with_it(runs, fails, status):
    dg.materialize(own_assets(fails=fails), resources={"mlflow": mlflow}, raise_on_error=False)
    assert runs() == [(status, {"first": 1.0, "second": 2.0})]
