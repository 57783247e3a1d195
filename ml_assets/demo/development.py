"""`ml-assets dev`: Dagster with all sensors on, until Ctrl-C."""

import time
from contextlib import suppress
from datetime import date, timedelta

from rich.console import Console

from ml_assets.adapters.settings import Settings
from ml_assets.demo.endpoints import resume
from ml_assets.demo.interrupts import raised
from ml_assets.demo.recovery import close_left_runs
from ml_assets.demo.services import session
from ml_assets.feeds.flights import landed_until
from ml_assets.orchestration.loading import Location


def run(settings: Settings, location: Location, port: int | None) -> None:
    """Start UI and daemon, say where they are, and wait."""
    console = Console()
    with suppress(KeyboardInterrupt), session(settings, location, reloads=True) as services, raised():
        services.start_code()
        close_left_runs(services.dagster_home)
        resume(settings.endpoints)
        address = services.start_dagster(port=port)
        where = f"Dagster is at {address}, with all sensors on. Data: {settings.home}. Ctrl-C ends it."
        console.print(where, soft_wrap=True, highlight=False)
        if said := hint(settings, location):
            console.print(said, style="dim")
        while True:
            services.require_alive()
            time.sleep(1)


def hint(settings: Settings, location: Location) -> str:
    """How to go on with the shipped example; empty for another project, which has sources of its own."""
    if location != Location():
        return ""
    return f"Land data in another terminal: ml-assets feed flights --until {_next(settings)}"


def _next(settings: Settings) -> date:
    """A week after what has landed, or the first month."""
    landed = landed_until(settings.landing_uri)
    return landed + timedelta(days=7) if landed else date(2013, 1, 31)
