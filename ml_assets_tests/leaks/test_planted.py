"""Eight leaks of published recipes, planted into the real flights: each is found by a check or when it loads."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ml_assets.errors import FeatureLeakError
from ml_assets.steps import catalogue, ingest, leaks, model, training_set
from ml_assets.steps.explain import Decision, Verdict, one
from ml_assets.steps.specs import ModelSpec
from ml_assets.steps.works import Asset
from ml_assets_tests.components.test_declarations import complaint
from ml_assets_tests.flights import DAYS, World
from ml_assets_tests.leaks.planted import (
    FUTURE,
    asked,
    computed,
    declared,
    failed,
    rewritten,
    shuffled_split,
    training_rows,
    user_made,
    view,
    with_column,
)

HINDSIGHT, REPEATED = catalogue.HINDSIGHT.name, catalogue.REPEATED.name
ECHO, TWINS = catalogue.NO_ECHO.name, catalogue.NO_TWINS.name
DAY = "2013-01-10"


def test_the_flights_as_they_are_hold_no_leak(grown):
    run = grown.step()
    assert failed(leaks.prove(grown.spec, run)) == {}
    assert [leaks.of_view(spec, run).passed for spec in grown.spec.views] == [True] * 6


RECIPE = """\
-- as in many notebooks: what the flight was like
SELECT
    flight_id,
    scheduled_departure_at - INTERVAL 3 HOUR AS known_at,
    air_time_minutes,
    departure_delay_minutes
FROM flight_outcomes
"""


def test_air_time_as_a_feature_is_refused_when_it_loads(project):
    entity = (
        "defs.yaml",
        "sql: inbound_aircraft.sql\n  entity: [tailnum]",
        "sql: inbound_aircraft.sql\n  entity: [flight_id]",
    )
    rewritten(project, "inbound_aircraft.sql", RECIPE, entity)
    said = complaint(project)
    assert "inbound_aircraft.sql:5" in said
    assert "'air_time_minutes' of flight_outcomes.air_time_minutes, known only after the event" in said
    assert "its known_at is made from flight_outcomes.scheduled_departure_at" in said
    assert "flight_outcomes.known_at AS known_at" in said


def test_a_prediction_at_the_time_of_the_actual_departure_is_refused_when_it_loads(project):
    old = 'spine: {table: flight_schedules, time: "scheduled_departure_at - INTERVAL 2 HOUR"}'
    new = 'spine: {table: flight_outcomes, time: "departed_at - INTERVAL 2 HOUR"}'
    declared(project, ("defs.yaml", old, new))
    said = complaint(project)
    assert "the time reads departed_at, which is known only after the event" in said
    assert "defs.yaml:" in said


@pytest.fixture
def of_outcomes(world, tmp_path, monkeypatch):
    """The model asked about flights as they were flown, with a request function that reads the actual delay."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "recipe.py").write_text(
        'def features(flights):\n    return {"dep_delay": flights["departure_delay_minutes"]}\n'
    )
    return world.having(
        spine=world.tables["flight_outcomes"], request_features="recipe.features", slices=(), baseline=()
    )


def test_the_actual_departure_delay_as_a_request_feature_is_refused_with_its_name(of_outcomes):
    world = of_outcomes
    result = training_set.materialize(world.spec, world.step())[world.spec.training_set]
    assert (
        "recipe.features reads 'departure_delay_minutes', which is known only after the event"
        in failed(result.findings)[ECHO]
    )
    with pytest.raises(FeatureLeakError, match="reads 'departure_delay_minutes'"):
        model.train(world.spec, world.step())


OWN_ROW = """
SELECT carrier, known_at - INTERVAL 6 HOUR AS known_at,
    avg(arrival_delay_minutes) OVER (PARTITION BY carrier ORDER BY known_at ROWS 20 PRECEDING) AS recent_delay
FROM flight_outcomes QUALIFY row_number() OVER (PARTITION BY carrier, known_at ORDER BY flight_id) = 1"""


