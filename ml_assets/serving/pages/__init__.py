"""The pages of an endpoint for people: its status and its documentation, each one file without outside parts."""

import json
import math
import operator
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from ml_assets.serving.routing import Arm

_BOUNDS = {
    "minimum": ("≥", operator.ge),
    "exclusiveMinimum": (">", operator.gt),
    "maximum": ("≤", operator.le),
    "exclusiveMaximum": ("<", operator.lt),
}


def status(endpoint: str, routing: Mapping, arm: Arm) -> str:
    """Show what serves now: versions and shares, generation, the last refusal."""
    digests = routing["digests"]
    shown = [(version, f"{share:.0%}", digests[version][:12]) for version, share in routing["weights"].items()]
    refused = routing["refused"]
    problem = f"Refused table {refused['generation']}: {refused['reason']}" if refused else ""
    return _page(
        "status.html",
        endpoint,
        label=arm.predictor.schema.label,
        model=arm.predictor.schema.model,
        generation=routing["generation"],
        refused=problem,
        _versions=_rows(shown),
    )


def docs(document: Mapping) -> str:
    """Show the OpenAPI document: the request fields, a request to try, and all addresses."""
    schema = document["components"]["schemas"]["Instance"]
    fields = [
        (name, _kind(described), "yes" if name in schema["required"] else "no", described.get("description", ""))
        for name, described in schema["properties"].items()
    ]
    operations = [
        (method.upper(), path, operation["summary"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in {"get", "post"}
    ]
    sample = {name: _sample(schema["properties"][name]) for name in schema["required"]}
    example = json.dumps({"instances": [sample]}, indent=2, ensure_ascii=False)
    info = document["info"]
    return _page(
        "docs.html",
        info["title"],
        label=info["description"],
        example=example,
        _fields=_rows(fields),
        _operations=_rows(operations),
    )


def _page(name: str, endpoint: str, **values: object) -> str:
    shown = {key: str(value) if key.startswith("_") else escape(str(value)) for key, value in values.items()}
    return _template(name).substitute(
        {key.strip("_"): value for key, value in shown.items()}, endpoint=escape(endpoint)
    )


def _rows(rows: list[tuple]) -> str:
    return "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)


def _kind(described: Mapping) -> str:
    either = described.get("anyOf", [described])
    kinds = [one.get("format") or one.get("type", "") for one in either]
    bounds = [f"{word} {one[key]}" for one in either for key, (word, _) in _BOUNDS.items() if key in one]
    chosen = [f"of {', '.join(map(str, one['enum']))}" for one in either if "enum" in one]
    return " ".join([" or ".join(kinds), *bounds, *chosen])


def _sample(described: Mapping) -> object:
    one = described.get("anyOf", [described])[0]
    if one.get("format") == "date-time":
        return "2013-04-30T12:00:00Z"
    if one["type"] in {"integer", "number"}:
        return next((value for value in _numbers(one) if _keeps(value, one)), 0)
    return one["enum"][0] if "enum" in one else {"string": "…", "boolean": False}[one["type"]]


def _numbers(one: Mapping) -> Sequence[float]:
    """Numbers to try as an example, the plain ones first, one of which keeps the bounds."""
    low = one.get("minimum", one.get("exclusiveMinimum", -math.inf))
    high = one.get("maximum", one.get("exclusiveMaximum", math.inf))
    ends = (low, high) if one["type"] == "integer" else (low, high, low + 1, high - 1, low / 2 + high / 2)
    next_to = (math.nextafter(low, math.inf), math.nextafter(high, -math.inf)) if one["type"] == "number" else ()
    return one.get("enum", (0, 1, *sorted(ends, key=abs), *sorted(next_to, key=abs)))


def _keeps(value: float, one: Mapping) -> bool:
    return math.isfinite(value) and all(keeps(value, one[key]) for key, (_, keeps) in _BOUNDS.items() if key in one)


@cache
def _template(name: str) -> Template:
    return Template(files(__name__).joinpath(name).read_text(encoding="utf-8"))
