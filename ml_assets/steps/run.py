"""What a step is given: the partitions to make, the places of the installation, and where to say what happens."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.settings import Settings

if TYPE_CHECKING:
    from ml_assets.adapters.lake import Lake
    from ml_assets.adapters.online import OnlineStore
    from ml_assets.adapters.registry import Registry

_LOG = logging.getLogger("ml_assets")


@dataclass(frozen=True)
class Run:
    """One execution of a step. `outputs` names the assets wanted from a step that makes several; empty: all.

    `s3` makes the client for sources on S3; without it they take the `AWS_*` variables.
    """

    settings: Settings
    partitions: tuple[str, ...] = ("",)
    outputs: frozenset[str] = frozenset()
    run_id: str = "by hand"
    log: Callable[[str], None] = field(default=_LOG.info)
    s3: Callable[[], Any] | None = None

    def wants(self, name: str) -> bool:
        """Whether this execution is to make an asset."""
        return not self.outputs or name in self.outputs

    @cached_property
    def lake(self) -> "Lake":
        """The tables."""
        from ml_assets.adapters.lake import Lake

        return Lake(self.settings.lake_uri)

    @cached_property
    def online_store(self) -> "OnlineStore":
        """The newest feature rows by entity."""
        from ml_assets.adapters.online import open_store

        return open_store(self.settings.online_store)

    @cached_property
    def registry(self) -> "Registry":
        """The model versions."""
        from ml_assets.adapters.registry import Registry

        return Registry(self.settings.mlflow_uri, "ml_assets")
