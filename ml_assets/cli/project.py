"""What commands know of the project in the working directory: declared tables by name, and tables of the lake."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.adapters.lake import Lake
from ml_assets.adapters.versions import tables
from ml_assets.errors import DeclarationError, MlAssetsError, TableNotFoundError, shorten
from ml_assets.records import LAYERS

if TYPE_CHECKING:
    from ml_assets.components.project import Project
    from ml_assets.steps.specs import TableSpec

_LAYERS = (*LAYERS, "quarantine", "profiles", "feature_profiles", "audit")


def project() -> "Project":
    """The declared components of the project in the working directory; what does not load is said with its line."""
    return loaded(Path.cwd())


@cache
def loaded(folder: Path) -> "Project":
    """The declared components of the project in a folder, loaded once."""
    import dagster as dg

    from ml_assets.components.declared import Declared
    from ml_assets.components.project import Project
    from ml_assets.orchestration.loading import imported, problems

    root, module = _defs_module(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = dg.ComponentTree.from_module(defs_module=imported(module, root), project_root=root)
            return Project(tree.get_all_components(of_type=Declared))
        except Exception as error:
            raise DeclarationError("\n".join(problems(error))) from error


def specs() -> Mapping[str, "TableSpec"]:
    """The declared tables by name."""
    from ml_assets.components.table import Table

    return {name: table.spec() for name, table in project().named(Table).items()}


def use_cases() -> Mapping[str, str]:
    """The use case of each declared table."""
    from ml_assets.components.table import Table

    return {name: table.use_case for name, table in project().named(Table).items()}


def table_spec(name: str) -> "TableSpec":
    """The declared table of a name: `flight_outcomes`, `flights/flight_outcomes` or `tables/flight_outcomes`."""
    known = specs()
    prefix, _, plain = name.rpartition("/")
    if plain in known and prefix in ("", "tables", use_cases()[plain]):
        return known[plain]
    raise MlAssetsError(unknown(name, known, "declared table called"))


def stored_table(lake: Lake, name: str) -> str:
    """The full name of a table that the lake holds: any layer by `layer/name`, `tables/` also by the plain name.

    The project is only loaded where the lake does not know the name.
    """
    found = tables(lake)
    candidates = [name] if "/" in name else [f"tables/{name}"]
    if "/" in name and name.partition("/")[0] not in _LAYERS:
        candidates.append(f"tables/{table_spec(name).name}")
    for candidate in candidates:
        if candidate in found:
            return candidate
    plain = candidates[-1].removeprefix("tables/")
    if candidates[-1].startswith("tables/") and plain in specs():
        raise TableNotFoundError(f"{candidates[-1]} holds nothing yet. Materialize it: {materialize(plain)}")
    raise TableNotFoundError(unknown(name, found, "table in the lake called"))


def keys_of(name: str) -> tuple[str, ...]:
    """The columns that identify a row of a table of the lake, where a declaration says so."""
    from ml_assets.components.feature_view import FeatureView
    from ml_assets.features.view import FEATURE_TIMESTAMP

    layer, _, plain = name.partition("/")
    if layer == "tables" and plain in specs():
        return specs()[plain].keys
    if layer == "features" and (view := project().named(FeatureView).get(plain)):
        return (*view.entity, FEATURE_TIMESTAMP)
    return ("file", "row") if layer == "quarantine" else ()


def materialize(table: str, partitions: Iterable[str] = ()) -> str:
    """The command that stores and validates a table's deliveries."""
    days = sorted(p for p in partitions if p)
    return f"ml-assets materialize +tables/{table}" + (f" --days {days[0]}..{days[-1]}" if days else "")


def importable(folder: Path | None = None) -> None:
    """Let Python find the packages of a project, by default of the one in the working directory."""
    from ml_assets.orchestration.loading import roots

    sys.path[:0] = [str(place) for place in roots(folder or Path.cwd()) if str(place) not in sys.path]


def _defs_module(folder: Path) -> tuple[Path, str]:
    """Where declarations are: as `[tool.dg.project]` of a folder says; without one, the shipped example."""
    from ml_assets.orchestration.loading import declared

    if not (named := declared(folder)):
        return Path(__file__).parents[2], "ml_assets.defs"
    importable(folder)
    return folder, named.get("defs_module", f"{named['root_module']}.defs")


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Say that there is no such name, with those that are near, or with all."""
    listed = sorted(known, key=lambda each: (not each.startswith("tables/"), each))
    last = name.rpartition("/")[2]
    ends = {each: each.rpartition("/")[2] for each in listed}
    near = [each for each in listed if ends[each] in get_close_matches(last, ends.values())]
    meant = f" Did you mean {shorten(near)}?" if near else f" There are: {shorten(listed, 20) or 'none'}."
    return f"There is no {what} '{name}'.{meant}"
