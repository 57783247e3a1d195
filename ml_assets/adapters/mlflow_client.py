"""MLflow, tamed: quiet, quick to say that it is away, its errors translated, models and metrics in its own formats."""

import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ml_assets.errors import RegistryError, RegistryUnavailableError
from ml_assets.training.fit import load

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

# A registry that is away must cost a step seconds, not MLflow's default of minutes; the environment may say otherwise.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED"}
# Limits of MLflow's `log_batch`.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
_Item = TypeVar("_Item")


def connect(uri: str) -> "mlflow.MlflowClient":
    """A client of its own for tracking and registry; a local database that cannot be opened is found out at once."""
    _require_sqlite(uri)
    _settle()
    with _quiet():
        import mlflow

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        return mlflow.MlflowClient(uri, uri)


def _settle() -> None:
    """To be called before MLflow is imported, which reads some of these only then."""
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nobody here can act on what MLflow's imports and mappings warn of (SQLAlchemy 2.1, its own type hints)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raise what MLflow and its network and database raise as RegistryUnavailableError or RegistryError."""
    _settle()
    with _quiet():
        import requests
        import sqlalchemy.exc
        from mlflow.exceptions import MlflowException

    try:
        yield
    except (requests.RequestException, sqlalchemy.exc.OperationalError) as error:
        raise RegistryUnavailableError(_away(uri, error)) from error
    except MlflowException as error:
        if error.error_code in _AWAY:
            raise RegistryUnavailableError(_away(uri, error)) from error
        raise RegistryError(f"MLflow refused: {error.message}") from error


@contextmanager
def unless(*codes: str) -> Iterator[None]:
    """Leave the block quietly where MLflow answers with one of these error codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def again_if_raced(write: Callable[[], object]) -> None:
    """Do a write that may be repeated; a second time where another client made the same row at the same moment.

    MLflow looks for an alias and then inserts it, so that the database refuses the second of two that make it at once.
    """
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if not _is_integrity_error(error):
            raise
        write()


def _is_integrity_error(error: "MlflowException") -> bool:
    """Whether a database refused a second row; of a server's database only the error code gets here."""
    from mlflow.exceptions import RestException
    from sqlalchemy.exc import IntegrityError

    if isinstance(error, RestException):
        return error.error_code == "BAD_REQUEST"
    return isinstance(error.__cause__, IntegrityError)


def _away(uri: str, error: Exception) -> str:
    first = next(iter(str(error).splitlines()), type(error).__name__)[:300]
    return (
        f"MLflow at {uri} cannot be reached: {first}. Start it or correct its address, then run the step"
        " again; what serves goes on serving."
    )


def beside(uri: str) -> str | None:
    """Where a local database keeps files; None for a server, which decides itself."""
    file = _sqlite_file(uri)
    return (file.parent / "artifacts").resolve().as_uri() if file else None


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _require_sqlite(uri: str) -> None:
    """Find out at once what MLflow would find out after ten attempts and 100 seconds."""
    file = _sqlite_file(uri)
    if file is None:
        return
    try:
        with closing(sqlite3.connect(made(file.parent) / file.name)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise RegistryUnavailableError(
            f"MLflow's database {file} cannot be opened: {error}. Correct the path or its permissions, then run the"
            " step again; what serves goes on serving."
        ) from error


def save_model(model_text: str, example: Mapping[str, Sequence[float]], folder: Path, *, run_id: str, of: str) -> None:
    """Write the folder of a native LightGBM model in MLflow's format, for the logged model with the id `of`."""
    with _quiet():
        from mlflow.lightgbm import save_model as save
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema
        from pandas import DataFrame

        inputs = Schema([ColSpec("double", name, required=False) for name in example])
        save(
            load(model_text),
            str(folder),
            mlflow_model=Model(run_id=run_id, model_id=of, model_uuid=of),
            signature=ModelSignature(inputs, Schema([ColSpec("double", "score")])),
            input_example=DataFrame({name: [float(value) for value in values] for name, values in example.items()}),
            # Without the list MLflow loads the model in a process of its own to find out: 33 times slower.
            pip_requirements=[f"{package}=={installed(package)}" for package in ("lightgbm", "numpy", "pandas")],
        )


def points(metrics: Mapping[str, float]) -> list["Metric"]:
    """Metrics without steps; those that are not finite are left out."""
    return [_metric(key, value, 0) for key, value in metrics.items() if isfinite(value)]


def curves(curves: Mapping[str, Sequence[float]]) -> list["Metric"]:
    """Metrics by step, counted from 1."""
    steps = ((key, value, step) for key, values in curves.items() for step, value in enumerate(values, 1))
    return [_metric(*each) for each in steps if isfinite(each[1])]


def _metric(key: str, value: float, step: int) -> "Metric":
    from mlflow.entities import Metric

    return Metric(key, float(value), int(datetime.now(UTC).timestamp() * 1000), step)


def _batches(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def log(
    client: "mlflow.MlflowClient",
    run_id: str,
    *,
    metrics: Sequence["Metric"],
    params: Mapping[str, object] | None = None,
) -> None:
    """Log in as few requests as MLflow allows: 50 times cheaper than one by one."""
    from mlflow.entities import Param

    for batch in _batches([Param(key, str(value)) for key, value in (params or {}).items()], _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=batch)
    for batch in _batches(metrics, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=batch)


def made(folder: Path) -> Path:
    """The folder, which exists after this."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
