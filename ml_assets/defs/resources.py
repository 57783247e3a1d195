"""Resources that are bound beside those of the components; what they connect to comes from the environment alone.

The components bind `platform` themselves (lake, landing files, online store, registry, endpoints): its places and
their variables are in `ml_assets.adapters.settings`.
"""

import dagster as dg

from ml_assets.orchestration.mlflow_resource import mlflow


@dg.definitions
def resources() -> dg.Definitions:
    """`mlflow` is for a team's own assets: `@dg.asset(required_resource_keys={"mlflow"})`."""
    return dg.Definitions(resources={"mlflow": mlflow})
