"""Delta tables as this process last opened them: to open one takes 5 ms of CPU, to see that it still stands 0.1 ms."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_assets.adapters.filesystem import open_location
from ml_assets.errors import LakeError, TableNotFoundError

if TYPE_CHECKING:
    from deltalake import DeltaTable

_MOST = 64
_Stamp = tuple[int | None, int | None]
_known: dict["Place", tuple["DeltaTable", _Stamp]] = {}


@dataclass(frozen=True)
class Place:
    """Where a table is: its name below the URI of a lake, and what it takes to get there."""

    lake: str
    name: str
    options: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, lake: str, name: str, options: Mapping[str, str] | None) -> "Place":
        """A table of a lake."""
        return cls(lake, name, tuple(sorted((options or {}).items())))

    @property
    def uri(self) -> str:
        """The folder of the table."""
        return f"{self.lake}/{self.name}"


def newest(place: Place) -> "DeltaTable":
    """The newest version of a table, to read and never to change: others may hold the same object.

    Raises:
        TableNotFoundError: there is none.
    """
    table, stamp = _known.get(place, (None, None))
    if table is None or _stamp(place, table.version()) != stamp:
        table = opened(place)
        remember(place, table)
    return table


def opened(place: Place) -> "DeltaTable":
    """The newest version of a table, for the caller alone; raises as `newest` does."""
    from deltalake import DeltaTable

    with said(place):
        return DeltaTable(place.uri, storage_options=dict(place.options) or None)


def remember(place: Place, table: "DeltaTable") -> None:
    """Keep a table that is open at its newest version, and that nobody changes from now on."""
    stamp = _stamp(place, table.version())
    _known.pop(place, None)
    if stamp is not None:
        _known[place] = table, stamp
    for oldest in list(_known)[:-_MOST]:
        _known.pop(oldest, None)


def _stamp(place: Place, version: int) -> _Stamp | None:
    """When a version was committed, so that a table made anew is another one; None where it is not the newest."""
    filesystem, log = open_location(f"{place.uri}/_delta_log", dict(place.options) or None)
    mine, following = filesystem.get_file_info([f"{log}/{number:020}.json" for number in (version, version + 1)])
    return (mine.mtime_ns, mine.size) if mine.is_file and not following.is_file else None


@contextmanager
def said(place: Place) -> Iterator[None]:
    """Say what cannot be opened in the words of the project."""
    from deltalake.exceptions import DeltaError
    from deltalake.exceptions import TableNotFoundError as NoTableError

    try:
        yield
    except NoTableError as error:
        raise TableNotFoundError(f"No table {place.name} in {place.lake}. Materialize it first.") from error
    except DeltaError as error:
        raise LakeError(f"Table {place.name} in {place.lake} cannot be opened: {error}") from error
