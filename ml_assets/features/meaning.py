"""What user code means, whatever its layout: text that changes when results can, not when a comment does.

SQL is read as DuckDB's own tokens. Python is read as a syntax tree without comments and docstrings: the function, and
all that it reaches in the modules of its project. Other packages count by the names that are imported from them.
"""

import ast
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name

from ml_assets.errors import DeclarationError

_EVERYTHING = "*"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def of_sql(sql: str) -> str:
    """SQL without comments, with single spaces, and in lower case outside of quotes; any SQL, also an expression."""
    import duckdb

    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    ends = [start for start, _ in tokens[1:]] + [len(text)]
    words = [
        text[start:end].decode().strip()
        for (start, kind), end in zip(tokens, ends, strict=True)
        if kind != duckdb.token_type.comment
    ]
    return " ".join(word if _quoted(word) else word.lower() for word in words).rstrip("; ")


def _quoted(word: str) -> bool:
    return word[:1] in "'\"$" or word[1:2] == "'"  # E'...' too


def of_function(reference: str) -> str:
    """The hash of what a function `package.module.name` does: its code and all code of its project that it reaches."""
    module, _, name = reference.rpartition(".")
    reached: dict[tuple[str, int], str] = {}
    _reach(_Module(module), {name}, module.partition(".")[0], reached)
    if not reached:
        raise DeclarationError(f"There is no '{reference}'. Write it as `package.module.function`.")
    text = "\n".join(reached[place] for place in sorted(reached))
    return sha256(text.encode()).hexdigest()


def _reach(module: "_Module", names: set[str], package: str, reached: dict[tuple[str, int], str]) -> None:
    """Add the statements of a module that make these names, and all that these need in turn."""
    for place, statement in enumerate(module.statements):
        touched = _touched(statement)
        if (module.name, place) in reached or not (names & touched or _EVERYTHING in names | touched):
            continue
        reached[module.name, place] = ast.unparse(statement)
        for each in _imports(statement):
            other, wanted = _imported(each, module)
            if _of_project(other, package):
                inner = _Module(f"{other}.{wanted}")  # `from package import module` takes the whole module
                _reach(*((inner, {_EVERYTHING}) if inner.spec else (_Module(other), {wanted})), package, reached)
        _reach(module, _loaded(statement), package, reached)


class _Module:
    """The statements of a module, without docstrings; no statement is run."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def spec(self) -> ModuleSpec | None:
        return _found(self.name)

    @property
    def package(self) -> str:
        return (self.spec.parent if self.spec else None) or ""

    @cached_property
    def statements(self) -> list[ast.stmt]:
        loader = self.spec.loader if self.spec else None
        source = loader.get_source(self.name) if isinstance(loader, importlib.abc.InspectLoader) else None
        tree = _Undocumented().visit(ast.parse(source or ""))
        return [part for statement in tree.body for part in _singly(statement)]


class _Undocumented(ast.NodeTransformer):
    """Takes away strings that stand for themselves, which are documentation."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, _DEFINITIONS) and not node.body:
            node.body = [ast.Pass()]
        return node


def _singly(statement: ast.stmt) -> list[ast.stmt]:
    """An import for each imported name, so that one that is not used does not count."""
    if isinstance(statement, ast.Import):
        return [ast.Import([alias]) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [statement]


def _imports(statement: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """What a statement imports, inside of functions and of `try` too, by name."""
    for node in ast.walk(statement):
        if isinstance(node, _IMPORTS):
            yield from (each for each in _singly(node) if isinstance(each, _IMPORTS))


def _touched(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module makes or may change: `LIMITS["a"] = 1` and `LIMITS.update()` do."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    if isinstance(statement, _IMPORTS):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    made = [name for name in names if isinstance(name.ctx, ast.Store)]
    plain = isinstance(statement, ast.Assign | ast.AnnAssign) and made
    imported = [each for each in ast.walk(statement) if isinstance(each, _IMPORTS)]
    return {name.id for name in (made if plain else names)} | {name for each in imported for name in _touched(each)}


def _loaded(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _imported(statement: ast.Import | ast.ImportFrom, module: _Module) -> tuple[str, str]:
    """The module that an import reaches and what it takes of it; a module by itself is taken as a whole."""
    (alias,) = statement.names
    if isinstance(statement, ast.Import):
        return alias.name, _EVERYTHING
    source = "." * statement.level + (statement.module or "")
    return resolve_name(source, module.package) if statement.level else source, alias.name


def _of_project(name: str, package: str) -> bool:
    """Code of the same package, or of one that was not installed: what a person of the project edits."""
    top = name.partition(".")[0]
    if top == package:
        return True
    spec = None if top in sys.stdlib_module_names else _found(top)
    return bool(spec and spec.origin and "site-packages" not in spec.origin and "dist-packages" not in spec.origin)


def _found(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
