import json
from datetime import timedelta

import pyarrow as pa
import pytest

from ml_assets.engine import connect
from ml_assets.errors import MlAssetsError, TableNotFoundError
from ml_assets.steps import catalogue, ingest, pending, quarantine
from ml_assets.steps.quarantine import Choice, Verdict
from ml_assets_tests.project import flights

DAY, NEXT = "2013-01-05", "2013-01-06"
LATE, STRANGE = "UA-2013-01-05-21", "B6-2013-01-05-00"
RELEASED = Verdict("released", "the sensor was off by a factor of ten", "ada")
DROPPED = Verdict("dropped", "a test flight", "ada")
ALL = Choice()


def with_values(rows, flight_id, **values):
    listed = [row | values if row["flight_id"] == flight_id else row for row in rows.to_pylist()]
    return pa.Table.from_pylist(listed, rows.schema)


@pytest.fixture
def spec(project):
    """A day with a flight that is too late by far and one of an airline that nobody knows."""
    faulty = with_values(with_values(flights(DAY), LATE, delay=1048.0), STRANGE, carrier="ZZ")
    project.land(f"{DAY}.parquet", faulty)
    declared = project.table("flights")
    ingest.ingest(declared, project.step(DAY))
    return declared


def shown(project, spec, *, everything=False):
    with connect() as con:
        quarantine.register(con, project.lake, spec)
        rows = con.sql(f"FROM refused {'' if everything else 'WHERE action IS NULL'} ORDER BY file, row")
        return rows.to_arrow_table().to_pylist()


def log(project, spec):
    rows = project.lake.dataset(quarantine.audit(spec)).to_table()
    return sorted(rows.to_pylist(), key=lambda row: (row["decided_at"], row["file"], row["row"]))


def in_table(project, flight_id):
    return [row for row in project.rows("tables/flights") if row["flight_id"] == flight_id]


def test_refused_rows_are_shown_as_delivered_with_place_rule_and_arrival(project, spec):
    strange, late = shown(project, spec)
    assert (late["file"], late["partition_key"], late["action"]) == (f"{DAY}.parquet", DAY, None)
    assert late["rules"] == ["delay <= 600"]
    assert json.loads(late["record"])["delay"] == 1048.0
    assert late["arrived_at"] == project.rows("raw/flights")[0]["arrived_at"]
    assert strange["rules"][0].startswith("carrier in")


def test_a_release_corrects_rows_which_then_enter_through_the_contract(project, spec):
    outcome = quarantine.release(spec, project.lake, Choice(rules=("delay <= 600",)), RELEASED, {"delay": "delay / 10"})
    assert (outcome.chosen, dict(outcome.decided), outcome.breaking) == (1, {DAY: 1}, {})
    assert in_table(project, LATE) == []
    result = ingest.ingest(spec, project.step(DAY))["tables/flights"]
    assert set(result.produced) == {DAY}
    assert [each.passed for each in result.findings if each.check == catalogue.RECONCILED.name] == [True]
    assert [row["delay"] for row in in_table(project, LATE)] == [104.8]
    assert [json.loads(row["record"])["carrier"] for row in shown(project, spec)] == ["ZZ"]


def test_a_release_makes_its_days_due_for_the_reconciling_schedule(project, spec):
    assert pending.of_table(spec, project.step()) == {}
    quarantine.release(spec, project.lake, Choice(rules=("delay <= 600",)), RELEASED, {"delay": "1.0"})
    assert set(pending.of_table(spec, project.step())) == {DAY}
    ingest.ingest(spec, project.step(DAY))
    assert pending.of_table(spec, project.step()) == {}


def test_a_released_row_equals_the_row_that_would_have_been_delivered(project, spec):
    good = {row["flight_id"]: row for row in flights(DAY).to_pylist()}[LATE]
    quarantine.release(spec, project.lake, Choice(rules=("delay <= 600",)), RELEASED, {"delay": str(good["delay"])})
    ingest.ingest(spec, project.step(DAY))
    (row,) = in_table(project, LATE)
    assert {name: row[name] for name in good} == good


def test_a_release_leaves_a_line_in_the_log_that_names_its_delivery(project, spec):
    outcome = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "delay / 10", "carrier": "'UA'"})
    lines = log(project, spec)
    assert [(line["action"], line["rule"], line["reason"], line["actor"]) for line in lines] == [
        ("released", lines[0]["rule"], RELEASED.reason, "ada"),
        ("released", "delay <= 600", RELEASED.reason, "ada"),
    ]
    (name,) = {line["delivery"] for line in lines}
    assert outcome.deliveries == {DAY: name}
    delivered = next(row for row in project.rows("raw/flights") if row["name"] == name)
    assert delivered["current"]
    assert len(project.lake.get_object(delivered["object"]).splitlines()) == 2
    assert all(row["delivery"] == name for row in shown(project, spec, everything=True))


