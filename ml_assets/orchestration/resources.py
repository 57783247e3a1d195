"""The one resource of the graph: where things are, from the environment alone; nothing is opened before it is used."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from ml_assets.adapters.settings import Settings
from ml_assets.steps.run import Run


class Platform(dg.ConfigurableResource):
    """The places of this installation: landing files, lake, online store, model registry, endpoints, reports.

    Each has an environment variable and a default below `ML_ASSETS_HOME`: see `ml_assets.adapters.settings`.
    `s3` may be dagster_aws's `S3Resource`, for sources on S3; without it they take the `AWS_*` variables.
    """

    s3: dg.ConfigurableResource | None = None

    def run(self, context: dg.AssetExecutionContext) -> Run:
        """What a step needs to make the partitions and outputs that a Dagster run selected."""
        return Run(
            settings=Settings.from_environment(),
            partitions=requested(context),
            outputs=frozenset(key.to_user_string() for key in context.selected_asset_keys),
            run_id=context.run.run_id,
            log=context.log.info,
            s3=self._s3(),
        )

    def look(self) -> Run:
        """What a sensor needs to look at the state of things."""
        return Run(settings=Settings.from_environment(), s3=self._s3())

    def _s3(self) -> Callable[[], Any] | None:
        # Named by what it does, since to import dagster_aws costs half a second in every process.
        return getattr(self.s3, "get_client", None)


def requested(context: dg.AssetExecutionContext) -> tuple[str, ...]:
    """The partitions that a run is to make; ("",) for an asset without partitions."""
    partitioned = context.has_partition_key or context.has_partition_key_range
    return tuple(context.partition_keys) if partitioned else ("",)


# One object each, so that every component can bind them and merging their definitions finds no conflict.
PLATFORM = Platform()
EXECUTOR = dg.in_process_executor
