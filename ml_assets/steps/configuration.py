"""What counts of a declaration, by step: all that can change what a step makes, and nothing else.

User code counts by its meaning, so that a comment or another layout computes nothing (see `features.meaning`).
"""

from dataclasses import asdict, fields
from typing import Any

from ml_assets.features import meaning
from ml_assets.features.view import Aggregation, Lookup
from ml_assets.steps.specs import ModelSpec, TableSpec, ViewRows, ViewSpec
from ml_assets.tables.bounds import bounds
from ml_assets.tables.schema import Contract


def of_table(spec: TableSpec, contract: Contract) -> dict[str, Any]:
    """What decides which rows are valid, and when they were known; documentation does not."""
    return {
        "columns": {column.name: [column.type, column.nullable] for column in contract.columns},
        "order of columns": contract.names(),
        "keys": contract.keys,
        "rules": {rule.name: meaning.of_sql(rule.sql) for rule in contract.rules},
        "order of rules": [rule.name for rule in contract.rules],
        "known_at": meaning.of_sql(spec.known_at) if spec.known_at else None,
        "partitions.column": spec.partition_column,
        "fail_above": spec.fail_above,
        "format": asdict(spec.format),
        "schema_drift": asdict(spec.schema_drift),
        "expectations": {each.check: asdict(each) for each in spec.expectations},
    }


def of_view(spec: ViewSpec) -> dict[str, Any]:
    """What decides the feature rows, and how many of them are kept online; not how they are joined.

    The definitions of the views that it reads count as well, with the delay after which it sees their rows.
    """
    view, read = spec.view, {rows.name: _read(rows) for rows in spec.reads}
    joined = ("name", "delay", "max_age", "defaults", "sql", "aggregations", "lookup")
    return {part.name: getattr(view, part.name) for part in fields(view) if part.name not in joined} | {
        "keep": spec.keep if view.max_age else "whatever its age",
        "features": view.features(),
        "sql": meaning.of_sql(view.sql) if view.sql else None,
        "aggregations": {name: _meant(part) for name, part in (view.aggregations or {}).items()},
        "lookup": _looked_up(view.lookup) if view.lookup else {},
        **({"reads": read} if read else {}),
    }


def of_labels(spec: ModelSpec) -> dict[str, Any]:
    """What decides the label of a row."""
    return {
        "at": meaning.of_sql(spec.at),
        "label": meaning.of_sql(spec.label),
        "keys": spec.spine.keys,
        "horizon": spec.horizon,
    }


def of_training_set(spec: ModelSpec) -> dict[str, Any]:
    """What decides rows, columns and splits, given the features: how they are joined, not how they are made."""
    return _joined(spec) | {
        "at": meaning.of_sql(spec.at),
        "keys": spec.spine.keys,
        "window": spec.window,
        "validation": spec.validation,
        "test": spec.test,
        "gap": spec.gap,
    }


def of_model(spec: ModelSpec) -> dict[str, Any]:
    """What makes another model, or another bundle, of the same rows; threads do not."""
    budget, stated = spec.budget, {name: found for name, found in bounds(spec.spine.contract).items() if found}
    return _joined(spec) | {
        **({"bounds of a request": stated} if stated else {}),
        "keys": spec.spine.keys,
        "request_features": spec.request_features,
        "code of request_features": meaning.of_function(spec.request_features) if spec.request_features else None,
        "search.trials": budget.trials,
        "rounds": budget.rounds,
        "seed": budget.seed,
    }


def of_evaluation(spec: ModelSpec) -> dict[str, Any]:
    """What is measured, and the gates that it is judged by."""
    return {"baseline": spec.baseline, "slices": spec.slices, "gates": spec.gates}


def _read(rows: ViewRows) -> dict[str, Any]:
    decisive = of_view(rows.of) if rows.of else {}
    return {"delay": rows.delay} | {name: value for name, value in decisive.items() if name != "keep"}


def _joined(spec: ModelSpec) -> dict[str, Any]:
    named = ("entity", "delay", "max_age", "defaults")
    views = {v.view.name: {n: getattr(v.view, n) for n in named} | {"gives": v.view.features()} for v in spec.views}
    return {"features": views, "order of features": list(views)}


def _looked_up(lookup: Lookup) -> dict[str, Any]:
    columns = {name: meaning.of_sql(sql) for name, sql in lookup.columns.items()}
    return {"columns": columns, "valid_from": lookup.valid_from, "valid_until": lookup.valid_until}


def _meant(part: Aggregation) -> dict[str, Any]:
    return {
        "expression": meaning.of_sql(part.expression),
        "where": meaning.of_sql(part.where) if part.where else None,
        "functions": part.functions,
        "windows": part.windows,
    }
