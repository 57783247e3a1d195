"""From a step to Dagster assets: one operation for the nodes that a step makes, with checks and automation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dagster as dg

from ml_assets.orchestration.automation import RETRY
from ml_assets.orchestration.events import advice, events, report, table_schema
from ml_assets.orchestration.lineage import Lineage, described, told
from ml_assets.orchestration.resources import EXECUTOR, PLATFORM, Platform
from ml_assets.records import LAYERS
from ml_assets.steps.catalogue import Check, Step

_MANY = 100_000


class Owner(Protocol):
    """The component that declares the assets."""

    @property
    def use_case(self) -> str:
        """Group of the assets."""
        ...

    @property
    def owners(self) -> Sequence[str]:
        """Who answers for them."""
        ...


@dataclass(frozen=True)
class Node:
    """One asset that a step makes."""

    layer: str
    name: str
    description: str
    kinds: frozenset[str] = frozenset()
    deps: Sequence[dg.AssetDep | dg.AssetKey] = ()
    checks: Sequence[Check] = ()
    columns: Iterable[Any] = ()
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)  # in words, by column
    freshness: dg.FreshnessPolicy | None = None
    automation: dg.AutomationCondition | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=dict)  # of each column: the assets and columns that it is made from

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key, `[layer, name]`."""
        return dg.AssetKey([self.layer, self.name])

    def spec(self, owner: Owner, partitions_def: dg.PartitionsDefinition | None, version: int) -> dg.AssetSpec:
        """The node as Dagster's graph shows it."""
        columns = list(described(self.columns, self.lineage))
        return dg.AssetSpec(
            self.key,
            deps=self.deps,
            description=self.description,
            metadata={"dagster/column_schema": table_schema(columns, self.rules)} if columns else None,
            skippable=True,  # what was refused leaves no materialization
            group_name=owner.use_case,
            code_version=str(version),
            freshness_policy=self.freshness,
            automation_condition=self.automation,
            owners=list(owner.owners),
            tags={"ml_assets/layer": self.layer, **self.tags},
            # A node of the UI's graph shows the last part of its key only: its layer is read from the kinds.
            kinds={self.layer, *self.kinds},
            partitions_def=partitions_def,
        )


def build(
    owner: Owner,
    *,
    name: str,
    nodes: Sequence[Node],
    step: Step,
    version: int,
    partitions_def: dg.PartitionsDefinition | None = None,
    retry: dg.RetryPolicy = RETRY,
) -> dg.AssetsDefinition:
    """Make the assets of one step: a single operation that reports each node, each partition and each check."""
    lineage = {node.key.to_user_string(): node.lineage for node in nodes}

    @dg.multi_asset(
        name=name,
        specs=[node.spec(owner, partitions_def, version) for node in nodes],
        # Of the whole asset, each evaluation naming its partitions: after a run over a range, Dagster (1.13) would show
        # a check that has partitions as skipped in all of them.
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=node.key, description=check.description, blocking=check.blocking)
            for node in nodes
            for check in node.checks
        ],
        partitions_def=partitions_def,
        can_subset=len(nodes) > 1,
        backfill_policy=_one_run(nodes[-1].layer) if partitions_def else None,
        retry_policy=retry,
    )
    def materialize(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        run = platform.run(context)
        with advice():
            results = step(run)
        for asset, result in results.items():
            report(context, asset, run.partitions, result)
            yield from events(context, dg.AssetKey.from_user_string(asset), told(result, lineage[asset]))

    return materialize


def _one_run(layer: str) -> dg.BackfillPolicy:
    """Any number of partitions of a layer in one run, and never two layers in the same.

    Assets of different policies do not share a run of a backfill, and layers must not: a run over a range reports
    partitions by itself (see `events`), so it has no output for what comes after it in the same run.
    """
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=_MANY + LAYERS.index(layer))


def definitions(
    assets: Sequence[dg.AssetsDefinition], *, sensors: Sequence[dg.SensorDefinition], upkeep: dg.Definitions
) -> dg.Definitions:
    """Bind assets and sensors, with what the use case has once."""
    bound = dg.Definitions(assets=assets, sensors=sensors, resources={"platform": PLATFORM}, executor=EXECUTOR)
    return dg.Definitions.merge(bound, upkeep)
