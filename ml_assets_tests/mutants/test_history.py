"""Mutants that only their own distribution, or the days before, give away."""

import pytest

from ml_assets_tests.mutants.delivery import Mutant, put, together
from ml_assets_tests.mutants.graph import Graph


@pytest.fixture(scope="module")
def graph(new_project):
    return Graph.standing_on(new_project(), "usual", "measured", good=missing(4), n_days=12)


def missing(n):
    return Mutant(put("delay", "", *range(2, n + 2)), n=200)


def test_half_and_double_the_usual_rows_pass_and_a_row_beyond_is_told(graph):
    day, check = "2012-03-14", "row_count_is_usual"
    for n, ratio, passes in ((100, "0.50", True), (99, "0.49", False), (400, "2.00", True), (401, "2.00", False)):
        outcome = graph.deliver("usual", day, f"{day}.csv", Mutant(n=n).content(day))
        assert outcome.failed == set() if passes else {check}
        said = f"{n} rows on {day}, {ratio} times the median"
        assert outcome.says(check).startswith(said)
        assert outcome.counts == (n, n, 0, 0)  # a warning refuses nothing


def test_a_missing_share_that_leaps_is_told_though_it_is_allowed(graph):
    day, check = "2012-03-15", "delay__missing_spike"
    assert graph.deliver("usual", day, f"{day}.csv", missing(9).content(day)).failed == set()
    outcome = graph.deliver("usual", day, f"{day}.csv", missing(16).content(day))
    assert outcome.failed == {check}
    assert outcome.says(check) == f"delay: 8.0 % missing on {day}, usually 2.0 %; up to 5.0 % is no spike."
    assert len(outcome.found(check)) == 16


def test_delays_that_are_distributed_otherwise_are_told(graph):
    day, check = "2012-03-16", "delay__shift"

    def later(rows):
        return [{**row, "delay": str(float(row["delay"]) + 300)} for row in rows]

    outcome = graph.deliver("usual", day, f"{day}.csv", Mutant(later, n=200).content(day))
    assert outcome.failed == {check}
    assert outcome.says(check).startswith(f"delay is distributed otherwise than before on {day}: PSI ")
    assert "| above " in outcome.shown(check, "examples")
    outcome = graph.deliver("usual", day, f"{day}.csv", Mutant(lambda rows: rows[::-1], n=200).content(day))
    assert outcome.failed == set()


# The good distances lie between 200 and 1199, and the seats between 100 and 139.
def test_outliers_that_are_flagged_stay_as_they_are_and_too_many_are_told(graph):
    check = "delay__outliers"
    outcome = graph.restate(Mutant(put("delay", "500", *range(2, 12)), n=200), "measured")
    assert outcome.failed == set()
    assert outcome.says(check).startswith(f"delay: 10 of 200 values (5.0 %) on {outcome.day} lie beyond the fences ")
    assert [row["delay"] for row in outcome.rows()].count(500.0) == 10
    outcome = graph.restate(Mutant(put("delay", "500", *range(2, 13)), n=200), "measured")
    assert outcome.failed == {check}
    assert outcome.says(check).startswith(f"delay: 11 of 200 values (5.5 %) on {outcome.day} lie beyond the fences ")
    assert [row["delay"] for row in outcome.found(check)] == [500.0] * 11
    assert outcome.counts == (200, 200, 0, 0)


def test_outliers_that_are_clipped_come_to_lie_on_the_fence(graph):
    outcome = graph.restate(Mutant(together(put("seats", "800", 5), put("seats", "1", 6)), n=199), "measured")
    assert outcome.failed == set()
    assert [outcome.shown("seats__outliers", fence) for fence in ("low", "high")] == [80.75, 158.75]
    assert (outcome.row(5)["seats"], outcome.row(6)["seats"]) == (158, 81)  # whole numbers within
    assert {row["seats"] for row in outcome.rows()} == {81, 158, *range(100, 140)}
    assert outcome.counts == (199, 199, 0, 0)


def test_too_many_outliers_refuse_the_day_where_that_was_declared_an_error(graph):
    outcome = graph.restate(Mutant(put("seats", "800", *range(2, 13)), n=200), "measured")
    assert outcome.refused
    assert outcome.failed == {"seats__outliers"}
    assert "seats__outliers" in outcome.error
    assert {row["seats"] for row in outcome.rows()} == set(range(100, 140))


def test_outliers_that_are_quarantined_leave_the_table_with_their_rule_and_line(graph):
    outcome = graph.restate(Mutant(put("distance", "9000", 5), n=200), "measured")
    assert outcome.failed == set()  # one in two hundred may
    said = f"distance: 1 of 200 values (0.5 %) on {outcome.day} of rows now in the quarantine lie beyond the fences "
    assert outcome.says("distance__outliers").startswith(said)
    (row,) = outcome.quarantined
    assert (row["row"], row["rules"]) == (5, ["distance within 3 IQR"])
    assert outcome.counts == (200, 199, 1, 0)


def test_a_statistic_that_is_far_from_usual_is_told(graph):
    day, check = "2012-03-17", "statistics_are_as_usual"
    outcome = graph.deliver("usual", day, f"{day}.csv", Mutant(n=200).content(day))
    assert outcome.checks[check].passed

    def in_furlongs(rows):
        return [{**row, "distance": f"{float(row['distance']) * 10:.1f}"} for row in rows]

    outcome = graph.deliver("usual", day, f"{day}.csv", Mutant(in_furlongs, n=200).content(day))
    assert (outcome.failed, outcome.checks[check].passed) == (set(), False)
    assert f"of 'distance' of {day} is " in outcome.says(check)
