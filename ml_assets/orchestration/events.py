"""From what a step did to what Dagster records: materializations, check results, failures with advice."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg

from ml_assets.errors import LakeConflictError, MlAssetsError, RegistryUnavailableError, SourceUnavailableError, shorten
from ml_assets.records import Finding, Markdown, Produced, StepResult, Url

_WORTH_RETRYING = (LakeConflictError, RegistryUnavailableError, SourceUnavailableError)


def events(context: dg.AssetExecutionContext, key: dg.AssetKey, result: StepResult) -> Iterator[Any]:
    """Yield the materializations of an asset and the results of those of its checks that the run selected.

    A run over a range reports each partition by itself, since a `MaterializeResult` would give all of them one
    data version (dagster 1.13: `_get_output_asset_events`). An asset with such a run must be skippable.
    """
    for partition, produced in result.produced.items():
        if context.has_partition_key_range and len(context.partition_keys) > 1:
            yield _materialization(key, partition, produced)
        else:
            yield dg.MaterializeResult(
                key, metadata=as_metadata(produced), data_version=dg.DataVersion(produced.data_version)
            )
    for finding in result.findings:
        if dg.AssetCheckKey(key, finding.check) in context.selected_asset_check_keys:
            yield _check_result(key, finding)


def report(context: dg.AssetExecutionContext, asset: str, partitions: Sequence[str], result: StepResult) -> None:
    """Say in the run's log how much was computed, found in place, and refused."""
    reused = sum(produced.reused for produced in result.produced.values())
    refused = [partition for partition in partitions if partition not in result.produced]
    context.log.info(
        f"{asset}: {len(result.produced) - reused} computed, {reused} already in place,"
        f" {len(refused)} left as they were" + (f" ({shorten(refused)})" if any(refused) else "")
    )


@contextmanager
def advice() -> Iterator[None]:
    """Turn our errors into failures whose message is what the user reads; retry only what can pass by itself."""
    try:
        yield
    except MlAssetsError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__},
            allow_retries=isinstance(error, _WORTH_RETRYING),
        ) from error


def _materialization(key: dg.AssetKey, partition: str, produced: Produced) -> dg.AssetMaterialization:
    tags = {"dagster/data_version": produced.data_version, "dagster/data_version_is_user_provided": "true"}
    return dg.AssetMaterialization(key, partition=partition or None, metadata=as_metadata(produced), tags=tags)


def _check_result(key: dg.AssetKey, finding: Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=finding.check,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.WARN if finding.warn else dg.AssetCheckSeverity.ERROR,
        description=finding.sentence,
        metadata={name: _value(number) for name, number in finding.numbers.items()},
    )


def as_metadata(produced: Produced) -> dict[str, Any]:
    """Metadata as the UI shows it best: row counts, links, pictures, numbers that it plots."""
    shown = {name: _value(value) for name, value in produced.metadata.items() if name != "n_rows"}
    if "n_rows" in produced.metadata:
        shown["dagster/row_count"] = dg.MetadataValue.int(int(produced.metadata["n_rows"]))
    return {**shown, "reused": dg.MetadataValue.bool(produced.reused)}


def table_schema(columns: Iterable[Any], rules: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Any:
    """Names, types, nullability, rules and documentation of columns, as the UI's column view."""
    shown = [
        dg.TableColumn(
            column.name,
            column.type,
            getattr(column, "description", None) or None,
            dg.TableColumnConstraints(
                nullable=getattr(column, "nullable", True), other=list(rules.get(column.name, ()))
            ),
        )
        for column in columns
    ]
    return dg.MetadataValue.table_schema(dg.TableSchema(shown))


def _value(value: Any) -> Any:
    if isinstance(value, dg.MetadataValue):  # a tuple as well, in Dagster 1.13
        return value
    if isinstance(value, Markdown):
        return dg.MetadataValue.md(value.text)
    if isinstance(value, Url):
        return dg.MetadataValue.url(value.address)
    if isinstance(value, Path):
        return dg.MetadataValue.path(value)
    if isinstance(value, dict | list | tuple):
        return dg.MetadataValue.json(value)
    return value if value is not None else "none"
