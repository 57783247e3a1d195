"""Which rows of history a version can be asked about: those that the online store still has the right row for."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets import clock
from ml_assets.steps import catalogue, evaluation, online
from ml_assets.steps.history import ANOTHER_ROW, history
from ml_assets_tests.flights import DAYS, World, copied, ended, finding

VIEW = "features/aircraft_attributes"
HALFWAY = datetime.fromisoformat(f"{DAYS[7]}T00:00:00+00:00")
EQUAL = "all 61 inputs and scores have equal bits"
NOW = datetime(2013, 1, 16, tzinfo=UTC)


@pytest.fixture
def unserved(grown, tmp_path):
    """Version 1 is released, and no server ever ran."""
    leave = ["endpoints", "lake/objects/certificates", "lake/objects/memo/certificates"]
    with ended(World(copied(grown.home, tmp_path / "home", leave=leave), grown.spec)) as world:
        yield world


def refit(world: World, *moments: datetime) -> None:
    """Every aircraft gets other seats at some moments, in the lake and online."""
    rows = world.rows(VIEW)
    later = [rows]
    for n, moment in enumerate(moments, 1):
        times = pa.array([moment] * rows.num_rows, pa.timestamp("us", "UTC"))
        changed = rows.set_column(rows.column_names.index("feature_timestamp"), "feature_timestamp", times)
        seats = pc.add(changed["seats"], float(n))
        later.append(changed.set_column(rows.column_names.index("seats"), "seats", seats).cast(rows.schema))
    run, spec = world.step(), next(view for view in world.spec.views if view.name == VIEW)
    run.lake.write(VIEW, pa.concat_tables(later))
    online.keep(spec, run, online.stored_name(spec, run.lake), [""])


def left_out(world: World) -> int:
    schema = evaluation.fetch(world.spec, world.step(), "1").schema
    return history(world.spec, world.step(), schema, rows=100, moments=5).left_out.get(ANOTHER_ROW, 0)


def test_a_lookup_that_changed_within_five_weeks_is_asked_about_before_and_after(unserved):
    refit(unserved, HALFWAY)
    assert left_out(unserved) == 0
    assert EQUAL in finding(unserved.serve(), catalogue.EQUAL_BITS.name).sentence


def test_what_begins_in_the_future_leaves_no_row_of_history_out(unserved):
    with clock.frozen(NOW):
        refit(unserved, HALFWAY, NOW + timedelta(days=60))
        assert left_out(unserved) == 0
        assert EQUAL in finding(unserved.serve(), catalogue.EQUAL_BITS.name).sentence


def test_rows_that_had_a_row_which_has_left_the_store_are_left_out_and_counted(unserved):
    refit(unserved, HALFWAY, NOW + timedelta(days=60))  # by the clock of the machine that is long ago
    known = set(unserved.rows(VIEW)["tailnum"].to_pylist())
    spine = unserved.rows("tables/flight_schedules").to_pylist()
    asked = [row["scheduled_departure_at"] - timedelta(hours=2) for row in spine if row["tailnum"] in known]
    assert left_out(unserved) == sum(DAYS[0] <= at.date().isoformat() and at < HALFWAY for at in asked) > 1000
    assert EQUAL in finding(unserved.serve(), catalogue.EQUAL_BITS.name).sentence
