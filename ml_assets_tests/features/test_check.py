"""Declarations and SQL that are wrong say so before there are data."""

import subprocess
import sys
from datetime import timedelta
from time import process_time
from typing import NamedTuple

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.features.check import output_columns
from ml_assets.features.compute import compute
from ml_assets.features.view import FUNCTIONS, Aggregation, FeatureView, Lookup, window_name
from ml_assets_tests.features.oracles import HOUR, ORIGIN, all_functions, connection, delays

DAY = 24 * HOUR


class Column(NamedTuple):
    name: str
    type: str


TIME = "TIMESTAMP WITH TIME ZONE"
TABLES = {
    "tables/outcomes": [
        Column("id", "BIGINT"),
        Column("carrier", "VARCHAR"),
        Column("happened_at", "TIMESTAMPTZ"),
        Column("delay", "DOUBLE"),
    ]
}


def sql_view(sql: str, **others) -> FeatureView:
    return FeatureView("events", ("carrier",), HOUR, ("tables/outcomes",), sql=sql, **others)


def problem(view: FeatureView) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        output_columns(view, TABLES)
    return caught.value


def test_the_columns_of_an_aggregation_are_those_that_it_computes():
    view = all_functions(6 * HOUR, DAY)
    columns = output_columns(view, TABLES)
    assert columns[:3] == [("carrier", "VARCHAR"), ("feature_timestamp", TIME), ("delay_count_6h", "DOUBLE")]
    table = compute(connection([]), view, first=ORIGIN, last=ORIGIN + HOUR).drop_columns(["partition_key"])
    kinds = {"VARCHAR": "string", "DOUBLE": "double", TIME: "timestamp[us, tz=UTC]"}
    assert [(name, kinds[kind]) for name, kind in columns] == [(f.name, str(f.type)) for f in table.schema]


def test_the_columns_of_sql_are_numbers_or_text():
    view = sql_view('SELECT known_at, id, carrier, delay > 15 AS late, upper(carrier) AS name FROM "tables/outcomes"')
    assert output_columns(view, TABLES) == [
        ("carrier", "VARCHAR"), ("feature_timestamp", TIME), ("id", "DOUBLE"), ("late", "DOUBLE"), ("name", "VARCHAR"),
    ]  # fmt: skip
    assert view.features() == ("id", "late", "name")
    assert view.qualified_features() == ("events__id", "events__late", "events__name")


def test_an_unknown_column_is_named_with_candidates_and_the_line_of_the_sql():
    error = problem(sql_view('SELECT carrier, known_at,\n  dellay AS d\nFROM "tables/outcomes"'))
    assert error.line == 2
    assert "events" in str(error)
    assert '"dellay" not found' in str(error)
    assert '"delay"' in str(error)


def test_sql_that_does_not_parse_is_refused_with_its_line():
    error = problem(sql_view('SELECT carrier\nFRM "tables/outcomes" x y'))
    assert error.line == 2
    assert "does not parse" in str(error)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ('SELECT known_at, delay FROM "tables/outcomes"', "does not select 'carrier'"),
        ('SELECT carrier, happened_at, delay FROM "tables/outcomes"', "does not select 'known_at'"),
        ('SELECT carrier, known_at FROM "tables/outcomes"', "selects no feature"),
        ('SELECT carrier, known_at, happened_at FROM "tables/outcomes"', f"the feature 'happened_at' of type {TIME}"),
        ('SELECT carrier, known_at, [delay] AS d FROM "tables/outcomes"', r"the feature 'd' of type DOUBLE\[\]"),
        ('SELECT carrier, known_at::DATE AS known_at, 1 AS d FROM "tables/outcomes"', "'known_at' as DATE"),
        ('SELECT carrier, known_at, 1 AS d, 2 AS d FROM "tables/outcomes"', "selects d"),
        ("SELECT carrier, known_at, 1 AS d FROM outcomes", "Table with name outcomes does not exist"),
        ("SELECT carrier, known_at, 1 AS d FROM tables", "Table with name tables does not exist"),
        ("SELECT 1; SELECT 2", "must be one SELECT"),
        ("DROP TABLE x", "must be one SELECT"),
    ],
)
def test_sql_that_cannot_give_feature_rows_says_why(sql, words):
    with pytest.raises(DeclarationError, match=words):
        output_columns(sql_view(sql), TABLES)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Aggregation("dely", ("mean",), (DAY,)), 'aggregation \'d\': .*"dely" not found.*"delay"'),
        (Aggregation("delay", ("mean",), (DAY,), where="carier = 'AA'"), '"carier" not found'),
        (Aggregation("avg(delay)", ("mean",), (DAY,)), "must appear in the GROUP BY"),
        (Aggregation("carrier", ("count", "mean"), (DAY,)), "a VARCHAR; only `count`, `distinct`, .* can take it"),
        (Aggregation("known_at", ("count", "last"), (DAY,)), "a TIMESTAMP WITH TIME ZONE; only `count` can take it"),
        (Aggregation("delay", ("mean", "rate"), (DAY,)), "a DOUBLE; `rate` needs a truth value, such as"),
    ],
)
def test_an_aggregation_that_does_not_fit_its_table_says_why(part, words):
    with pytest.raises(DeclarationError, match=words):
        output_columns(delays(("d", part)), TABLES)


