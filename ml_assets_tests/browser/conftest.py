"""`ml-assets dev` on a little of the flights example, and a page of headless Chromium that looks at it.

Screenshots go to `$ML_ASSETS_SCREENSHOTS`, by default to pytest's temporary folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
START_SECONDS = 60.0
PATIENCE = 60_000  # milliseconds
SIZE = {"width": 1600, "height": 1000}


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser of this machine; without one the tests are skipped, and fail where CI is set."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        reason = "No Chromium on this machine: the browser tests need /usr/bin/chromium (apt-get install chromium)."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return str(found)


@pytest.fixture(scope="module")
def dagster(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the UI: aircraft, airports and two days of weather have landed, the second day's file cut off."""
    from ml_assets.demo.services import HOST, free_port
    from ml_assets.feeds.flights import land

    home = tmp_path_factory.mktemp("home")
    land(str(home / "landing"), since=date(2013, 1, 1), until=date(2013, 1, 2))
    for table in ("flight_schedules", "flight_outcomes"):
        shutil.rmtree(home / "landing" / table)  # their runs would only take time
    broken = home / "landing" / "weather" / "2013-01-02.parquet"
    broken.write_bytes(broken.read_bytes()[:3000])
    port = free_port(0)
    # A process of its own: it ends all that descends from it, which must not be pytest's children.
    command = [Path(sys.executable).with_name("ml-assets"), "dev", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS", "DAGSTER"))}
    environment["ML_ASSETS_HOME"] = str(home)
    with (home / "dev.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://{HOST}:{port}"
        await_graph(address, process, home)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def await_graph(address: str, process: subprocess.Popen, home: Path) -> None:
    """Wait until the UI answers and has loaded the definitions."""
    from ml_assets.demo.graph import Graph
    from ml_assets.errors import MlAssetsError

    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(MlAssetsError):
            if Graph(address, "ml_assets", since=0).snapshot().assets:
                return
        time.sleep(0.2)
    logs = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in [home / "dev.log", *home.glob("logs/*.log")])
    pytest.fail(f"`ml-assets dev` shows no assets at {address}.\n{logs}")


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    """Chromium with a new profile; while it is there, this thread has a running event loop."""
    from playwright.sync_api import expect, sync_playwright

    profile = tmp_path_factory.mktemp("profile")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium,
            headless=True,
            args=FLAGS.split(),
            viewport={"width": 1600, "height": 1000},
        )
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context
        context.close()


@pytest.fixture
def page(browser):
    """A new page."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def screenshot(tmp_path_factory) -> Callable:
    """Keep what a page shows, for people to look at."""
    folder = Path(os.environ.get("ML_ASSETS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png")
