"""What a session finds that the one before was killed in: runs that nobody executes any more."""

import os
from pathlib import Path


def close_left_runs(dagster_home: Path) -> int:
    """Fail the runs that were under way, so that Dagster retries them; without this they hold the queue for hours.

    Call it before the daemon starts: then no run can be alive.
    """
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(dagster_home)
    status = dg.DagsterRunStatus
    under_way = dg.RunsFilter(statuses=[status.STARTING, status.STARTED, status.CANCELING])
    with dg.DagsterInstance.get() as instance:
        left = instance.get_runs(filters=under_way)
        for run in left:
            instance.report_run_failed(run, "The session that executed this run has ended.")
    return len(left)
