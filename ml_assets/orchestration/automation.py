"""When an asset inside the graph runs by itself: when the content of what it is made from has changed."""

from collections.abc import Sequence
from functools import cache, reduce
from operator import and_

import dagster as dg

_TABLES = dg.AssetSelection.key_prefixes("tables")
_CHANGED = dg.AutomationCondition.data_version_changed()
TICK_SECONDS = 5


def on_new_content(
    *, present: Sequence[dg.AssetKey] = (), ignore: Sequence[dg.AssetKey] = ()
) -> dg.AutomationCondition:
    """Run a partition when the data version of something upstream changed and every blocking check there passed.

    A table is its own gate, day by day: a delivery that it refuses leaves no materialization, so nothing follows it,
    and the days around it go on. `present` names assets whose partition of the same day must exist: a window reaches
    into days that have not been delivered yet, and those must wait. A change of what `ignore` names is no reason.
    Conditions see edges only and can miss one (dagster#33587); the reconciling schedule is the backstop.
    """
    changed = dg.AutomationCondition.any_deps_match(_CHANGED)
    if ignore:
        changed = changed.ignore(dg.AssetSelection.assets(*ignore))
    condition = changed.since_last_handled()
    arrived = [dg.AutomationCondition.asset_matches(key, ~dg.AutomationCondition.missing()) for key in present]
    passed = dg.AutomationCondition.all_deps_blocking_checks_passed().ignore(_TABLES)
    gates = [passed, ~dg.AutomationCondition.in_progress()]
    return reduce(and_, [*arrived, *gates], condition).with_label("content upstream changed")


@cache
def automation_sensor(group: str) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of one use case, switched on."""
    return dg.AutomationConditionSensorDefinition(
        f"{group}_automation",
        target=dg.AssetSelection.groups(group),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Runs the assets of {group} whose upstream content has changed.",
    )


def retries(times: int, delay_seconds: float) -> dg.RetryPolicy:
    """Attempts after the first one, with a delay that doubles."""
    return dg.RetryPolicy(times, delay_seconds, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


RETRY = retries(2, 2)
