"""What is said of the inputs of a model that are of no use to it."""

from collections.abc import Sequence

from ml_assets.errors import shorten
from ml_assets.records import Finding
from ml_assets.steps import catalogue
from ml_assets.steps.pictures import markdown_table
from ml_assets.training.fit import Fitted
from ml_assets.training.matrix import Matrix
from ml_assets.training.usefulness import Benefit, Shuffling, Usefulness, usefulness

_NAMED = 8


def finding(fitted: Fitted, validation: Matrix, *, seed: int, threads: int) -> Finding:
    """Shuffle the inputs on a sample of the validation rows; a warning names those without benefit."""
    found = usefulness(fitted.model_text, validation, fitted.importance, seed=seed, by=Shuffling(num_threads=threads))
    useless, undecided = found.useless, [benefit.name for benefit in found.undecided]
    n_inputs = len(found.benefits)
    good = f"{n_inputs - len(useless) - len(undecided)} of {n_inputs} inputs are of use; {_how(found)}."
    few = f" Too few rows to tell of {len(undecided)} ({shorten(undecided, _NAMED)})." if undecided else ""
    return Finding(
        catalogue.USEFUL.name,
        not useless,
        (_sentence(found, useless) if useless else good) + few,
        warn=True,
        numbers={
            "compared": found.n_rows,
            "inputs": n_inputs,
            "without benefit": len(useless),
            "too few rows to tell": len(undecided),
            "in no tree": sum(not each.in_trees for each in useless),
            "could be dropped": list(found.droppable),
            "benefits": _table(found),
        },
    )


def _sentence(found: Usefulness, useless: Sequence[Benefit]) -> str:
    unused, weak = ([b.name for b in useless if b.in_trees is used] for used in (False, True))
    parts = [f"{len(unused)} in no tree ({shorten(unused, _NAMED)})"] if unused else []
    parts += [f"{len(weak)} that cost nothing sure when shuffled ({shorten(weak, _NAMED)})"] if weak else []
    named = f"{len(useless)} of {len(found.benefits)} inputs are without benefit: {' and '.join(parts)}; {_how(found)}."
    return f"{named} {_saving(found)}"


def _how(found: Usefulness) -> str:
    return f"{found.repeats} shuffles of {found.n_rows:,} validation rows, {found.confidence:.0%} intervals of log loss"


def _saving(found: Usefulness) -> str:
    dropped, loss = set(found.droppable), found.together
    if not dropped:
        return "Each stands in for another: drop one, and look again."
    by_view: dict[str, list[str]] = {}
    for benefit in found.benefits:
        view, separator, _ = benefit.name.partition("__")
        by_view.setdefault(view if separator else "", []).append(benefit.name)
    whole = sorted(view for view, names in by_view.items() if view and dropped.issuperset(names))
    saved = f", and all of {shorten(whole)}" if whole else ""
    cost = f"log loss {loss.value:+.5f}, at most {loss.high:+.5f}"
    return f"{len(dropped)} could be dropped together ({cost}): that saves {len(dropped)} columns{saved}."


def _table(found: Usefulness) -> object:
    header = ("input", "log loss when shuffled", "low", "high", "in trees", "could be dropped")
    lines = [
        (b.name, b.loss.value, b.loss.low, b.loss.high, _word(b.in_trees), _word(b.name in found.droppable))
        for b in reversed(found.benefits)
    ]
    return markdown_table(header, lines)


def _word(truth: bool) -> str:
    return "yes" if truth else "no"