UNSTABLE = [
    "random()", "NOW()", "current_date", "CURRENT_TIMESTAMP", "uuid()", "today()", "gen_random_uuid()",
    "ago(INTERVAL 1 DAY)", "(SELECT max(delay) FROM (FROM x USING SAMPLE 5))",
]  # fmt: skip


@pytest.mark.parametrize("expression", UNSTABLE)
def test_what_gives_another_result_each_time_is_refused_with_its_line(expression):
    sql = f'WITH x AS (FROM "tables/outcomes")\nSELECT carrier, known_at,\n  ({expression})::VARCHAR AS f FROM x'
    error = problem(sql_view(sql))
    assert error.line == 3
    assert "which gives another result each time" in str(error)


@pytest.mark.parametrize("part", [Aggregation("delay * random()", ("mean",), (DAY,)),
                                  Aggregation("delay", ("mean",), (DAY,), where="happened_at < now()")])  # fmt: skip
def test_aggregations_and_their_filters_are_the_same_each_time(part):
    with pytest.raises(DeclarationError, match=r"uses (random|now)\(\) in aggregation 'd', which gives another"):
        output_columns(delays(("d", part)), TABLES)


@pytest.mark.parametrize("sql", ["hash(id)", "date_trunc('day', known_at)::VARCHAR", "list_max([delay])", "error('x')"])
def test_what_is_the_same_each_time_passes(sql):
    output_columns(sql_view(f'SELECT carrier, known_at, ({sql})::VARCHAR AS f FROM "tables/outcomes"'), TABLES)


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ({"d_mean_2d": 0.0}, r"has a default for 'd_mean_2d', which is no feature \(did you mean d_mean_1d"),
        ({"d_mean_1d": float("inf")}, "has the default inf for 'd_mean_1d', which no answer can hold"),
        ({"d_mean_1d": float("nan")}, "has the default nan for 'd_mean_1d', which no answer can hold"),
        ({"d_mean_1d": "none"}, "has the default 'none' for 'd_mean_1d', which is a number"),
        ({"who_last_1d": 1.0}, "has the default 1.0 for 'who_last_1d', which is text"),
    ],
)
def test_a_default_is_of_a_feature_and_of_its_type(defaults, words):
    parts = ("d", Aggregation("delay", ("mean",), (DAY,))), ("who", Aggregation("carrier", ("last",), (DAY,)))
    output_columns(delays(*parts, defaults={"d_mean_1d": 0, "who_last_1d": "nobody"}), TABLES)
    with pytest.raises(DeclarationError, match=words):
        output_columns(delays(*parts, defaults=defaults), TABLES)


@pytest.mark.parametrize(
    ("lookup", "words"),
    [
        (Lookup({"d": "dely"}, "known_at"), "a fault in lookup 'd': .*\"dely\" not found"),
        (Lookup({"d": "sum(delay)"}, "known_at"), "must appear in the GROUP BY"),
        (Lookup({"d": "random()"}, "known_at"), r"uses random\(\) in lookup 'd'"),
        (Lookup({"d": "delay"}, "since"), "the time column 'since', which 'tables/outcomes' lacks"),
        (Lookup({"d": "delay"}, "known_at", "delay"), "the time column 'delay' of type DOUBLE"),
        (Lookup({"d": "known_at"}, "known_at"), "the feature 'd' of type TIMESTAMP"),
    ],
)
def test_a_lookup_that_does_not_fit_its_table_says_why(lookup, words):
    view = FeatureView("v", ("carrier",), timedelta(0), ("tables/outcomes",), lookup=lookup)
    with pytest.raises(DeclarationError, match=words):
        output_columns(view, TABLES)


