"""Column lineage as the UI draws it: it reads the metadata of an asset's newest materialization, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg

from ml_assets.records import StepResult

Lineage = Mapping[str, Sequence[tuple[str, str]]]


def told(result: StepResult, lineage: Lineage) -> StepResult:
    """The result with the lineage, column -> (asset, column) pairs, in the last partition that it reports."""
    if not lineage or not result.produced:
        return result
    *_, (partition, last) = result.produced.items()
    made = dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(asset_key=dg.AssetKey.from_user_string(asset), column_name=name)
                for asset, name in sources
            ]
            for column, sources in lineage.items()
        }
    )
    metadata = {**last.metadata, "dagster/column_lineage": dg.MetadataValue.column_lineage(made)}
    return replace(result, produced={**result.produced, partition: replace(last, metadata=metadata)})
