"""Reads the columns of a pandera model from its source text, so that definitions load without pandera and pandas.

Nothing of the project is imported, not even the packages around the module: files are found by path. What cannot be
read from the text (a computed type, a field made by a helper) is refused with file and line instead of guessed;
`contract.load` compares what was read here with what pandera says.
"""

import ast
import importlib.machinery
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ml_assets.errors import DeclarationError, shorten
from ml_assets.tables.schema import AVAILABLE, RESERVED, Column
from ml_assets.tables.stated import Config, Stated, config, field_checks

_PLAIN = {
    "str": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime.datetime": "TIMESTAMPTZ",
    "pandas.Timestamp": "TIMESTAMPTZ",
    "datetime.date": "DATE",
    "pandas.StringDtype": "VARCHAR",
    "pandas.Int64Dtype": "BIGINT",
    "pandas.Float64Dtype": "DOUBLE",
    "pandas.BooleanDtype": "BOOLEAN",
}
_INSTANT = "pandas.DatetimeTZDtype"
_SUPPORTED = "str, int, float, bool, datetime, date"
_MODELS = ("DataFrameModel", "SchemaModel")


@dataclass(frozen=True)
class Declared:
    """A column, the line that declares it, and the rules that its field states."""

    column: Column
    line: int
    checks: tuple[Stated, ...] = ()
    unique: bool = False


@dataclass(frozen=True)
class Outline:
    """A contract as its source text states it."""

    file: Path
    line: int
    declared: tuple[Declared, ...]
    configs: tuple[Config, ...] = ()  # from the oldest ancestor on

    @property
    def rules(self) -> tuple[tuple[str, str], ...]:
        """Rules over a row, (name, SQL); a descendant replaces a rule of the same name."""
        return tuple({name: sql for config in self.configs for name, sql in config.rules}.items())

    def unique_sets(self) -> tuple[tuple[str, ...], ...]:
        """Columns that are unique, alone or together, each set once."""
        alone = [(item.column.name,) for item in self.declared if item.unique]
        return tuple(dict.fromkeys([*alone, *(columns for config in self.configs for columns in config.unique)]))

    def line_of(self, column: str | None) -> int:
        """The line that declares a column, or the line of the class."""
        return next((item.line for item in self.declared if item.column.name == column), self.line)


def outline(reference: str) -> tuple[Column, ...]:
    """The columns of "package.module.Class" in pandera's order; DeclarationError at file and line."""
    return tuple(item.column for item in read(reference).declared)


def read(reference: str) -> Outline:
    """Like `outline`, with the file, the line of the class and the line of every column."""
    return _outline(_Reader().model(reference), reference)


def read_text(source: str, class_name: str, *, file: Path = Path("contract.py")) -> Outline:
    """Like `read`, of a class in a source text that need not be a file, an earlier commit's say.

    Base classes in other modules are read as they are on disk now.
    """
    reader = _Reader()
    reader.add(_parsed(_TEXT, file, source))
    return _outline(reader.model(f"{_TEXT}.{class_name}"), class_name)


_TEXT = "__contract__"


def _outline(model: "_Model", reference: str) -> Outline:
    if not model.is_model:
        raise DeclarationError(
            f"{reference} is no pandera model: derive it from pandera.pandas.DataFrameModel",
            file=model.file,
            line=model.line,
        )
    found: dict[str, Declared] = {}
    for parent in reversed(model.order.__mro__):
        found.update(vars(parent).get("fields", {}))
    _check_names([item.column.name for item in found.values()], reference, model)
    configs = [vars(parent)["config"] for parent in reversed(model.order.__mro__) if "config" in vars(parent)]
    return Outline(model.file, model.line, tuple(found.values()), tuple(configs))


def _check_names(names: list[str], reference: str, model: "_Model") -> None:
    lower = [name.lower() for name in names]  # to SQL, Carrier and carrier are one name
    reserved = [name for name in names if name.lower() in RESERVED]
    problem = None if names else "declares no columns"
    if doubled := [name for name in names if lower.count(name.lower()) > 1]:
        problem = f"declares one name twice: {shorten(doubled)}"
    if reserved:
        problem = f"declares {shorten(reserved)}, which ml_assets itself adds to rows: give it an alias"
    if problem:
        raise DeclarationError(f"{reference} {problem}", file=model.file, line=model.line)


