"""SQL sources, on a real Postgres and on SQLite files."""

import gc
import io
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets import clock
from ml_assets.adapters.sources import columns
from ml_assets.adapters.sources.base import PartitionState, Sql, Subject
from ml_assets.adapters.sources.sql import SqlSource
from ml_assets.errors import DeclarationError, DeliveryError, SourceUnavailableError
from ml_assets_tests.adapters import postgres
from ml_assets_tests.contracts.sources import FIRST, SECOND, THIRD, Kept, SourceContract, digests

NOW = datetime(2013, 1, 8, 12, tzinfo=UTC)
DAILY = Subject("weather", date(2013, 1, 1), date(2013, 1, 31), "at")
WHOLE = Subject("weather")
PASSWORD = "hunter2 pa$$/w%rd"


@pytest.fixture(autouse=True)
def at_noon():
    with clock.frozen(NOW):
        yield


@pytest.fixture(scope="session")
def server():
    with postgres.running() as url:
        yield url


@pytest.fixture
def postgres_url(server):
    """A database that is empty for each test."""
    execute(server, "DROP SCHEMA IF EXISTS fleet, public CASCADE", "CREATE SCHEMA public")
    return server


@pytest.fixture
def sqlite_url(tmp_path):
    """An empty file."""
    url = f"sqlite:///{tmp_path / 'source.db'}"
    execute(url, "SELECT 1")
    Path(tmp_path / "source.db").touch()
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request):
    """An empty database of each kind."""
    return request.getfixturevalue(f"{request.param}_url")


def execute(url, *statements):
    engine = sa.create_engine(url)
    with engine.begin() as con:
        for statement in statements:
            result = con.exec_driver_sql(statement)
            found = result.fetchall() if result.returns_rows else []
    engine.dispose()
    return found


def rows_of(delivery):
    return pq.read_table(io.BytesIO(delivery.content))


def only(source, partition="", positions=None):
    found = list(source.fetch([partition], positions or {}))
    assert len(found) == 1
    return found[0]


class Origin:
    """A table with a counter that grows with each change; `put` in another order than time."""

    secret = PASSWORD

    def __init__(self, url, cursor="changed", page_rows=2):
        self.url, self.cursor, self.page_rows, self.changes = url, cursor, page_rows, 0
        self.kind = "TIMESTAMPTZ" if url.startswith("postgresql") else "TEXT"
        execute(url, f'CREATE TABLE weather (key TEXT PRIMARY KEY, n INT, changed INT, "at" {self.kind})')

    def source(self):
        url = sa.make_url(self.url)
        hidden = url.set(password=PASSWORD) if url.host else url
        spec = Sql(
            hidden.render_as_string(hide_password=False), "weather", cursor=self.cursor, page_rows=self.page_rows
        )
        return SqlSource(spec, DAILY)

    def put(self, day, *, change=None, **rows):
        self.changes += 1
        for key, n in rows.items():
            values = f"('{key}', {n}, {change or self.changes}, '{day}T23:30:00-00:15')"
            execute(
                self.url,
                f'INSERT INTO weather VALUES {values} ON CONFLICT (key) DO UPDATE SET n = {n}, "at" = excluded."at", '
                "changed = excluded.changed",
            )

    def rows(self, delivery):
        return {row["key"]: row["n"] for row in rows_of(delivery).to_pylist()}

    def tick(self):
        pass


class TestSqliteWithCursor(SourceContract):
    @pytest.fixture
    def origin(self, sqlite_url):
        return Origin(sqlite_url)


class TestSqliteWithoutCursor(SourceContract):
    @pytest.fixture
    def origin(self, sqlite_url):
        return Origin(sqlite_url, cursor=None)


class TestPostgresWithCursor(SourceContract):
    @pytest.fixture
    def origin(self, postgres_url):
        return Origin(postgres_url)


class TestPostgresWithoutCursor(SourceContract):
    @pytest.fixture
    def origin(self, postgres_url):
        return Origin(postgres_url, cursor=None)


