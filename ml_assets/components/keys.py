"""Whether the keys of a spine find the rows of a view: online a key is compared as it is written, so 7 is not 7.0."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_assets.components.feature_view import FeatureView
from ml_assets.components.project import Project
from ml_assets.components.table import Table

if TYPE_CHECKING:
    from ml_assets.components.model import Model

_FAMILIES = {
    "BIGINT": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    "DOUBLE": ("FLOAT", "DOUBLE"),
    "BOOLEAN": ("BOOLEAN",),
    "VARCHAR": ("VARCHAR",),
    "TIMESTAMPTZ": ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"),
}
_BY_TYPE = {kind: family for family, kinds in _FAMILIES.items() for kind in kinds}


def require_one_type(model: "Model", spine: Table, views: Sequence[FeatureView], project: Project) -> None:
    """Raise DeclarationError where an entity is of another kind in the spine than in the view, or a key of none at all.

    Offline such keys may meet all the same, since DuckDB casts them. A row of the training set is found again by all
    keys of the spine.
    """
    asked = {column.name: column.type for column in spine.columns()}
    for key in spine.keys:
        if _family(asked[key]) is None:
            problem = _unasked(key, "a key", asked[key], spine.name)
            raise model.error(f"{problem}. Make it text: `{key}: str` in the contract.", "spine", "table")
    for number, view in enumerate(views):
        kept = {column.name: column.type for column in view.columns(project)}
        for entity in view.entity:
            if problem := _problem(entity, asked[entity], spine.name, kept[entity], view.name):
                raise model.error(problem, "features", number)


def _problem(entity: str, asked: str, spine: str, kept: str, view: str) -> str:
    wanted = _family(asked)
    if wanted is None:
        problem = _unasked(entity, f"the entity of '{view}'", asked, spine)
        return f"{problem}. Make it text in both: CAST({entity} AS VARCHAR) AS {entity}."
    if wanted == _family(kept):
        return ""
    problem = f"'{entity}' is {asked} in the spine '{spine}' and {kept} in the view '{view}'"
    fix = f"Select CAST({entity} AS {wanted}) AS {entity} in the view's SQL, or give both contracts one type."
    return f"{problem}: online the one never finds the other. {fix}"


def _unasked(column: str, role: str, kind: str, spine: str) -> str:
    return f"'{column}', {role}, is a {kind} in the spine '{spine}', which no request can hold"


def _family(kind: str) -> str | None:
    return "VARCHAR" if kind.startswith("ENUM(") else _BY_TYPE.get(kind)
