"""The evaluation as one HTML page that needs nothing else: for people who decide, and for people who audit."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template

from ml_assets.evaluation.evaluate import FEWEST_PER_CLASS, Evaluation, Rival, Slice, Week
from ml_assets.evaluation.gates import Gate
from ml_assets.evaluation.plots import Plot, describe, importance, learning, svg
from ml_assets.training.statistics import Interval

_NAMES = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "Log loss", "brier": "Brier score"}
_COLOURS = {"released": "#1a7f4b", "refused": "#b3261e"}


@dataclass(frozen=True)
class ReportContext:
    """What the evaluation does not know: the name and version of the model, its rival's version, and its origin.

    `lineage` and `params` are shown as they are, in the order given; `curves` and `importance` as in `Fitted`.
    """

    model: str
    version: str
    label: str
    gates: Sequence[Gate] = ()
    champion_version: str | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    lineage: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


def html(evaluation: Evaluation, context: ReportContext) -> str:
    """One page, a few hundred KB, without scripts and links; the same input gives the same bytes."""
    page = Template((files("ml_assets.evaluation") / "report.html").read_text("utf-8"))
    passed = all(gate.passed for gate in context.gates)
    return page.substitute(
        title=escape(f"{context.model}, version {context.version}"),
        subtitle=escape(f"Predicts {context.label}. Compared with {_rivals(evaluation, context)}."),
        summary=escape(summary(evaluation, context)),
        colour=_COLOURS["released" if passed else "refused"],
        gates=_gates(context.gates),
        rows=escape(_rows(evaluation)),
        metrics=_metrics(evaluation),
        plots="".join(_figure(plot) for plot in _plots(evaluation, context)),
        fewest=FEWEST_PER_CLASS,
        slices=_slices(evaluation),
        weeks=_weeks(evaluation),
        lineage=_pairs(context.lineage),
        params=_pairs(context.params),
    )


def summary(evaluation: Evaluation, context: ReportContext) -> str:
    """Two or three sentences: how good, against whom, and whether the gates let it pass."""
    auc = evaluation.metrics["roc_auc"]
    quality = f"ROC AUC {_interval(auc)} on {evaluation.n_rows:,} test rows"
    rivals = [
        f"{_signed(difference)} against {name}"
        for name, rival in (("the champion", evaluation.champion), ("the baseline", evaluation.baseline))
        if rival and (difference := rival.difference["roc_auc"])
    ]
    stopped = [gate for gate in context.gates if not gate.passed]
    if stopped:
        verdict = f"Not for release: {stopped[0].sentence}"
    else:
        verdict = f"All {len(context.gates)} gates passed." if context.gates else "No gates were judged."
    return f"{quality}{' (' + ', '.join(rivals) + ')' if rivals else ''}. {verdict}"


def _rivals(evaluation: Evaluation, context: ReportContext) -> str:
    champion = f"champion version {context.champion_version}" if context.champion_version else "the champion"
    rivals = [(evaluation.champion, champion), (evaluation.baseline, "the baseline")]
    return " and ".join(name for rival, name in rivals if rival) or "nothing: there is no champion and no baseline"


def _rows(evaluation: Evaluation) -> str:
    share = evaluation.n_positives / evaluation.n_rows
    return (
        f"{evaluation.n_rows:,} rows from {evaluation.first_at} to {evaluation.last_at}, {share:.1%} positive."
        f" Intervals at {evaluation.confidence:.0%}; differences are paired on the same rows, model minus rival."
        f" Calibration error {evaluation.calibration_error:.4f}."
    )


def _plots(evaluation: Evaluation, context: ReportContext) -> Iterable[Plot]:
    yield from describe(evaluation).values()
    if context.importance:
        yield importance(context.importance)
    for metric in sorted({name.partition("/")[2] for name in context.curves}):
        yield learning(context.curves, metric)


def _figure(plot: Plot) -> str:
    source = b64encode(svg(plot)).decode()
    caption = f"<figcaption><h3>{escape(plot.title)}</h3><p class='muted'>{escape(plot.reading)}</p></figcaption>"
    return f'<figure>{caption}<img alt="{escape(plot.title)}" src="data:image/svg+xml;base64,{source}"></figure>'


def _gates(gates: Sequence[Gate]) -> str:
    rows = [
        [
            f'<span class="{gate.verdict}">{gate.verdict}</span>',
            f'<code class="gate">{escape(gate.name)}</code>',
            escape(gate.sentence),
        ]
        for gate in gates
    ]
    return _table(["", "gate", "why"], rows)


def _metrics(evaluation: Evaluation) -> str:
    rivals = {"champion": evaluation.champion, "baseline": evaluation.baseline}
    there = {name: rival for name, rival in rivals.items() if rival}
    rows = [
        [
            escape(_NAMES[name]),
            _cell(_interval(own)),
            *(cell for rival in there.values() for cell in _against(rival, name)),
        ]
        for name, own in evaluation.metrics.items()
    ]
    return _table(["", "model", *(column for name in there for column in (name, f"model minus {name}"))], rows)


def _against(rival: Rival, metric: str) -> list[str]:
    return [_cell(_interval(rival.metrics.get(metric))), _cell(_signed(rival.difference.get(metric)))]


def _slices(evaluation: Evaluation) -> str:
    rows = [
        [
            escape(each.column),
            escape(each.value),
            *_counts(each),
            _cell(_interval(each.roc_auc)),
            _cell(_signed(each.vs_champion)),
        ]
        for each in evaluation.slices
    ]
    small = [each.underpowered for each in evaluation.slices]
    return _table(["slice", "value", "rows", "positive", "ROC AUC", "minus champion"], rows, small)


def _counts(of: Slice | Week) -> list[str]:
    return [f"{of.n_rows:,}", f"{of.n_positives / of.n_rows:.1%}"]


def _weeks(evaluation: Evaluation) -> str:
    rows = [
        [each.begin, *_counts(each), _cell(_interval(each.roc_auc)), _number(each.champion)]
        for each in evaluation.weeks
    ]
    return _table(["week of", "rows", "positive", "ROC AUC", "champion"], rows)


def _pairs(pairs: Mapping[str, object]) -> str:
    rows = [[escape(str(name)), f"<code>{escape(str(value))}</code>"] for name, value in pairs.items()]
    return _table(["", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], small: Sequence[bool] = ()) -> str:
    if not rows:
        return '<p class="muted">None.</p>'
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = (_line(row, grey=bool(small) and small[number]) for number, row in enumerate(rows))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _line(row: Sequence[str], *, grey: bool) -> str:
    cells = "".join(f"<td>{cell}</td>" for cell in row)
    return f'<tr class="small">{cells}</tr>' if grey else f"<tr>{cells}</tr>"


def _interval(interval: Interval | None) -> str:
    return f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})" if interval else "undefined"


def _signed(interval: Interval | None) -> str:
    return f"{interval.value:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})" if interval else "-"


def _cell(told: str) -> str:
    value, bracket, interval = told.partition("(")
    return f"{value}<small>{bracket}{interval}</small>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
