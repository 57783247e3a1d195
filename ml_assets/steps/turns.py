"""Who may write a feature view now: processes of one installation take turns."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ml_assets.adapters.deployment import held_lock
from ml_assets.errors import EndpointError, FeatureError
from ml_assets.steps.run import Run

_PATIENCE_SECONDS = 1800


@contextmanager
def alone(name: str, run: Run) -> Iterator[None]:
    """No other process of this installation is in here with the same name; FeatureError when one stays too long.

    Processes of another `ML_ASSETS_HOME` are not kept out, though they may write to the same lake and store.
    """
    place = run.settings.home / "moves" / f"{name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(held_lock(place, wait=_PATIENCE_SECONDS))
        except EndpointError as error:
            raise FeatureError(
                f"Another process has been at work on {name} for longer than this one waits ({_PATIENCE_SECONDS:,} s):"
                f" it holds {place}. `fuser {place}` names it. See whether it goes on; end it where it hangs, and"
                " run this again."
            ) from error
        yield