@dataclass(frozen=True)
class _Module:
    """A parsed file; `names` tells what an imported or defined name means, as a dotted path."""

    name: str
    file: Path
    names: dict[str, str]
    classes: dict[str, ast.ClassDef]


@dataclass(frozen=True)
class _Model:
    """A class of the source; `order` is an empty twin, so that Python works out the order of inheritance."""

    file: Path
    line: int
    order: type
    is_model: bool


class _Reader:
    """Reads models and what they inherit from, each module once."""

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._models: dict[str, _Model] = {}

    def add(self, module: _Module) -> None:
        self._modules[module.name] = module

    def model(self, reference: str) -> _Model:
        if reference not in self._models:
            self._models[reference] = self._read_model(reference)
        return self._models[reference]

    def _read_model(self, reference: str) -> _Model:
        module_name, _, name = reference.rpartition(".")
        module = self._module(module_name, reference)
        node = module.classes.get(name)
        if node is None:
            known = shorten(sorted(module.classes)) or "none"
            raise DeclarationError(f"there is no class {name}; the classes here: {known}", file=module.file)
        bases = [_dotted(base, module) for base in node.bases]
        parents = [self.model(base) for base in bases if self._is_ours(base, module)]
        fields = {"fields": _fields(node, module), "config": config(node, module.file)}
        is_model = any(parent.is_model for parent in parents) or any(_is_pandera(base) for base in bases)
        order = _twin(name, tuple(parent.order for parent in parents), fields, module, node)
        return _Model(module.file, node.lineno, order, is_model)

    def _is_ours(self, base: str, module: _Module) -> bool:
        if _is_pandera(base) or base == "object" or base.startswith("typing."):
            return False
        return "." in base and (base.startswith(module.name + ".") or _find(base.rpartition(".")[0]) is not None)

    def _module(self, name: str, reference: str) -> _Module:
        if name not in self._modules:
            file = _find(name) if name else None
            if file is None:
                raise DeclarationError(
                    f"contract {reference}: no module {name or reference}; write package.module.Class"
                )
            self._modules[name] = _parsed(name, file, file.read_bytes())
        return self._modules[name]


def _twin(name: str, bases: tuple[type, ...], fields: dict[str, Any], module: _Module, node: ast.ClassDef) -> type:
    try:
        return type(name, bases, fields)
    except TypeError as error:
        raise DeclarationError(str(error), file=module.file, line=node.lineno) from error


