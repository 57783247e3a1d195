"""What ingestion does with good deliveries and bad ones."""

import sys
from shutil import rmtree

import pyarrow as pa
import pytest

from ml_assets import reading
from ml_assets.errors import DeliveryError
from ml_assets.records import StepResult
from ml_assets.steps import catalogue, deliver, ingest
from ml_assets_tests.project import CONTRACTS, Project, days, flights, parquet

FIRST, SECOND, THIRD = days("2013-01-01", "2013-01-03")
READABLE, NOT_EMPTY, FEW_INVALID = catalogue.READABLE.name, catalogue.NOT_EMPTY.name, catalogue.FEW_INVALID.name


@pytest.fixture
def table(project):
    return project.table("flights")


def take_in(project: Project, first: str = "", last: str = "", name: str = "flights", **changes) -> StepResult:
    results = ingest.ingest(project.table(name, **changes), project.step(first, last))
    return results[f"tables/{name}"]


def verdicts(result: StepResult) -> dict[str, bool]:
    return {finding.check: finding.passed for finding in result.findings}


def said(result: StepResult, check: str) -> str:
    return next(finding.sentence for finding in result.findings if finding.check == check)


def ids(project: Project, name: str = "tables/flights") -> list[str]:
    return sorted(row["flight_id"] for row in project.rows(name))


def without(rows: pa.Table, column: str) -> pa.Table:
    return rows.drop_columns([column])


def changed(rows: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(column), column, values)


def bad_delay(rows: pa.Table, n: int) -> pa.Table:
    delays = rows["delay"].to_pylist()
    return changed(rows, "delay", pa.array([9999.0] * n + delays[n:]))


def test_delivered_days_become_partitions_with_their_own_versions(project):
    project.land_days(FIRST, SECOND)
    result = take_in(project, FIRST, SECOND)
    assert set(result.produced) == {FIRST, SECOND}
    assert len({produced.data_version for produced in result.produced.values()}) == 2
    assert {produced.metadata["n_rows"] for produced in result.produced.values()} == {16}
    assert all(verdicts(result).values())


def test_a_day_that_was_not_delivered_is_named_and_produces_nothing(project):
    project.land_days(FIRST)
    result = take_in(project, FIRST, SECOND)
    assert set(result.produced) == {FIRST}
    assert said(result, NOT_EMPTY) == f"No rows in {SECOND}."


def test_nothing_delivered_at_all_fails_and_writes_nothing(project):
    with pytest.raises(DeliveryError, match=r"carriers/\*\.parquet has nothing\. Deliver it"):
        take_in(project, name="carriers")
    assert "tables/carriers" not in project.versions()


