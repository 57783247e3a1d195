"""A small search for hyper-parameters: seeded, pruned, and after a kill continued to the very same end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import inf, isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from ml_assets.errors import TrainingError
from ml_assets.training.fit import DEFAULTS, FitSpec, boost, datasets, parameters
from ml_assets.training.matrix import Matrix

if TYPE_CHECKING:
    import lightgbm
    import optuna

Value = bool | int | float | str


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log` draws evenly by order of magnitude."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: tuple[Value, ...]


Space = Mapping[str, Range | Choice]

# The learning rate is not searched: pruning compares trials after few rounds, where a slow learner always looks bad.
DEFAULT_SPACE: Space = MappingProxyType({
    "num_leaves": Range(7, 127, log=True, integer=True), "min_data_in_leaf": Range(20, 500, log=True, integer=True),
    "feature_fraction": Range(0.4, 1.0), "bagging_fraction": Range(0.5, 1.0), "lambda_l2": Range(0.01, 30.0, log=True),
})  # fmt: skip


@dataclass(frozen=True)
class SearchSpec:
    """What to try. Trials start with `start` (known-good values, `{}` are the defaults), then follow the sampler.

    With `journal` (the path of a file) a search that was killed goes on where it stopped. A journal can hold many
    searches: rows, spec and seed tell them apart.
    """

    fit: FitSpec = field(default_factory=FitSpec)
    trials: int = 8
    space: Space = field(default_factory=lambda: DEFAULT_SPACE)
    start: tuple[Mapping[str, Value], ...] = ({},)
    report_every: int = 10
    journal: str | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or self.report_every < 1:
            raise TrainingError(f"A search needs trials ({self.trials}) and report_every of at least 1.")
        if {"max_bin", "min_data_in_bin"} & set(self.space):
            raise TrainingError("`max_bin` and `min_data_in_bin` are fixed for a search, which bins the rows once.")


@dataclass(frozen=True)
class Trial:
    """One finished trial, numbered from 0; `value` is the best of the metric so far where it was pruned."""

    number: int
    state: Literal["complete", "pruned"]
    value: float
    rounds: int
    params: dict[str, Value]


@dataclass(frozen=True)
class SearchResult:
    """The best value of the metric on validation, every trial in order, and the `fit` that repeats the best trial.

    `fit.rounds` is the best trial's best round: use it as it is to train without validation rows.
    """

    fit: FitSpec
    value: float
    trials: tuple[Trial, ...]


def search(
    train: Matrix, validation: Matrix, spec: SearchSpec, *, seed: int, report: Callable[[Trial], None] | None = None
) -> SearchResult:
    """Search by the metric on validation rows that come after the training rows; ties go to the earlier trial.

    A search that continues from a journal ends with the same result as an undisturbed one: every trial has its own
    seed, and one that was cut off is run again.
    """
    train.require_both_classes("training")
    base = parameters(spec.fit, seed=seed)
    sets = datasets(train, validation, base)
    study = _study(spec, _identity(train, validation, spec, seed))
    _fail_unfinished(study)
    while (number := len(_finished(study))) < spec.trials:
        trial = _ask(study, spec, number, seed)
        run = _Boosting(sets, {**base, **_suggest(trial, spec.space)}, spec)
        _tell(study, trial, run, pruned=run.is_pruned(trial))
        if report:
            report(_trial(number, _finished(study)[-1]))
    return _result(study, spec)


def _identity(train: Matrix, validation: Matrix, spec: SearchSpec, seed: int) -> str:
    fit = (sorted(spec.fit.params.items()), spec.fit.rounds, spec.fit.early_stopping_rounds, spec.fit.metric)
    what = (train.digest, validation.digest, seed, sorted(spec.space.items()), spec.start, spec.report_every)
    return sha256(repr((fit, what)).encode()).hexdigest()


def _study(spec: SearchSpec, name: str) -> "optuna.Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(JournalFileBackend(spec.journal)) if spec.journal else None,
        direction="maximize" if spec.fit.metric == "auc" else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=3 * spec.report_every),
        load_if_exists=True,
    )


def _finished(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _fail_unfinished(study: "optuna.Study") -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _ask(study: "optuna.Study", spec: SearchSpec, number: int, seed: int) -> "optuna.Trial":
    from optuna.trial import TrialState

    # A sampler of its own for each trial: a continued search then draws what an undisturbed one would have drawn.
    study.sampler = _sampler(int.from_bytes(sha256(f"{seed}/{number}".encode()).digest()[:4], "big"))
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if number < len(spec.start) and not waiting:
        study.enqueue_trial(_start(spec, number))
    return study.ask()


def _tell(study: "optuna.Study", trial: "optuna.Trial", run: "_Boosting", *, pruned: bool) -> None:
    from optuna.trial import TrialState

    if not isfinite(run.value):
        raise TrainingError(f"The metric is {run.value} with {trial.params}; narrow the search space.")
    trial.set_user_attr("rounds", run.rounds)
    trial.set_user_attr("value", run.value)
    study.tell(trial, None if pruned else run.value, state=TrialState.PRUNED if pruned else None)


def _sampler(seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)


def _start(spec: SearchSpec, number: int) -> dict[str, Value]:
    known = {**DEFAULTS, **spec.fit.params, **spec.start[number]}
    return {name: known[name] for name in spec.space if name in known}


def _suggest(trial: "optuna.Trial", space: Space) -> dict[str, Value]:
    return {name: _suggest_one(trial, name, of) for name, of in sorted(space.items())}


def _suggest_one(trial: "optuna.Trial", name: str, of: Range | Choice) -> Value:
    if isinstance(of, Choice):
        return cast(Value, trial.suggest_categorical(name, of.options))
    if of.integer:
        return trial.suggest_int(name, int(of.low), int(of.high), log=of.log)
    return trial.suggest_float(name, of.low, of.high, log=of.log)


class _Boosting:
    """One trial's fit, which tells Optuna how it goes and stops when told to."""

    def __init__(self, sets: "Mapping[str, lightgbm.Dataset]", params: dict[str, Any], spec: SearchSpec) -> None:
        self._sets, self._params, self._spec = sets, params, spec
        self._sign = _sign(spec)
        self.value, self.rounds = self._sign * inf, 0

    def is_pruned(self, trial: "optuna.Trial") -> bool:
        """Boost to the end, or until the trial is seen to lead nowhere."""
        import optuna

        try:
            boost(self._sets, self._params, self._spec.fit, [self._watch(trial)], watched=("validation",))
        except optuna.TrialPruned:
            return True
        return False

    def _watch(self, trial: "optuna.Trial") -> Callable[..., None]:
        import optuna

        def watch(environment: Any) -> None:
            value, done = float(environment.evaluation_result_list[0][2]), environment.iteration + 1
            if self._sign * value < self._sign * self.value:
                self.value, self.rounds = value, done
            if done % self._spec.report_every == 0:
                trial.report(self.value, done)
                if trial.should_prune():
                    raise optuna.TrialPruned

        return watch


def _trial(number: int, trial: "optuna.trial.FrozenTrial") -> Trial:
    state = "complete" if trial.state.name == "COMPLETE" else "pruned"
    attributes = trial.user_attrs
    return Trial(number, state, attributes["value"], attributes["rounds"], dict(trial.params))


def _result(study: "optuna.Study", spec: SearchSpec) -> SearchResult:
    trials = tuple(_trial(number, trial) for number, trial in enumerate(_finished(study)[: spec.trials]))
    complete = [trial for trial in trials if trial.state == "complete"]
    best = min(complete, key=lambda trial: (_sign(spec) * trial.value, trial.number))
    fit = replace(spec.fit, params={**spec.fit.params, **best.params}, rounds=best.rounds)
    return SearchResult(fit, best.value, trials)


def _sign(spec: SearchSpec) -> int:
    """Makes smaller better whatever the metric is."""
    return -1 if spec.fit.metric == "auc" else 1
