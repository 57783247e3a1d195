"""The errors that ml_assets raises, one class per thing that a caller can do about it.

MlAssetsError
├── DeclarationError        YAML, a contract or SQL of the project is wrong: correct it at `file:line`
├── DeliveryError           a delivered file cannot be read or breaks the structure of its table: ask the source
├── SourceUnavailableError  a source does not answer: it is asked again, and then a person is told
├── LakeError               a stored table
│   ├── TableNotFoundError      does not exist (yet): materialize it first
│   └── LakeConflictError       was replaced by another writer meanwhile: run again
├── FeatureError            a feature view cannot be computed
│   ├── FeatureLeakError        would use a row before it was known
│   └── DuplicateRowsError      rows that differ for one entity and time
├── StoreUnavailableError   the online store cannot be reached: requests wait for it, answered by 503
├── TrainingError           a model cannot be trained from this training set
├── ArtefactError           a model artefact is incomplete, altered or unreadable: never load it
├── RegistryError           the model registry refused
│   └── RegistryUnavailableError   or cannot be reached: retry later, what serves goes on serving
├── EndpointError           an endpoint does not start, or does not do what was declared
└── RequestError            a prediction request is wrong: names the field and the rule, never the value
"""

from collections.abc import Iterable
from pathlib import Path


class MlAssetsError(Exception):
    """Base of all errors of ml_assets; crosses process borders although subclasses take keyword arguments."""

    def __reduce__(self) -> tuple:
        """Rebuild from message and attributes, since keyword-only constructors cannot be called again."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[MlAssetsError], args: tuple, attributes: dict) -> MlAssetsError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class DeclarationError(MlAssetsError):
    """A declaration of the project is wrong; says where and what to write instead."""

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        self.file, self.line, self.problem = file, line, message
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message)


class DeliveryError(MlAssetsError):
    """A delivered file cannot be read, or breaks the structure of its table."""


class SourceUnavailableError(MlAssetsError):
    """A source does not answer, or not now."""


class LakeError(MlAssetsError):
    """A table in the lake cannot be read or written."""


class TableNotFoundError(LakeError):
    """The table, or the version of it, does not exist."""


class LakeConflictError(LakeError):
    """Another writer replaced the same partitions meanwhile."""


class FeatureError(MlAssetsError):
    """A feature view cannot be computed."""


class FeatureLeakError(FeatureError):
    """A feature would use a row before it was known."""


class DuplicateRowsError(FeatureError):
    """Rows of an entity differ and are equally new, so that none of them is the right one."""


class StoreUnavailableError(MlAssetsError):
    """The online store cannot be reached, or not now."""


class TrainingError(MlAssetsError):
    """A model cannot be trained from this training set."""


class ArtefactError(MlAssetsError):
    """A model artefact is incomplete, altered or unreadable."""


class RegistryError(MlAssetsError):
    """The model registry refused."""


class RegistryUnavailableError(RegistryError):
    """The model registry cannot be reached."""


class EndpointError(MlAssetsError):
    """An endpoint does not start, or does not do what was declared."""


class RequestError(MlAssetsError):
    """A prediction request is wrong; names the field and the rule, never the value."""

    def __init__(self, message: str, *, path: str, status: int = 422) -> None:
        self.path, self.status, self.problem = path, status, message
        super().__init__(f"{path}: {message}")


def shorten(names: Iterable[object], most: int = 5) -> str:
    """Join the names of an iterable for a message, the first `most` of them."""
    listed = [str(name) for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
