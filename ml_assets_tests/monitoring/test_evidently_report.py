"""Evidently's page: drawn from what it can take, and honest about the rest."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from ml_assets.monitoring.evidently_report import html

KINDS = {
    "delay": "numeric",
    "carrier": "categorical",
    "empty": "numeric",
    "nan": "numeric",
    "at": "numeric",
    "gone": "numeric",
    "infinite": "numeric",
}


def rows(n: int, shift: float = 0.0, **more) -> pa.Table:
    rng = np.random.default_rng(3)
    columns = {
        "delay": rng.normal(shift, 1, n),
        "carrier": rng.choice(["UA", "B6"], n),
        "empty": pa.nulls(n, pa.float64()),
        "nan": np.full(n, np.nan),
        "at": pa.array([datetime(2013, 1, 1, tzinfo=UTC)] * n),
        "infinite": np.where(np.arange(n) % 2, np.inf, 1.0),
    }
    return pa.table(columns | more)


@pytest.fixture(scope="module")
def page() -> str:
    return html(rows(2500, gone=np.zeros(2500)), rows(2100, 1.0), KINDS)


def test_the_page_is_self_contained(page):
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert 'src="http' not in page
    assert "delay" in page


def test_the_page_says_what_is_not_drawn_and_why(page):
    note = page[page.index("Drawn from") :][:800]
    assert "Drawn from 2000 of 2500 reference rows and 2000 of 2100 current rows." in note
    for problem in (
        "empty (no values in the reference rows)",
        "nan (no values in the reference rows)",
        "at (not in the reference rows, or a time)",
        "gone (not in the current rows, or a time)",
    ):
        assert problem in note
    assert "infinite (" not in note


@pytest.mark.parametrize("n", [0, 50])
def test_a_page_without_anything_to_draw_is_still_a_page(n):
    page = html(rows(n), rows(n), {"empty": "numeric"})
    assert "Not drawn: empty (no values in the reference rows)." in page


def test_names_of_columns_are_escaped():
    table = pa.table({"<script>": pa.nulls(3, pa.float64())})
    assert "<script>" not in html(table, table, {"<script>": "numeric"})


def test_no_heavy_library_is_imported_with_the_package():
    code = (
        "import sys, json;"
        "import ml_assets.monitoring.drift, ml_assets.monitoring.performance, ml_assets.monitoring.retrain;"
        "import ml_assets.monitoring.calibrate;"
        "light = 'pyarrow' not in sys.modules;"
        "import ml_assets.monitoring.evidently_report;"
        "print(json.dumps([light] + [m for m in ('evidently', 'pandas', 'scipy', 'sklearn') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [True]