def test_a_window_that_holds_its_own_row_differs_without_later_data(world):
    found = failed(computed(world, view(world, "carrier_delays", OWN_ROW), DAY))
    assert "carrier=" in found[HINDSIGHT]
    assert "has other values in recent_delay" in found[HINDSIGHT] or "is stored but not recomputed" in found[HINDSIGHT]


def test_a_window_over_training_rows_that_holds_its_own_row_is_not_made_again(world):
    """Made in pandas, so no view is wrong: the mean of the carrier's newest ten labels, the row's own among them."""
    rows = asked(
        """SELECT * REPLACE (avg(label) OVER (PARTITION BY carrier ORDER BY "at", flight_id ROWS 9 PRECEDING)
            AS carrier_delays__late_rate_6h) FROM rows""",
        rows=training_rows(world),
    )
    found = failed(user_made(world, rows))
    assert set(found) == {REPEATED}
    assert "'carrier_delays__late_rate_6h' of " in found[REPEATED]
    assert "holds what was not known then: flight_id=" in found[REPEATED]


def test_outcomes_known_as_of_the_schedule_are_refused_when_they_load(project):
    sql = (
        "SELECT tailnum, scheduled_departure_at AS known_at, arrival_delay_minutes AS last_delay FROM flight_outcomes\n"
    )
    rewritten(project, "inbound_aircraft.sql", sql)
    said = complaint(project)
    assert "inbound_aircraft.sql:1" in said
    assert "'last_delay' of flight_outcomes.arrival_delay_minutes, known only after the event" in said


def test_deliveries_that_say_outcomes_were_known_by_schedule_break_the_contract(world):
    """The source claims it, for AUC 0.765 in place of 0.75: known before the flight had landed."""
    rows = world.rows("tables/flight_outcomes", [DAY]).drop_columns(["partition_key"])
    early = asked(
        f"SELECT * REPLACE (scheduled_departure_at AS known_at) FROM rows WHERE scheduled_departure_at::DATE = '{DAY}'",
        rows=rows,
    )
    pq.write_table(early, world.home / "landing" / "flight_outcomes" / f"{DAY}.parquet")
    result = ingest.ingest(world.tables["flight_outcomes"], world.step(DAY))["tables/flight_outcomes"]
    assert catalogue.FEW_INVALID.name in failed(result.findings)
    refused = next(found for found in result.findings if found.check == "known_at__is_not_before_the_event")
    assert not refused.passed
    assert DAY not in result.produced


def test_outcomes_known_by_schedule_that_came_into_the_lake_are_found_before_any_feature_is_made(world):
    rows = world.rows("tables/flight_outcomes")
    early = asked("SELECT * REPLACE (scheduled_departure_at AS known_at) FROM rows", rows=rows)
    world.step().lake.write("tables/flight_outcomes", early, partitions=list(DAYS))
    found = failed(computed(world, world.spec.views[0], DAY))
    assert "rows of flight_outcomes are known before their event, such as one with known_at 2013-" in found[HINDSIGHT]


ENCODED = """
SELECT tailnum, min(known_at) AS known_at, avg(CAST(arrival_delay_minutes > 15 AS DOUBLE)) AS late_rate
FROM flight_outcomes WHERE tailnum IS NOT NULL GROUP BY tailnum"""


def test_a_target_encoding_over_all_rows_differs_without_later_data(world):
    found = failed(computed(world, view(world, "aircraft_attributes", ENCODED), DAY))
    assert "tailnum=" in found[HINDSIGHT]
    assert "has other values in late_rate" in found[HINDSIGHT]


def test_a_target_encoding_over_all_training_rows_is_not_made_again(world):
    rows = asked(
        "SELECT * REPLACE (avg(label) OVER (PARTITION BY tailnum) AS inbound_aircraft__last_was_broken_off) FROM rows",
        rows=training_rows(world),
    )
    found = failed(user_made(world, rows))
    assert "'inbound_aircraft__last_was_broken_off' of " in found[REPEATED]


