"""What gates a model must pass: the declaration alone, light enough to load with every definition."""

from dataclasses import dataclass

FEWEST_PER_CLASS = 30  # fewer rows of a class say too little about an AUC

ROC_AUC_AT_LEAST, BEATS_BASELINE = "roc_auc_at_least", "beats_baseline"
BEATS_CHAMPION, NO_SLICE_IS_WORSE = "beats_champion", "no_slice_is_worse"


@dataclass(frozen=True)
class BeatsChampion:
    """Against the champion, in ROC AUC on the same rows, by the lower end of the two-sided paired interval.

    Margin 0 claims an improvement: the lower end must lie above 0. A positive margin asks for non-inferiority: the
    lower end must lie above minus the margin, so a routine refresh may replace an equal model.
    """

    confidence: float = 0.95
    margin: float = 0.0


@dataclass(frozen=True)
class Gates:
    """What a candidate must show. None leaves a gate out; differences are in ROC AUC.

    `slice_margin`: no slice with enough rows may be surely worse than the champion's by more (all slices together
    are wrong at most as often as the confidence of `beats_champion` allows, by Bonferroni).
    """

    roc_auc_at_least: float | None = None
    beats_baseline: bool = True
    beats_champion: BeatsChampion | None = BeatsChampion()
    slice_margin: float | None = 0.02
    fewest_per_class: int = FEWEST_PER_CLASS


@dataclass(frozen=True)
class LeakLimits:
    """What a single feature, or a pair, may plausibly tell of the label, in ROC AUC on rows later than those learnt.

    `single` and `pair` are caps: outcomes of people, machines and weather are seldom known to 0.95 from one number, and
    who can do it needs no model. Below them, from `alone` on, a feature is named that lies `distance` above the next
    best, and a pair that lies as far above the better of its two: what is really known shows in many features, window
    by window, with small steps between them (at most 0.06 on the flights), an echo shows in one. From `fading` on, a
    feature is named that is surely `distance` better on a random split than on later rows. Features in `allow` are
    measured and never named. Without `twins`, rows of other keys are not compared by their inputs.
    """

    single: float = 0.95
    pair: float = 0.95
    allow: tuple[str, ...] = ()
    alone: float = 0.85
    distance: float = 0.15
    fading: float = 0.75
    twins: bool = True


def names(gates: Gates) -> list[str]:
    """The names of the gates that `judge` gives for this declaration, whatever the evaluation says, in its order."""
    declared = {
        ROC_AUC_AT_LEAST: gates.roc_auc_at_least is not None,
        BEATS_BASELINE: gates.beats_baseline,
        BEATS_CHAMPION: gates.beats_champion is not None,
        NO_SLICE_IS_WORSE: gates.slice_margin is not None,
    }
    return [name for name, is_declared in declared.items() if is_declared]
