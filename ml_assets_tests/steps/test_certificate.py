"""What a certificate says of how much was compared: too little is refused, what was left out is a warning."""

import msgspec
import pytest

from ml_assets.steps.certificate import Asked, Certificate, Found, Learnt, Span

SPAN = Span("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00", 1)
REASON = "their rows are older than what is kept online"


def certificate(rows: int, history: int, *, trained: int = 5_000, encoded: int = 24) -> Certificate:
    """Rows were asked about and nothing differed; 10,000 are wanted."""
    left_out = {REASON: history - rows} if rows < min(history, 10_000) else {}
    asked = Asked("tables/orders", 10_000, rows, 1, history, [SPAN], left_out, {"v": Found(rows, 0, 0)})
    learnt = Learnt(trained, encoded, {}, {}, {}, 0)
    return Certificate("e", "m", "1", "h", "b", {"v": 1}, 3, asked, 0, {}, learnt, "x", "now").sealed()


@pytest.mark.parametrize(("rows", "history"), [(10_000, 10_000), (10_000, 50_000), (9_999, 9_999), (1, 1)])
def test_as_many_as_wanted_or_all_of_a_short_history_prove_a_version(rows, history):
    found = certificate(rows, history)
    assert (found.passed, found.warnings()) == (True, [])


@pytest.mark.parametrize(("rows", "history"), [(0, 0), (0, 9_999), (9_999, 10_000)])
def test_no_rows_or_too_few_of_a_long_history_prove_nothing(rows, history):
    assert not certificate(rows, history).passed


def test_rows_that_are_left_out_of_a_short_history_are_a_warning_that_says_how_many_prove_it():
    found = certificate(1, 9_999)
    said = "proven by only 1 of 9,999 rows of history, and 10,000 are wanted"
    assert (found.passed, found.warnings()) == (True, [said])
    assert found.sentence.endswith(f"; 9,998 rows of history were left out: {REASON}; {said}.")


def test_the_encoding_is_not_compared_where_no_training_row_was_encoded_anew_and_that_is_a_warning():
    found = certificate(10_000, 10_000, encoded=0)
    said = "not compared: how the training rows are encoded"
    assert (found.passed, found.warnings()) == (True, [said])
    assert found.sentence.endswith(f"; 5,000 training rows are joined as they were then; {said}.")
    assert certificate(10_000, 10_000).sentence.endswith(" as they were then, 24 of them encoded as they were.")


def test_corrected_rows_and_an_encoding_that_was_not_compared_are_both_named():
    learnt = msgspec.structs.replace(certificate(10_000, 10_000, encoded=0).learnt, corrected=7)
    assert len(learnt.warnings()) == 2