def test_duplicates_on_both_sides_of_the_split_are_counted(world):
    rows = training_rows(world)
    test = asked("FROM rows WHERE split = 'test' ORDER BY flight_id LIMIT 700", rows=rows)
    copies = with_column(test, "split", ["train"] * 700)
    found = failed(user_made(world, pa.concat_tables([rows, copies])))
    assert found.keys() == {TWINS}
    assert "700 of " in found[TWINS]
    assert "have the flight_id and at of a training row, such as " in found[TWINS]


def test_duplicates_under_other_keys_are_found_by_their_content(world):
    rows = training_rows(world)
    test = asked("FROM rows WHERE split = 'test' ORDER BY flight_id LIMIT 700", rows=rows)
    renamed = with_column(test, "flight_id", [f"copy-{number:06}" for number in range(700)])
    found = failed(user_made(world, pa.concat_tables([rows, with_column(renamed, "split", ["train"] * 700)])))
    n_late = int(sum(test["label"].to_pylist()))
    assert f"{n_late} of " in found[TWINS]
    assert "of the rarer label have all inputs of training rows of another flight_id" in found[TWINS]
    assert "If these are no copies, say `leaks: {twins: false}` in the model." in found[TWINS]
    honest = replace(world.spec, leaks=replace(world.spec.leaks, twins=False))
    judged = next(each for each in leaks.findings(honest, world.step()) if each.check == TWINS)
    assert judged.passed
    assert judged.sentence.endswith("stands in the training rows by key, content not compared.")


