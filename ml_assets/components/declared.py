"""What the four components share: where they were declared, and errors that say so."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr

from ml_assets.errors import DeclarationError
from ml_assets.steps.run import Run

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Level = tuple[list[dg.AssetKey], Callable[[Run], Mapping[str, str]]]
T = TypeVar("T")
_VARIABLE = re.compile(r"\{\{\s*env\.(\w+)\s*\}\}")  # with a default, `env('NAME', 'other')`, none is missing
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _unset(written: Any, *path: str | int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where a template names a variable that the environment does not have: Dagster would fail without a line."""
    if isinstance(written, str):
        named = _VARIABLE.findall(written)
        yield from ((path, variable) for variable in named if variable not in os.environ)
    elif isinstance(written, Mapping | list):
        for key, value in written.items() if isinstance(written, Mapping) else enumerate(written):
            yield from _unset(value, *path, key)


@dataclass(frozen=True)
class Place:
    """The YAML document of a component, to point at the line that is wrong."""

    folder: Path | None = None
    positions: Any = None

    @classmethod
    def of(cls, context: dg.ComponentLoadContext) -> "Place":
        """The place of the component that is being loaded; unknown for one that was built in Python."""
        tree = getattr(context.component_decl, "source_tree", None)
        return cls(Path(context.path), tree.source_position_tree if tree else None)

    def error(self, problem: str, *path: str | int) -> DeclarationError:
        """An error at the attribute that a path leads to, or at the nearest that exists."""
        if self.positions is None:
            return DeclarationError(problem)
        position, _ = self.positions.lookup_closest_and_path(["attributes", *path], trace=None)
        return DeclarationError(problem, file=position.filename, line=position.start.line)


class Schema(dg.Model, dg.Resolvable):
    """Base of what is written in YAML: keeps the documentation of optional fields.

    Dagster 1.13 takes the description and the examples of a field with a default from its resolver alone
    (`derive_model_type`); without one the component docs and the editor's help show nothing.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Give each optional field a resolver that says what the field says."""
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            own = next((each for each in field.metadata if isinstance(each, dg.Resolver)), None)
            if own:
                own.description, own.examples = field.description, field.examples
            elif not field.is_required():
                resolver = dg.Resolver.default(description=field.description, examples=field.examples)
                field.metadata = [*field.metadata, resolver]


class Freshness(Schema):
    """How old an asset may get, by the wall clock since its last materialization."""

    fail: str = Field(description="The asset is stale from here on.", examples=["36h"])
    warn: str | None = Field(default=None, description="A first warning; shorter than `fail`.", examples=["26h"])


class Declared(dg.Component, Schema):
    """Base of the components: name, documentation, owner, and the place of the declaration."""

    name: str = Field(description="Name in snake_case; the asset keys are made from it.", examples=["flight_outcomes"])
    description: str = Field(
        default="", description="What it holds, for people; shown in the UI.", examples=["One row per landed flight."]
    )
    owners: Sequence[str] = Field(
        default=("team:ml",),
        description="Who answers for it: `team:<name>` or mail addresses; default: `team:ml`.",
        examples=[["team:ops"]],
    )
    group: str | None = Field(
        default=None, description="The use case; default: the name of the folder.", examples=["flights"]
    )
    _place: Place = PrivateAttr(default=Place())
    _resolved: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> Self:
        """Load as Dagster does, and remember where the declaration stands."""
        place = Place.of(context)
        for path, variable in _unset(attributes.model_dump(exclude_unset=True) if attributes else {}):
            raise place.error(f"the variable {variable} is not set in the environment.", *path)
        component = super().load(attributes, context)
        component._place = place  # noqa: SLF001
        component._check_name()  # noqa: SLF001
        component._check_owners()  # noqa: SLF001
        component._check_nothing_below()  # noqa: SLF001
        return component

    def error(self, problem: str, *path: str | int) -> DeclarationError:
        """An error at one of this component's attributes."""
        return self._place.error(f"{type(self).__name__} '{self.name}': {problem}", *path)

    def duration(self, text: str, *path: str | int) -> timedelta:
        """Read `15m`, `26h`, `7d` or `1h30m`."""
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        if not parts or "".join(n + u for n, u in parts) != text.replace(" ", ""):
            raise self.error(f"'{text}' is no duration. Write it as `15m`, `26h`, `7d` or `1h30m`.", *path)
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))

    def freshness_policy(self, declared: Freshness | None) -> dg.FreshnessPolicy | None:
        """The policy of the assets, by the wall clock since their last materialization."""
        if declared is None:
            return None
        warn = self.duration(declared.warn, "freshness", "warn") if declared.warn else None
        fail = self.duration(declared.fail, "freshness", "fail")
        if warn and warn >= fail:
            raise self.error("`warn` must be shorter than `fail`.", "freshness", "warn")
        return dg.FreshnessPolicy.time_window(fail, warn)

    def once(self, what: str, resolve: Callable[[], T]) -> T:
        """Resolve something the first time only: one declaration is asked by every other that refers to it."""
        if what not in self._resolved:
            self._resolved[what] = resolve()
        return self._resolved[what]

    @property
    def use_case(self) -> str:
        """The group of the assets."""
        return self.group or (self._place.folder.name if self._place.folder else "default")

    @property
    def folder(self) -> Path:
        """The folder of the declaration, for files that it names."""
        return self._place.folder or Path()

    def levels(self, project: Any) -> list[Level]:
        """Assets with what tells which of their partitions are not computed from the inputs that stand."""
        del project
        return []

    def op_name(self, layer: str) -> str:
        """A name for the step that Dagster shows in its run view."""
        return f"{self.use_case}__{layer}__{self.name}"

    def _check_nothing_below(self) -> None:
        """Refuse declarations in folders below: Dagster looks no further than the first `defs.yaml`."""
        above = (self._place.folder or Path()) / "defs.yaml"
        if self._place.positions is None or not above.is_file():  # built in Python
            return
        below = sorted(file for file in above.parent.rglob("defs.yaml") if file != above)
        if below:
            problem = f"nothing of this is read, since {above} is above it. Move it to a folder beside"
            fix = f"{above.parent.name}/, or its declarations into that file."
            raise DeclarationError(f"{problem} {fix}", file=below[0], line=1)

    def _check_owners(self) -> None:
        for owner in self.owners:
            if not owner.startswith("team:") and "@" not in owner:
                raise self.error(f"'{owner}' is no owner. Write `team:<name>` or a mail address.", "owners")

    def _check_name(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise self.error("a name is snake_case: lower-case letters, digits and underscores.", "name")