@pytest.fixture
def origin(url):
    return Origin(url)


def test_a_delivery_has_the_rows_of_its_day_in_utc(url):
    origin = Origin(url)
    origin.put(FIRST, a=1)
    (row,) = rows_of(only(origin.source(), FIRST)).to_pylist()
    assert row == {"key": "a", "n": 1, "changed": 1, "at": datetime(2013, 1, 5, 23, 45, tzinfo=UTC)}
    origin.put("2013-01-05", b=2)
    execute(url, "UPDATE weather SET \"at\" = '2013-01-05T23:30:00-01:00' WHERE key = 'b'")
    assert origin.rows(only(origin.source(), FIRST)) == {"a": 1}
    assert origin.rows(only(origin.source(), SECOND)) == {"b": 2}


@pytest.mark.parametrize("cursor", ["changed", None])
def test_a_day_is_one_of_utc_wherever_the_database_is(postgres_url, cursor):
    Origin(postgres_url, cursor).put(FIRST, a=1)
    elsewhere = postgres_url + ("&" if "?" in postgres_url else "?") + "options=-ctimezone%3DAsia/Tokyo"
    assert execute(elsewhere, "SHOW timezone") == [("Asia/Tokyo",)]
    source = SqlSource(Sql(elsewhere, "weather", cursor=cursor), DAILY)
    assert list(source.look({}).states) == [FIRST]
    assert rows_of(only(source, FIRST))["key"].to_pylist() == ["a"]


def test_with_a_cursor_only_new_rows_are_read_and_nothing_when_nothing_is_new(origin):
    kept = Kept(origin)
    origin.put(FIRST, a=1, b=2)
    (first,) = kept.fetch(FIRST)
    origin.put(FIRST, c=3)
    (second,) = kept.fetch(FIRST)
    assert [origin.rows(each) for each in (first, second)] == [{"a": 1, "b": 2}, {"c": 3}]
    assert first.name == "since-start.parquet"
    assert second.name.startswith("since-1-")
    assert kept.fetch(FIRST) == []


def test_rows_of_the_same_cursor_that_come_later_are_not_missed(origin):
    kept = Kept(origin)
    origin.put(FIRST, a=1, change=7)
    kept.fetch(FIRST)
    seen = origin.source().look({})
    origin.put(FIRST, b=2, change=7)
    assert digests(origin.source().look(seen.states)) != digests(seen)
    (delivery,) = kept.fetch(FIRST)
    assert origin.rows(delivery) == {"a": 1, "b": 2}
    assert kept.fetch(FIRST) == []


def test_a_row_that_is_restated_at_the_same_cursor_is_delivered(origin):
    kept = Kept(origin)
    origin.put(FIRST, a=1, change=7)
    kept.fetch(FIRST)
    origin.put(FIRST, a=9, change=7)
    assert kept.fetch(FIRST)
    assert kept.rows(FIRST) == {"a": 9}


def test_a_transaction_that_ends_late_loses_no_rows(origin):
    kept = Kept(origin)
    origin.put(FIRST, a=1, change=10)
    origin.put(SECOND, b=1, change=11)
    kept.fetch(FIRST)
    seen = origin.source().look({})
    origin.put(FIRST, late=2, change=5)
    assert digests(origin.source().look(seen.states)) == digests(seen)  # the cheap look counts days with 11 or more
    with clock.frozen(NOW + timedelta(hours=1)):
        assert digests(origin.source().look(seen.states)) != digests(seen)
    kept.fetch(FIRST)
    assert kept.rows(FIRST) == {"a": 1, "late": 2}
    assert kept.fetch(FIRST) == []


