"""How `features/<view>` comes to hold another version: its rows are copied away first, so that none is ever lost.

features/x holds 1            stands: 1
copied to features/x@1        stands: 1            killed here, the next run copies again, which changes nothing
features/x is emptied         stands: 2, moving    version 1 is read from features/x@1, version 2 is not read
features/x is filled          stands: 2
"""

from ml_assets.adapters.lake import Lake
from ml_assets.steps import view_versions
from ml_assets.steps.specs import ViewSpec
from ml_assets.steps.view_versions import DRAFT, KEPT, Standing, days_in

_AT_ONCE = 31  # partitions that are in memory together


def make_room(spec: ViewSpec, lake: Lake) -> None:
    """Let `features/<view>` stand for a definition, before rows of it are computed.

    Rows of another version that a registered model uses go to `features/<view>@<n>`, with the record of what they
    were made from; those of this version come back if it was there before, so that nothing is computed again.
    """
    view, wanted = spec.view.name, view_versions.version_of(spec, lake)
    now = view_versions.standing(view, lake)
    if now and now != Standing(wanted.number):
        _move(view, lake, now, wanted.number)
    declared = view_versions.joined_as_declared(wanted, spec)
    if not wanted.state or declared != wanted:
        view_versions.store(view, lake, declared, wanted.state or DRAFT)
    if now != Standing(wanted.number):
        view_versions.stand(view, lake, Standing(wanted.number))


def _move(view: str, lake: Lake, now: Standing, number: int) -> None:
    table = f"features/{view}"
    states = {each.number: each.state for each in view_versions.versions(view, lake)}
    if not now.moving and states.get(now.number) == KEPT:
        _copy(lake, table, f"{table}@{now.number}")
    view_versions.stand(view, lake, Standing(number, moving=True))
    _empty(lake, table)
    _copy(lake, f"{table}@{number}", table)


def _copy(lake: Lake, source: str, target: str) -> None:
    """Copy rows with their record; the record first, so that it never speaks of newer rows than there are."""
    if not lake.exists(source):
        return
    for place in lake.objects(f"memo/{source}/"):
        lake.replace_object(place.replace(source, target, 1), lake.get_object(place))
    held = days_in(source, lake)
    if held is None:
        lake.write(target, lake.dataset(source).to_table())
        return
    keys = sorted(set(held + (days_in(target, lake) or [])))
    for first in range(0, len(keys), _AT_ONCE):
        some = keys[first : first + _AT_ONCE]
        lake.write(target, lake.dataset(source, partitions=some).to_table(), partitions=some)


def _empty(lake: Lake, table: str) -> None:
    keys = days_in(table, lake)
    if keys is None or keys:
        lake.write(table, lake.dataset(table).schema.empty_table(), partitions=keys)