def _find(name: str) -> Path | None:
    """The source file of a module, found without importing the packages that hold it."""
    path: list[str] = sys.path
    spec = None
    for depth, part in enumerate(name.split("."), 1):
        full = ".".join(name.split(".")[:depth])
        try:
            spec = _top(part) if depth == 1 else importlib.machinery.PathFinder.find_spec(full, path)
            inside = list(spec.submodule_search_locations or []) if spec else []
        except KeyError:  # a folder without __init__.py asks for its parent, which is not imported
            spec, inside = None, [str(Path(place, part)) for place in path if Path(place, part).is_dir()]
        if spec is None and not inside:
            return None
        path = inside
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _top(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module put into sys.modules by hand has no spec
        return importlib.machinery.PathFinder.find_spec(name, sys.path)


@lru_cache(maxsize=64)
def _parsed(name: str, file: Path, source: str | bytes) -> _Module:
    try:
        tree = ast.parse(source, filename=str(file))
    except (SyntaxError, ValueError) as error:
        raise DeclarationError(f"not Python: {error}", file=file, line=getattr(error, "lineno", None)) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    names = {class_name: f"{name}.{class_name}" for class_name in classes}
    for node in tree.body:
        names |= _imported(node, name)
    return _Module(name, file, names, classes)


def _imported(node: ast.stmt, within: str) -> dict[str, str]:
    if isinstance(node, ast.Import):
        return {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
    if isinstance(node, ast.ImportFrom):
        package = ".".join(within.split(".")[: -node.level]) if node.level else ""
        module = ".".join(part for part in (package, node.module) if part)
        return {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
    return {}


def _dotted(node: ast.expr, module: _Module) -> str:
    """The full name that an expression refers to, `pa.Field` -> "pandera.pandas.Field"; "" when it is not a name."""
    if isinstance(node, ast.Name):
        return module.names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, module)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _is_pandera(name: str) -> bool:
    return name.startswith("pandera.") and name.rpartition(".")[2] in _MODELS


def _fields(node: ast.ClassDef, module: _Module) -> dict[str, Declared]:
    return {
        statement.target.id: _declared(statement, statement.target.id, module)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not statement.target.id.startswith("_")
    }


def _declared(node: ast.AnnAssign, name: str, module: _Module) -> Declared:
    call = _field(node, name, module)
    options = _options(call, name, module) if call else {}
    column = Column(
        name=options.get("alias") or name,
        type=_type(node.annotation, name, module),
        nullable=bool(options.get("nullable", False)),
        description=options.get("description") or "",
        available=_available(options.get("metadata"), name, module, node.lineno),
    )
    return Declared(column, node.lineno, field_checks(call) if call else (), bool(options.get("unique", False)))


def _available(metadata: Any, name: str, module: _Module, line: int) -> str:
    """When the column has a value: `pa.Field(metadata={"available": "after_event"})`."""
    found = metadata.get("available", AVAILABLE[0]) if isinstance(metadata, dict) else AVAILABLE[0]
    if found not in AVAILABLE:
        problem = f"column {name}: available is {found!r}; write one of {shorten(AVAILABLE)}"
        raise DeclarationError(problem, file=module.file, line=line)
    return found


def _type(node: ast.expr, name: str, module: _Module) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _type(ast.parse(node.value, mode="eval").body, name, module)
        except SyntaxError as error:
            raise _unknown(node, name, module) from error
    if isinstance(node, ast.Subscript):
        return _subscripted(node, name, module)
    found = _PLAIN.get(_dotted(node, module))
    if found is None:
        raise _unknown(node, name, module)
    return found


def _subscripted(node: ast.Subscript, name: str, module: _Module) -> str:
    generic = _dotted(node.value, module)
    if generic.startswith("pandera.") and generic.endswith(".Series"):
        return _type(node.slice, name, module)
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if generic == "typing.Annotated" and _dotted(arguments[0], module) == _INSTANT:
        if ast.unparse(arguments[-1]).strip("'\"") == "UTC":
            return "TIMESTAMPTZ"
        problem = f"column {name}: instants are stored in UTC; write datetime"
        raise DeclarationError(problem, file=module.file, line=node.lineno)
    raise _unknown(node, name, module)


def _unknown(node: ast.expr, name: str, module: _Module) -> DeclarationError:
    written = ast.unparse(node)
    advice = f"use one of {_SUPPORTED}"
    if "Optional" in written or "None" in written:
        advice = "for a column that may hold nulls, write the plain type and pa.Field(nullable=True)"
    return DeclarationError(f"column {name}: unknown type {written}; {advice}", file=module.file, line=node.lineno)


def _field(node: ast.AnnAssign, name: str, module: _Module) -> ast.Call | None:
    call = node.value
    if call is None or (isinstance(call, ast.Call) and _dotted(call.func, module).endswith(".Field")):
        return call
    raise DeclarationError(f"column {name}: give it pa.Field(...) or nothing", file=module.file, line=node.lineno)


def _options(call: ast.Call, name: str, module: _Module) -> dict[str, Any]:
    """The literal arguments of `pa.Field(...)` that shape the column."""
    wanted = [k for k in call.keywords if k.arg in ("nullable", "description", "alias", "unique", "metadata", None)]
    return {str(keyword.arg): _literal(keyword, name, module) for keyword in wanted}


def _literal(keyword: ast.keyword, name: str, module: _Module) -> Any:
    try:
        return ast.literal_eval(keyword.value if keyword.arg else ast.Name(id="unpacked"))
    except (ValueError, TypeError) as error:
        said = keyword.arg or "**arguments"
        problem = f"column {name}: write {said} as a literal, definitions read it without importing this module"
        raise DeclarationError(problem, file=module.file, line=keyword.value.lineno) from error
