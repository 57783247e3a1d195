import logging
from itertools import takewhile
from types import SimpleNamespace

import dagster as dg
from dagster._daemon import backfill, controller

from ml_assets.demo.daemon import SECONDS, hasten


def test_the_daemon_waits_two_seconds_between_looks_at_backfills(monkeypatch):
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", controller.DEFAULT_DAEMON_INTERVAL_SECONDS)
    hasten()
    waits: list[float] = []
    with dg.DagsterInstance.ephemeral() as instance:
        loop = backfill.execute_backfill_iteration_loop(
            SimpleNamespace(instance=instance), logging.getLogger(), SimpleNamespace(wait=waits.append)
        )
        list(takewhile(lambda _: not waits, loop))
    assert 0 < waits[0] <= SECONDS
