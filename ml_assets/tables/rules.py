"""Compiles the rules of a pandera model to DuckDB SQL. What has no exact SQL is refused by name, never left out.

Meaning is pandera's on pandas: a null breaks no rule but "is not null", NaN is null (`validate` makes it so), patterns
are regular expressions (`str_matches` from the start). Stricter than pandera: a float must be finite, patterns know
ASCII classes only (RE2). Looser, as in SQL: nulls are not duplicates of each other, and a partition is judged alone.
"""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ml_assets import engine
from ml_assets.errors import DeclarationError, shorten
from ml_assets.tables import expression
from ml_assets.tables.checks import WORDS, express
from ml_assets.tables.outline import Outline
from ml_assets.tables.promises import column_rule, of_rules, row_rule, unique_rule
from ml_assets.tables.schema import Column, Rule, check_names

_DTYPES = {
    "VARCHAR": ("str", "string"),
    "BIGINT": ("int64", "Int64"),
    "DOUBLE": ("float64", "Float64"),
    "BOOLEAN": ("bool", "boolean"),
    "TIMESTAMPTZ": ("datetime64",),
    "DATE": ("date",),
}
_REFUSED_COLUMN = {"coerce": False, "required": True, "regex": False, "default": None}
_REFUSED_SCHEMA = {
    "coerce": False,
    "dtype": None,
    "ordered": False,
    "add_missing_columns": False,
    "drop_invalid_rows": False,
    "index": None,
}
_Named = tuple[tuple[str, tuple[str, ...]], Rule]  # what names the check of a rule, and the rule
_SQL_RULES = 'state it in SQL: class Config: metadata = {"rules": {"name": "expression over one row"}}'