def test_releasing_the_same_rows_twice_adds_nothing(project, spec):
    quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "1.0", "carrier": "'UA'"})
    before = project.versions()
    again = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "1.0", "carrier": "'UA'"})
    assert (again.chosen, again.n_decided) == (0, 0)
    assert project.versions() == before


def test_a_release_that_was_killed_before_its_log_is_completed_by_the_next(project, spec, monkeypatch):
    corrections = {"delay": "1.0", "carrier": "'UA'"}
    with monkeypatch.context() as patch:
        patch.setattr(project.lake.__class__, "write", killed_at("audit/flights", project.lake.__class__.write))
        with pytest.raises(KeyboardInterrupt):
            quarantine.release(spec, project.lake, ALL, RELEASED, corrections)
    raw = project.lake.version("raw/flights")
    assert not project.lake.exists("audit/flights")
    outcome = quarantine.release(spec, project.lake, ALL, RELEASED, corrections)
    assert project.lake.version("raw/flights") == raw
    assert {line["delivery"] for line in log(project, spec)} == set(outcome.deliveries.values())


def killed_at(name, write):
    def die(self, written, *arguments, **options):
        if written == name:
            raise KeyboardInterrupt
        return write(self, written, *arguments, **options)

    return die


def test_rows_that_would_still_break_a_rule_stay_in_quarantine_without_a_line(project, spec):
    outcome = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "700.0"})
    assert (outcome.chosen, outcome.n_decided) == (2, 0)
    assert sorted(outcome.breaking.values()) == [1, 2]
    assert outcome.breaking["delay <= 600"] == 2
    assert not project.lake.exists("audit/flights")
    assert len(project.rows("raw/flights")) == 1


def test_a_dry_run_says_the_same_and_writes_nothing(project, spec):
    before = project.versions()
    tried = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "1.0"}, dry_run=True)
    assert project.versions() == before
    done = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "1.0"})
    assert (tried.decided, tried.breaking) == (done.decided, done.breaking) == ({DAY: 1}, tried.breaking)


def test_a_released_row_takes_the_place_of_one_with_its_key_and_that_is_counted(project, spec):
    project.land(f"{DAY}-more.parquet", with_values(flights(DAY), LATE, delay=5.0))
    ingest.ingest(spec, project.step(DAY))
    outcome = quarantine.release(spec, project.lake, Choice(rules=("delay <= 600",)), RELEASED, {"delay": "7.0"})
    assert outcome.replacing == 1
    ingest.ingest(spec, project.step(DAY))
    assert [row["delay"] for row in in_table(project, LATE)] == [7.0]


def test_dropped_rows_are_shown_no_longer_and_kept(project, spec):
    stored = project.rows("quarantine/flights")
    outcome = quarantine.drop(spec, project.lake, Choice(rules=("delay <= 600",)), DROPPED)
    assert (outcome.chosen, outcome.decided) == (1, {DAY: 1})
    assert [json.loads(row["record"])["carrier"] for row in shown(project, spec)] == ["ZZ"]
    assert project.rows("quarantine/flights") == stored
    assert [row["action"] for row in shown(project, spec, everything=True)] == [None, "dropped"]
    assert quarantine.release(spec, project.lake, Choice(rules=("delay <= 600",)), RELEASED, {}).chosen == 0


def test_a_decision_holds_for_what_had_been_delivered_by_then(project, spec):
    quarantine.drop(spec, project.lake, ALL, DROPPED)
    assert shown(project, spec) == []
    project.land(f"{DAY}.parquet", with_values(flights(DAY), LATE, delay=900.0))
    ingest.ingest(spec, project.step(DAY))
    assert [json.loads(row["record"])["delay"] for row in shown(project, spec)] == [900.0]


def test_decided_rows_are_counted_by_partition(project, spec):
    refused = project.lake.dataset(spec.quarantine).to_table()
    assert quarantine.decided(project.lake, spec, refused) == {}
    quarantine.drop(spec, project.lake, Choice(rules=("delay <= 600",)), DROPPED)
    assert quarantine.decided(project.lake, spec, refused) == {DAY: 1}