def test_among_many_rows_every_copy_is_found_by_its_content(world):
    """More than what the measures of single inputs sample."""
    rows = training_rows(world)
    more = [
        asked(
            f"SELECT * REPLACE (flight_id || '-{n}' AS flight_id, distance_miles + {n} AS distance_miles) FROM rows",
            rows=rows,
        )
        for n in range(120_000 // rows.num_rows + 1)
    ]
    many = pa.concat_tables(more)
    assert many.num_rows > 100_000
    test = asked("FROM rows WHERE split = 'test' AND label = 1 ORDER BY flight_id LIMIT 40", rows=rows)
    copies = with_column(test, "flight_id", [f"copy-{number:06}" for number in range(40)])
    found = failed(user_made(world, pa.concat_tables([many, with_column(copies, "split", ["train"] * 40)])))
    late = sum(
        y
        for y, split in zip(many["label"].to_pylist(), many["split"].to_pylist(), strict=True)
        if split in ("validation", "test")
    )
    assert f"40 of {late:,.0f} validation and test rows of the rarer label" in found[TWINS]


def test_resampling_before_the_split_is_found_by_the_rows_that_it_copied(world):
    rows = training_rows(world)
    late = asked("FROM rows WHERE label = 1", rows=rows)
    drawn = np.random.default_rng(0).integers(0, late.num_rows, rows.num_rows // 2)
    found = failed(user_made(world, shuffled_split(pa.concat_tables([rows, late.take(drawn)]))))
    assert set(found) == {TWINS}
    assert "resample training rows only, after the split" in found[TWINS]


def test_a_random_split_alone_is_found_by_its_order(world):
    """No leak of rows, but days that teach are asked: the order of the splits says it."""
    world.step().lake.write(world.spec.training_set, shuffled_split(training_rows(world)))
    findings = training_set.materialize(world.spec, world.step())[world.spec.training_set].findings
    assert set(failed(findings)) == {catalogue.IN_TIME.name}


def test_a_feature_table_that_was_filled_with_the_future_is_found_in_the_training_rows(world):
    lake, name = world.step().lake, "features/carrier_delays"
    filled = asked(FUTURE, rows=world.rows(name), outcomes=world.rows("tables/flight_outcomes"))
    lake.write(name, filled, partitions=list(DAYS))
    result = training_set.materialize(world.spec, world.step())[world.spec.training_set]
    assert not result.produced[""].reused
    found = failed(result.findings)
    assert "'carrier_delays__late_rate_6h' of " in found[REPEATED]
    spec = world.spec.views[0]
    assert "has other values in late_rate_6h" in leaks.of_view(spec, world.step()).sentence


@pytest.fixture
def with_numbers(world, tmp_path, monkeypatch):
    """Flight numbers that were given again afterwards: late flights got those from 5000 on."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "numbered.py").write_text(
        "from ml_assets.defs.flights.features import request_features as shipped\n"
        "def features(flights):\n"
        '    return {**shipped(flights), "flight_number": flights["flight_number"]}\n'
    )
    lake = world.step().lake
    rows = world.rows("tables/flight_schedules")
    numbered = asked(
        """SELECT s.* REPLACE (s.flight_number % 4000 + 5000 * coalesce(l.label, 0)::BIGINT + 1 AS flight_number)
            FROM rows s LEFT JOIN labels l USING (flight_id, partition_key)""",
        rows=rows,
        labels=world.rows(world.spec.labels).select(["flight_id", "partition_key", "label"]),
    )
    lake.write("tables/flight_schedules", numbered, partitions=sorted(set(rows["partition_key"].to_pylist())))
    return world.having(request_features="numbered.features")


def test_a_key_that_was_made_from_the_label_is_named_with_its_roc_auc(with_numbers):
    world = with_numbers
    result = training_set.materialize(world.spec, world.step())[world.spec.training_set]
    found = failed(result.findings)
    assert set(found) == {ECHO}
    assert "flight_number tells the label with ROC AUC 1.000: a single feature may reach 0.95" in found[ECHO]


TO_TELL = (
    "Either it holds outcomes of its own rows, or of rows around them: a leak. Or outcomes go by time or by groups,"
    " and the rows are few: then it is honest. `ml-assets leaks` tells: where"
    " `recomputed_without_later_data_it_is_the_same` and `rows_come_out_the_same_without_later_data` hold, and"
    " `known_at` of its tables is true, it is honest. Take the outcomes out of a leak; for an honest one wait for more"
    " history, or put it into `leaks: {allow: [...]}` of the model."
)


def test_of_what_is_good_on_a_random_split_alone_both_causes_are_named_with_the_way_out_of_each(with_numbers):
    world = with_numbers
    rows = world.rows("tables/flight_schedules")
    days = sorted(set(rows["partition_key"].to_pylist()))
    learnt = training_rows(world).filter(pc.field("split") == "train")
    number = "CASE WHEN flight_id IN (SELECT flight_id FROM learnt) THEN flight_number ELSE hash(flight_id) % 2000 END"
    blurred = asked(f"SELECT * REPLACE ({number} AS flight_number) FROM rows", rows=rows, learnt=learnt)
    world.step().lake.write("tables/flight_schedules", blurred.cast(rows.schema), partitions=days)
    found = failed(training_set.materialize(world.spec, world.step())[world.spec.training_set].findings)
    assert re.search(r" on a random split, but 0\.[45]\d\d on later rows\. " + re.escape(TO_TELL), found[ECHO])
    assert "Take the outcomes out of it" not in found[ECHO]


def test_an_honest_feature_that_is_that_good_can_be_allowed(with_numbers):
    world = with_numbers
    training_set.materialize(world.spec, world.step())
    allowed = replace(world.spec, leaks=replace(world.spec.leaks, allow=("flight_number",)))
    assert failed(leaks.findings(allowed, world.step())) == {}


def test_a_training_set_with_a_leak_is_refused_until_the_model_allows_the_feature_and_it_is_judged_again(with_numbers):
    world = with_numbers
    training_set.materialize(world.spec, world.step())
    refused = explained(world.spec, world)
    assert refused.decision is Decision.REFUSED
    assert "no model may have them: no_feature_echoes_the_label: flight_number tells the label" in refused.sentence()
    allowed = replace(world.spec, leaks=replace(world.spec.leaks, allow=("flight_number",)))
    assert explained(allowed, world).sentence() == "Would run, since `leaks` of the model was edited."
    again = training_set.materialize(allowed, world.step())[allowed.training_set]
    assert again.produced[""].reused
    assert failed(again.findings) == {}
    assert explained(allowed, world).decision is Decision.STANDS


def explained(spec: ModelSpec, world: World) -> Verdict:
    return one(Asset("training_sets", spec), world.step(), "")
