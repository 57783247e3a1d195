"""Which versions of tables must stay readable: those that training sets, and so models, were made from."""

import json
from collections.abc import Mapping
from typing import Any

from ml_assets.adapters.filesystem import open_location
from ml_assets.adapters.lake import Lake
from ml_assets.steps.memo import digest

_FOLDER = "manifests"


def keep(lake: Lake, model: str, manifest: Mapping[str, Any]) -> str:
    """Store the manifest of a training set for good; gives its place, which a registered version names."""
    place = f"{_FOLDER}/{model}/{digest(manifest)}.json"
    lake.replace_object(place, json.dumps(manifest, default=str, indent=1).encode())
    return place


def read(lake: Lake, place: str) -> dict[str, Any]:
    """A manifest that was kept."""
    return json.loads(lake.get_object(place))


def views(lake: Lake, place: str) -> dict[str, Any]:
    """The versions of the feature views that a training set was made with, whole, by view."""
    return read(lake, place).get("views", {})


def pinned(lake: Lake) -> dict[str, set[int]]:
    """The versions that manifests name, by table; of a training set's inputs and of the set itself.

    Every manifest counts, whether its model was registered or not: one that is being trained is not registered yet.
    """
    found: dict[str, set[int]] = {}
    for manifest in _manifests(lake):
        for name, version in manifest.get("versions", {}).items():
            found.setdefault(name, set()).add(version)
    return found


def _manifests(lake: Lake) -> list[dict[str, Any]]:
    from pyarrow import fs

    filesystem, folder = open_location(f"{lake.uri}/objects/{_FOLDER}", lake.storage_options)
    files = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    paths = sorted(file.path for file in files if file.is_file and file.path.endswith(".json"))
    return [json.loads(filesystem.open_input_stream(path).readall()) for path in paths]
