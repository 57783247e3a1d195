"""Which days came live, so that their lag is that of real predictions; the others came as history.

Live is (1) a day that came by itself, within three days of its end; and (2) what came in a rhythm, however late: days
that moved on with the clock, with at least half as much time since the delivery before as they bring days; that three
times or more, and without more days at once than nine in ten such deliveries bring. So a feed that is always a week
late is live, and so is one that brings Friday to Sunday on Mondays. A load of history is faster than the clock, and the
end of an outage brings more days than usual.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ml_assets.steps.days import start_of
from ml_assets.steps.specs import DAY

SOON = 3 * DAY
RHYTHM = 3  # deliveries
_TOGETHER = timedelta(hours=1)
_USUAL = 0.9


@dataclass(frozen=True)
class _Delivery:
    """Days in their order that first came at one time."""

    days: tuple[str, ...]
    at: datetime

    @property
    def is_prompt(self) -> bool:
        return len(self.days) == 1 and self.at <= start_of(self.days[0]) + DAY + SOON


def live_days(first: Mapping[str, datetime]) -> set[str]:
    """The days that came live, given when each first arrived."""
    found = _deliveries(first)
    live = [delivery for delivery in found if delivery.is_prompt]
    paced = _with_the_clock(found)
    if len(paced) >= RHYTHM:
        sizes = sorted(len(delivery.days) for delivery in paced)
        usual = sizes[int(_USUAL * (len(sizes) - 1))]
        live += [delivery for delivery in paced if len(delivery.days) <= usual]
    return {day for delivery in live for day in delivery.days}


def _deliveries(first: Mapping[str, datetime]) -> list[_Delivery]:
    """Days that came within an hour of each other are one delivery."""
    groups: list[list[str]] = []
    for day in sorted(first, key=lambda day: (first[day], day)):
        if groups and first[day] - first[groups[-1][-1]] < _TOGETHER:
            groups[-1].append(day)
        else:
            groups.append([day])
    return [_Delivery(tuple(sorted(group)), first[group[0]]) for group in groups]


def _with_the_clock(deliveries: Sequence[_Delivery]) -> list[_Delivery]:
    """Those with days beyond all that came before, which bring no more than twice the time since the last such one."""
    found: list[_Delivery] = []
    ahead: _Delivery | None = None
    for delivery in deliveries:
        if ahead and delivery.days[-1] <= ahead.days[-1]:
            continue
        if ahead and start_of(delivery.days[-1]) - start_of(ahead.days[-1]) <= 2 * (delivery.at - ahead.at):
            found.append(delivery)
        ahead = delivery
    return found
