"""Processes of one installation take turns; who waits for one that never ends is told what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ml_assets.adapters.deployment import held_lock
from ml_assets.errors import FeatureError
from ml_assets.steps import features, online, retained, turns
from ml_assets.steps.run import Run
from ml_assets_tests.steps.test_online_kept import EVENT, EVENTS, compute, events, spec_of
from ml_assets_tests.steps.test_online_kept import run as run

SPEC = spec_of(EVENT, EVENTS)


@pytest.fixture
def day(run, monkeypatch) -> str:
    """A day that is computed and online; nobody waits for long."""
    (day,) = events(run, ("A", 1, 1))
    assert compute(SPEC, run, day).passed
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.05)
    return day


@contextmanager
def held(run: Run, name: str) -> Iterator[str]:
    """What another process does that hangs: a lock of the kernel is the file's, not the process's."""
    place = run.settings.home / "moves" / f"{name}.lock"
    place.parent.mkdir(exist_ok=True)
    with held_lock(place, wait=1):
        yield (
            f"Another process has been at work on {name} for longer than this one waits (0.05 s): it holds {place}."
            f" `fuser {place}` names it. See whether it goes on; end it where it hangs, and run this again."
        )


def test_rows_that_another_process_writes_online_without_end_fail_the_check_with_the_next_step(run, day):
    with held(run, "event@1.online") as said:
        found = compute(SPEC, run, day)
    assert (found.passed, found.warn, found.sentence) == (False, False, said)
    assert compute(SPEC, run, day).passed


def test_fresh_rows_that_cannot_go_online_are_an_error_of_their_view(run, day):
    with held(run, "event@1.online") as said, pytest.raises(FeatureError) as caught:
        online.findings(SPEC, run, [day], fresh=True)
    assert str(caught.value) == said


def test_a_view_that_another_process_moves_without_end_is_an_error_of_the_view(run, day):
    with held(run, "event") as said, pytest.raises(FeatureError) as caught:
        retained.beside(SPEC, run, features.materialize)
    assert str(caught.value) == said