def test_checking_imports_no_heavy_library():
    code = """
import sys
from datetime import timedelta
from ml_assets.features.check import output_columns
from ml_assets.features.view import FeatureView
sql = "SELECT 1 AS c, known_at, 2 AS f FROM t"
output_columns(FeatureView("v", ("c",), timedelta(hours=1), ("t",), sql=sql), {"t": []})
assert not {"pandas", "pyarrow", "lightgbm", "dagster"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_that_is_not_declared_is_named_with_those_that_are():
    view = FeatureView("v", ("carrier",), HOUR, ("tables/outcome",), sql="SELECT 1 AS one")
    assert "reads 'tables/outcome', which is not a table. Known: tables/outcomes" in str(problem(view))


def test_a_wrong_time_column_gets_a_suggestion():
    view = FeatureView(
        "v", ("carrier",), HOUR, ("tables/outcomes",), event_timestamp="hapened_at",
        aggregations={"d": Aggregation("delay", ("mean",), (DAY,))},
    )  # fmt: skip
    assert "did you mean happened_at?" in str(problem(view))


def test_checking_a_view_takes_less_than_ten_milliseconds():
    view = delays(("delay", Aggregation("delay", tuple(set(FUNCTIONS) - {"rate"}), (6 * HOUR, DAY))))
    output_columns(view, TABLES)
    start = process_time()
    for _ in range(10):
        output_columns(view, TABLES)
    assert (process_time() - start) / 10 < 0.010


MEAN = {"d": Aggregation("delay", ("mean",), (DAY,))}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aggregations": MEAN, "sql": "SELECT 1 AS one"}, "one of .*; it has aggregations and sql"),
        ({}, "one of `aggregations`, `lookup` and `sql`; it has none"),
        ({"lookup": Lookup({"d": "delay"}, "known_at")}, "leave `every` out"),
        ({"lookup": Lookup({"carrier": "delay"}, "known_at"), "every": timedelta(0)}, "carrier, a reserved name"),
        ({"aggregations": MEAN, "entity": ()}, "names no entity"),
        ({"aggregations": MEAN, "tables": ()}, "names no table"),
        ({"aggregations": MEAN, "every": timedelta(0)}, "needs a grid"),
        ({"aggregations": MEAN, "every": 2 * DAY}, "shorter than its grid"),
        ({"aggregations": MEAN, "delay": -HOUR}, "negative `delay"),
        ({"aggregations": {"d": Aggregation("delay", ("avg",), (DAY,))}}, "by avg. Known functions: count"),
        ({"aggregations": {"d": Aggregation("delay", (), (DAY,))}}, "no functions or no windows"),
        ({"aggregations": {"d": Aggregation("delay", ("sum",), (DAY, 24 * HOUR))}}, "the feature d_sum_1d twice"),
        ({"aggregations": MEAN, "entity": ("d_mean_1d",)}, "d_mean_1d, a reserved name"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(changes, words):
    whole = {"name": "v", "entity": ("carrier",), "every": HOUR, "tables": ("tables/outcomes",)} | changes
    with pytest.raises(DeclarationError, match=words):
        FeatureView(**whole)


@pytest.mark.parametrize("sql", ["SELECT *\nFROM x", "SELECT a,\n 1 + 1 FROM x"])
def test_features_without_names_cannot_be_listed(sql):
    with pytest.raises(DeclarationError, match=r"Line [12] of the SQL"):
        sql_view(sql).features()


def test_features_are_found_in_the_first_branch_and_behind_with():
    assert sql_view(
        "WITH a AS (SELECT 1 AS z) SELECT carrier, known_at, x.f, 1 AS g UNION SELECT 1, 2, 3, 4"
    ).features() == ("f", "g")


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (6 * HOUR, "6h"),
        (DAY, "1d"),
        (36 * HOUR, "36h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=90), "90s"),
    ],
)
def test_windows_are_named_by_their_largest_whole_unit(window, name):
    assert window_name(window) == name


@pytest.mark.parametrize("window", [timedelta(0), -HOUR, timedelta(milliseconds=1)])
def test_windows_that_have_no_name_are_refused(window):
    with pytest.raises(DeclarationError, match="not a positive number of whole seconds"):
        window_name(window)


def test_the_lookback_covers_the_longest_window_and_the_closing_row():
    assert delays(("d", Aggregation("delay", ("sum",), (DAY, 7 * DAY)))).lookback() == 7 * DAY + HOUR
    assert sql_view("SELECT 1 AS one", history=3 * DAY).lookback() == 3 * DAY + HOUR
