"""Evidently's drift report as a page for people; the verdicts come from `drift`.

Alone it would miss a null rate that goes from 1 % to 60 %, and it fails on a column without values or of times: those
are left out, and the page says so.
"""

import html as html_
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ml_assets.monitoring.profile import Kind

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2000
_SEED = 20130101


def html(reference_sample: pa.Table, current_sample: pa.Table, columns: Mapping[str, Kind]) -> str:
    """A self-contained page (about 4 MB: it carries its own script) on at most 2,000 rows a side, drawn with one seed.

    The first call costs 8 s, nearly all of it the import of Evidently: call it in a step, never while definitions load.
    """
    reference, current = _frame(reference_sample, columns), _frame(current_sample, columns)
    left_out = {name: reason for name in columns if (reason := _unfit(reference, current, name))}
    drawn: dict[str, Kind] = {name: kind for name, kind in columns.items() if name not in left_out}
    note = _note(left_out, reference_sample.num_rows, current_sample.num_rows)
    if not drawn:
        return f"<!doctype html><html><head><meta charset='utf-8'><title>Drift</title></head><body>{note}</body></html>"
    page = _render(reference.filter(items=list(drawn)), current.filter(items=list(drawn)), drawn)
    start = page.index(">", page.index("<body", page.index("</head>"))) + 1
    return page[:start] + note + page[start:]


def _frame(table: pa.Table, columns: Mapping[str, Kind]) -> "pd.DataFrame":
    """The watched columns as Evidently can take them: doubles or strings, null where there is no finite value."""
    chosen = table.select([name for name in columns if name in table.column_names])
    if chosen.num_rows > MOST_ROWS:
        rows = np.random.default_rng(_SEED).choice(chosen.num_rows, MOST_ROWS, replace=False)
        chosen = chosen.take(pa.array(np.sort(rows)))
    times = [field.name for field in chosen.schema if pa.types.is_temporal(field.type)]
    arrays = {
        name: chosen[name].cast(pa.float64() if columns[name] == "numeric" else pa.string())
        for name in chosen.column_names
        if name not in times
    }
    return pa.table(arrays).to_pandas().replace([np.inf, -np.inf], np.nan)


def _unfit(reference: "pd.DataFrame", current: "pd.DataFrame", name: str) -> str | None:
    for side, frame in (("reference", reference), ("current", current)):
        if name not in frame.columns:
            return f"not in the {side} rows, or a time"
        if not len(frame[name].dropna()):
            return f"no values in the {side} rows"
    return None


def _note(left_out: Mapping[str, str], n_reference: int, n_current: int) -> str:
    sampled = (
        f"Drawn from {min(n_reference, MOST_ROWS)} of {n_reference} reference rows"
        f" and {min(n_current, MOST_ROWS)} of {n_current} current rows."
    )
    omitted = f" Not drawn: {'; '.join(f'{name} ({reason})' for name, reason in left_out.items())}." if left_out else ""
    advice = " Evidently drops nulls before it compares: for null rates and verdicts see the checks of the drift asset."
    return f"<p style='font-family:sans-serif;margin:1em'>{html_.escape(sampled + omitted + advice)}</p>"


def _render(reference: "pd.DataFrame", current: "pd.DataFrame", columns: Mapping[str, Kind]) -> str:
    with warnings.catch_warnings():
        # Evidently, scipy and plotly warn about themselves (numpy.core, constant input); none of it is ours to act on
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(
            numerical_columns=[name for name, kind in columns.items() if kind == "numeric"],
            categorical_columns=[name for name, kind in columns.items() if kind == "categorical"],
        )
        current_rows = Dataset.from_pandas(current, data_definition=definition)
        reference_rows = Dataset.from_pandas(reference, data_definition=definition)
        report = Report([DataDriftPreset(method="psi")]).run(current_rows, reference_rows)
        return report.get_html_str(as_iframe=False)
