"""The bundle: one model version as a folder of plain data, which is all that a server needs to answer for it.

    manifest.json   sha256 of the other files          model.txt     LightGBM's native text
    schema.json     ServingSchema: request to inputs   golden.json   rows and the scores they must get

Nothing in it is code: `request_features` only names a function of the installed project.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ml_assets.errors import ArtefactError, shorten
from ml_assets.features.encode import Input

MANIFEST = "manifest.json"
_FILES = ("model.txt", "schema.json", "golden.json")
_FORMAT = 1


class RequestField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One field that a client sends; a nullable one may be null or left out.

    The bounds are those of the contract: from `minimum` to `maximum`, `above` and `below` what is excluded itself, one
    of the `choices` where there are any.
    """

    name: str
    type: Literal["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ"]
    nullable: bool = False
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str | int | float, ...] = ()


class ViewRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A feature view as serving reads it; `entity` names request fields. `max_age_us` null: rows never grow too old.

    `version` is that of the view's definition that the model was trained with. `defaults` by feature stand where no
    row counts for an entity: unseen, or too old.
    """

    name: str
    entity: tuple[str, ...]
    features: tuple[str, ...]
    delay_us: int
    max_age_us: int | None
    version: int = 1
    defaults: dict[str, float | str] = {}

    @property
    def stored(self) -> str:
        """The name of these rows in the online store."""
        return f"{self.name}@{self.version}"


class ServingSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a request row becomes the inputs of a model, in the model's order.

    An input is named `<view>__<feature>`, or after a request field, or after a column that `request_features`
    ("package.module.function") gives. `version` may be empty: a bundle is written before the registry numbers it, and
    an endpoint answers with the version it was deployed as. `label` says in words or SQL what the score predicts.
    `request_features_code` is the hash of the function's code (`features.meaning`): another code is not loaded.
    """

    model: str
    version: str
    label: str
    model_hash: str
    request_fields: tuple[RequestField, ...]
    views: tuple[ViewRef, ...]
    inputs: tuple[Input, ...]
    request_features: str | None = None
    time_field: str = "at"
    request_features_code: str = ""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Encoded rows (null is NaN) with their scores, to the bit; `requests` optionally holds the request row of each.

    With requests, a change of the `request_features` function since training is found before it serves.
    """

    rows: tuple[tuple[float | None, ...], ...]
    scores: tuple[float, ...]
    requests: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, matrix: np.ndarray, scores: Sequence[float] | np.ndarray, requests: Sequence[dict] = ()) -> "Golden":
        """Take them from the matrix that was scored, `[n_rows, n_inputs]`; requests hold RFC 3339 strings for times."""
        rows = tuple(tuple(None if value != value else float(value) for value in row) for row in matrix.tolist())  # noqa: PLR0124  NaN
        return cls(rows, tuple(float(score) for score in scores), tuple(requests))

    def matrix(self) -> np.ndarray:
        """Give the rows as float64 `[n_rows, n_inputs]`."""
        return np.array(self.rows, dtype=np.float64)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and whose digests hold; `digest` is the sha256 of its manifest."""

    model_text: str
    schema: ServingSchema
    golden: Golden
    digest: str


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    files: dict[str, str]


def write(folder: Path, *, model_text: str, schema: ServingSchema, golden: Golden) -> str:
    """Write a bundle into a new or empty folder; gives the sha256 of its manifest. Same content, same digest."""
    check_schema(schema)
    contents = dict(zip(_FILES, (model_text.encode(), _json(schema), _json(golden)), strict=True))
    manifest = _json(_Manifest(_FORMAT, {name: _sha256(content) for name, content in contents.items()}))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArtefactError(f"{folder} is not empty: a bundle is written once, into a folder of its own.")
    for name, content in (contents | {MANIFEST: manifest}).items():
        (folder / name).write_bytes(content)
    return _sha256(manifest)


def verify(folder: Path) -> str:
    """Check that the folder holds exactly the files of its manifest, unaltered; gives the manifest's sha256."""
    return _read_verified(folder)[1]


def read(folder: Path) -> Bundle:
    """Verify a bundle and parse its JSON; the model text stays text. Raises ArtefactError."""
    contents, digest = _read_verified(folder)
    try:
        schema = msgspec.json.decode(contents["schema.json"], type=ServingSchema)
        golden = msgspec.json.decode(contents["golden.json"], type=Golden)
        model_text = contents["model.txt"].decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{folder} is not a bundle of this release: {error}. Write it again.") from error
    check_schema(schema)
    _check_golden(golden, schema, folder)
    return Bundle(model_text, schema, golden, digest)


def check_schema(schema: ServingSchema) -> None:
    """Require that names are unique, entities are request fields, and view inputs belong to a listed view."""
    fields = [field.name for field in schema.request_fields]
    offered = {f"{view.name}__{feature}" for view in schema.views for feature in view.features}
    used = [wanted.name for wanted in schema.inputs]
    unresolved = (
        [] if schema.request_features else [name for name in used if name not in offered and name not in fields]
    )
    entities = [name for view in schema.views for name in view.entity]
    problems = {
        "request fields that are not plain names": [name for name in fields if not name.isidentifier()],
        "names given twice": _twice([*fields, schema.time_field]) + _twice(used) + _twice(v.name for v in schema.views),
        "entities that are not request fields": [name for name in entities if name not in fields],
        "defaults of no feature": [
            f"{v.name}__{name}" for v in schema.views for name in v.defaults.keys() - v.features
        ],
        "inputs without a source": unresolved,
        "inputs missing": [] if used else ["a model needs at least one"],
    }
    for problem, names in problems.items():
        if names:
            raise ArtefactError(f"The serving schema of model '{schema.model}' has {problem}: {shorten(names)}.")


def _check_golden(golden: Golden, schema: ServingSchema, folder: Path) -> None:
    widths = {len(row) for row in golden.rows}
    lengths = {len(golden.rows), len(golden.scores)} | ({len(golden.requests)} if golden.requests else set())
    if not golden.rows or widths != {len(schema.inputs)} or len(lengths) > 1:
        raise ArtefactError(f"{folder}/golden.json must hold rows of {len(schema.inputs)} inputs and a score for each.")


def _read_verified(folder: Path) -> tuple[dict[str, bytes], str]:
    _require_plain_files(folder)
    raw = (folder / MANIFEST).read_bytes()
    try:
        manifest = msgspec.json.decode(raw, type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{folder}/{MANIFEST} is unreadable: {error}.") from error
    if manifest.format != _FORMAT or set(manifest.files) != set(_FILES):
        raise ArtefactError(
            f"{folder}/{MANIFEST} has format {manifest.format} or other files than {', '.join(_FILES)}."
        )
    contents = {name: (folder / name).read_bytes() for name in _FILES}
    for name, content in contents.items():
        if _sha256(content) != manifest.files[name]:
            raise ArtefactError(f"{folder}/{name} was altered: its sha256 is not that of the manifest. Fetch it again.")
    return contents, _sha256(raw)


def _require_plain_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder with a bundle.")
    with os.scandir(folder) as entries:
        found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    odd = [name for name, plain in found.items() if not plain or name not in {MANIFEST, *_FILES}]
    missing = [name for name in (MANIFEST, *_FILES) if name not in found]
    if odd or missing:
        found_text = f"unknown or special files {shorten(sorted(odd))}" if odd else f"no {shorten(missing)}"
        raise ArtefactError(f"{folder} is not a bundle: it has {found_text}.")


def _twice(names: Any) -> list[str]:
    listed = list(names)
    return sorted({name for name in listed if listed.count(name) > 1})


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