def compile_rules(reference: str, source: Outline, *, keys: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules of a model in the order of its columns, then row rules, then uniqueness (the keys' own left out)."""
    model, schema = _schema(reference, source)
    _check_schema(schema, source)
    rules: list[_Named] = []
    for item in source.declared:
        rules += _column_rules(schema.columns[item.column.name], item.column, source)
    rules += [(row_rule(name), Rule(name, None, sql)) for name, sql in _row_rules(model).items()]
    sets = dict.fromkeys(_unique_sets(model, schema))
    rules += [(unique_rule(columns), _unique(columns)) for columns in sets if set(columns) != set(keys)]
    named = _with_checks(rules, source, keys)
    _bind(named, source)
    return named


def _with_checks(rules: Sequence[_Named], source: Outline, keys: tuple[str, ...]) -> tuple[Rule, ...]:
    """Name the asset checks; the source text, which definitions read, must promise the same ones."""
    checks = check_names([name for name, _ in rules])
    promised = {promise.check for promise in of_rules(source, keys)}
    if differing := sorted(promised ^ set(checks)):
        problem = f"pandera and the source text disagree about the rules {shorten(differing)}: declare them plainly"
        raise DeclarationError(problem, file=source.file, line=source.line)
    said = [rule.name for _, rule in rules]
    if doubled := sorted({name for name in said if said.count(name) > 1}):
        raise DeclarationError(f"two rules are named {shorten(doubled)}", file=source.file, line=source.line)
    return tuple(replace(rule, check=check) for check, (_, rule) in zip(checks, rules, strict=True))


def _schema(reference: str, source: Outline) -> tuple[Any, Any]:
    from pandera.errors import SchemaInitError

    module_name, _, name = reference.rpartition(".")
    try:
        model = getattr(importlib.import_module(module_name), name)
        return model, model.to_schema()
    except (ImportError, AttributeError, SchemaInitError, TypeError, ValueError, re.error) as error:
        raise DeclarationError(f"{reference} cannot be loaded: {error}", file=source.file, line=source.line) from error


def _check_schema(schema: Any, source: Outline) -> None:
    for option, harmless in _REFUSED_SCHEMA.items():
        if getattr(schema, option) != harmless:
            raise _refused(f"the option {option} of the contract", source, None, "remove it")
    if schema.strict == "filter":
        raise _refused("strict = 'filter'", source, None, "a delivery has exactly the declared columns: remove it")
    if schema.parsers or any(column.parsers for column in schema.columns.values()):
        raise _refused("a parser", source, None, "remove it, and compute the column in a feature view")
    for check in schema.checks:
        raise _refused(f"the dataframe check {check.name or check.error}", source, None, _SQL_RULES)
    said = tuple(item.column.name for item in source.declared)
    if tuple(schema.columns) != said:
        problem = f"pandera finds the columns {shorten(schema.columns, 50)}, the source text says {shorten(said, 50)}"
        raise DeclarationError(f"{problem}: declare them plainly", file=source.file, line=source.line)


def _refused(what: str, source: Outline, column: str | None, advice: str) -> DeclarationError:
    place = f"column {column}: " if column else ""
    message = f"{place}{what} cannot be run in SQL; {advice}"
    return DeclarationError(message, file=source.file, line=source.line_of(column))


def _column_rules(declared: Any, column: Column, source: Outline) -> Iterator[_Named]:
    for option, harmless in _REFUSED_COLUMN.items():
        if getattr(declared, option) != harmless:
            raise _refused(f"the option {option}", source, column.name, "remove it")
    if not str(declared.dtype).startswith(_DTYPES[column.type]) or declared.nullable != column.nullable:
        raise _refused(
            f"the type {declared.dtype} (nullable: {declared.nullable})", source, column.name, "declare it plainly"
        )
    name = engine.quote(column.name)
    if not column.nullable:
        rule = Rule(f"{column.name} is not null", column.name, f"{name} IS NOT NULL")
        yield column_rule(column.name, "is_not_null"), rule
    if column.type == "DOUBLE":
        yield column_rule(column.name, "is_finite"), Rule(f"{column.name} is finite", column.name, f"isfinite({name})")
    for check in declared.checks:
        rule = _check(check, column, source)
        yield column_rule(column.name, WORDS[check.name]), rule


def _check(check: Any, column: Column, source: Outline) -> Rule:
    if not check.ignore_na or check.raise_warning or check.element_wise or check.groupby:
        raise _refused(f"the check {check.name} with its options", source, column.name, "remove the options")
    try:
        said, sql = express(check.name, column.name, column.type, check.statistics or {})
    except KeyError as error:
        raise _refused(f"the check {check.name}", source, column.name, _SQL_RULES) from error
    except ValueError as error:
        raise _refused(f"the check {check.name}", source, column.name, str(error)) from error
    return Rule(f"{column.name} {said}", column.name, sql)


def _row_rules(model: Any) -> dict[str, str]:
    """Rules of every Config on the way up: pandera forgets a parent's metadata once a child has a Config of its own."""
    stated: dict[str, str] = {}
    for config in reversed(_configs(model)):
        stated.update((getattr(config, "metadata", None) or {}).get("rules", {}))
    return stated


def _configs(model: Any) -> list[Any]:
    return [vars(parent)["Config"] for parent in model.__mro__ if "Config" in vars(parent)]


def _unique_sets(model: Any, schema: Any) -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name, column in schema.columns.items() if column.unique)
    for config in reversed(_configs(model)):
        together = getattr(config, "unique", None)
        if together:
            yield (together,) if isinstance(together, str) else tuple(together)


def _unique(columns: tuple[str, ...]) -> Rule:
    quoted = [engine.quote(name) for name in columns]
    some_null = " OR ".join(f"{name} IS NULL" for name in quoted)
    sql = f"({some_null}) OR count(*) OVER (PARTITION BY partition_key, {', '.join(quoted)}) = 1"
    said = columns[0] if len(columns) == 1 else f"({', '.join(columns)})"
    return Rule(f"{said} is unique", columns[0] if len(columns) == 1 else None, sql, unique=columns)


def _bind(rules: Sequence[Rule], source: Outline) -> None:
    """Let DuckDB read every rule against the columns: names, types, patterns."""
    columns = [item.column for item in source.declared]
    for rule in rules:
        if missing := set(rule.unique) - {column.name for column in columns}:
            raise DeclarationError(f"unique: no column {shorten(missing)}", file=source.file, line=source.line)
    try:
        expression.check(columns, {f"rule {r.name!r}": (r.sql, "BOOLEAN") for r in rules if not r.unique})
    except DeclarationError as error:
        raise DeclarationError(error.problem, file=source.file, line=source.line) from error
