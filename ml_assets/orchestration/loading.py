"""Which definitions a project has, whether they load, and what is wrong where they do not."""

import re
import tomllib
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.errors import DeclarationError, shorten

if TYPE_CHECKING:
    import dagster as dg

_RESOLVED = re.compile(r"(?P<file>.+):(?P<line>\d+) - (?P<path>[\w.\[\]]+)$", re.MULTILINE)  # and where it builds one
_PLACE = re.compile(r"`?(?P<path>.+) at (?P<file>.+):(?P<line>\d+)`?$")  # how Dagster names a field of a YAML file


@dataclass(frozen=True)
class Location:
    """A code location: the module that holds the definitions, and the name that Dagster shows."""

    module: str = "ml_assets.definitions"
    name: str = "ml_assets"
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def of(cls, folder: Path) -> "Location":
        """The location that `[tool.dg.project]` of a folder names; without one the shipped example."""
        file = folder / "pyproject.toml"
        parsed = tomllib.loads(file.read_text()) if file.is_file() else {}
        project = parsed.get("tool", {}).get("dg", {}).get("project")
        if not project:
            return cls()
        root = project["root_module"]
        return cls(
            project.get("code_location_target_module", f"{root}.definitions"),
            project.get("code_location_name", root),
            folder,
        )


@dataclass(frozen=True)
class Contents:
    """What a location defines, counted."""

    n_assets: int
    n_checks: int
    n_sensors: int


def load(location: Location) -> Contents:
    """Load the definitions and count; DeclarationError as `definitions`."""
    found = definitions(location)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = found.resolve_asset_graph()
        return Contents(
            len(graph.materializable_asset_keys), len(graph.asset_check_keys), len(list(found.sensors or ()))
        )


def definitions(location: Location) -> "dg.Definitions":
    """Load and validate the definitions; DeclarationError with a line for each problem, `file:line: what`."""
    import dagster as dg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = _definitions(imported(location.module, location.folder))
            dg.Definitions.validate_loadable(found)
        except Exception as error:
            raise DeclarationError("\n".join(problems(error))) from error
    return found


def imported(module: str, folder: Path | None) -> Any:
    """A module of a project; DeclarationError with the next step where Python does not find it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if folder is None or not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise _not_found(module, error.name, folder / "pyproject.toml") from error


def _not_found(module: str, name: str, file: Path) -> DeclarationError:
    said = [number for number, line in enumerate(file.read_text().splitlines(), 1) if name.partition(".")[0] in line]
    advice = "Install the project into this environment: `pip install -e .`, or `uv sync`"
    if "." in name:
        advice = f"Write {name.replace('.', '/')}.py, or name another module there"
    problem = f"[tool.dg.project] asks for the module {module}, and there is no '{name}' that Python finds"
    return DeclarationError(f"{problem}. {advice}.", file=file, line=said[-1] if said else 1)


def problems(error: BaseException) -> list[str]:
    """What a person must correct, from the innermost error that says where it is."""
    chain = list(_chain(error))
    for number, each in enumerate(chain):
        if found := _located(each):
            return [_placed(problem, chain[:number]) for problem in found]
    return [f"{_frame(chain[-1])}{type(chain[-1]).__name__}: {chain[-1]}"]


def _definitions(module: Any) -> "dg.Definitions":
    import dagster as dg
    from dagster.components.definitions import LazyDefinitions

    for value in vars(module).values():
        if isinstance(value, dg.Definitions):
            return value
        if isinstance(value, LazyDefinitions):
            return value()
    raise DeclarationError(f"{module.__name__} holds no dagster.Definitions.", file=module.__file__, line=1)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from; an error raised again from one that it caused would lead in a circle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _located(error: BaseException) -> list[str]:
    from pydantic import ValidationError
    from yaml import MarkedYAMLError

    if isinstance(error, DeclarationError):
        return [str(error)]
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return [f"{mark.name}:{mark.line + 1}: {error.problem} ({error.context})"]
    if isinstance(error, ValidationError):
        return [_field(each["loc"], each["msg"]) for each in error.errors()]
    return []


def _field(names: tuple[int | str, ...], message: str) -> str:
    path = ".".join(str(name) for name in names)
    if place := _PLACE.search(path):
        return f"{place['file']}:{place['line']}: {place['path']}: {message}"
    return f"{path}: {message}"


def _placed(problem: str, around: Sequence[BaseException]) -> str:
    """A problem with the place that an error around it names, where it has none of its own."""
    places = [place for error in around if (place := _RESOLVED.match(str(error)))]
    if not places or re.match(r".+:\d+: ", problem):
        return problem
    return f"{places[-1]['file']}:{places[-1]['line']}: {places[-1]['path']}.{problem}"


def _frame(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename and "<frozen" not in frame.filename]
    return f"{ours[-1].filename}:{ours[-1].lineno}: " if ours else ""


def listed(location: Location, contents: Contents) -> str:
    """One sentence about a location that loads."""
    counts = [f"{contents.n_assets} assets", f"{contents.n_checks} checks", f"{contents.n_sensors} sensors"]
    return f"{location.module} loads: {shorten(counts)}."
