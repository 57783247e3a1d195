"""The columns of a model's labels and training set for the UI: what they hold, and what they are made from."""

from collections.abc import Sequence

from ml_assets.components import binding
from ml_assets.components.binding import Pairs
from ml_assets.components.feature_view import FeatureView
from ml_assets.components.project import Project
from ml_assets.components.table import Table
from ml_assets.features.view import FEATURE_TIMESTAMP
from ml_assets.steps.specs import ModelSpec
from ml_assets.tables.schema import Column

_TIME = "TIMESTAMPTZ"
_SAID = {
    "at": "The moment of the prediction: features count as of it.",
    "label_known_at": "When the label became known.",
    "split": "train, gap, validation or test, in the order of time.",
}


def of_labels(spec: ModelSpec, spine: Table) -> list[Column]:
    """The columns of the labels."""
    keys = [column for column in spine.columns() if column.name in spec.spine.keys]
    return [*keys, _time("at"), Column("label", "DOUBLE", False, spec.label), _time("label_known_at")]


def of_training_set(spec: ModelSpec, spine: Table, views: Sequence[FeatureView], project: Project) -> list[Column]:
    """The columns of the training set."""
    keys = set(spec.spine.keys)
    return [
        *spine.columns(),
        *(column for column in of_labels(spec, spine) if column.name not in keys),
        *(
            Column(f"{view.name}__{column.name}", column.type, True, column.description or "")
            for view in views
            for column in _features(view, project)
        ),
        Column("split", "VARCHAR", False, _SAID["split"]),
    ]


def lineage_of_labels(spec: ModelSpec, spine: Table, label: Table) -> dict[str, Pairs]:
    """The (asset, column) pairs that each column of the labels is made from."""
    asked = {key: f'"{key}"' for key in spec.spine.keys} | {"at": spec.at}
    told = {"label": spec.label, "label_known_at": "known_at"}
    return _of_table(spine, asked) | _of_table(label, told)


def lineage_of_training_set(
    spec: ModelSpec, spine: Table, views: Sequence[FeatureView], project: Project
) -> dict[str, Pairs]:
    """The same for the training set: spine, labels and features as they stand in their assets."""
    asked = _of_table(spine, {column.name: f'"{column.name}"' for column in spine.columns()} | {"at": spec.at})
    labels = {column: ((spec.labels, column),) for column in ("label", "label_known_at")}
    features = {
        f"{view.name}__{column.name}": ((f"features/{view.name}", column.name),)
        for view in views
        for column in _features(view, project)
    }
    return asked | labels | features | {"split": asked.get("at", ())}


def _time(name: str) -> Column:
    return Column(name, _TIME, False, _SAID[name])


def _features(view: FeatureView, project: Project) -> list:
    around = {*view.entity, FEATURE_TIMESTAMP}
    return [column for column in view.columns(project) if column.name not in around]


def _of_table(table: Table, expressions: dict[str, str]) -> dict[str, Pairs]:
    found = binding.expression_lineage(table.name, expressions, {table.name: table.columns()})
    return {name: tuple((f"tables/{source}", column) for source, column in pairs) for name, pairs in found.items()}