@pytest.mark.parametrize("changes", [(7, 7, 7), (1, 5, 1)], ids=["at the same cursor", "with an older one"])
def test_a_row_that_is_again_what_it_was_is_a_new_delivery(origin, changes):
    kept, contents = Kept(origin), set()
    for n, change in zip((1, 9, 1), changes, strict=True):
        origin.put(FIRST, a=n, change=change)
        contents |= {delivery.content for delivery in kept.fetch(FIRST)}
    assert kept.rows(FIRST) == {"a": 1}
    assert len(contents) == 3
    assert kept.fetch(FIRST) == []


def test_a_late_row_of_an_old_day_is_of_that_day_only(origin):
    kept = Kept(origin)
    origin.put(FIRST, a=1)
    origin.put(THIRD, c=3)
    kept.fetch(FIRST, THIRD)
    seen = origin.source().look({})
    origin.put(FIRST, b=2)
    now = digests(origin.source().look(seen.states))
    assert [day for day in now if now[day] != seen.states[day].digest] == [FIRST]
    (delivery,) = kept.fetch(FIRST, THIRD)
    assert (delivery.partition, origin.rows(delivery)) == (FIRST, {"b": 2})


def test_a_cheap_look_counts_the_days_that_changed_and_no_others(origin):
    for day in (FIRST, SECOND, THIRD):
        origin.put(day, **{f"of{day[-1]}": 1})
    states = origin.source().look({}).states
    asked = []
    source = origin.source()
    origin.put(FIRST, more=2)
    with listening(asked):
        source.look(states)
    counted = [statement for statement, parameters in asked if "GROUP BY" in statement]
    assert len(counted) == 1
    assert not any("2013-01-06" in str(parameters) for statement, parameters in asked if "GROUP BY" in statement)


class listening:  # noqa: N801  a context manager
    def __init__(self, asked):
        self.hear = lambda _con, _cur, statement, parameters, *_: asked.append((statement, parameters))

    def __enter__(self):
        sa.event.listen(sa.Engine, "before_cursor_execute", self.hear)

    def __exit__(self, *_):
        sa.event.remove(sa.Engine, "before_cursor_execute", self.hear)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([FIRST, SECOND]), st.sampled_from("abcd"), st.integers(0, 9), st.booleans(), st.booleans()
    ),
    max_size=8,
)