def test_one_row_is_chosen_by_its_file_and_number(project, spec):
    number = next(row["row"] for row in shown(project, spec) if row["rules"] == ["delay <= 600"])
    chosen = Choice(file=f"{DAY}.parquet", row=number)
    assert quarantine.drop(spec, project.lake, chosen, DROPPED, dry_run=True).chosen == 1
    assert quarantine.drop(spec, project.lake, Choice(partitions=(NEXT,)), DROPPED, dry_run=True).chosen == 0


def test_several_partitions_are_released_in_one_commit(project, spec):
    project.land(f"{NEXT}.parquet", with_values(flights(NEXT), "UA-2013-01-06-21", delay=1048.0))
    ingest.ingest(spec, project.step(NEXT))
    before = project.lake.version("raw/flights")
    outcome = quarantine.release(spec, project.lake, ALL, RELEASED, {"delay": "1.0", "carrier": "'UA'"})
    assert dict(outcome.decided) == {DAY: 2, NEXT: 1}
    assert len(set(outcome.deliveries.values())) == 2
    assert project.lake.version("raw/flights") == before + 1


def test_a_table_without_partitions_releases_too(project):
    rows = pa.table({"carrier": ["UA", "B6"], "fleet": pa.array([100, 0], pa.int64())})
    project.land("carriers.parquet", rows, table="carriers")
    declared = project.table("carriers", invalid_rows={"fail_above": 0.9})
    ingest.ingest(declared, project.step())
    outcome = quarantine.release(declared, project.lake, ALL, RELEASED, {"fleet": "fleet + 7"})
    assert dict(outcome.decided) == {"": 1}
    ingest.ingest(declared, project.step())
    assert {row["carrier"]: row["fleet"] for row in project.rows("tables/carriers")} == {"UA": 100, "B6": 7}
    assert quarantine.release(declared, project.lake, ALL, RELEASED, {"fleet": "fleet + 7"}).chosen == 0


@pytest.mark.parametrize(
    ("corrections", "said"),
    [
        ({"dely": "1"}, "--set: no column dely, but: flight_id, carrier"),
        ({"delay": "nope(delay)"}, "nope does not exist"),
        ({"delay": "'late'"}, "late"),
    ],
)
def test_a_correction_that_cannot_be_run_is_said(project, spec, corrections, said):
    with pytest.raises(MlAssetsError, match="--set") as raised:
        quarantine.release(spec, project.lake, ALL, RELEASED, corrections)
    assert said in str(raised.value)


def test_a_table_that_was_never_made_has_no_quarantine(project):
    with pytest.raises(TableNotFoundError, match="No delivery of flights has been judged row by row yet"):
        quarantine.drop(project.table("flights"), project.lake, ALL, DROPPED)


def test_a_quarantine_without_arrival_times_takes_those_of_the_files(project, spec):
    stored = project.lake.dataset(spec.quarantine).to_table()
    if "arrived_at" in stored.column_names:
        project.lake.write("quarantine/older", stored.drop_columns(["arrived_at"]), partitions=[DAY])
        project.lake.write("raw/older", project.lake.dataset(spec.raw).to_table(), partitions=[DAY])
        spec = type(spec)(**{**vars(spec), "name": "older"})
    arrived = {row["arrived_at"] for row in shown(project, spec)}
    assert arrived == {row["arrived_at"] for row in project.rows("raw/flights")}
    assert max(arrived) - min(arrived) < timedelta(seconds=1)


def test_an_outlier_that_is_released_stands_in_the_table(project):
    declared = project.table("flights", expectations={"outliers": {"delay": {"action": "quarantine"}}})
    project.land(f"{DAY}.parquet", with_values(flights(DAY), LATE, delay=590.0))
    ingest.ingest(declared, project.step(DAY))
    assert in_table(project, LATE) == []
    quarantine.release(declared, project.lake, Choice(rules=("delay within 1.5 IQR",)), RELEASED, {})
    ingest.ingest(declared, project.step(DAY))
    assert [row["delay"] for row in in_table(project, LATE)] == [590.0]
    assert project.rows("quarantine/flights") == []


def test_a_decision_is_not_on_the_row_that_is_delivered_again(project):
    declared = project.table("flights", invalid_rows={"fail_above": 0.01})
    project.land(f"{DAY}.parquet", with_values(flights(DAY), LATE, delay=1048.0))
    assert ingest.ingest(declared, project.step(DAY))["tables/flights"].produced == {}
    quarantine.drop(declared, project.lake, ALL, DROPPED)
    assert set(ingest.ingest(declared, project.step(DAY))["tables/flights"].produced) == {DAY}
    project.land(f"{DAY}.parquet", with_values(flights(DAY), LATE, delay=1049.0))
    assert ingest.ingest(declared, project.step(DAY))["tables/flights"].produced == {}
