"""The bounds of a column as its contract states them in numbers and lists, for whoever sends a row of it.

Rules that are no literal, patterns, and rules over a row are left out: they are judged where the table takes rows in.
"""

import math
from typing import Any

from ml_assets.tables.outline import Declared, read

_LOWER = {"greater_than_or_equal_to": False, "greater_than": True}
_UPPER = {"less_than_or_equal_to": False, "less_than": True}


def bounds(contract: str) -> dict[str, dict[str, Any]]:
    """What every row keeps, by column: what is stated of `minimum`, `maximum`, `above`, `below` and `choices`."""
    return {item.column.name: _numbers(item) | _choices(item) for item in read(contract).declared}


def _numbers(declared: Declared) -> dict[str, Any]:
    if declared.column.type not in ("BIGINT", "DOUBLE"):
        return {}
    whole, (lower, upper), found = declared.column.type == "BIGINT", _limits(declared), {}
    if lower:
        value, strict = max(lower)
        found |= {"minimum": math.floor(value) + 1} if whole and strict else {"above" if strict else "minimum": value}
    if upper:
        value, strict = min(upper, key=lambda each: (each[0], not each[1]))
        found |= {"maximum": math.ceil(value) - 1} if whole and strict else {"below" if strict else "maximum": value}
    return found


def _limits(declared: Declared) -> tuple[list[tuple[float, bool]], list[tuple[float, bool]]]:
    """Lower and upper limits, and whether a limit itself is excluded."""
    lower: list[tuple[float, bool]] = []
    upper: list[tuple[float, bool]] = []
    for stated in declared.checks:
        given = stated.statistics or {}
        low, high = given.get("min_value"), given.get("max_value")
        ranged = stated.check == "in_range"
        if isinstance(low, int | float) and (ranged or stated.check in _LOWER):
            lower.append((low, not given.get("include_min", True) if ranged else _LOWER[stated.check]))
        if isinstance(high, int | float) and (ranged or stated.check in _UPPER):
            upper.append((high, not given.get("include_max", True) if ranged else _UPPER[stated.check]))
    return lower, upper


def _choices(declared: Declared) -> dict[str, Any]:
    """The values of the `isin` of a text or a number, sorted; not null, for which `nullable` stands."""
    listed = [s.statistics["allowed_values"] for s in declared.checks if s.check == "isin" and s.statistics]
    if not listed or declared.column.type not in ("VARCHAR", "BIGINT", "DOUBLE"):
        return {}
    values = [value for value in listed[-1] if value is not None]
    return {"choices": tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))}
