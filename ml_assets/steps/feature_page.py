"""The catalogue of features as one HTML page that needs nothing else: for people who look for some."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ml_assets.steps.feature_catalogue import Feature, Known, definition, figures, in_words, timing

_WIDTH, _HEIGHT = 120, 26
_BAR = '<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'


def html(views: Sequence[Known], *, now: datetime) -> str:
    """One page without scripts: an index, then each view with its features; the same input gives the same bytes."""
    page = Template((files("ml_assets.steps") / "feature_page.html").read_text("utf-8"))
    features = sum(len(each.features) for each in views)
    return page.substitute(
        subtitle=f"{len(views)} feature views with {features} features, as of {now:%Y-%m-%d %H:%M} UTC.",
        index=_table(("view", "about", "what it is", "features", "owner", "freshness", "used by"), map(_index, views)),
        views="\n".join(map(_view, views)),
    )


def _index(view: Known) -> list[str]:
    name, declared = view.declared.spec.view.name, view.declared
    return [
        f'<a href="#{escape(name)}">{escape(name)}</a>',
        escape(", ".join(declared.spec.view.entity)),
        escape(declared.description),
        str(len(view.features)),
        escape(", ".join(declared.owners)),
        escape(_freshness(view)),
        escape(_users(view)),
    ]


def _view(view: Known) -> str:
    name, declared = view.declared.spec.view.name, view.declared
    facts = {
        "about": ", ".join(declared.spec.view.entity),
        "times": timing(declared.spec),
        "owner": ", ".join(declared.owners),
        "use case": declared.use_case,
        "declared": declared.place,
        "freshness": _freshness(view),
        "rows": f"{view.n_rows:,}" + (f" in {view.partitions[0]} .. {view.partitions[-1]}" if view.partitions else ""),
        "versions": "; ".join(f"{n}: {state}, since {since[:10]}" for n, state, since in view.versions) or "none yet",
        "used by": _users(view),
        **({"state": view.state.sentence} if view.state.sentence else {}),
    }
    header = ("feature", "type", "nulls", "least", "middle", "greatest", "", "what it is", "made from")
    return f"""<h2 id="{escape(name)}">{escape(name)}</h2>
<p>{escape(declared.description)}</p>
<div class="facts">{_pairs(facts)}</div>
<pre>{escape(definition(declared.spec))}</pre>
<div class="wide">{_table(header, map(_feature, view.features))}</div>"""


def _feature(feature: Feature) -> list[str]:
    shown = [escape(text) for text in figures(feature.profile)]
    made = "<br>".join(f"<code>{escape(source)}</code>" for source in feature.made_from) or "not known"
    return [
        f"<code>{escape(feature.name)}</code>",
        feature.type,
        *shown,
        _plot(feature),
        escape(feature.description),
        made,
    ]


def _freshness(view: Known) -> str:
    if view.newest is None:
        return "no rows yet"
    return f"{view.newest:%Y-%m-%d %H:%M} UTC" + (f", {in_words(view.lag)} ago" if view.lag is not None else "")


def _users(view: Known) -> str:
    said = [f"{model} ({f'champion: version {v}' if v else 'not released'})" for model, v in view.consumers.items()]
    return ", ".join(said) or "no model"


def _plot(feature: Feature) -> str:
    """The histogram of a number, or the most frequent values of a text, as a small picture."""
    profile: Mapping[str, Any] = feature.profile or {}
    counts = [each["n"] for each in (profile.get("histogram") or profile.get("top") or [])]
    if not counts:
        return ""
    wide, most = _WIDTH / len(counts), max(counts)
    bars = (
        _BAR.format(x=k * wide, y=_HEIGHT * (1 - n / most), wide=max(wide - 1, 1), high=_HEIGHT * n / most)
        for k, n in enumerate(counts)
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="distribution">{"".join(bars)}</svg>'


def _pairs(facts: Mapping[str, str]) -> str:
    return "".join(f"<div><span>{escape(name)}</span>{escape(value)}</div>" for name, value in facts.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
