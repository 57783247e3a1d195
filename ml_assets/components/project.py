"""All components of a project by name, so that one declaration can refer to another."""

from collections.abc import Mapping
from typing import Any, TypeVar

import dagster as dg

from ml_assets.components.declared import Declared
from ml_assets.errors import shorten
from ml_assets.orchestration.alerts import alert_sensor
from ml_assets.orchestration.automation import automation_sensor
from ml_assets.orchestration.maintenance import maintenance
from ml_assets.orchestration.upkeep import reconciliation

T = TypeVar("T", bound=Declared)


class Project:
    """The declared components of one component tree."""

    def __init__(self, components: list[Declared]) -> None:
        self._components = components

    @classmethod
    def of(cls, context: dg.ComponentLoadContext) -> "Project":
        """The project that a component is loaded in."""
        return cls(context.component_tree.get_all_components(of_type=Declared))

    def named(self, kind: type[T]) -> Mapping[str, T]:
        """The components of one kind by name."""
        return {found.name: found for found in self._components if isinstance(found, kind)}

    def find(self, kind: type[T], name: str, asker: Declared, *path: str | int) -> T:
        """The component of a name; an unknown one is an error at the line that names it."""
        known = self.named(kind)
        if name not in known:
            nouns = f"{kind.__name__.lower()}s" if kind.__name__ != "FeatureView" else "feature views"
            raise asker.error(f"there is no '{name}' among the {nouns}: {shorten(sorted(known)) or 'none'}.", *path)
        return known[name]

    def serving(self, model: str) -> list[Any]:
        """The endpoints that answer with a model."""
        return [c for c in self._components if type(c).__name__ == "Endpoint" and getattr(c, "model", None) == model]

    def require_unique(self, component: Declared) -> None:
        """Refuse a second component of the same kind and name, at the line of the second."""
        same = [c for c in self._components if type(c) is type(component) and c.name == component.name]
        if len(same) > 1 and same[0] is not component:
            raise component.error("another one has this name already. Names are unique by kind.", "name")

    def upkeep(self, component: Declared) -> dg.Definitions:
        """What a use case has once, given by its first component: automation and the reconciling schedule."""
        group = [c for c in self._components if c.use_case == component.use_case]
        if group[0] is not component:
            return dg.Definitions()
        levels = [level for member in group for level in member.levels(self)]
        names = sorted({member.name for member in group})
        alerts = [alert_sensor()] if self._components[0] is component else []  # one for all use cases
        return dg.Definitions(
            sensors=[automation_sensor(component.use_case), *alerts],
            schedules=[reconciliation(component.use_case, levels), maintenance(component.use_case, names)],
        )
