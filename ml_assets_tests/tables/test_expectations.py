"""What a table is expected to be like, judged on made-up profiles at the boundaries, and on the real flights."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets import engine
from ml_assets.feeds import flights as feed
from ml_assets.tables.evaluate import Evidence, evaluate
from ml_assets.tables.expectations import Fences, Missing, MissingSpike, Outliers, References, Shift, Volume
from ml_assets.tables.profile import PROFILE_SCHEMA, profile_partitions
from ml_assets.tables.schema import Column, Contract
from ml_assets.tables.validate import validate

LATER = datetime(2015, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def days(n, since=date(2013, 1, 1)):
    return [(since + i * DAY).isoformat() for i in range(n)]


def profiles(rows, nulls=None, keys=None):
    """Profiles of one column x: rows and nulls by day."""
    keys = keys or days(len(rows))
    found = [{"partition_key": key, "column": "", "n": n, "nulls": 0} for key, n in zip(keys, rows, strict=True)]
    for key, n, empty in zip(keys, rows, nulls or [0] * len(rows), strict=True):
        found.append({"partition_key": key, "column": "x", "n": n, "nulls": empty})
    return pa.Table.from_pylist(found, PROFILE_SCHEMA())


def judge(expected, given, partitions, **more):
    return evaluate([expected], partitions, Evidence("t", LATER, given, **more))


@pytest.mark.parametrize(("nulls", "passed"), [(99, True), (100, False), (101, False), (0, True), (1000, False)])
def test_less_than_ten_percent_may_be_missing(nulls, passed):
    verdict = judge(Missing("x"), profiles([1000], [nulls]), days(1))[0]
    assert (verdict.check, verdict.passed, verdict.severity) == ("x__missing", passed, "error")
    assert verdict.numbers["share"] == nulls / 1000


def test_a_missing_share_is_said_with_numbers_and_the_query_that_finds_the_rows():
    verdict = judge(Missing("x"), profiles([524], [420], ["2013-01-05"]), ["2013-01-05"])[0]
    assert verdict.sentence == "x: 80.2 % missing on 2013-01-05 (420 of 524), less than 10 % is allowed."
    assert verdict.query == """SELECT * FROM tables."t" WHERE partition_key = '2013-01-05' AND "x" IS NULL"""


def test_a_table_without_partitions_or_rows_is_judged_or_not():
    assert "missing (1 of 2)" in judge(Missing("x"), profiles([2], [1], [""]), [""])[0].sentence
    verdict = judge(Missing("x"), profiles([0], [0]), days(1))[0]
    assert (verdict.passed, verdict.numbers) == (True, {"judged": False})


USUAL = [18, 20, 16, 19, 17, 21, 18]


@pytest.mark.parametrize(
    ("history", "nulls", "passed"),
    [
        (USUAL, 72, False),  # 2 % -> 8 % is below 10 %, and still a spike
        (USUAL, 45, True),  # the usual 18, and 3 points more
        (USUAL, 46, False),
        ([0] * 7, 27, True),
        ([0] * 7, 28, False),
        ([10, 90, 20, 80, 30, 70, 50], 140, True),  # it varies that much
        (USUAL[:6], 720, True),  # too little history
    ],
)
def test_a_spike_is_told_from_what_is_usual(history, nulls, passed):
    given = profiles([900] * (len(history) + 1), [*history, nulls])
    verdict = judge(MissingSpike("x"), given, days(len(history) + 1)[-1:])[0]
    assert (verdict.passed, verdict.severity) == (passed, "warn")
    assert verdict.numbers.get("judged", True) == (len(history) >= 7)


def test_one_null_among_few_rows_is_no_spike():
    assert judge(MissingSpike("x"), profiles([24] * 8, [0] * 7 + [1]), days(8)[-1:])[0].passed
    assert not judge(MissingSpike("x"), profiles([24] * 8, [0] * 7 + [4]), days(8)[-1:])[0].passed


@pytest.mark.parametrize(("rows", "passed"), [(500, True), (499, False), (2000, True), (2001, False), (0, False)])
def test_the_number_of_rows_is_between_half_and_twice_the_usual(rows, passed):
    verdict = judge(Volume(), profiles([1000] * 7 + [rows]), days(8)[-1:])[0]
    assert (verdict.check, verdict.passed) == ("row_count_is_usual", passed)


def test_a_weekday_is_compared_with_its_own_kind_once_there_are_four():
    rows = [1000 if (date(2013, 1, 1) + i * DAY).weekday() < 5 else 100 for i in range(36)]
    verdicts = judge(Volume(), profiles(rows), days(36)[7:])
    assert [v.partition for v in verdicts if not v.passed and v.partition < "2013-01-27"]  # weekends, at first
    assert [v.partition for v in verdicts if not v.passed and v.partition >= "2013-02-02"] == []
    assert "of the same weekday" in verdicts[-1].sentence


def test_neither_a_short_history_nor_a_day_that_goes_on_is_judged():
    given = profiles([1000] * 8 + [10])
    assert judge(Volume(), given, days(7)[-1:])[0].numbers["judged"] is False
    noon = datetime(2013, 1, 9, 12, tzinfo=UTC)
    today = evaluate([Volume()], days(9)[-1:], Evidence("t", noon, given))[0]
    assert (today.passed, today.sentence) == (True, "Not judged on 2013-01-09: the day is not over; 10 rows so far.")
    assert not evaluate([Volume()], days(9)[-1:], Evidence("t", noon + DAY / 2, given))[0].passed


def test_a_partition_is_judged_the_same_alone_and_among_others():
    rng = np.random.default_rng(1)
    rows = rng.integers(300, 2000, 60).tolist()
    given = profiles(rows, [int(n * share) for n, share in zip(rows, rng.uniform(0, 0.2, 60), strict=True)])
    expected = [Missing("x"), MissingSpike("x"), Volume()]
    together = evaluate(expected, days(60), Evidence("t", LATER, given))
    alone = [v for day in days(60) for v in evaluate(expected, [day], Evidence("t", LATER, given))]
    assert sorted(together, key=repr) == sorted(alone, key=repr)
    assert {v.passed for v in together} == {True, False}


@pytest.fixture(scope="module")
def landed(tmp_path_factory):
    """A connection with the real tables of three months, as a lake would show them."""
    root = tmp_path_factory.mktemp("landing")
    for month, end in ((1, 31), (7, 31), (9, 30)):
        feed.land(str(root), since=date(2013, month, 1), until=date(2013, month, end))
    con = engine.connect(threads=2)
    con.execute("CREATE SCHEMA tables; CREATE SCHEMA quarantine")
    for table in ("flight_outcomes", "weather", "aircraft"):
        parts = [
            pq.read_table(f).append_column("partition_key", pa.array([f.stem[:10]] * pq.read_metadata(f).num_rows))
            for f in sorted((root / table).glob("*.parquet"))
        ]
        con.register("part", pa.concat_tables(parts))
        con.execute(f"CREATE TABLE tables.{table} AS SELECT * FROM part")
    return con


def of_flights(con, expected, partitions, table="flight_outcomes", rows=None, **more):
    rows = rows or f"tables.{table}"
    given = profile_partitions(con, con.sql(f"SELECT * FROM {rows}").to_arrow_table())
    return evaluate([expected], partitions, Evidence(table, LATER, given, con=con, rows=rows, **more))


def found_by(con, verdict):
    return con.cursor().execute(verdict.query).fetchall()


def test_real_gusts_are_missing_and_the_query_finds_them_all(landed):
    verdict = of_flights(landed, Missing("wind_gust_mph"), ["2013-01-05"], "weather")[0]
    assert not verdict.passed
    assert len(found_by(landed, verdict)) == verdict.numbers["missing"]
    assert len(verdict.examples) == 10
    assert {example["wind_gust_mph"] for example in verdict.examples} == {None}
    assert of_flights(landed, Missing("wind_gust_mph", below=1.0), ["2013-01-05"], "weather")[0].passed


def test_references_count_values_and_not_nulls_and_name_the_unknown_ones(landed):
    expected = References("tailnum", "aircraft", "tailnum", at_least=0.8)
    partitions = [f"2013-01-{day:02}" for day in range(5, 15)]
    verdicts = of_flights(landed, expected, partitions, tables={"aircraft": "tables.aircraft"})
    flights = landed.sql("SELECT partition_key, tailnum FROM tables.flight_outcomes").df()
    known = set(landed.sql("SELECT tailnum FROM tables.aircraft").df().tailnum)
    for verdict in verdicts:
        tails = flights[flights.partition_key == verdict.partition].tailnum.dropna()
        lost = tails[~tails.isin(known)]
        assert (verdict.numbers["values"], verdict.numbers["not found"]) == (len(tails), len(lost))
        assert verdict.passed == ((len(tails) - len(lost)) / len(tails) >= 0.8)
        assert len(found_by(landed, verdict)) == len(lost)
        assert len(verdict.examples) == min(10, lost.nunique())
        assert verdict.examples[0]["rows"] == lost.value_counts().iloc[0]
    assert verdicts[0].check == "tailnum__in_aircraft"


@pytest.mark.parametrize(("nulls", "known", "passed"), [(5, 8, True), (0, 7, False), (5, 0, False), (5, None, True)])
def test_a_reference_share_has_its_boundary(con_of, nulls, known, passed):
    known, n = (0, 0) if known is None else (known, 10)
    values = ["a"] * known + ["z"] * (n - known) + [None] * nulls
    con = con_of(pa.table({"x": pa.array(values, pa.string())}))
    con.execute("CREATE TABLE other AS SELECT 'a' AS y UNION ALL SELECT 'a' UNION ALL SELECT NULL")
    given = Evidence("t", LATER, profiles([n + nulls], keys=[""]), con=con, rows="t", tables={"o": "other"})
    verdict = evaluate([References("x", "o", "y", at_least=0.8)], [""], given)[0]
    assert (verdict.passed, verdict.numbers.get("judged", True)) == (passed, n > 0)


@pytest.fixture
def con_of():
    def make(rows):
        con = engine.connect(threads=1)
        con.register("t", rows)
        return con

    return make


def fences_of(verdict):
    return [verdict.numbers["low"], verdict.numbers["high"]]


@pytest.mark.parametrize("column", ["arrival_delay_minutes", "departure_delay_minutes", "air_time_minutes"])
@pytest.mark.parametrize("action", ["flag", "clip", "quarantine"])
def test_outliers_of_real_columns_are_those_of_numpy(landed, column, action):
    rows = landed.sql(f"SELECT flight_id, {column}, partition_key FROM tables.flight_outcomes").to_arrow_table()
    of = Contract("T", (Column("flight_id", "VARCHAR", False), Column(column, "DOUBLE", True)), (), ("flight_id",))
    n = rows.num_rows
    stamps = {"_file": pa.array(["f"] * n), "_row": pa.array(range(n))}
    stamps["_arrived_at"] = pa.array([LATER] * n, pa.timestamp("us", "UTC"))
    stamped = pa.table({**{name: rows.column(name) for name in rows.column_names}, **stamps})
    expected = Outliers(column, action=action, at_most=0.01)
    with duckdb.connect() as con:
        found = validate(con, stamped, of, outliers=[expected])
        con.execute("CREATE SCHEMA tables; CREATE SCHEMA quarantine")
        con.register("valid", found.valid)
        con.register("bad", found.quarantine)
        con.execute("CREATE TABLE tables.t AS FROM valid; CREATE TABLE quarantine.t AS FROM bad")
        partitions = sorted(found.counts)
        given = Evidence("t", LATER, profiles([1]), found.fences, con, "valid", quarantine="bad")
        verdicts = evaluate([expected], partitions, given)
        frame = rows.to_pandas()
        for verdict in verdicts:
            x = frame[frame.partition_key == verdict.partition][column].dropna().to_numpy()
            q1, q3 = np.quantile(x, [0.25, 0.75])
            beyond = (x < q1 - 1.5 * (q3 - q1)) | (x > q3 + 1.5 * (q3 - q1))
            assert (verdict.numbers["q1"], verdict.numbers["q3"]) == (q1, q3)
            assert (verdict.numbers["beyond"], verdict.numbers["n"]) == (beyond.sum(), len(x))
            assert verdict.passed == (beyond.mean() <= 0.01)
            touching = beyond.sum() if action != "clip" else (beyond | np.isin(x, fences_of(verdict))).sum()
            assert len(con.execute(verdict.query).fetchall()) == touching
            assert len(verdict.examples) == (0 if verdict.passed else min(10, beyond.sum()))
    assert len(verdicts) == frame.partition_key.nunique() > 60


def test_the_query_for_clipped_whole_numbers_stays_in_its_partition():
    of = Contract("T", (Column("x", "BIGINT", True),), (), ())
    days = ["2013-01-01", "2013-01-02"]
    stamps = {"partition_key": [d for d in days for _ in range(5)], "_file": ["f"] * 10, "_row": range(10)}
    stamps["_arrived_at"] = pa.array([LATER] * 10, pa.timestamp("us", "UTC"))
    expected = Outliers("x", action="clip", at_most=0.01)
    with duckdb.connect() as con:
        found = validate(con, pa.table({"x": [1, 2, 3, 4, 100, 1, 2, 3, 7, 4], **stamps}), of, outliers=[expected])
        con.register("valid", found.valid)
        con.execute("CREATE SCHEMA tables; CREATE TABLE tables.t AS FROM valid")
        verdict, _ = evaluate([expected], days, Evidence("t", LATER, profiles([1]), found.fences, con, "valid"))
        assert con.sql(f"SELECT x, partition_key FROM ({verdict.query})").fetchall() == [(7, days[0])]


def test_a_column_without_spread_is_not_judged_by_fences(con_of):
    of = Contract("T", (Column("x", "DOUBLE", True),), (), ())
    stamps = {"partition_key": ["2013-01-01"] * 9, "_file": ["f"] * 9, "_row": range(9)}
    rows = pa.table({"x": [0.0] * 8 + [5.0], **stamps, "_arrived_at": pa.array([LATER] * 9, pa.timestamp("us", "UTC"))})
    found = validate(engine.connect(threads=1), rows, of, outliers=[Outliers("x")])
    verdict = judge(Outliers("x"), profiles([9]), ["2013-01-01"], fences=found.fences)[0]
    assert (verdict.passed, verdict.numbers["judged"]) == (True, False)
    assert "has no spread, half of the values are one value" in verdict.sentence


def months(con, name, first, second, seed=3):
    """Rows of one stretch as 28 days of January 2020, those of another as the day after, and a month of such days."""
    con.execute(f"SELECT setseed(0.{seed})")
    con.execute(f"""CREATE OR REPLACE TABLE {name} AS
        SELECT * REPLACE (CAST(DATE '2020-01-01' + CAST(floor(random() * 28) AS INTEGER) AS VARCHAR) AS partition_key)
        FROM ({first})
        UNION ALL
        SELECT * REPLACE (CAST(DATE '2020-01-29' + CAST(floor(random() * 28) AS INTEGER) AS VARCHAR) AS partition_key)
        FROM ({second})""")
    return name


OF = "SELECT * FROM tables.{} WHERE partition_key LIKE '2013-{}-%'"
JANUARY, JULY, SEPTEMBER = (OF.format("flight_outcomes", month) for month in ("01", "07", "09"))
MONTH = timedelta(days=28)
COLUMNS = ["arrival_delay_minutes", "departure_delay_minutes", "air_time_minutes", "carrier", "origin"]


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_two_halves_of_one_month_are_no_shift_by_month_or_by_day(landed, seed):
    landed.execute(f"SELECT setseed(0.{seed})")
    landed.execute(f"CREATE OR REPLACE TABLE split AS SELECT *, random() < 0.5 AS a FROM ({JANUARY})")
    halves = [f"SELECT * EXCLUDE (a) FROM split WHERE {which}" for which in ("a", "NOT a")]
    rows = months(landed, "aa", *halves, seed)
    partitions = days(28, date(2020, 1, 29))
    for current, judged in ((MONTH, partitions[-1:]), (DAY, partitions)):
        expected = [Shift(column, current=current) for column in COLUMNS]
        given = Evidence("aa", LATER, profiles([1]), con=landed, rows=rows)
        verdicts = evaluate(expected, judged, given)
        assert [v.sentence for v in verdicts if not v.passed] == []
        assert all("psi" in v.numbers for v in verdicts)


@pytest.mark.parametrize(
    ("before", "after", "column", "psi", "shifted"),
    [
        (JULY, SEPTEMBER, "arrival_delay_minutes", 0.2, True),  # 0.30: thunderstorms, then the calmest month
        (JANUARY, SEPTEMBER, "arrival_delay_minutes", 0.2, True),  # 0.21
        (JANUARY, JULY, "arrival_delay_minutes", 0.2, False),  # 0.10: moderate, by the textbook
        (JANUARY, JULY, "arrival_delay_minutes", 0.05, True),
        (JANUARY, JULY, "origin", 0.05, False),
        (OF.format("weather", "01"), OF.format("weather", "07"), "temperature_f", 0.2, True),
    ],
)
def test_a_real_month_that_differs_from_another_is_a_shift(landed, before, after, column, psi, shifted):
    rows = months(landed, "shifted", before, after)
    given = Evidence("shifted", LATER, profiles([1]), con=landed, rows=rows)
    last = days(28, date(2020, 1, 29))[-1:]
    verdict = evaluate([Shift(column, psi=psi, current=MONTH)], last, given)[0]
    assert verdict.passed != shifted
    assert bool(verdict.examples) == shifted
    assert f"PSI {verdict.numbers['psi']:.3f}" in verdict.sentence


def test_a_psi_is_that_of_an_independent_computation(con_of):
    rng = np.random.default_rng(5)
    before, now = rng.normal(size=28 * 200), rng.normal(0.6, 1, size=300)
    keys = [key for key in days(28) for _ in range(200)] + [days(29)[-1]] * 300
    con = con_of(pa.table({"partition_key": keys, "x": np.concatenate([before, now])}))
    verdict = evaluate([Shift("x")], days(29)[-1:], Evidence("t", LATER, profiles([1]), con=con, rows="t"))[0]
    edges = np.quantile(before, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.digitize(x, edges), minlength=10) / len(x) for x in (before, now))
    assert verdict.numbers["psi"] == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=0.05)
    assert verdict.numbers["limit"] == pytest.approx(0.2 + 9 * (1 / 300 + 1 / 5600))
    assert not verdict.passed
    assert verdict.examples[0]["now"] != verdict.examples[0]["before"]


def test_a_small_partition_is_judged_beyond_the_noise_of_its_size(con_of):
    rng = np.random.default_rng(6)
    keys = [key for key in days(428) for _ in range(20)]
    con = con_of(pa.table({"partition_key": keys, "x": rng.normal(size=len(keys))}))
    verdicts = evaluate([Shift("x")], days(428)[28:], Evidence("t", LATER, profiles([1]), con=con, rows="t"))
    assert sum(v.numbers["psi"] > 0.2 for v in verdicts) > 300  # noise alone
    assert sum(not v.passed for v in verdicts) <= 4  # one in a thousand is meant


def test_a_shift_needs_days_before_it(con_of):
    con = con_of(pa.table({"partition_key": days(7), "x": [1.0] * 7}))
    verdict = evaluate([Shift("x")], days(7)[-1:], Evidence("t", LATER, profiles([1]), con=con, rows="t"))[0]
    assert (verdict.passed, verdict.sentence) == (
        True,
        "Not judged on 2013-01-07: only 6 of 7 earlier partitions are known.",
    )


def test_what_needs_rows_is_left_out_without_them():
    expected = [Shift("x"), References("x", "o", "y"), Outliers("x")]
    assert evaluate(expected, days(1), Evidence("t", LATER, profiles([1]))) == []


def test_a_year_of_partitions_is_judged_in_a_few_statements(con_of):
    rng = np.random.default_rng(2)
    keys = [key for key in days(365) for _ in range(100)]
    columns = {f"x{i}": pa.array(rng.normal(size=len(keys)), mask=rng.random(len(keys)) < 0.12) for i in range(5)}
    con = con_of(pa.table({"partition_key": keys, **columns}))
    given = profile_partitions(con, con.sql("FROM t").to_arrow_table())
    asked = []

    class Counting:
        def __getattr__(self, name):
            asked.append(name)
            return getattr(con, name)

    expected = [kind(f"x{i}") for i in range(5) for kind in (Missing, MissingSpike, Shift)] + [Volume()]
    verdicts = evaluate(expected, days(365), Evidence("t", LATER, given, con=Counting(), rows="t"))
    assert len(verdicts) == 365 * len(expected)
    assert len(asked) <= 25
    assert sum(not v.passed for v in verdicts if v.check == "x0__missing") > 200


def test_a_share_is_said_as_it_is_declared():
    assert Missing("x", 0.0005).sentence == "Less than 0.05 % of x is missing."
    assert Outliers("x", at_most=0.0005).sentence.startswith("At most 0.05 % of x")
    assert References("x", "t", "y", 0.995).sentence == "At least 99.5 % of x are in t.y."


@pytest.mark.parametrize(("n", "passes"), [(20, True), (19, False)])
def test_outliers_may_be_as_many_as_declared_and_no_more(n, passes):
    expected = Outliers("x", at_most=0.05)
    fences = (Fences(expected, "2013-01-01", n, 1, 1.0, 2.0, -0.5, 3.5),)
    assert judge(expected, profiles([n]), ["2013-01-01"], fences=fences)[0].passed is passes
