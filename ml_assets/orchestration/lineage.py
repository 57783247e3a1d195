"""Column lineage: as text in the columns that the UI lists, and in the form that Dagster defines for it.

The open source UI (1.13) hides metadata of that form; Dagster+ and the API give it, of the newest materialization.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dagster as dg

from ml_assets.records import StepResult

Lineage = Mapping[str, Sequence[tuple[str, str]]]


def described(columns: Iterable[Any], lineage: Lineage) -> Iterator[Any]:
    """The columns with descriptions, in Markdown, that also say what each is made from, with links to the assets."""
    for column in columns:
        description = getattr(column, "description", None) or ""
        sources = lineage.get(column.name, ())
        made = ", ".join(f"[`{asset.removeprefix('tables/')}.{name}`](/assets/{asset})" for asset, name in sources)
        yield SimpleNamespace(
            name=column.name,
            type=column.type,
            nullable=getattr(column, "nullable", True),
            description="\n\n".join(part for part in (description, f"From {made}" if made else "") if part),
        )


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
