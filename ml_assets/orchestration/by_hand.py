"""Runs of chosen assets in this process: one for each operation and range of days, as a backfill of the daemon."""

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import dagster as dg

from ml_assets.records import LAYERS

_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# A key with a slash needs no `key:"..."` here: `+features/carrier_delays`, `tables/*`.
_KEY = re.compile(r'(?<![\w/"*:.=-])[\w.*-]+(?:/[\w.*-]+)+(?![\w/"*-])')
_BY_CHECK, _INTERRUPTED = "DagsterAssetCheckFailedError", "DagsterExecutionInterruptedError"


@dataclass(frozen=True)
class CheckOutcome:
    """What a check said; `stops` where nothing may be made from what it judged."""

    name: str
    passed: bool
    warns: bool
    stops: bool
    sentence: str

    @classmethod
    def of(cls, said: dg.AssetCheckEvaluation) -> "CheckOutcome":
        """A result as Dagster holds it."""
        warns = not said.passed and said.severity is dg.AssetCheckSeverity.WARN
        stops = bool(said.blocking) and not said.passed and not warns
        return cls(said.check_name, said.passed, warns, stops, said.description or "")


@dataclass
class Outcome:
    """What the runs of one asset did. `n_rows` is None where it counts none; `problem`: why one failed, if no check."""

    n_partitions: int = 0
    n_rows: int | None = None
    checks: dict[str, CheckOutcome] = field(default_factory=dict)
    problem: str = ""

    @property
    def failures(self) -> list[CheckOutcome]:
        """The checks that failed and are more than a warning."""
        return [check for check in self.checks.values() if not check.passed and not check.warns]

    def add(self, more: "Outcome") -> None:
        """Take in another range of days; a check that failed in one of them has failed."""
        self.n_partitions += more.n_partitions
        if more.n_rows is not None:
            self.n_rows = (self.n_rows or 0) + more.n_rows
        worse = {name: check for name, check in self.checks.items() if not check.passed}
        self.checks |= {**more.checks, **{n: check for n, check in worse.items() if _passed(more.checks.get(n))}}
        self.problem = self.problem or more.problem


def selected(defs: dg.Definitions, selections: Iterable[str], *, upstream: bool, among: Collection[str]) -> set[str]:
    """The assets among some that selections name together, with all that they are made from if wanted.

    A selection is Dagster's; a key with a slash needs no quotes, and commas join several. Raises ValueError with the
    one that is none, or names nothing that is there.
    """
    graph, found = defs.resolve_asset_graph(), set()
    for part in (part.strip() for each in selections for part in re.split(r",(?![^(]*\))", each)):
        try:
            chosen = _selection(_KEY.sub(r'key:"\g<0>"', part))
            keys = (chosen.upstream() if upstream else chosen).resolve(graph)
        except dg.DagsterError as error:
            raise ValueError(part) from error
        names = {key.to_user_string() for key in keys} & set(among)
        if not names:
            raise ValueError(part)
        found |= names
    return found


def operations(defs: dg.Definitions, wanted: Collection[str]) -> list[tuple[str, ...]]:
    """The wanted assets, those of one operation together, in the order of the layers and of what needs what."""
    graph = defs.resolve_asset_graph()
    order = [key for key in graph.toposorted_asset_keys if key.to_user_string() in wanted]
    order.sort(key=lambda key: LAYERS.index(key.path[0]))
    made_by = {key: id(graph.get(key).assets_def) for key in order}
    last = {operation: place for place, operation in enumerate(made_by.values())}
    order.sort(key=lambda key: last[made_by[key]])
    return [tuple(key.to_user_string() for key in keys) for _, keys in groupby(order, key=made_by.__getitem__)]


def execute(
    defs: dg.Definitions, instance: dg.DagsterInstance, names: Sequence[str], days: tuple[str, str] | None
) -> dict[str, Outcome]:
    """Run assets of one operation, for the days from first to last or as a whole; gives what each of them did.

    Raises KeyboardInterrupt where Ctrl-C ended the run.
    """
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[_key(name) for name in names],
        tags={_FIRST: days[0], _LAST: days[1]} if days else {},
        raise_on_error=False,
    )
    found = {name: Outcome(problem=_problem(result)) for name in names}
    for event in result.all_events:
        if event.event_type_value == "ASSET_MATERIALIZATION":
            made = event.step_materialization_data.materialization
            found[made.asset_key.to_user_string()].add(Outcome(1, _rows(made.metadata)))
    for said in result.get_asset_check_evaluations():
        found[said.asset_key.to_user_string()].checks[said.check_name] = CheckOutcome.of(said)
    return found


def parents(defs: dg.Definitions, name: str) -> set[str]:
    """The assets that an asset is made from directly."""
    return {key.to_user_string() for key in defs.resolve_asset_graph().get(_key(name)).parent_keys}


def known(instance: dg.DagsterInstance, name: str, *, daily: bool) -> set[str]:
    """The partitions of an asset that an instance has a materialization of; "" is a whole."""
    if daily:
        return instance.get_materialized_partitions(_key(name))
    return {""} if instance.get_latest_materialization_event(_key(name)) else set()


def stopped(defs: dg.Definitions, instance: dg.DagsterInstance, name: str) -> Mapping[str, str]:
    """The assets that an asset is made from directly and that a blocking check stops at, with the name of the check.

    A table is its own gate, day by day, as for the daemon (see `automation`): what it refused is not there.
    """
    return failing(defs, instance, [p for p in parents(defs, name) if p.partition("/")[0] not in ("raw", "tables")])


def failing(defs: dg.Definitions, instance: dg.DagsterInstance, names: Iterable[str]) -> Mapping[str, str]:
    """Of some assets those that a blocking check stopped at its last run, with the name of the check."""
    checks = list(defs.resolve_asset_graph().get_check_keys_for_assets({_key(name) for name in names}))
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    said = {key: record.event.asset_check_evaluation for key, record in latest.items() if record.event}
    return {
        key.asset_key.to_user_string(): key.name for key, each in said.items() if each and CheckOutcome.of(each).stops
    }


def _selection(text: str) -> dg.AssetSelection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AssetSelection.from_string(text)


def _key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def _passed(check: CheckOutcome | None) -> bool:
    return check is None or check.passed


def _rows(metadata: Mapping[str, Any]) -> int | None:
    counted = metadata.get("dagster/row_count")
    return counted.value if counted else None


def _problem(result: dg.ExecuteInProcessResult) -> str:
    """Why the first step failed, in the words that are for the user; nothing where a check failed."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    for failure in failures:
        causes = list(_causes(failure.error))
        kinds = {cause.cls_name for cause in causes}
        if _INTERRUPTED in kinds:
            raise KeyboardInterrupt
        if _BY_CHECK not in kinds:
            said = failure.user_failure_data.description if failure.user_failure_data else None
            return said or (causes[-1].message.strip() if causes else "The step failed.")
    return "" if result.success or failures else "The run failed; its log tells why."


def _causes(error: Any) -> Iterator[Any]:
    while error:
        yield error
        error = error.cause
