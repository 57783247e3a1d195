"""Tests of the search: seeded, pruned, resumable to the same end after a kill."""

import pytest

from ml_assets.errors import TrainingError
from ml_assets.training.fit import FitSpec, fit
from ml_assets.training.search import DEFAULT_SPACE, Choice, Range, SearchSpec, search
from ml_assets_tests.training.worlds import matrix

TRAIN, VALIDATION = matrix(1, 800), matrix(2, 500)
SPEC = SearchSpec(FitSpec(rounds=40, early_stopping_rounds=8, num_threads=1), trials=7, report_every=5)


class KilledError(Exception):
    """Stands for kill -9: nothing is told to the study."""


def killing_at(monkeypatch, trial_number, rounds):
    """Make the training of one trial end abruptly in a round."""
    import lightgbm

    real, seen = lightgbm.train, []

    def train(*args, callbacks, **kwargs):
        seen.append(0)

        def kill(environment):
            if len(seen) == trial_number + 1 and environment.iteration == rounds:
                raise KilledError

        return real(*args, callbacks=[*callbacks, kill], **kwargs)

    monkeypatch.setattr(lightgbm, "train", train)


@pytest.fixture(scope="module")
def whole():
    return search(TRAIN, VALIDATION, SPEC, seed=3)


def test_the_same_seed_finds_the_same(whole):
    assert search(TRAIN, VALIDATION, SPEC, seed=3) == whole


def test_another_seed_tries_other_values(whole):
    assert search(TRAIN, VALIDATION, SPEC, seed=4).trials[3].params != whole.trials[3].params


def test_it_starts_with_the_defaults_and_is_never_worse(whole):
    assert whole.trials[0].params["num_leaves"] == 31
    assert whole.value <= whole.trials[0].value
    assert len(whole.trials) == 7


def test_hopeless_trials_are_pruned(whole):
    assert {trial.state for trial in whole.trials} == {"complete", "pruned"}


def test_the_best_trial_can_be_fitted_again_without_validation(whole):
    best = min((trial for trial in whole.trials if trial.state == "complete"), key=lambda trial: trial.value)
    assert whole.fit.rounds == best.rounds
    assert fit(TRAIN, whole.fit, seed=3).best_iteration == best.rounds


@pytest.mark.parametrize(("trial_number", "rounds"), [(0, 3), (3, 6), (6, 2)])
def test_a_killed_search_goes_on_to_the_same_end(whole, monkeypatch, tmp_path, trial_number, rounds):
    spec = SearchSpec(SPEC.fit, trials=7, report_every=5, journal=str(tmp_path / "journal"))
    with monkeypatch.context() as patch:
        killing_at(patch, trial_number, rounds)
        with pytest.raises(KilledError):
            search(TRAIN, VALIDATION, spec, seed=3)
    told = []
    assert search(TRAIN, VALIDATION, spec, seed=3, report=told.append) == whole
    assert [trial.number for trial in told] == list(range(trial_number, 7))


def test_a_finished_search_runs_nothing_again(whole, tmp_path):
    spec = SearchSpec(SPEC.fit, trials=7, report_every=5, journal=str(tmp_path / "journal"))
    search(TRAIN, VALIDATION, spec, seed=3)
    told = []
    assert search(TRAIN, VALIDATION, spec, seed=3, report=told.append) == whole
    assert told == []


def test_other_rows_do_not_continue_a_journal(tmp_path):
    spec = SearchSpec(SPEC.fit, trials=1, journal=str(tmp_path / "journal"))
    search(TRAIN, VALIDATION, spec, seed=3)
    told = []
    search(matrix(9, 800), VALIDATION, spec, seed=3, report=told.append)
    assert len(told) == 1


def test_auc_is_searched_upwards():
    spec = SearchSpec(FitSpec(rounds=20, metric="auc", num_threads=1), trials=4, report_every=5)
    found = search(TRAIN, VALIDATION, spec, seed=3)
    assert found.value == max(trial.value for trial in found.trials if trial.state == "complete") > 0.7


def test_ranges_and_choices_are_kept():
    space = {"num_leaves": Range(4, 8, integer=True), "path_smooth": Choice((0.0, 1.0))}
    found = search(TRAIN, VALIDATION, SearchSpec(FitSpec(rounds=5, num_threads=1), 5, space, start=()), seed=3)
    assert all(4 <= trial.params["num_leaves"] <= 8 for trial in found.trials)
    assert {trial.params["path_smooth"] for trial in found.trials} <= {0.0, 1.0}


def test_a_space_that_would_bin_the_rows_anew_is_refused():
    with pytest.raises(TrainingError, match="bins the rows once"):
        SearchSpec(space={**DEFAULT_SPACE, "max_bin": Range(15, 255)})
