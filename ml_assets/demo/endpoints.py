"""The endpoints that were deployed to this machine, as their folders tell."""

from pathlib import Path

import msgspec

from ml_assets.adapters.deployment import EndpointConfig, EndpointStatus, LocalEndpoint
from ml_assets.serving import bundle
from ml_assets.serving.routing import Routing


def deployed(folder: Path) -> dict[str, LocalEndpoint]:
    """The endpoints below a folder by name, whether their servers run or not."""
    files = sorted(folder.glob("*/endpoint.json"))
    return {file.parent.name: _endpoint(file) for file in files}


def _endpoint(file: Path) -> LocalEndpoint:
    config = msgspec.json.decode(file.read_bytes(), type=EndpointConfig)
    return LocalEndpoint(
        file.parent, name=config.name, online_store=config.online_store, log=config.log, host=config.host
    )


def resume(folder: Path) -> list[EndpointStatus]:
    """Start the servers that served before this machine or session ended, with what they served last."""
    resumed = []
    for endpoint in deployed(folder).values():
        routing = endpoint.folder / "accepted.json"
        if routing.exists() and not endpoint.status().alive:
            weights = msgspec.json.decode(routing.read_bytes(), type=Routing).weights
            resumed.append(endpoint.apply(weights))
    return resumed


def request_fields(folder: Path) -> list[str]:
    """The fields that a request to the endpoint in this folder has, besides `at`."""
    weights = msgspec.json.decode((folder / "accepted.json").read_bytes(), type=Routing).weights
    version = max(weights, key=lambda version: weights[version])
    return [field.name for field in bundle.read(folder / "versions" / version).schema.request_fields]