@given(changes=CHANGES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_added_or_restated_is_kept_as_the_database_has_it(sqlite_url, changes):
    execute(sqlite_url, "DROP TABLE IF EXISTS weather")
    origin = Origin(sqlite_url)
    kept, expected = Kept(origin), {FIRST: {}, SECOND: {}}
    for day, key, n, same_cursor, fetched in changes:
        origin.changes -= same_cursor and origin.changes > 0
        origin.put(day, **{f"{key}{day[-1]}": n})
        expected[day][f"{key}{day[-1]}"] = n
        if fetched:
            kept.fetch(day)
    kept.fetch(FIRST, SECOND)
    assert {day: kept.rows(day) for day in (FIRST, SECOND)} == expected
    assert kept.fetch(FIRST, SECOND) == []


def test_days_that_the_table_does_not_have_are_not_looked_at(url):
    origin = Origin(url)
    origin.put("2012-12-31", old=1)
    origin.put(FIRST, a=1)
    origin.put("2013-02-01", new=1)
    assert list(origin.source().look({}).states) == [FIRST]


@pytest.mark.parametrize("cursor", ["changed", None])
def test_rows_without_a_day_are_told_and_left_out(url, cursor):
    origin = Origin(url, cursor)
    origin.put(FIRST, a=1)
    execute(url, "INSERT INTO weather VALUES ('x', 1, 9, NULL), ('y', 1, 9, NULL)")
    look = origin.source().look({})
    assert list(look.states) == [FIRST]
    (problem,) = look.problems
    assert problem.endswith("2 rows have no day in at")


def test_rows_without_a_cursor_are_an_error_of_their_day_and_of_no_other(origin):
    origin.put(FIRST, a=1)
    origin.put(SECOND, b=1)
    execute(origin.url, "UPDATE weather SET changed = NULL WHERE key = 'a'")
    look = origin.source().look({})
    assert list(look.states) == [SECOND]
    (problem,) = look.problems
    assert f"1 rows of {FIRST} have no changed, and so are never new" in problem
    with pytest.raises(DeliveryError, match=rf"weather: 1 rows of {FIRST} have no changed.*coalesce"):
        list(origin.source().fetch([FIRST], {}))
    assert origin.rows(only(origin.source(), SECOND)) == {"b": 1}


@pytest.mark.parametrize("cursor", ["n", None])
def test_a_table_without_days_is_one_delivery(url, cursor):
    execute(url, "CREATE TABLE planes (n INT)", "INSERT INTO planes VALUES (2), (1)")
    source = SqlSource(Sql(url, "planes", cursor=cursor), WHOLE)
    delivery = only(source)
    assert rows_of(delivery).to_pylist() == [{"n": 1}, {"n": 2}]
    assert delivery.name == ("since-start.parquet" if cursor else "all.parquet")
    before = source.look({}).states
    assert source.look(before).states == before
    execute(url, "INSERT INTO planes VALUES (3)")
    assert source.look(before).states[""] != before[""]


def test_an_empty_table_has_nothing(url):
    execute(url, "CREATE TABLE planes (n INT)")
    for cursor in ("n", None):
        source = SqlSource(Sql(url, "planes", cursor=cursor), WHOLE)
        assert (list(source.fetch([""], {})), dict(source.look({}).states)) == ([], {})


def test_the_same_rows_are_the_same_bytes_in_whatever_order_and_pages(url):
    execute(
        url, "CREATE TABLE planes (a INT, b TEXT)", *(f"INSERT INTO planes VALUES ({n % 3}, 'b{n}')" for n in range(9))
    )
    first = only(SqlSource(Sql(url, "planes"), WHOLE)).content
    execute(url, "CREATE TABLE other AS SELECT * FROM planes ORDER BY b DESC", "DROP TABLE planes")
    execute(url, "ALTER TABLE other RENAME TO planes")
    assert only(SqlSource(Sql(url, "planes", page_rows=2), WHOLE)).content == first


def test_a_query_is_read_as_it_is_written(url):
    execute(url, "CREATE TABLE planes (n INT)", "INSERT INTO planes VALUES (1), (2)")
    query = "SELECT n, ':no parameter % at 12:30' AS t, n % 2 AS odd FROM planes WHERE n > 1; -- and : no more"
    assert rows_of(only(SqlSource(Sql(url, query=query.replace("; --", " --")), WHOLE))).to_pylist() == [
        {"n": 2, "t": ":no parameter % at 12:30", "odd": 0}
    ]
    by_cursor = SqlSource(Sql(url, query="SELECT n FROM planes;", cursor="n"), WHOLE)
    delivery = only(by_cursor)
    execute(url, "INSERT INTO planes VALUES (3)")
    assert rows_of(only(by_cursor, positions={"": delivery.position})).to_pylist() == [{"n": 3}]


def test_another_query_or_cursor_begins_anew(url):
    execute(url, "CREATE TABLE planes (n INT, m INT)", "INSERT INTO planes VALUES (1, 10)")
    position = only(SqlSource(Sql(url, "planes", cursor="n"), WHOLE)).position
    assert (
        only(SqlSource(Sql(url, "planes", cursor="m"), WHOLE), positions={"": position}).name == "since-start.parquet"
    )


def test_what_another_source_left_behind_is_no_position_and_no_state(origin):
    origin.put(FIRST, a=1)
    states = {FIRST: PartitionState("x", 1, 1, "2013-01-05 7"), SECOND: PartitionState("y", 1, 1, "[1, 2]")}
    assert origin.source().look(states) == origin.source().look({})
    for position in ("7", "{}", '{"relation": "other"}', "page 7"):
        assert origin.rows(only(origin.source(), FIRST, {FIRST: position})) == {"a": 1}


def test_a_schema_can_be_named(postgres_url):
    execute(postgres_url, "CREATE SCHEMA fleet", "CREATE VIEW fleet.planes AS SELECT 1 AS n")
    assert rows_of(only(SqlSource(Sql(postgres_url, "fleet.planes"), WHOLE))).to_pylist() == [{"n": 1}]


def test_the_types_of_postgres_come_as_a_contract_knows_them(postgres_url):
    execute(
        postgres_url,
        "CREATE TABLE t (i SMALLINT, big BIGINT, f REAL, d DOUBLE PRECISION, money NUMERIC(8,2), whole NUMERIC(8), "
        "s TEXT, c CHAR(3), b BOOLEAN, day DATE, ts TIMESTAMPTZ, u UUID, nothing TEXT)",
        "INSERT INTO t VALUES (1, 9223372036854775807, 0.5, 0.1, 12.30, 5, 'é', 'abc', true, '2013-02-28', "
        "'2013-01-05 10:00:00.123456+02', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', NULL)",
    )
    table = rows_of(only(SqlSource(Sql(postgres_url, "t"), WHOLE)))
    assert table.schema == pa.schema(
        [
            ("i", pa.int64()),
            ("big", pa.int64()),
            ("f", pa.float64()),
            ("d", pa.float64()),
            ("money", pa.float64()),
            ("whole", pa.int64()),
            ("s", pa.string()),
            ("c", pa.string()),
            ("b", pa.bool_()),
            ("day", pa.date32()),
            ("ts", pa.timestamp("us", "UTC")),
            ("u", pa.string()),
            ("nothing", pa.null()),
        ]
    )
    (row,) = table.to_pylist()
    assert (row["money"], row["day"], row["u"]) == (12.3, date(2013, 2, 28), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    assert row["ts"] == datetime(2013, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (
            "TIMESTAMP",
            "'2013-01-05 10:00'",
            "column x holds 2013-01-05 10:00:00, a time without a zone.*x AT TIME ZONE 'UTC' AS x",
        ),
        ("BYTEA", "'abc'", "column x holds bytes.*select it as text"),
        ("JSONB", "'{\"a\": 1}'", "column x holds dict"),
        ("INT[]", "'{1}'", "column x holds list"),
        ("INTERVAL", "'1 day'", "column x holds timedelta"),
        ("TIME", "'10:00'", "column x holds time"),
        ("NUMERIC", "99999999999999999999", "column x does not fit"),
        ("NUMERIC", "0.1234567890123456789", "column x does not fit.*more digits"),
    ],
)
def test_a_type_that_no_contract_has_is_refused_by_column(postgres_url, kind, value, says):
    execute(postgres_url, f"CREATE TABLE t (n INT, x {kind})", f"INSERT INTO t VALUES (1, NULL), (2, {value})")
    with pytest.raises(DeliveryError, match=says):
        list(SqlSource(Sql(postgres_url, "t"), WHOLE).fetch([""], {}))


def test_a_time_that_python_cannot_hold_is_an_error_of_the_delivery(postgres_url):
    execute(postgres_url, "CREATE TABLE t (x TIMESTAMPTZ)", "INSERT INTO t VALUES ('infinity')")
    with pytest.raises(DeliveryError, match="refuses to be read"):
        list(SqlSource(Sql(postgres_url, "t"), WHOLE).fetch([""], {}))


def test_days_and_times_with_a_zone_are_known_in_sqlite_and_other_texts_stay(sqlite_url):
    execute(
        sqlite_url,
        "CREATE TABLE t (day TEXT, ts TEXT, naive TEXT, mixed TEXT)",
        "INSERT INTO t VALUES ('2013-01-05', '2013-01-05T10:00:00Z', '2013-01-05 10:00:00', '2013-01-05'), "
        "(NULL, '2013-01-05 10:00:00.5+02:00', NULL, 'x')",
    )
    table = rows_of(only(SqlSource(Sql(sqlite_url, "t"), WHOLE)))
    assert table.schema.types == [pa.date32(), pa.timestamp("us", "UTC"), pa.string(), pa.string()]


def test_bools_are_known_in_sqlite_where_they_are_declared(sqlite_url):
    execute(sqlite_url, "CREATE TABLE t (b BOOLEAN, n INT)", "INSERT INTO t VALUES (true, 1), (0, 0), (NULL, 1)")
    table = rows_of(only(SqlSource(Sql(sqlite_url, "t"), WHOLE)))
    assert table.to_pylist() == [{"b": False, "n": 0}, {"b": True, "n": 1}, {"b": None, "n": 1}]
    execute(sqlite_url, "INSERT INTO t VALUES (7, 1)")
    assert rows_of(only(SqlSource(Sql(sqlite_url, "t"), WHOLE))).schema.field("b").type == pa.int64()


def test_numbers_of_several_types_in_sqlite_become_one_and_text_among_them_is_refused(sqlite_url):
    execute(sqlite_url, "CREATE TABLE t (x)", "INSERT INTO t VALUES (1), (NULL), (2.5)")
    source = SqlSource(Sql(sqlite_url, "t", page_rows=1), WHOLE)
    assert rows_of(only(source))["x"].to_pylist() == [1.0, 2.5, None]
    execute(sqlite_url, "INSERT INTO t VALUES ('three')")
    with pytest.raises(DeliveryError, match="column x holds values of several types: double, int64, string"):
        only(source)
    with pytest.raises(DeliveryError, match="column x holds values of several types: float, int, str"):
        only(SqlSource(Sql(sqlite_url, "t"), WHOLE))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("BIGINT", ["1", "9007199254740993"]),
        ("NUMERIC", ["1.25", "1.5"]),
        ("DOUBLE PRECISION", ["0.1", "0.30000000000000004"]),
        ("TEXT", ["'a'", "'ü'"]),
        ("DATE", ["'2013-01-01'", "'2013-02-28'"]),
        ("TIMESTAMPTZ", ["'2013-01-01 00:00:00.000001+02'", "'2013-02-28T00:00Z'"]),
    ],
)
def test_cursors_of_each_type_are_remembered_exactly(postgres_url, kind, values):
    execute(postgres_url, f"CREATE TABLE t (c {kind})", f"INSERT INTO t VALUES ({values[0]}), ({values[1]})")
    source = SqlSource(Sql(postgres_url, "t", cursor="c"), WHOLE)
    first = only(source)
    states = source.look({}).states
    assert list(source.fetch([""], {"": first.position})) == []
    assert source.look(states).states == states
    execute(postgres_url, f"INSERT INTO t VALUES ({values[1]})")
    assert rows_of(only(source, positions={"": first.position})).num_rows == 2


