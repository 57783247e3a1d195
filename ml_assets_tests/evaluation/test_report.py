"""Tests of the report and its plots."""

import re
from html.parser import HTMLParser

import pytest

from ml_assets.evaluation.evaluate import Evaluation, evaluate
from ml_assets.evaluation.gates import Gates, judge
from ml_assets.evaluation.plots import describe, plots
from ml_assets.evaluation.report import ReportContext, html, summary
from ml_assets_tests.evaluation.worlds import data


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(data(n=1500))


@pytest.fixture(scope="module")
def context(evaluation):
    return ReportContext(
        "arrival_delay", "7", "arrival_delay_minutes > 15", judge(evaluation, Gates(0.99)), "6",
        importance={"carrier_delays__mean": 0.7, "at": 0.3},
        curves={"train/auc": [0.6, 0.7], "validation/auc": [0.6, 0.65]},
        lineage={"data": "<script>alert(1)</script>"}, params={"num_leaves": 31},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(evaluation, context):
    return html(evaluation, context)


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"<script|<link|src=.(?!data:)|url\(|https?://(?!www\.w3\.org)", page)
    assert 50_000 < len(page) < 1_000_000


def test_the_page_is_well_formed(page):
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Tags()
    parser.feed(page)
    assert parser.open == []


def test_the_same_evaluation_gives_the_same_bytes(evaluation, context, page):
    assert html(Evaluation.from_dict(evaluation.as_dict()), context) == page
    assert plots(evaluation) == plots(evaluation)


def test_it_says_why_a_model_is_refused(page, evaluation, context):
    stopped = next(gate for gate in context.gates if not gate.passed)
    assert stopped.sentence in summary(evaluation, context)
    assert f'<span class="failed">failed</span></td><td><code class="gate">{stopped.name}</code>' in page


def test_what_others_wrote_is_escaped(page):
    assert "&lt;script&gt;alert(1)" in page


def test_every_slice_and_week_is_listed(page, evaluation):
    for each in evaluation.slices:
        assert f"<td>{each.column}</td><td>{each.value}</td><td>{each.n_rows:,}</td>" in page
    for week in evaluation.weeks:
        assert f"<td>{week.begin}</td>" in page


def test_plots_are_small_pngs(evaluation):
    drawn = plots(evaluation)
    assert set(drawn) == {"roc", "pr", "calibration", "scores", "weeks", "slices"}
    assert all(image.startswith(b"\x89PNG") and len(image) < 40_000 for image in drawn.values())


def test_a_first_model_without_rivals_slices_and_gates_has_a_report_too():
    alone = evaluate(data(n=300, champion=None, baseline=False, slices=False))
    page = html(alone, ReportContext("m", "1", "late"))
    assert "No gates were judged" in page
    assert "slices" not in describe(alone)
