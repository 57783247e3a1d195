"""What tells the label too well is named, and what honest data hold is not."""

import numpy as np
import pytest

from ml_assets.evaluation.echo import listen
from ml_assets.evaluation.policy import LeakLimits

N = 6000
LIMITS = LeakLimits()


@pytest.fixture
def honest():
    """Six features of one signal, as windows of one quantity are, and an airline; labels that follow the signal."""
    random = np.random.default_rng(3)
    signal = random.normal(size=N)
    labels = (signal + random.normal(size=N) * 1.5 > 1).astype(np.float64)
    columns = {f"window_{n}": signal + random.normal(size=N) * (0.3 + 0.2 * n) for n in range(6)}
    columns["airline"] = [f"airline {n}" for n in random.integers(0, 9, N)]
    return columns, labels, np.arange(N) < 4000


def named(columns, labels, learnt, limits=LIMITS):
    return [suspect.features for suspect in listen(columns, labels, learnt, limits).suspects]


def test_honest_features_are_measured_and_none_is_named(honest):
    echo = listen(*honest, LIMITS)
    assert echo.suspects == ()
    assert len(echo.singles) == 7
    assert echo.singles[0][0] == "window_0"
    assert 0.6 < echo.singles[0][1] < 0.85


@pytest.mark.parametrize("make", ["number", "falling", "middle", "text", "prefix", "null"])
def test_a_copy_of_the_label_is_named_whatever_its_form(honest, make):
    columns, labels, learnt = honest
    random = np.random.default_rng(0)
    noise = random.normal(size=N)
    forms = {
        "number": labels * 10 + noise,
        "falling": -labels * 10 + noise,
        "middle": np.where(labels == 1, noise * 0.01, np.sign(noise) * (5 + abs(noise))),  # no order tells it
        "text": ["late" if y else "early" for y in labels],
        "prefix": [f"{'L' if y else 'E'}-{n:05}" for n, y in zip(random.permutation(N), labels, strict=True)],
        "null": np.where(labels == 1, np.nan, noise),
    }
    found = listen(columns | {"echo": forms[make]}, labels, learnt, LIMITS).suspects
    assert [suspect.features for suspect in found] == [("echo",)]
    assert found[0].roc_auc > 0.97
    assert "echo tells the label with ROC AUC" in found[0].sentence()
    assert "`leaks.single`" in found[0].sentence()


def test_a_feature_that_stands_alone_is_named_below_the_cap(honest):
    columns, labels, learnt = honest
    clouded = labels * 1.9 + np.random.default_rng(0).normal(size=N)
    (found,) = listen(columns | {"outcome": clouded}, labels, learnt, LIMITS).suspects
    assert found.features == ("outcome",)
    assert LIMITS.alone < found.roc_auc < LIMITS.single
    assert "it stands alone" in found.reason
    assert "above the next best, window_0" in found.reason


def test_two_echoes_do_not_hide_each_other(honest):
    columns, labels, learnt = honest
    random = np.random.default_rng(0)
    both = {name: labels * 1.9 + random.normal(size=N) for name in ("first", "second")}
    assert sorted(named(columns | both, labels, learnt)) == [("first",), ("second",)]


def test_a_pair_whose_difference_is_the_outcome_is_named(honest):
    """Actual and scheduled departure: each alone tells little."""
    columns, labels, learnt = honest
    random = np.random.default_rng(0)
    scheduled = random.uniform(0, 1440, N)
    actual = scheduled + np.where(labels == 1, random.uniform(15, 90, N), random.uniform(-10, 20, N))
    (found,) = listen(columns | {"scheduled": scheduled, "actual": actual}, labels, learnt, LIMITS).suspects
    assert set(found.features) == {"scheduled", "actual"}
    assert found.roc_auc > 0.95
    assert not found.fades
    assert "a pair may reach 0.95 (`leaks.pair`)" in found.sentence()


def test_a_feature_that_knows_its_own_rows_is_named_by_the_random_split(honest):
    """A target encoding of the training rows with their own labels; later rows got the overall rate and noise."""
    columns, labels, learnt = honest
    random = np.random.default_rng(0)
    groups = random.integers(0, 2000, N)
    rates = np.bincount(groups[learnt], labels[learnt], 2000) / np.maximum(
        np.bincount(groups[learnt], minlength=2000), 1
    )
    encoded = np.where(learnt, rates[groups], labels.mean() + random.normal(size=N) * 0.1)
    (found,) = listen(columns | {"encoded": encoded}, labels, learnt, LIMITS).suspects
    assert found.features == ("encoded",)
    assert "on a random split, but 0.4" in found.sentence()
    assert found.sentence().endswith(" on later rows.")
    assert found.fades