BROKEN = {
    "truncated": (parquet(flights(SECOND))[:-100], "deliver it again"),
    "no bytes": (b"", "the file is empty"),
    "no rows": (parquet(flights(SECOND)[:0]), "it holds no rows"),
    "not Parquet": (b"<html>502 Bad Gateway</html>", "unreadable"),
    "wrong type": (
        parquet(changed(flights(SECOND), "delay", pa.array(["late"] * 16))),
        "column delay is not DOUBLE: found string",
    ),
    "missing column": (parquet(without(flights(SECOND), "delay")), "missing column delay"),
    "unexpected column": (
        parquet(flights(SECOND).append_column("gate", pa.array(["A1"] * 16))),
        "unexpected column gate",
    ),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_refuses_its_day_alone_and_is_named_with_advice(project, content, words):
    project.land_days(FIRST, THIRD)
    project.land(f"{SECOND}.parquet", content)
    result = take_in(project, FIRST, THIRD)
    assert set(result.produced) == {FIRST, THIRD}
    assert not verdicts(result)[READABLE]
    assert f"{SECOND}.parquet" in said(result, READABLE)
    assert words in said(result, READABLE)
    assert project.lake.partitions("tables/flights") == [FIRST, THIRD]


def test_a_broken_file_that_replaces_a_good_one_leaves_the_good_rows(project):
    project.land_days(SECOND)
    take_in(project, SECOND)
    before, version = ids(project), project.lake.version("tables/flights")
    project.land(f"{SECOND}.parquet", BROKEN["truncated"][0])
    assert take_in(project, SECOND).produced == {}
    assert (ids(project), project.lake.version("tables/flights")) == (before, version)


def test_a_broken_file_fails_again_until_it_is_delivered_well(project):
    project.land(f"{FIRST}.parquet", BROKEN["truncated"][0])
    assert not verdicts(take_in(project, FIRST))[READABLE]
    assert not verdicts(take_in(project, FIRST))[READABLE]
    project.land_days(FIRST)
    result = take_in(project, FIRST)
    assert all(verdicts(result).values())
    assert len(ids(project)) == 16


def test_a_broken_file_beside_a_good_one_of_the_day_refuses_the_day(project):
    project.land_days(FIRST)
    project.land(f"{FIRST}T12.parquet", b"PAR1")
    assert take_in(project, FIRST).produced == {}


def test_the_same_file_under_another_name_is_nothing_new(project):
    project.land_days(FIRST)
    first = take_in(project, FIRST)
    version = project.lake.version("tables/flights")
    project.land(f"{FIRST}-again.parquet", flights(FIRST))
    again = take_in(project, FIRST)
    assert again.produced[FIRST].reused
    assert again.produced[FIRST].data_version == first.produced[FIRST].data_version
    assert project.lake.version("tables/flights") == version


def test_the_same_file_under_another_name_never_undoes_a_correction_that_came_before_it(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    project.land(f"{FIRST}-correction.parquet", flights(FIRST, hours=(3,), delay=-7.0))
    corrected = take_in(project, FIRST).produced[FIRST]
    project.land(f"{FIRST}-again.parquet", flights(FIRST))
    assert take_in(project, FIRST).produced[FIRST].reused
    anew = take_in(project, FIRST, invalid_rows={"fail_above": 0.3}).produced[FIRST]
    assert (anew.reused, anew.data_version) == (False, corrected.data_version)


def test_a_late_delivery_grows_its_day_and_leaves_the_others(project):
    project.land(f"{FIRST}T06.parquet", flights(FIRST, hours=range(0, 6, 3)))
    project.land_days(SECOND)
    first = take_in(project, FIRST, SECOND)
    project.land(f"{FIRST}T12.parquet", flights(FIRST, hours=range(6, 12, 3)))
    grown = take_in(project, FIRST, SECOND)
    assert grown.produced[FIRST].metadata["n_rows"] == 8
    assert grown.produced[FIRST].data_version != first.produced[FIRST].data_version
    assert grown.produced[SECOND].reused


def test_a_day_delivered_in_parts_has_the_content_of_a_day_delivered_whole(project):
    project.land(f"{FIRST}T12.parquet", flights(FIRST, hours=range(12, 24, 3)))
    take_in(project, FIRST)
    project.land(f"{FIRST}T00.parquet", flights(FIRST, hours=range(0, 12, 3)))
    parts = take_in(project, FIRST).produced[FIRST].data_version
    for file in (project.landing / "flights").iterdir():
        file.unlink()
    project.land_days(SECOND)
    whole = project.lake.content("tables/flights")[FIRST].hash
    assert parts == whole
    assert project.lake.content("tables/flights")[FIRST].n_rows == 16


def test_a_corrected_file_replaces_the_one_of_its_name(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    project.land(f"{FIRST}.parquet", flights(FIRST, hours=(0,), delay=7.0))
    result = take_in(project, FIRST)
    assert ids(project) == [f"B6-{FIRST}-00", f"UA-{FIRST}-00"]
    assert result.produced[FIRST].metadata["n_rows"] == 2
    kept = ingest.deliveries(project.table("flights"), project.lake, [FIRST])
    assert sorted(file.current for file in kept) == [False, True]


def test_a_correction_that_is_taken_back_brings_the_first_content_again(project):
    first, other = flights(FIRST), flights(FIRST, delay=7.0)
    versions = []
    for rows in (first, other, first):
        project.land(f"{FIRST}.parquet", rows)
        versions.append(take_in(project, FIRST).produced[FIRST].data_version)
    assert versions[0] == versions[2] != versions[1]
    assert {row["delay"] for row in project.rows("tables/flights")} != {7.0}


def test_a_restated_row_in_a_later_file_wins(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    project.land(f"{FIRST}-correction.parquet", flights(FIRST, hours=(3,), delay=-7.0))
    result = take_in(project, FIRST)
    restated = [row for row in project.rows("tables/flights") if row["delay"] == -7.0]
    assert sorted(row["flight_id"] for row in restated) == [f"B6-{FIRST}-03", f"UA-{FIRST}-03"]
    assert result.produced[FIRST].metadata | {"n_rows": 16, "duplicates": 2} == result.produced[FIRST].metadata


def test_files_of_one_name_in_two_folders_are_two_files(project):
    for hour in (0, 3):
        project.land(f"{FIRST}.parquet", flights(FIRST, hours=(hour,)), table=f"flights/terminal{hour}")
    source = {"source": {"files": "flights/**/*.parquet"}}
    take_in(project, FIRST, **source)
    assert len(ids(project)) == 4
    versions = project.versions()
    assert take_in(project, FIRST, **source).produced[FIRST].reused
    assert project.versions() == versions


def test_rows_that_break_the_contract_are_kept_in_quarantine_with_the_rule(project):
    project.land(f"{FIRST}.parquet", bad_delay(flights(FIRST), 2))
    result = take_in(project, FIRST)
    assert result.produced[FIRST].metadata | {"n_rows": 14, "quarantined": 2} == result.produced[FIRST].metadata
    quarantine = project.rows("quarantine/flights")
    assert [row["row"] for row in quarantine] == [1, 2]
    assert all("delay" in row["rule"] for row in quarantine)


def test_too_many_invalid_rows_refuse_the_day_and_what_was_valid_before_stays(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    before = project.rows("tables/flights")
    project.land(f"{FIRST}.parquet", bad_delay(flights(FIRST), 4))
    result = take_in(project, FIRST)
    assert result.produced == {}
    assert f"({FIRST}: 25.0%)" in said(result, FEW_INVALID)
    assert project.rows("tables/flights") == before
    assert len(project.rows("quarantine/flights")) == 4


def test_exactly_the_allowed_share_of_invalid_rows_passes(project):
    project.land(f"{FIRST}.parquet", bad_delay(flights(FIRST), 4))
    assert set(take_in(project, FIRST, invalid_rows={"fail_above": 0.25}).produced) == {FIRST}


def test_a_row_of_another_day_is_quarantined(project):
    project.land(f"{FIRST}.parquet", pa.concat_tables([flights(FIRST), flights(SECOND, hours=(0,))]))
    take_in(project, FIRST)
    assert {row["rule"] for row in project.rows("quarantine/flights")} == {"known_at_in_partition"}
    assert len(ids(project)) == 16


def test_the_quarantine_empties_when_a_day_is_delivered_well(project):
    project.land(f"{FIRST}.parquet", bad_delay(flights(FIRST), 4))
    take_in(project, FIRST)
    project.land_days(FIRST)
    take_in(project, FIRST)
    assert project.rows("quarantine/flights") == []


def test_a_second_run_finds_everything_in_place_and_commits_nothing(project):
    project.land_days(FIRST, SECOND)
    project.land_carriers()
    first = take_in(project, FIRST, SECOND), take_in(project, name="carriers")
    versions = project.versions()
    again = take_in(project, FIRST, SECOND), take_in(project, name="carriers")
    assert project.versions() == versions
    assert all(produced.reused for result in again for produced in result.produced.values())
    for before, after in zip(first, again, strict=True):
        assert {p: v.data_version for p, v in before.produced.items()} == {
            p: v.data_version for p, v in after.produced.items()
        }


def test_totals_reconcile_over_valid_broken_and_doubled_rows(project):
    rows = pa.concat_tables([bad_delay(flights(FIRST), 2), flights(FIRST, hours=(3,))])
    project.land(f"{FIRST}.parquet", rows)
    result = take_in(project, FIRST)
    numbers = result.produced[FIRST].metadata
    assert (numbers["n_rows"], numbers["quarantined"], numbers["duplicates"]) == (14, 2, 2)
    assert said(result, catalogue.RECONCILED.name) == "18 delivered = 14 valid + 2 quarantined + 2 duplicates"


def test_a_stored_file_that_was_altered_is_found(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    stored = ingest.deliveries(project.table("flights"), project.lake, [FIRST])[0]
    project.lake.replace_object(stored.object, b"altered")
    result = deliver.store(project.table("flights"), project.step(FIRST))
    assert verdicts(result) == {catalogue.KEPT.name: False}
    assert f"{FIRST}.parquet" in said(result, catalogue.KEPT.name)


def test_a_run_that_judges_nothing_says_so(project):
    project.land_days(FIRST)
    take_in(project, FIRST)
    findings = take_in(project, FIRST).findings
    assert {finding.sentence.split(":")[0] for finding in findings} == {"Nothing was computed"}
    declared = catalogue.of_table(project.table("flights"))
    assert {finding.check for finding in findings} == {check.name for check in declared}


def test_only_the_wanted_output_is_made(project):
    project.land_days(FIRST)
    results = ingest.ingest(project.table("flights"), project.step(FIRST, outputs=frozenset({"raw/flights"})))
    assert set(results) == {"raw/flights"}
    assert set(project.versions()) == {"raw/flights"}


def test_the_order_in_which_days_arrive_does_not_change_their_content(project):
    for day in (THIRD, FIRST, SECOND):
        project.land_days(day)
        take_in(project, day)
    one_by_one = project.lake.content("tables/flights")
    rmtree(project.lake.uri)
    take_in(project, FIRST, THIRD)
    assert project.lake.content("tables/flights") == one_by_one


CONFIGURATIONS = {
    "keys": {"keys": ["carrier", "arrived_at"]},
    "partition column": {"partitions": {"column": "arrived_at", "start": "2013-01-01", "end": "2013-01-31"}},
}


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_change_of_the_declaration_judges_the_rows_anew(project, changes):
    project.land_days(FIRST)
    take_in(project, FIRST)
    assert not take_in(project, FIRST, **changes).produced[FIRST].reused
    assert take_in(project, FIRST, **changes).produced[FIRST].reused


def test_a_rule_that_changes_judges_the_rows_anew(project):
    project.land(f"{FIRST}.parquet", changed(flights(FIRST), "delay", pa.array([500.0] + [0.0] * 15)))
    assert said(take_in(project, FIRST), FEW_INVALID).startswith("0 of 16")
    project.write("../../contracts.py", CONTRACTS.replace("le=600", "le=400"))
    sys.modules.pop(f"{project.package}.contracts")
    assert said(take_in(project, FIRST), FEW_INVALID).startswith("1 of 16")


def test_a_stricter_share_refuses_what_was_accepted_before(project):
    project.land(f"{FIRST}.parquet", bad_delay(flights(FIRST), 2))
    assert set(take_in(project, FIRST, invalid_rows={"fail_above": 0.2}).produced) == {FIRST}
    result = take_in(project, FIRST, invalid_rows={"fail_above": 0.01})
    assert not verdicts(result)[FEW_INVALID]


EVERY_KIND = {
    "missing": {"delay": 0.5},
    "outliers": {"delay": {}},
    "shift": {"delay": {}},
    "references": {"carrier": {"table": "carriers", "column": "carrier"}},
}


@pytest.mark.parametrize(
    ("content", "last"),
    [(b"no Parquet", ""), (parquet(flights(FIRST)), ""), (b"no Parquet", THIRD), (parquet(flights(FIRST)), THIRD)],
    ids=["unreadable", "readable", "unreadable in a range of nothing", "readable in a range of nothing"],
)
def test_every_promised_check_says_something_once(project, content, last):
    spec = project.table("flights", expectations=EVERY_KIND)
    project.land(f"{FIRST}.parquet", content)
    for _ in range(2):
        result = ingest.ingest(spec, project.step(FIRST, last))[spec.table]
        assert sorted(finding.check for finding in result.findings) == sorted(c.name for c in catalogue.of_table(spec))


def test_a_table_that_is_referred_to_and_not_there_yet_is_said(project):
    project.land_days(FIRST)
    result = take_in(project, FIRST, expectations=EVERY_KIND)
    assert said(result, "carrier__in_carriers") == f"Not judged on {FIRST}: carriers.carrier is not there yet."


@pytest.mark.parametrize(
    ("this", "that", "column"),
    [
        ("    known_at: datetime\n", "    gate: str = pa.Field(nullable=True)\n    known_at: datetime\n", "gate"),
        ("delay: float = pa.Field(nullable=True, ge=-60, le=600)", "delay: int = pa.Field(nullable=True)", "delay"),
    ],
    ids=["a new column", "another type"],
)
def test_a_shift_is_not_judged_by_what_another_contract_wrote(project, this, that, column):
    before, rows = days("2013-01-01", "2013-01-09"), flights("2013-01-10")
    project.land_days(*before)
    project.land("2013-01-10.parquet", changed(rows, "delay", rows["delay"].cast(pa.int64())))
    take_in(project, before[0], before[-1])
    project.write("../../changed.py", CONTRACTS.replace(this, that, 1))
    attributes = {
        "contract": f"{project.package}.changed.Flights",
        "schema_drift": {"columns": "evolve"},
        "expectations": {"shift": {column: {}}, "missing": {"default": None}},
    }
    result = take_in(project, "2013-01-10", **attributes)
    assert said(result, READABLE) == "All files of 16 rows read."
    assert said(result, f"{column}__shift").startswith("Not judged on 2013-01-10: only 0 of 7 earlier partitions")


def test_a_refusal_leaves_rows_statistics_and_records_as_they_were(project):
    def standing():
        tables = [project.rows(name) for name in ("tables/flights", "profiles/flights")]
        rows = [[row for row in table if row["partition_key"] == SECOND] for table in tables]
        return rows, project.lake.get_object(f"memo/tables/flights/{SECOND}.json")

    project.land_days(FIRST, SECOND)
    take_in(project, FIRST, SECOND)
    before = standing()
    project.land(f"{FIRST}.parquet", flights(FIRST, delay=1.0))
    project.land(f"{SECOND}.parquet", bad_delay(flights(SECOND), 8))
    result = take_in(project, FIRST, SECOND)
    assert {day: produced.reused for day, produced in result.produced.items()} == {FIRST: False}
    assert standing() == before


@pytest.mark.parametrize("again", [("2013-01-10",), ("2013-01-01", "2013-01-10")], ids=["alone", "with the first"])
def test_a_day_is_judged_by_all_days_before_it_whatever_is_judged_with_it(project, again):
    project.land_days(*days("2013-01-01", "2013-01-10"))
    take_in(project, "2013-01-01", "2013-01-10")
    for day in again:
        project.land(f"{day}.parquet", flights(day, hours=(0, 3, 6), delay=1.0))
    result = take_in(project, again[0], "2013-01-10")
    expected = "6 rows on 2013-01-10, 0.38 times the median of the partitions before (16)"
    assert expected in said(result, "row_count_is_usual")


def test_the_query_of_a_broken_rule_finds_the_rows_of_the_run_and_no_others(project):
    for day in (FIRST, SECOND, THIRD):
        project.land(f"{day}.parquet", bad_delay(flights(day), 1))
    take_in(project, FIRST)
    result = take_in(project, SECOND, THIRD)
    query = next(f.numbers["query"] for f in result.findings if f.check == "delay__is_at_most")
    rows = reading.connect().sql(query).to_arrow_table()
    assert sorted(rows["partition_key"].to_pylist()) == [SECOND, THIRD]


def with_gate(day: str, name: str, values: list) -> pa.Table:
    rows = flights(day)
    return rows.append_column(name, pa.array((values * rows.num_rows)[: rows.num_rows]))


@pytest.mark.parametrize(
    ("first", "name", "values", "kept"),
    [([1.5], "gate", [2], 2.0), (["B2"], "gate", [7], "7"), ([1], "gate", [2], 2), ([1], "gate", [None], None)],
)
def test_a_new_column_comes_later_in_the_type_that_it_came_in(project, first, name, values, kept):
    evolves = {"schema_drift": {"columns": "evolve"}}
    project.land(f"{FIRST}.parquet", with_gate(FIRST, "gate", first))
    take_in(project, FIRST, **evolves)
    project.land(f"{SECOND}.parquet", with_gate(SECOND, name, values))
    assert take_in(project, SECOND, **evolves).produced
    assert {row["gate"] for row in project.rows("tables/flights") if row["partition_key"] == SECOND} == {kept}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("gate", ["B2"], "column gate is BIGINT in the table, and VARCHAR here; deliver it as before, or declare it"),
        ("gate", [1.5], "column gate is BIGINT in the table, and DOUBLE here"),
        ("Gate", [1], "column Gate came as gate before; spell it in one way"),
    ],
)
def test_a_new_column_that_does_not_fit_what_stands_refuses_its_day_and_no_other(project, name, values, words):
    evolves = {"schema_drift": {"columns": "evolve"}}
    project.land(f"{FIRST}.parquet", with_gate(FIRST, "gate", [1]))
    take_in(project, FIRST, **evolves)
    project.land(f"{SECOND}.parquet", with_gate(SECOND, name, values))
    project.land_days(THIRD)
    result = take_in(project, SECOND, THIRD, **evolves)
    assert set(result.produced) == {THIRD}
    assert f"{SECOND}.parquet: {words}" in said(result, READABLE)


def test_whole_numbers_that_no_double_can_hold_do_not_come_into_a_column_of_numbers(project):
    evolves = {"schema_drift": {"columns": "evolve"}}
    project.land(f"{FIRST}.parquet", with_gate(FIRST, "gate", [1.5]))
    take_in(project, FIRST, **evolves)
    project.land(f"{SECOND}.parquet", with_gate(SECOND, "gate", [2**53 + 1]))
    assert "column gate is DOUBLE in the table, and BIGINT here" in said(take_in(project, SECOND, **evolves), READABLE)
