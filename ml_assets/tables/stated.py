"""What the source text of a pandera model says about rules: the keywords of its fields and its Config."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.errors import DeclarationError

# keyword of pa.Field: (name of pandera's check, its statistic; "" where the value holds several)
CHECKS = {
    "eq": ("equal_to", "value"),
    "ne": ("not_equal_to", "value"),
    "gt": ("greater_than", "min_value"),
    "ge": ("greater_than_or_equal_to", "min_value"),
    "lt": ("less_than", "max_value"),
    "le": ("less_than_or_equal_to", "max_value"),
    "in_range": ("in_range", ""),
    "isin": ("isin", "allowed_values"),
    "notin": ("notin", "forbidden_values"),
    "str_contains": ("str_contains", "pattern"),
    "str_endswith": ("str_endswith", "string"),
    "str_length": ("str_length", ""),
    "str_matches": ("str_matches", "pattern"),
    "str_startswith": ("str_startswith", "string"),
}
_READ = "definitions read it without importing this module"


@dataclass(frozen=True)
class Stated:
    """A keyword of `pa.Field` that makes a rule: its text, and its value where that is a literal."""

    keyword: str
    text: str
    value: Any = None

    @property
    def check(self) -> str:
        """Pandera's name of the check."""
        return CHECKS[self.keyword][0]

    @property
    def statistics(self) -> dict[str, Any] | None:
        """What pandera's check is given; None where the value is no literal or has another shape."""
        key = CHECKS[self.keyword][1]
        if key:
            return None if self.value is None else {key: self.value}
        if isinstance(self.value, int):
            return {"exact_value": self.value}
        if isinstance(self.value, tuple):
            names = ("min_value", "max_value", "include_min", "include_max")
            return dict(zip(names, self.value, strict=False)) if len(self.value) > 1 else None
        return self.value if isinstance(self.value, dict) else None


@dataclass(frozen=True)
class Config:
    """What the `class Config` of one model states: row rules as (name, SQL), and columns that are unique together."""

    rules: tuple[tuple[str, str], ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()


def field_checks(call: ast.Call) -> tuple[Stated, ...]:
    """The keywords of `pa.Field(...)` that make rules, in the order of the text."""
    stated = [
        Stated(str(k.arg), ast.unparse(k.value), _value(k.value))
        for k in call.keywords
        if k.arg in CHECKS and not (isinstance(k.value, ast.Constant) and k.value.value is None)
    ]
    return tuple(stated)


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def config(model: ast.ClassDef, file: Path) -> Config:
    """The `class Config` in the body of a model; DeclarationError at its line for what is no literal."""
    bodies = [node.body for node in model.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    found = Config()
    for node in bodies[-1] if bodies else ():
        name, value = _assigned(node)
        if name == "metadata" and value is not None:
            found = Config(_rules(value, file), found.unique)
        if name == "unique" and value is not None:
            found = Config(found.rules, _unique(value, file))
    return found


def _assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    name = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
    return name, getattr(node, "value", None)


def _rules(metadata: ast.expr, file: Path) -> tuple[tuple[str, str], ...]:
    if isinstance(metadata, ast.Constant) and metadata.value is None:
        return ()
    if not isinstance(metadata, ast.Dict) or not all(isinstance(key, ast.Constant) for key in metadata.keys):
        raise _refused("metadata as a literal dict with plain keys", metadata, file)
    rules: list[tuple[str, str]] = []
    for key, value in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "rules":
            rules += _row_rules(value, file)
    return tuple(rules)


def _row_rules(node: ast.expr, file: Path) -> list[tuple[str, str]]:
    found = _value(node)
    if not isinstance(found, dict):
        raise _refused('its rules as a literal dict, {"name": "expression over one row"}', node, file)
    for name, sql in found.items():
        if not isinstance(sql, str) or not sql.strip():
            raise DeclarationError(f"rule {name!r}: give it an SQL expression", file=file, line=node.lineno)
    return [(str(name), sql) for name, sql in found.items()]


def _unique(node: ast.expr, file: Path) -> tuple[tuple[str, ...], ...]:
    found = _value(node)
    if isinstance(found, str):
        return ((found,),)
    if isinstance(found, list | tuple) and all(isinstance(name, str) for name in found):
        return (tuple(found),) if found else ()
    if isinstance(node, ast.Constant) and found is None:
        return ()
    raise _refused("unique as a literal list of columns", node, file)


def _refused(what: str, node: ast.expr, file: Path) -> DeclarationError:
    return DeclarationError(f"class Config: write {what}; {_READ}", file=file, line=node.lineno)
