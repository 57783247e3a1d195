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
_ROOT, _TARGET, _HEADER = "root_module", "code_location_target_module", r"\s*\[\s*tool\.dg\.project\s*\]"
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
        if not (project := declared(folder)):
            return cls()
        root = project["root_module"]
        return cls(
            project.get("code_location_target_module", f"{root}.definitions"),
            project.get("code_location_name", root),
            folder,
        )


def declared(folder: Path) -> dict[str, Any]:
    """`[tool.dg.project]` of a folder; empty without one, DeclarationError where it does not name the package."""
    file = folder / "pyproject.toml"
    text = file.read_text() if file.is_file() else ""
    try:
        project = _project(file, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise DeclarationError(f"no TOML: {error}", file=file, line=int(found[1]) if found else 1) from error
    meant = f"Write {_either('root_module', packages(folder) or ['shop'])}: the package that has defs/"
    if project and _ROOT not in project:
        raise DeclarationError(f"[tool.dg.project] has no root_module. {meant}", file=file, line=_line(file))
    for key in (_ROOT, _TARGET, "code_location_name"):
        if not (value := project.get(key, "absent")) or not isinstance(value, str):
            problem = f"{key} is {value!r}, no name. {meant if key == _ROOT else 'Write one in quotes.'}"
            raise DeclarationError(problem, file=file, line=_line(file, key))
    return project


def _project(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    at = ""
    for key in ("tool", "dg", "project"):
        content, at = content.get(key, {}), f"{at}.{key}".removeprefix(".")
        if not isinstance(content, dict):
            problem = f"[{at}] is no table. Write [tool.dg.project], and root_module below it"
            raise DeclarationError(problem, file=file, line=_line(file, key))
    return content


def _either(key: str, names: Sequence[str]) -> str:
    return " or ".join(f'{key} = "{name}"' for name in names)


def roots(folder: Path) -> list[Path]:
    """Where the packages of a project are looked for, beside those that are installed."""
    return [place for place in (folder, folder / "src") if place.is_dir()]


def packages(folder: Path) -> list[str]:
    """The packages of a project that hold declarations."""
    return sorted(defs.parent.name for place in roots(folder) for defs in place.glob("*/defs") if defs.is_dir())


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
        raise _not_found(module, error.name, folder) from error


def _not_found(module: str, name: str, folder: Path) -> DeclarationError:
    file, package = folder / "pyproject.toml", name.partition(".")[0]
    searched, key = roots(folder), _TARGET if _TARGET in declared(folder) else _ROOT
    if "." in name:
        inside = next((place for place in searched if (place / package).is_dir()), folder)
        advice = f"Write {(inside / name.replace('.', '/')).relative_to(folder)}.py, or name another module there."
    else:
        there = [found if key == _ROOT else f"{found}.definitions" for found in packages(folder)]
        meant = f": if one is meant that is there, write {_either(key, there)}" if there else ""
        advice = "Install the project into this environment: `pip install -e .`, or `uv sync`."
        advice += f" It was looked for in {' and '.join(map(str, searched))} as well{meant}."
    problem = f"[tool.dg.project] asks for the module {module}, and there is no '{name}' that Python finds"
    return DeclarationError(f"{problem}. {advice}", file=file, line=_line(file, key))


def _line(file: Path, key: str = "") -> int:
    """Where a key of `[tool.dg.project]` is written; else its header, else the first line."""
    lines = list(enumerate(file.read_text().splitlines(), 1))
    header = next((number for number, line in lines if re.match(_HEADER, line)), 1)
    places = (number for number, line in lines[header - 1 :] if re.match(rf"[^#]*\b{key}\s*=", line))
    return next(places, header) if key else header


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
