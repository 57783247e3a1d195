"""Proofs that a training set holds no leak, on the rows that stand, whoever made them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.engine import connect, quote
from ml_assets.errors import FeatureError, FeatureLeakError, shorten
from ml_assets.evaluation import echo, twins
from ml_assets.records import Finding
from ml_assets.steps import catalogue, configuration, features, hindsight
from ml_assets.steps.arrow import as_table
from ml_assets.steps.frames import input_names, model_columns
from ml_assets.steps.memo import digest
from ml_assets.steps.repeated import repeat
from ml_assets.steps.run import Run
from ml_assets.steps.specs import ModelSpec, ViewSpec

if TYPE_CHECKING:
    import pyarrow as pa

_MOST = 50_000
_SLICE = 100_000
_JUDGED = "split IN ('train', 'validation', 'test')"
_NAMED, _VALUES = 3, 10
_LOUD = "Take the outcomes out of it, or put what is honest into `leaks: {allow: [...]}` of the model."
_DOUBT = "With more history it shows. Put what is honest into `leaks: {allow: [...]}` of the model."
_FADING = (
    "Either it holds outcomes of its own rows, or of rows around them: a leak. Or outcomes go by time or by groups, and"
    f" the rows are few: then it is honest. `ml-assets leaks` tells: where `{catalogue.HINDSIGHT.name}` and"
    f" `{catalogue.REPEATED.name}` hold, and `known_at` of its tables is true, it is honest. Take the outcomes out of a"
    " leak; for an honest one wait for more history, or put it into `leaks: {allow: [...]}` of the model."
)
_RELEASE = [catalogue.TRAINING_SET, 5]  # raise the last when the proofs find other things


def findings(spec: ModelSpec, run: Run) -> tuple[Finding, ...]:
    """What the three proofs say of the training set that stands; kept by its content, so that it is proven once."""
    question = _question(spec, run)
    if (kept := _kept(spec, run)) and kept["of"] == question:
        return tuple(Finding(**each) for each in kept["findings"])
    found = prove(spec, run)
    if not any(each.warn and each.check == catalogue.REPEATED.name for each in found):  # what waits is asked again
        kept = {"of": question, "release": _RELEASE, "leaks": _limits(spec)}
        kept["findings"] = [asdict(each) for each in found]
        run.lake.replace_object(_place(spec), json.dumps(kept).encode())
    return found


def standing(spec: ModelSpec, run: Run) -> tuple[str, str]:
    """Why the proofs would be made again of the same rows, and what was found against these, if anything."""
    kept = _kept(spec, run)
    if kept is None:
        return "", ""
    failed = [
        f"{each['check']}: {each['sentence']}" for each in kept["findings"] if not (each["passed"] or each["warn"])
    ]
    return _since(kept, _limits(spec)), shorten(failed)


def prove(spec: ModelSpec, run: Run) -> tuple[Finding, ...]:
    """The same without looking at what is kept: REPEATED, NO_ECHO and NO_TWINS, in seconds.

    Raises FeatureError where the rows were made by a declaration with other features.
    """
    rows = run.lake.dataset(spec.training_set).to_table()
    wanted = [name for view in spec.views for name in view.view.qualified_features()]
    if absent := [name for name in wanted if name not in rows.column_names]:
        problem = f"{spec.training_set} has no {shorten(absent)}: it was made by another declaration."
        raise FeatureError(f"{problem} Materialize it again: ml-assets materialize +{spec.training_set}")
    sampled = _sampled(spec, rows)
    repeated = _repeated(spec, run, rows)
    try:
        return repeated, _echo(spec, _inputs(spec, sampled), sampled), _twins(spec, rows, _content(spec, rows))
    except FeatureLeakError as error:
        return repeated, Finding(catalogue.NO_ECHO.name, False, str(error)), _twins(spec, rows, None)


def of_view(spec: ViewSpec, run: Run) -> Finding:
    """What HINDSIGHT says of the newest rows of a view that stand in the lake, whoever wrote them."""
    day = max(run.lake.partitions(spec.name), default="") if spec.daily else ""
    rows = run.lake.dataset(spec.name, partitions=[day] if day else None).to_table()
    with connect() as con:
        features.open_tables(spec, run.lake, con, day, day)
        return hindsight.finding(con, spec, rows, day)


def _since(kept: dict[str, Any], limits: dict[str, Any]) -> str:
    if kept.get("release") != _RELEASE or kept["leaks"].keys() != limits.keys():
        return "its rows were proven by another release of ml_assets"
    return "`leaks` of the model was edited" if kept["leaks"] != limits else ""


def _question(spec: ModelSpec, run: Run) -> str:
    content = run.lake.content(spec.training_set)[""].hash
    views = [configuration.of_view(view) for view in spec.views]
    parts = [content, configuration.of_training_set(spec), configuration.of_model(spec), views, _limits(spec)]
    return digest([*_RELEASE, *parts])


def _kept(spec: ModelSpec, run: Run) -> dict[str, Any] | None:
    place = _place(spec)
    return json.loads(run.lake.get_object(place)) if run.lake.has_object(place) else None


def _limits(spec: ModelSpec) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(spec.leaks)))


def _place(spec: ModelSpec) -> str:
    return f"leaks/{spec.name}.json"


def _sampled(spec: ModelSpec, rows: "pa.Table") -> "pa.Table":
    """About fifty thousand rows at most, always the same of the same, copies with them; the gap is left out."""
    identity = ", ".join(quote(column) for column in (*spec.spine.keys, "at"))
    with connect() as con:
        con.register("rows", rows)
        kept = f"FROM rows WHERE {_JUDGED}"
        ((n_rows,),) = con.execute(f"SELECT count(*) {kept}").fetchall()
        share = min(1.0, _MOST / max(n_rows, 1))
        chosen = f"hash({identity}) % 1000000 < {int(share * 1_000_000)}"
        return con.sql(f'{kept} AND {chosen} ORDER BY "at", {identity}').to_arrow_table()


def _inputs(spec: ModelSpec, rows: "pa.Table") -> dict[str, Any]:
    columns, _ = model_columns(spec, rows)
    return {name: columns[name] for name in input_names(spec, rows)}


def _content(spec: ModelSpec, rows: "pa.Table") -> twins.Twins | None:
    """The twins by content among all rows, whose inputs are made so many at a time; None where the model opts out."""
    if not spec.leaks.twins:
        return None
    with connect() as con:
        con.register("rows", rows)
        rows = con.sql(f"FROM rows WHERE {_JUDGED}").to_arrow_table()
    places = range(0, max(rows.num_rows, 1), _SLICE)
    found = [twins.contents(as_table(_inputs(spec, rows.slice(place, _SLICE)))) for place in places]
    keys = twins.contents(rows.select(spec.spine.keys))
    return twins.by_content(np.concatenate(found), keys, _labels(rows), _learnt(rows))


def _labels(rows: "pa.Table") -> np.ndarray:
    return rows["label"].to_numpy().astype(np.float64)


def _learnt(rows: "pa.Table") -> np.ndarray:
    return rows["split"].to_numpy(zero_copy_only=False) == "train"


def _repeated(spec: ModelSpec, run: Run, rows: "pa.Table") -> Finding:
    found = repeat(spec, run, rows)
    if not found.n_rows:
        nothing = "The training set has no rows: nothing was compared."
        return Finding(catalogue.REPEATED.name, True, nothing, numbers={"compared": 0})
    asked = f"{found.n_rows} rows at {len(found.moments)} moments, made again from the tables without later data"
    numbers = {"compared": found.n_rows, "moments": [moment.isoformat() for moment in found.moments]}
    if found.differences:
        more = shorten(found.differences, _NAMED)
        advice = (
            "Where `ml-assets leaks` names a view as well, its SQL looks ahead or its `known_at` is too early. Else"
            " find who wrote these values. Materialize the features and then this training set again."
        )
        sentence = f"Of {asked}, some came out otherwise: {more}. {advice}"
        values = [asdict(each) for each in found.values[:_VALUES]]
        numbers |= {"different": len(found.differences), "values": values}
        return Finding(catalogue.REPEATED.name, False, sentence, numbers=numbers)
    if found.waiting:
        sentence = (
            f"Of {asked}, those of {shorten(found.waiting)} cannot be judged: their declarations were edited, or their"
            f" tables have changed, and nothing was computed since. Materialize them, and then {spec.training_set}."
        )
        return Finding(catalogue.REPEATED.name, False, sentence, warn=True, numbers=numbers)
    return Finding(catalogue.REPEATED.name, True, f"All {asked}, came out the same, bit for bit.", numbers=numbers)


def _echo(spec: ModelSpec, inputs: dict[str, Any], rows: "pa.Table") -> Finding:
    labels, learnt = _labels(rows), _learnt(rows)
    found = echo.listen(inputs, labels, learnt, spec.leaks, at=rows["at"].to_numpy())
    absent = sorted(set(spec.leaks.allow) - set(inputs))
    unknown = f" `leaks.allow` names {shorten(absent)}, which is no input." if absent else ""
    numbers = {
        "compared": len(labels) if found.singles else 0,
        "best features": dict(found.singles[:5]),
        "pairs": [list(p) for p in found.pairs[:5]],
    }
    if found.suspects:
        certain = [suspect for suspect in found.suspects if suspect.is_certain]
        said = _advised(certain) if certain else [*(s.sentence() for s in found.suspects[:_NAMED]), _DOUBT]
        return Finding(catalogue.NO_ECHO.name, False, " ".join(said) + unknown, warn=not certain, numbers=numbers)
    heard = _heard(found) if found.singles else "There are not both labels on both sides: nothing was judged."
    n_later = f" Judged on {np.count_nonzero(~learnt):,} later rows." if found.singles else ""
    return Finding(catalogue.NO_ECHO.name, True, f"{heard}{n_later}{unknown}", numbers=numbers)


def _advised(suspects: Sequence[echo.Suspect]) -> Iterator[str]:
    """The suspects, those that hold the outcome for all rows first, with what to do about each kind."""
    for fades, advice in ((False, _LOUD), (True, _FADING)):
        if listed := [suspect.sentence() for suspect in suspects if suspect.fades == fades]:
            yield from (*listed[:_NAMED], advice)


def _heard(found: echo.Echo) -> str:
    (name, auc), pairs = found.singles[0], found.pairs
    pair = f", the best pair {' with '.join(pairs[0][:2])} with {pairs[0][2]:.3f}" if pairs else ""
    return f"The best of {len(found.singles)} inputs alone is {name} with ROC AUC {auc:.3f}{pair}."


def _twins(spec: ModelSpec, rows: "pa.Table", content: twins.Twins | None) -> Finding:
    """By key, and by content where the inputs could be made."""
    key, said = twins.by_key(rows, spec.spine.keys), []
    if key.n_twins:
        which = " and ".join((*spec.spine.keys, "at"))
        said.append(
            f"{key.n_twins:,} of {key.n_rows:,} validation and test rows have the {which} of a training row,"
            f" such as {key.examples[0]}."
        )
    if content and content.n_twins:
        said.append(
            f"{content.n_twins:,} of {content.n_rows:,} validation and test rows of the rarer label have all"
            f" inputs of training rows of another {' and '.join(spec.spine.keys)}, and these have the same label. If"
            " these are no copies, say `leaks: {twins: false}` in the model."
        )
    numbers = {"compared": key.n_rows, "by key": key.n_twins}
    if content:
        numbers |= {"compared by content": content.n_rows, "by content": content.n_twins}
    advice = " Remove duplicates, and resample training rows only, after the split."
    return Finding(
        catalogue.NO_TWINS.name, not said, " ".join(said) + advice if said else _apart(key, content), numbers=numbers
    )


def _apart(key: twins.Twins, content: twins.Twins | None) -> str:
    if not key.n_rows:
        return "There are no validation and test rows: nothing was compared."
    by_content = f"none of the {content.n_rows:,} of the rarer label by content" if content else "content not compared"
    return f"None of {key.n_rows:,} validation and test rows stands in the training rows by key, {by_content}."