def test_keys_that_were_given_in_order_after_the_outcome_are_named_by_the_random_split(honest):
    """Later rows have later numbers, so what was learnt of the order says nothing of them."""
    columns, labels, learnt = honest
    keys = [f"{'L' if y else 'E'}-{n:05}" for n, y in enumerate(labels)]
    (found,) = listen(columns | {"key": keys}, labels, learnt, LIMITS).suspects
    assert found.features == ("key",)
    assert found.roc_auc > 0.99


@pytest.fixture
def weekly():
    """Four weeks that teach and two later ones, of which every other is a bad one: outcomes go by weeks."""
    random = np.random.default_rng(5)
    at = np.datetime64("2026-01-05T00:00", "us") + np.sort(random.integers(0, 42 * 86_400, N)).astype("timedelta64[s]")
    week = ((at - at[0]) // np.timedelta64(7, "D")).astype(np.int64)
    labels = (random.random(N) < np.array([0.1, 0.8, 0.15, 0.75, 0.8, 0.1])[week]).astype(np.float64)
    temperature = np.array([1.0, 8.0, 2.0, 9.0, 0.5, 9.5])[week] + random.normal(size=N) * 0.1
    return {"temperature": temperature, "noise": random.normal(size=N)}, labels, week < 4, at


def test_a_feature_that_tells_no_more_than_the_name_of_its_week_is_a_doubt_and_no_certainty(weekly):
    columns, labels, learnt, at = weekly
    (found,) = listen(columns, labels, learnt, LIMITS, at=at).suspects
    assert found.features == ("temperature",)
    assert not found.is_certain
    assert "among rows of one time: it tells the days apart" in found.sentence()
    assert found.fades


def test_a_feature_that_tells_more_than_the_time_of_its_row_is_certain_where_outcomes_go_by_weeks(weekly):
    columns, labels, learnt, at = weekly
    random = np.random.default_rng(0)
    groups = random.integers(0, 2000, N)
    rates = np.bincount(groups[learnt], labels[learnt], 2000) / np.maximum(
        np.bincount(groups[learnt], minlength=2000), 1
    )
    encoded = np.where(learnt, rates[groups], random.normal(size=N))
    keys = [f"{'L' if y else 'E'}-{n:05}" for n, y in enumerate(labels)]
    found = listen({"encoded": encoded, "key": keys, **columns}, labels, learnt, LIMITS, at=at).suspects
    assert {suspect.features: suspect.is_certain for suspect in found} == {
        ("encoded",): True, ("key",): True, ("temperature",): False,
    }  # fmt: skip


def test_a_pair_of_doubtful_features_is_judged_as_well(weekly):
    """Each is the week; their difference is the outcome."""
    columns, labels, learnt, at = weekly
    columns = columns | {"echo": columns["temperature"] + (labels - 0.5) * 0.002}
    found = listen(columns, labels, learnt, LIMITS, at=at).suspects
    assert [s.is_certain for s in found if s.features in (("temperature", "echo"), ("echo", "temperature"))] == [True]


def test_what_is_allowed_is_measured_and_not_named(honest):
    columns, labels, learnt = honest
    echo = listen(columns | {"echo": labels}, labels, learnt, LeakLimits(allow=("echo",)))
    assert echo.suspects == ()
    assert echo.singles[0] == ("echo", 1.0)
    assert not [pair for pair in echo.pairs if "echo" in pair[:2]]


def test_the_caps_are_those_that_were_declared(honest):
    columns, labels, learnt = honest
    assert ("window_0",) in named(columns, labels, learnt, LeakLimits(single=0.6))
    assert [pair for pair in named(columns, labels, learnt, LeakLimits(pair=0.6)) if len(pair) == 2]


def test_rows_of_one_label_tell_nothing(honest):
    columns, labels, learnt = honest
    echo = listen(columns, np.where(learnt, labels, 0.0), learnt, LIMITS)
    assert (echo.suspects, echo.singles, echo.pairs) == ((), (), ())


def test_constants_and_columns_of_nulls_are_measured(honest):
    columns, labels, learnt = honest
    dull = {"constant": np.ones(N), "nulls": np.full(N, np.nan), "no texts": [None] * N}
    found = dict(listen(columns | dull, labels, learnt, LIMITS).singles)
    assert [found[name] for name in dull] == [0.5, 0.5, 0.5]
