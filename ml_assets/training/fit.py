"""Fits of LightGBM that give the same trees on every run and with every number of threads, stored as text."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_assets.errors import ArtefactError, TrainingError, shorten
from ml_assets.training.matrix import Matrix

if TYPE_CHECKING:
    import lightgbm

Params = Mapping[str, Any]
Curves = dict[str, list[float]]

# A step of 0.1 converges within 150 rounds on tabular data of this kind; the rest regularises a little.
DEFAULTS: Params = MappingProxyType({
    "objective": "binary", "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 50, "feature_fraction": 0.8,
    "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0, "max_bin": 255, "cat_smooth": 20.0,
})  # fmt: skip

# What makes trees independent of threads and of the machine (facts/training-monitoring.md 3.3).
_DETERMINISM: Params = MappingProxyType({"deterministic": True, "force_row_wise": True, "verbosity": -1})
# Let one binned data set serve trials that differ in `min_data_in_leaf`.
_DATASET: Params = MappingProxyType({"feature_pre_filter": False, "verbosity": -1})
_OF_THE_DATASET = ("max_bin", "min_data_in_bin", "bin_construct_sample_cnt", "data_random_seed")
# These make trees depend on the number of threads even when `deterministic` is set.
_DEPEND_ON_THREADS: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "boosting": ("goss",), "data_sample_strategy": ("goss",), "linear_tree": (True,), "use_quantized_grad": (True,),
})  # fmt: skip
_NOT_OF_THE_MODEL = re.compile(
    r"\[(num_threads|verbosity|data|valid|input_model|output_model|output_result|snapshot_freq|saved_feature_importance_type"
    r"|initscore_filename|forcedsplits_filename|forcedbins_filename|convert_model|machine_list_filename): .*\]\n"
)


@dataclass(frozen=True)
class FitSpec:
    """How to train: LightGBM parameters over `DEFAULTS`, at most so many rounds, and what early stopping looks at."""

    params: Params = field(default_factory=dict)
    rounds: int = 150
    early_stopping_rounds: int = 20
    metric: Literal["binary_logloss", "auc"] = "binary_logloss"
    num_threads: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.early_stopping_rounds < 1:
            raise TrainingError(f"rounds ({self.rounds}) and early_stopping_rounds must be at least 1.")


@dataclass(frozen=True)
class Fitted:
    """A trained model as LightGBM text and what to tell about it.

    `curves` maps "train/auc", "validation/binary_logloss", ... to one value per round; `importance` maps features to
    their share of the gain, largest first, summing to 1 unless no split was made.
    """

    model_text: str
    model_hash: str
    best_iteration: int
    params: dict[str, Any]
    curves: Curves = field(repr=False)
    importance: dict[str, float] = field(repr=False)


def fit(train: Matrix, spec: FitSpec, *, seed: int, validation: Matrix | None = None) -> Fitted:
    """Train on `train`; with `validation` stop early by the metric on it, without it train exactly `spec.rounds`."""
    train.require_both_classes("training")
    chosen = parameters(spec, seed=seed)
    sets = datasets(train, validation, chosen)
    curves: Curves = {}
    booster = boost(sets, chosen, spec, [_recorder(curves)])
    _require_finite(curves)
    rounds = booster.best_iteration if validation else booster.current_iteration()
    text = booster.model_to_string(num_iteration=rounds)
    return Fitted(text, model_hash(text), rounds, chosen, curves, _importance(booster, rounds))


def parameters(spec: FitSpec, *, seed: int) -> dict[str, Any]:
    """The parameters as given to LightGBM; those that would make trees depend on threads are a TrainingError."""
    wrong = [name for name, values in _DEPEND_ON_THREADS.items() if spec.params.get(name) in values]
    if wrong:
        raise TrainingError(f"{shorten(wrong)} would make the model depend on the number of threads; leave it out.")
    metrics = [spec.metric, *(other for other in ("binary_logloss", "auc") if other != spec.metric)]
    fixed = {"metric": metrics, "num_threads": spec.num_threads, "seed": seed}
    return {**DEFAULTS, **spec.params, **_DETERMINISM, **fixed}


def datasets(train: Matrix, validation: Matrix | None, params: Params) -> "dict[str, lightgbm.Dataset]":
    """Bin the rows once, for any number of fits with these data set parameters; keyed "train" and "validation"."""
    import lightgbm as lgb

    settings = {**_DATASET, **{name: params[name] for name in _OF_THE_DATASET if name in params}}
    given = {"feature_name": list(train.names), "categorical_feature": list(train.categorical), "params": settings}
    binned = lgb.Dataset(train.X, train.y, free_raw_data=False, **given)
    sets = {"train": binned}
    if validation is not None:
        validation.require_both_classes("validation")
        sets["validation"] = lgb.Dataset(validation.X, validation.y, reference=binned, free_raw_data=False, **given)
    return sets


def boost(
    sets: "Mapping[str, lightgbm.Dataset]",
    params: Params,
    spec: FitSpec,
    callbacks: Sequence[Callable[..., None]],
    watched: Sequence[str] = ("train", "validation"),
) -> "lightgbm.Booster":
    """Run LightGBM over sets from `datasets`; its own complaints become a TrainingError."""
    import lightgbm as lgb

    chain = list(callbacks)
    if "validation" in sets:
        chain.append(lgb.early_stopping(spec.early_stopping_rounds, first_metric_only=True, verbose=False))
    evaluated = {part: rows for part, rows in sets.items() if part in watched}
    settings = {name: value for name, value in params.items() if name not in _OF_THE_DATASET}
    try:
        return lgb.train(
            {**settings, **_DATASET},
            sets["train"],
            spec.rounds,
            valid_sets=list(evaluated.values()),
            valid_names=list(evaluated),
            callbacks=chain,
        )
    except lgb.basic.LightGBMError as error:
        raise TrainingError(f"LightGBM refused to train: {error}") from error


def _recorder(curves: Curves) -> Callable[..., None]:
    def record(environment: Any) -> None:
        for part, metric, value, *_ in environment.evaluation_result_list:
            curves.setdefault(f"{part}/{metric}", []).append(float(value))

    return record


def _require_finite(curves: Curves) -> None:
    for name, values in curves.items():
        bad = next((i for i, value in enumerate(values, 1) if not isfinite(value)), None)
        if bad:
            raise TrainingError(
                f"Training diverged: {name} is {values[bad - 1]} in round {bad}; lower `learning_rate`."
            )


def _importance(booster: "lightgbm.Booster", rounds: int) -> dict[str, float]:
    gain = booster.feature_importance("gain", iteration=rounds)
    share = gain / gain.sum() if gain.sum() else gain
    named = zip(booster.feature_name(), share.tolist(), strict=True)
    return dict(sorted(named, key=lambda item: (-item[1], item[0])))


def model_hash(model_text: str) -> str:
    """SHA-256 of the trees and the parameters that shaped them; paths, verbosity and thread count do not count."""
    trees, found, rest = model_text.partition("\nend of trees\n")
    if not (found and trees.startswith("tree\n") and "\nend of parameters" in rest):
        raise ArtefactError("This is not a whole LightGBM model text; take the model from the registry again.")
    return sha256((trees + found + _NOT_OF_THE_MODEL.sub("", rest)).encode()).hexdigest()


def load(model_text: str) -> "lightgbm.Booster":
    """The booster of a model text; a damaged one can end the whole process, so verify its hash before."""
    import lightgbm as lgb

    model_hash(model_text)
    try:
        return lgb.Booster(model_str=model_text)
    except lgb.basic.LightGBMError as error:
        raise ArtefactError(f"LightGBM cannot read this model text: {error}") from error


def predict(model: "str | lightgbm.Booster", X: NDArray[np.float64], *, num_threads: int = 2) -> NDArray[np.float64]:  # noqa: N803
    """Probabilities [n] of encoded rows [n, k]; the same bits for any number of threads and rows at a time."""
    booster = load(model) if isinstance(model, str) else model
    if X.shape[1] != booster.num_feature():
        raise ArtefactError(f"The model takes {booster.num_feature()} features, the rows have {X.shape[1]}.")
    return np.asarray(booster.predict(X, num_threads=num_threads), dtype=np.float64)
