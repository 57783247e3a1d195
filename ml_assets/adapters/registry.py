"""The model registry: what was trained, how, from what, and which version is the champion; kept in MLflow.

MLflow is imported on first use and driven through its client, never through its process-wide "active run", so that
steps can record side by side. A version counts once its `fingerprint` tag is set, which is the last thing recorded.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.adapters.mlflow_client import (
    again_if_raced,
    beside,
    connect,
    curves,
    log,
    made,
    points,
    save_model,
    translated,
    unless,
)
from ml_assets.errors import RegistryError

if TYPE_CHECKING:
    import mlflow
    import mlflow.entities
    import mlflow.entities.model_registry

CANDIDATE, CHAMPION, PREVIOUS_CHAMPION = "candidate", "champion", "previous_champion"

_MANY = 1000  # models of one server; more are not asked for at once by MLflow

# MLflow reports an alias that is not set as an invalid parameter.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Candidate:
    """A trained model and everything to record about it; plain values only.

    `fingerprint` names what it was trained from: recording the same again gives the version that exists. `run_key`
    names the attempt (asset and Dagster run): a retry of the same attempt goes on in the same MLflow run. `example`
    are a few rows as columns, in the order of the model's inputs. `bundle` is the folder for serving, or a function
    that builds it once the version number is known. `curves` hold one value per boosting round; `artifacts` map
    paths to contents. Values of metrics that are not finite are left out, since MLflow cannot show them.
    """

    name: str
    fingerprint: str
    run_key: str
    model_text: str
    model_hash: str
    example: Mapping[str, Sequence[float]]
    bundle: Path | Callable[[str], Path]
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version; `version` counts from "1" within `name`."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]
    created_at: datetime
    model_hash: str


class Registry:
    """The models of one MLflow server or database; cheap to construct, connects on first use, picklable.

    `artifacts` is where a new experiment stores files; without it a local database stores them beside itself and a
    server decides. Every method raises RegistryUnavailableError within about half a minute where MLflow is away,
    and RegistryError where it refuses.
    """

    def __init__(self, tracking_uri: str, experiment: str, *, artifacts: str | None = None) -> None:
        self._uri, self._experiment_name = tracking_uri, experiment
        self._artifacts = artifacts or beside(tracking_uri)

    def __reduce__(self) -> tuple:
        """Leave the connection behind."""
        return _rebuild, (self._uri, self._experiment_name, self._artifacts)

    def require(self) -> None:
        """Raise RegistryUnavailableError unless MLflow answers: to be asked before an expensive training."""
        with translated(self._uri):
            _ = self._experiment_id

    def record(self, candidate: Candidate) -> ModelVersion:
        """Record a run with its model and register it as a version with the alias `candidate`.

        All of it or a run marked FAILED: a version that was cut off has no fingerprint, no alias, and is not found.
        """
        if known := self.find(candidate.name, candidate.fingerprint):
            self.set_alias(candidate.name, CANDIDATE, known.version)
            return known
        with translated(self._uri):
            self._fail_abandoned(candidate)
            run_id = self._open_run(candidate)
            with self._failing(run_id):
                recorded = self._record(candidate, run_id)
            self._client.set_terminated(run_id, "FINISHED")
        return recorded

    def attach(
        self,
        version: ModelVersion,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Mapping[str, bytes] | None = None,
    ) -> None:
        """Add what became known later, such as an evaluation: metrics and files to the run, tags to the version."""
        with translated(self._uri):
            log(self._client, version.run_id, metrics=points(metrics or {}))
            self._upload(version.run_id, artifacts or {})
            for key, value in (tags or {}).items():
                self._client.set_model_version_tag(version.name, version.version, key, str(value))

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """The version of this fingerprint, the newest if there are several."""
        with translated(self._uri):
            condition = f"name = '{name}' and tags.fingerprint = '{fingerprint}'"
            found = self._client.search_model_versions(condition)
        return max((_version(each) for each in found), key=lambda each: int(each.version), default=None)

    def version(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias names now, if any; a number finds the version of that number."""
        with translated(self._uri), unless(*_MISSING):
            if alias.isdigit():
                return _version(self._client.get_model_version(name, alias))
            return _version(self._client.get_model_version_by_alias(name, alias))
        return None

    def aliases(self, name: str) -> dict[str, str]:
        """All aliases of a model and their version numbers."""
        with translated(self._uri), unless(*_MISSING):
            model = self._client.get_registered_model(name)
            return {alias: str(version) for alias, version in model.aliases.items()}
        return {}

    def in_force(self) -> list[tuple[str, ModelVersion]]:
        """Every version of any model that an alias names, with the alias."""
        with translated(self._uri):
            models = self._client.search_registered_models(max_results=_MANY)
        named = [(model.name, alias) for model in models for alias in model.aliases]
        found = [(alias, self.version(name, alias)) for name, alias in sorted(named)]
        return [(alias, version) for alias, version in found if version]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version that exists."""
        with translated(self._uri):
            self._point(name, alias, version)

    def promote(self, name: str, version: str, *, reason: str, expect: str | None = "any") -> ModelVersion:
        """Make a version the champion, the champion the previous one; nothing changes if it already is.

        `expect` is the champion that the decision was made against (None: there was none); another one meanwhile is
        a RegistryError. MLflow has no transaction over aliases: the reason is written first, then
        `previous_champion`, then `champion`, so a cut-off promotion has not happened and can be repeated.
        """
        now = self.version(name, CHAMPION)
        current = now.version if now else None
        if expect not in ("any", current) and current != version:
            raise RegistryError(
                f"{name}: champion is {_called(current)}, not {_called(expect)} any more; evaluate again."
            )
        with translated(self._uri):
            self._client.set_model_version_tag(name, version, "promotion_reason", reason)
            if current != version:
                self._move_champion(name, current, version)
            return _version(self._client.get_model_version(name, version))

    def bundle(self, name: str, version: str, into: Path) -> Path:
        """Download a version's serving bundle as the folder `into`, which is replaced as a whole."""
        with translated(self._uri), tempfile.TemporaryDirectory(dir=made(into.parent), prefix=".bundle-") as folder:
            run_id = self._client.get_model_version(name, version).run_id
            downloaded = Path(self._client.download_artifacts(str(run_id), "bundle", folder))
            if into.exists():
                shutil.rmtree(into)
            return downloaded.rename(into)

    @cached_property
    def _client(self) -> "mlflow.MlflowClient":
        return connect(self._uri)

    @cached_property
    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment_name)
        if found:
            return found.experiment_id
        with unless("RESOURCE_ALREADY_EXISTS"):
            return self._client.create_experiment(self._experiment_name, self._artifacts)
        return str(self._client.get_experiment_by_name(self._experiment_name).experiment_id)

    def _fail_abandoned(self, candidate: Candidate) -> None:
        """A killed attempt leaves a run that says RUNNING for ever."""
        condition = f"tags.fingerprint = '{candidate.fingerprint}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment_id], condition):
            self._client.set_terminated(run.info.run_id, "FAILED")

    def _open_run(self, candidate: Candidate) -> str:
        same = self._client.search_runs([self._experiment_id], f"tags.run_key = '{candidate.run_key}'", max_results=1)
        if same:
            self._client.update_run(same[0].info.run_id, status="RUNNING")
            return same[0].info.run_id
        tags = {**candidate.tags, "fingerprint": candidate.fingerprint, "run_key": candidate.run_key}
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=candidate.name)
        return run.info.run_id

    def _record(self, candidate: Candidate, run_id: str) -> ModelVersion:
        metrics = [*points(candidate.metrics), *curves(candidate.curves)]
        log(self._client, run_id, params=candidate.params, metrics=metrics)
        self._upload(run_id, candidate.artifacts)
        model = self._log_model(candidate, run_id)
        self._require_name(candidate.name)
        tags = {**candidate.tags, "model_hash": candidate.model_hash}
        # A server takes only the name of its own logged model; a database would look that up in MLflow's global store.
        source = f"models:/{model.model_id}" if self._uri.startswith("http") else model.artifact_location
        made = self._client.create_model_version(candidate.name, source, run_id, tags=tags, model_id=model.model_id)
        self._complete(candidate, run_id, str(made.version))
        return _version(self._client.get_model_version(candidate.name, made.version))

    def _complete(self, candidate: Candidate, run_id: str, version: str) -> None:
        try:
            folder = candidate.bundle if isinstance(candidate.bundle, Path) else candidate.bundle(version)
            self._client.log_artifacts(run_id, str(folder), "bundle")
        except BaseException:
            self._client.delete_model_version(candidate.name, version)
            raise
        self._client.set_model_version_tag(candidate.name, version, "fingerprint", candidate.fingerprint)
        self._point(candidate.name, CANDIDATE, version)

    def _log_model(self, candidate: Candidate, run_id: str) -> "mlflow.entities.LoggedModel":
        from mlflow.entities import LoggedModelOutput

        model = self._client.create_logged_model(
            self._experiment_id, "model", run_id, tags={"fingerprint": candidate.fingerprint}
        )
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory() as folder:
            made_model = Path(folder) / "model"
            save_model(candidate.model_text, candidate.example, made_model, run_id=run_id, of=model.model_id)
            self._client.log_model_artifacts(model.model_id, str(made_model))
        self._client.finalize_logged_model(model.model_id, "READY")
        return model

    def _point(self, name: str, alias: str, version: str) -> None:
        again_if_raced(lambda: self._client.set_registered_model_alias(name, alias, version))

    def _require_name(self, name: str) -> None:
        with unless("RESOURCE_ALREADY_EXISTS"):
            self._client.create_registered_model(name)

    def _upload(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        if not artifacts:
            return
        with tempfile.TemporaryDirectory() as folder:
            for path, content in artifacts.items():
                file = Path(folder) / path
                made(file.parent)
                file.write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def _move_champion(self, name: str, current: str | None, version: str) -> None:
        if current:
            self._point(name, PREVIOUS_CHAMPION, current)
        self._point(name, CHAMPION, version)

    @contextmanager
    def _failing(self, run_id: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise


def _rebuild(uri: str, experiment: str, artifacts: str | None) -> Registry:
    return Registry(uri, experiment, artifacts=artifacts)


def _version(found: "mlflow.entities.model_registry.ModelVersion") -> ModelVersion:
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    tags = dict(found.tags)
    return ModelVersion(found.name, str(found.version), str(found.run_id), tags, created, tags.get("model_hash", ""))


def _called(version: str | None) -> str:
    return f"version {version}" if version else "no version"
