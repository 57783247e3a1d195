"""Dagster's daemon, which looks after backfills every two seconds.

Dagster looks every thirty, fixed in `dagster._daemon` (1.13). A change of several days passes the graph as a backfill
at each of its levels, so a rise from features to performance would spend two minutes on waiting alone.
"""

from dagster._daemon import controller

SECONDS = 2


def hasten() -> None:
    """Shorten the wait of the loop in this process; it reads the constant each time that it begins."""
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = SECONDS


if __name__ == "__main__":
    from dagster._daemon.cli import main

    hasten()
    main()
