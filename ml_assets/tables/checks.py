"""Says each built-in check of pandera in words and in SQL."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from ml_assets import engine
from ml_assets.errors import shorten

_VALUES: dict[str, tuple[type, ...]] = {
    "VARCHAR": (str,),
    "BIGINT": (int, float),
    "DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "TIMESTAMPTZ": (datetime,),
    "DATE": (date,),
}


def express(check: str, name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
    """The words and the SQL of pandera's check on a column of type `kind`.

    KeyError for a check that is not known here, ValueError for a value that does not suit the type of the column.
    """
    return _CHECKS[check](engine.quote(name), kind, given)


def literal(value: Any, kind: str) -> str:
    """A value as an SQL literal for a column of type `kind`; ValueError when the two do not suit."""
    value = _plain(value)
    suits = isinstance(value, _VALUES[kind])
    if isinstance(value, bool) != (kind == "BOOLEAN") or isinstance(value, datetime) != (kind == "TIMESTAMPTZ"):
        suits = False
    if not suits or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"the value {value!r} does not suit a {kind}")
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"the time {value!r} has no time zone: write tzinfo=UTC")
        return f"TIMESTAMPTZ '{value.isoformat(sep=' ', timespec='microseconds')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"  # a bare 0.1 would be a DECIMAL
    return engine.literal(value) if isinstance(value, str) else str(value)


def _comparison(operator: str, key: str) -> Callable[[str, str, Mapping[str, Any]], tuple[str, str]]:
    def build(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
        return f"{operator} {_said(given[key])}", f"{name} {operator} {literal(given[key], kind)}"

    return build


def _in_range(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
    low, high = given["min_value"], given["max_value"]
    left, right = given.get("include_min", True), given.get("include_max", True)
    said = f"in {'[' if left else '('}{_said(low)}, {_said(high)}{']' if right else ')'}"
    above, below = ">=" if left else ">", "<=" if right else "<"
    return said, f"{name} {above} {literal(low, kind)} AND {name} {below} {literal(high, kind)}"


def _membership(operator: str, key: str) -> Callable[[str, str, Mapping[str, Any]], tuple[str, str]]:
    def build(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
        values = sorted(given[key], key=repr)
        if not values:
            raise ValueError("the list of values is empty")
        listed = ", ".join(literal(value, kind) for value in values)
        return f"{operator.lower()} ({shorten(map(_said, values))})", f"{name} {operator} ({listed})"

    return build


def _pattern(prefix: str, said: str) -> Callable[[str, str, Mapping[str, Any]], tuple[str, str]]:
    def build(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
        pattern = given["pattern"]
        if isinstance(pattern, re.Pattern):
            if pattern.flags & ~re.UNICODE:
                raise ValueError("flags of a compiled pattern are not supported: write them inline, (?i)")
            pattern = pattern.pattern
        _only_text(kind)
        return f"{said} {pattern!r}", f"regexp_matches({name}, {engine.literal(f'{prefix}(?:{pattern})')})"

    return build


def _affix(function: str, said: str) -> Callable[[str, str, Mapping[str, Any]], tuple[str, str]]:
    def build(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
        _only_text(kind)
        return f"{said} {given['string']!r}", f"{function}({name}, {literal(given['string'], kind)})"

    return build


def _length(name: str, kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
    _only_text(kind)
    exact, low, high = (given.get(key) for key in ("exact_value", "min_value", "max_value"))
    low, high = (low, high) if exact is None else (exact, exact)
    bounds = [(">=", low), ("<=", high)]
    sql = " AND ".join(f"length({name}) {operator} {int(bound)}" for operator, bound in bounds if bound is not None)
    if low is None:
        return f"has at most {high} characters", sql
    if high is None:
        return f"has at least {low} characters", sql
    return f"has {low}{'' if low == high else f' to {high}'} characters", sql


def _only_text(kind: str) -> None:
    if kind != "VARCHAR":
        raise ValueError(f"it needs text and the column is a {kind}")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value  # a numpy scalar


def _said(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if isinstance(value, str) else value.isoformat() if isinstance(value, date) else str(value)


_CHECKS: dict[str, Callable[[str, str, Mapping[str, Any]], tuple[str, str]]] = {
    "equal_to": _comparison("=", "value"),
    "not_equal_to": _comparison("!=", "value"),
    "greater_than": _comparison(">", "min_value"),
    "greater_than_or_equal_to": _comparison(">=", "min_value"),
    "less_than": _comparison("<", "max_value"),
    "less_than_or_equal_to": _comparison("<=", "max_value"),
    "in_range": _in_range,
    "isin": _membership("IN", "allowed_values"),
    "notin": _membership("NOT IN", "forbidden_values"),
    "str_matches": _pattern("^", "matches"),
    "str_contains": _pattern("", "contains"),
    "str_startswith": _affix("starts_with", "starts with"),
    "str_endswith": _affix("ends_with", "ends with"),
    "str_length": _length,
}

# The last part of the name of an asset check, by pandera's name of the check.
WORDS = {
    "equal_to": "equals",
    "not_equal_to": "is_not",
    "greater_than": "is_above",
    "greater_than_or_equal_to": "is_at_least",
    "less_than": "is_below",
    "less_than_or_equal_to": "is_at_most",
    "in_range": "in_range",
    "isin": "is_one_of",
    "notin": "is_none_of",
    "str_matches": "matches",
    "str_contains": "contains",
    "str_startswith": "starts_with",
    "str_endswith": "ends_with",
    "str_length": "has_length",
}
