"""Plots of an evaluation: small PNGs for the Dagster UI, and the same as SVG for the report. Same input, same bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ml_assets.evaluation.evaluate import Evaluation
from ml_assets.evaluation.metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MODEL, _CHAMPION, _BASELINE, _MUTED = "#2457c5", "#d9822b", "#8a94a6", "#c9ced8"
_COLOURS = {"model": _MODEL, "champion": _CHAMPION, "baseline": _BASELINE}
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a6",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "ml_assets",
}
_MOST_BARS = 20


@dataclass(frozen=True)
class Plot:
    """A title, a sentence that says how to read it, and how to draw it; `height` in inches at a width of 4.6."""

    title: str
    reading: str
    draw: Callable[["Axes"], None]
    height: float = 3.0


def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """PNGs by name, each under 40 KB; plots without data are left out."""
    return {name: png(plot) for name, plot in describe(evaluation).items()}


def describe(evaluation: Evaluation) -> dict[str, Plot]:
    """The plots that this evaluation has data for."""
    n_slices = min(len(evaluation.slices), _MOST_BARS)
    possible = {
        "roc": (evaluation.roc, Plot("ROC", "Positives found against false alarms.", _roc(evaluation))),
        "pr": (
            evaluation.pr,
            Plot("Precision and recall", "Of the rows called positive, how many are.", _pr(evaluation)),
        ),
        "calibration": (
            evaluation.calibration,
            Plot("Calibration", "What was predicted against what came, by tenth.", _calibration(evaluation)),
        ),
        "scores": (evaluation.n_rows, Plot("Scores", "How the scores of both classes spread.", _scores(evaluation))),
        "weeks": (
            evaluation.weeks,
            Plot("ROC AUC by week", "With intervals; weeks begin on Monday.", _weeks(evaluation)),
        ),
        "slices": (
            evaluation.slices,
            Plot(
                "ROC AUC by slice", "Largest slices; grey ones are too small.", _slices(evaluation), 1 + 0.2 * n_slices
            ),
        ),
    }
    return {name: plot for name, (data, plot) in possible.items() if data}


def importance(shares: Mapping[str, float]) -> Plot:
    """The features that the trees gained most by."""
    shown = list(shares.items())[:_MOST_BARS]

    def draw(axes: "Axes") -> None:
        axes.barh([name for name, _ in shown], [share for _, share in shown], color=_MODEL, height=0.7)
        axes.invert_yaxis()
        axes.set_xlabel("share of the gain")

    return Plot("Importance", "Share of the gain of all splits.", draw, 0.8 + 0.2 * len(shown))


def learning(curves: Mapping[str, Sequence[float]], metric: str) -> Plot:
    """A metric by boosting round, on training and validation rows."""

    def draw(axes: "Axes") -> None:
        for part, colour in (("train", _BASELINE), ("validation", _MODEL)):
            if values := curves.get(f"{part}/{metric}"):
                axes.plot(range(1, len(values) + 1), values, color=colour, label=part)
        axes.set_xlabel("round")
        axes.legend()

    return Plot(f"Learning: {metric}", "By boosting round; apart means overfitting.", draw)


def png(plot: Plot) -> bytes:
    """The plot for a small place on a screen."""
    return _saved(plot, format="png", dpi=90, metadata={"Software": None})


def svg(plot: Plot) -> bytes:
    """The plot for a page, without its title, which the page has."""
    return _saved(plot, format="svg", metadata={"Date": None, "Creator": None})


def _saved(plot: Plot, **how: Any) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    file = BytesIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, plot.height), layout="constrained")
        axes = figure.subplots()
        plot.draw(axes)
        if how["format"] == "png":
            axes.set_title(plot.title)
        figure.savefig(file, **how)
    return file.getvalue()


def _roc(evaluation: Evaluation) -> Callable[["Axes"], None]:
    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=":")
        _lines(axes, evaluation.roc)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")

    return draw


def _pr(evaluation: Evaluation) -> Callable[["Axes"], None]:
    def draw(axes: "Axes") -> None:
        axes.axhline(evaluation.n_positives / evaluation.n_rows, color=_MUTED, linewidth=1, linestyle=":")
        _lines(axes, evaluation.pr)
        axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))

    return draw


def _lines(axes: "Axes", curves: Mapping[str, Curve]) -> None:
    for name, curve in curves.items():
        axes.plot(curve.x, curve.y, color=_COLOURS[name], label=name, linewidth=1.5)
    axes.legend()


def _calibration(evaluation: Evaluation) -> Callable[["Axes"], None]:
    bins = evaluation.calibration

    def draw(axes: "Axes") -> None:
        most = max(max(each.mean_score, each.rate.high) for each in bins)
        axes.plot([0, most], [0, most], color=_MUTED, linewidth=1, linestyle=":")
        errors = [
            [each.rate.value - each.rate.low for each in bins],
            [each.rate.high - each.rate.value for each in bins],
        ]
        x, y = [each.mean_score for each in bins], [each.rate.value for each in bins]
        axes.errorbar(x, y, errors, fmt="o-", color=_MODEL, markersize=3.5, linewidth=1.2)
        axes.set(xlabel="mean prediction", ylabel="share of positives")

    return draw


def _scores(evaluation: Evaluation) -> Callable[["Axes"], None]:
    scores = evaluation.scores

    def draw(axes: "Axes") -> None:
        for label, counts, colour in (
            ("negative", scores.negatives, _BASELINE),
            ("positive", scores.positives, _MODEL),
        ):
            density = [count / max(sum(counts), 1) for count in counts]
            axes.stairs(density, scores.edges, fill=True, color=colour, alpha=0.55, label=label)
        axes.set(xlabel="score", ylabel="share of the class")
        axes.legend()

    return draw


def _weeks(evaluation: Evaluation) -> Callable[["Axes"], None]:
    weeks = [(each, each.roc_auc) for each in evaluation.weeks if each.roc_auc]

    def draw(axes: "Axes") -> None:
        begins = [each.begin for each, _ in weeks]
        values = [auc.value for _, auc in weeks]
        errors = [[auc.value - auc.low for _, auc in weeks], [auc.high - auc.value for _, auc in weeks]]
        axes.errorbar(begins, values, errors, fmt="o-", color=_MODEL, markersize=3.5, linewidth=1.2, label="model")
        champions = [(each.begin, each.champion) for each, _ in weeks if each.champion is not None]
        if champions:
            axes.plot(
                *zip(*champions, strict=True), "o--", color=_CHAMPION, markersize=3.5, linewidth=1, label="champion"
            )
        axes.tick_params(axis="x", rotation=30)
        axes.legend()

    return draw


def _slices(evaluation: Evaluation) -> Callable[["Axes"], None]:
    largest = sorted(evaluation.slices, key=lambda each: -each.n_rows)[:_MOST_BARS]
    shown = sorted(((each, each.roc_auc) for each in largest if each.roc_auc), key=lambda pair: -pair[1].value)

    def draw(axes: "Axes") -> None:
        for row, (each, auc) in enumerate(shown):
            colour = _MUTED if each.underpowered else _MODEL
            axes.plot([auc.low, auc.high], [row, row], color=colour, linewidth=1.5)
            axes.plot([auc.value], [row], "o", color=colour, markersize=3.5)
        axes.set_yticks(range(len(shown)), [f"{each.column}={each.value}" for each, _ in shown])
        if overall := evaluation.metrics["roc_auc"]:
            axes.axvline(overall.value, color=_MUTED, linewidth=1, linestyle=":")
        axes.invert_yaxis()

    return draw