@pytest.mark.parametrize(("kind", "value"), [("BOOLEAN", "true"), ("TIMESTAMP", "'2013-01-01'"), ("FLOAT8", "'NaN'")])
def test_a_cursor_that_has_no_order_of_its_own_is_refused(postgres_url, kind, value):
    execute(postgres_url, f"CREATE TABLE t (c {kind})", f"INSERT INTO t VALUES ({value})")
    with pytest.raises(DeliveryError, match=r"cursor cannot be|max\(boolean\)"):
        SqlSource(Sql(postgres_url, "t", cursor="c"), WHOLE).look({})


@pytest.mark.parametrize(
    ("spec", "subject", "says"),
    [
        ({"table": "wether"}, WHOLE, "there is no such table; there are planes, weather"),
        ({"table": "weather", "cursor": "chnged"}, WHOLE, "no column chnged; there are key, n, changed, at"),
        ({"table": "planes"}, DAILY, "no column at; there are n"),
        ({"query": "SELEKT 1"}, WHOLE, "syntax error"),
        ({"query": "SELECT x FROM planes"}, WHOLE, "x"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(url, spec, subject, says):
    Origin(url)
    execute(url, "CREATE TABLE planes (n INT)")
    source = SqlSource(Sql(url, **spec), subject)
    for ask in (lambda: source.look({}), lambda: list(source.fetch([FIRST if subject.daily else ""], {}))):
        with pytest.raises(DeliveryError, match=says):
            ask()


def test_columns_of_one_name_are_refused(postgres_url):
    source = SqlSource(Sql(postgres_url, query="SELECT 1 AS a, 2 AS a"), WHOLE)
    with pytest.raises(DeliveryError, match="more than one column is called a"):
        source.look({})


def filled(url, n=3000):
    execute(
        url,
        "CREATE TABLE weather (key TEXT, n INT)",
        f"INSERT INTO weather SELECT 'k' || g, g FROM generate_series(1, {n}) AS g",
    )


def test_a_connection_that_is_lost_within_the_pages_delivers_nothing(postgres_url, monkeypatch):
    filled(postgres_url)
    source = SqlSource(Sql(postgres_url, "weather", page_rows=100), WHOLE)
    plain, pages = columns.table_of, []

    def killing(*arguments):
        pages.append(plain(*arguments))
        if len(pages) == 3:
            others = "pid <> pg_backend_pid() AND datname = current_database() AND state = 'idle in transaction'"
            execute(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        return pages[-1]

    monkeypatch.setattr(columns, "table_of", killing)
    with pytest.raises(SourceUnavailableError, match=r"weather does not answer: .*terminat"):
        list(source.fetch([""], {}))
    assert [page.num_rows for page in pages] == [100, 100, 100]
    assert rows_of(only(source)).num_rows == 3000


def test_rows_that_are_written_while_a_fetch_reads_are_for_the_next(postgres_url):
    filled(postgres_url)
    source = SqlSource(Sql(postgres_url, "weather", cursor="n", page_rows=100), WHOLE)
    written = []

    def write(_con, cursor, statement, *_):
        if not written and type(cursor).__name__ == "ServerCursor":
            written.append(statement)
            execute(postgres_url, "INSERT INTO weather VALUES ('late', 3001)")

    sa.event.listen(sa.Engine, "after_cursor_execute", write)
    try:
        first = only(source)
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", write)
    assert written
    second = only(source, positions={"": first.position})
    found = [row["n"] for each in (first, second) for row in rows_of(each).to_pylist()]
    assert found == list(range(1, 3002))


def test_a_wrong_password_is_not_told(server):
    execute(server, "DROP ROLE IF EXISTS reader", f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD.replace('%', '%%')}'")
    (hba,) = execute(server, "SHOW hba_file")[0]
    before = Path(hba).read_text()
    Path(hba).write_text(f"host all reader 127.0.0.1/32 scram-sha-256\n{before}")
    execute(server, "SELECT pg_reload_conf()")
    right = sa.make_url(server).set(username="reader", password=PASSWORD)
    source = SqlSource(Sql(right.render_as_string(hide_password=False), query="SELECT 1 AS n"), WHOLE)
    assert rows_of(only(source)).to_pylist() == [{"n": 1}]
    wrong = right.set(password="not the pa$$word")
    source = SqlSource(Sql(wrong.render_as_string(hide_password=False), query="SELECT 1 AS n"), WHOLE)
    with pytest.raises(
        SourceUnavailableError, match=r"reader:\*\*\*@127.*does not answer.*password authentication"
    ) as caught:
        source.look({})
    assert "pa$$word" not in f"{caught.value}{caught.value.__cause__}{source.label}{source!r}{source.spec!r}"


def test_a_server_that_is_not_there_is_unavailable_and_the_url_is_masked():
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/db?sslpassword=hunter3&connect_timeout=2"
    source = SqlSource(Sql(url, "t"), WHOLE)
    with pytest.raises(SourceUnavailableError, match=r"me:\*\*\*@127.0.0.1:1/db") as caught:
        list(source.fetch([""], {}))
    assert "hunter" not in f"{caught.value}{caught.value.__cause__}{source.label}"


def test_a_file_of_sqlite_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(SourceUnavailableError, match="there is no file"):
        SqlSource(Sql(f"sqlite:///{tmp_path / 'no.db'}", "t"), WHOLE).look({})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_of_the_delivery(tmp_path):
    (tmp_path / "no.db").write_text("not a database at all, " * 99)
    with pytest.raises(DeliveryError, match="not a database"):
        SqlSource(Sql(f"sqlite:///{tmp_path / 'no.db'}", "t"), WHOLE).look({})


def test_text_that_is_none_is_an_error_of_the_delivery(sqlite_url):
    execute(sqlite_url, "CREATE TABLE planes (tail TEXT)", "INSERT INTO planes VALUES (CAST(x'ff' AS TEXT))")
    with pytest.raises(DeliveryError, match="refuses to be read: Could not decode to UTF-8 column 'tail'"):
        only(SqlSource(Sql(sqlite_url, "planes"), WHOLE))


def test_a_refused_column_leaves_nothing_in_the_log(sqlite_url, caplog):
    execute(sqlite_url, "CREATE TABLE planes (n)", "INSERT INTO planes VALUES (1), ('x'), (2)")
    with pytest.raises(DeliveryError, match="several types: int, str"):
        only(SqlSource(Sql(sqlite_url, "planes", page_rows=2), WHOLE))
    gc.collect()
    assert caplog.text == ""


def test_a_locked_file_is_unavailable(sqlite_url):
    execute(sqlite_url, "CREATE TABLE planes (n INT)")
    engine = sa.create_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        con.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailableError, match="locked"):
            SqlSource(Sql(f"{sqlite_url}?timeout=0.05", "planes"), WHOLE).look({})
    engine.dispose()


def test_a_source_writes_nothing(url):
    execute(url, "CREATE TABLE planes (n INT)", "INSERT INTO planes VALUES (1)")
    source = SqlSource(Sql(url, query="DELETE FROM planes RETURNING n"), WHOLE)
    with pytest.raises(DeliveryError):
        list(source.fetch([""], {}))
    assert execute(url, "SELECT n FROM planes") == [(1,)]


def test_a_driver_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    source = SqlSource(Sql("postgresql+psycopg://u:hunter2@h/d", "t"), WHOLE)
    with pytest.raises(DeclarationError, match=r"pip install 'ml_assets\[postgres\]'") as caught:
        source.look({})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(DeclarationError, match="nosuch"):
        SqlSource(Sql("nosuch://u:hunter2@h/d", "t"), WHOLE).look({})


@pytest.mark.parametrize(
    ("spec", "subject", "says"),
    [
        (Sql("sqlite:///x.db"), WHOLE, "either `table` or `query`"),
        (Sql("sqlite:///x.db", "t", "SELECT 1"), WHOLE, "either `table` or `query`"),
        (Sql("sqlite:///x.db", "t"), Subject("t", date(2013, 1, 1)), "which column holds the day"),
        (Sql("me:hunter2@host", "t"), WHOLE, "cannot be read; write it like"),
        (Sql("pg://me:hunter2@host:port/db", "t"), WHOLE, "cannot be read"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(spec, subject, says):
    with pytest.raises(DeclarationError, match=says) as caught:
        SqlSource(spec, subject)
    assert "hunter2" not in str(caught.value)


def test_decimals_are_what_they_print(postgres_url):
    values = [Decimal("0.1"), Decimal("-12345.678"), Decimal("1E+3"), Decimal("0.00")]
    execute(postgres_url, "CREATE TABLE t (x NUMERIC)", f"INSERT INTO t VALUES {', '.join(f'({v})' for v in values)}")
    found = rows_of(only(SqlSource(Sql(postgres_url, "t"), WHOLE)))["x"].to_pylist()
    assert found == sorted(float(value) for value in values)
