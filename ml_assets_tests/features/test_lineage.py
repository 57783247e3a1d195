"""What a column is made from: as read from the SQL, and as DuckDB shows it when a column's values change."""

import logging
from datetime import timedelta
from typing import NamedTuple

import pytest

from ml_assets.engine import connect, quote
from ml_assets.features.lineage import column_lineage, expression_lineage
from ml_assets.features.view import Aggregation, FeatureView, Lookup

HOUR = timedelta(hours=1)


class Column(NamedTuple):
    name: str
    type: str


TABLES = {
    "flights": [
        Column("carrier", "VARCHAR"),
        Column("happened_at", "TIMESTAMPTZ"),
        Column("delay", "DOUBLE"),
        Column("Air Time", "DOUBLE"),
        Column("cancelled", "BOOLEAN"),
    ],
    "carriers": [Column("carrier", "VARCHAR"), Column("size", "DOUBLE"), Column("delay", "DOUBLE")],
}


def sql_view(sql, tables=("flights", "carriers")):
    return FeatureView("events", ("carrier",), HOUR, tables, sql=sql)


def lineage(sql):
    return column_lineage(sql_view(sql), TABLES)


# Each statement with what its features are made from. None picks rows by a column that is changed below.
STATEMENTS = {
    "SELECT f.carrier, f.known_at, f.delay AS late FROM flights f": {"late": ["flights.delay"]},
    'SELECT carrier, known_at, "air time" * 2 AS "Twice It" FROM Flights': {"Twice It": ["flights.Air Time"]},
    "SELECT carrier, known_at, 1 AS one, delay AS d, d + \"Air Time\" AS both FROM flights": {
        "one": [],
        "d": ["flights.delay"],
        "both": ["flights.Air Time", "flights.delay"],
    },
    "SELECT carrier, known_at, 1 AS delay, delay + 1 AS more FROM flights": {"delay": [], "more": ["flights.delay"]},
    """WITH a AS (SELECT * FROM flights), b AS (SELECT carrier, known_at, coalesce(delay, 0) AS d FROM a)
       SELECT b.carrier, b.known_at, b.d + c.size AS x, c.delay AS y
       FROM b JOIN carriers c ON b.carrier = c.carrier""": {
        "x": ["carriers.size", "flights.delay"],
        "y": ["carriers.delay"],
    },
    """SELECT f.carrier, f.known_at, c.size FROM flights f ASOF LEFT JOIN carriers c
       ON f.carrier = c.carrier AND f.known_at >= c.known_at""": {"size": ["carriers.size"]},
    """SELECT carrier, known_at, delay - lag(delay) OVER (PARTITION BY carrier ORDER BY happened_at) AS change
       FROM flights QUALIFY row_number() OVER (PARTITION BY carrier, known_at ORDER BY known_at) = 1""": {
        "change": ["flights.carrier", "flights.delay", "flights.happened_at"]
    },
    "SELECT carrier, known_at, sum(delay) FILTER (WHERE cancelled) AS s FROM flights GROUP BY ALL": {
        "s": ["flights.cancelled", "flights.delay"]
    },
    """SELECT f.carrier, f.known_at, (SELECT max(c.size) FROM carriers c WHERE c.delay < f.delay) AS top,
       EXISTS (SELECT 1 FROM carriers c WHERE c.size > 1) AS any_big FROM flights f""": {
        "top": ["carriers.delay", "carriers.size", "flights.delay"],
        "any_big": ["carriers.size"],
    },
    """SELECT carrier, known_at, size AS v FROM carriers UNION ALL SELECT carrier, known_at, delay FROM flights""": {
        "v": ["carriers.size", "flights.delay"]
    },
    """SELECT f.carrier, f.known_at, u.v AS v, list_filter([f."Air Time"], lambda x: x > f.delay)[1] AS w
       FROM flights f, unnest([f.delay, 1]) u(v)""": {
        "v": ["flights.delay"],
        "w": ["flights.Air Time", "flights.delay"],
    },
    "FROM flights SELECT carrier, known_at, CASE WHEN cancelled THEN 'c' ELSE 'f' END AS kind": {
        "kind": ["flights.cancelled"]
    },
}  # fmt: skip


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_feature_is_made_from_the_columns_of_its_expression(sql):
    found = {name: [".".join(pair) for pair in pairs] for name, pairs in lineage(sql).items()}
    assert set(found.pop("carrier")) <= {"flights.carrier", "carriers.carrier"}
    assert set(found.pop("known_at")) <= {"flights.known_at", "carriers.known_at"}
    assert found == STATEMENTS[sql]


def filled(changed=()):
    """The tables with two rows of each carrier; a changed column has other values of its type."""
    con = connect()
    for table, columns in TABLES.items():
        values = {
            "VARCHAR": "'c' || (i % 2)",
            "TIMESTAMPTZ": "TIMESTAMPTZ '2013-01-01' + INTERVAL (i) HOUR",
            "DOUBLE": "i + {n} / 10",
            "BOOLEAN": "i % 3 = 0",
        }
        changes = {
            "VARCHAR": "'c' || (i % 2) || 'x'",
            "TIMESTAMPTZ": "TIMESTAMPTZ '2013-01-01' - INTERVAL (i) HOUR",
            "DOUBLE": "100 - i * {n}",
            "BOOLEAN": "i % 3 > 0",
        }
        picked = [
            f"{(changes if (table, name) == changed else values)[kind].format(n=n)} AS {quote(name)}"
            for n, (name, kind) in enumerate([*columns, ("known_at", "TIMESTAMPTZ")], 1)
        ]
        con.execute(f"CREATE TABLE {quote(table)} AS SELECT {', '.join(picked)} FROM range(6) t(i)")
    return con


def values_of(con, sql):
    rows = con.sql(sql)
    return {name: sorted(map(str, (row[n] for row in rows.fetchall()))) for n, name in enumerate(rows.columns)}


CHANGED = [(table, column.name) for table, columns in TABLES.items() for column in columns if column.name != "carrier"]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_changes_with_a_column_is_said_to_be_made_from_it(sql):
    before, made = values_of(filled(), sql), lineage(sql)
    moved = set()
    for table, column in CHANGED:
        after = values_of(filled(changed=(table, column)), sql)
        assert all((table, column) in made[name] for name in before if after[name] != before[name])
        moved |= {(name, table, column) for name in before if after[name] != before[name]}
    assert moved or "1 AS one" in sql


def test_an_aggregation_is_made_from_its_expression_and_the_rows_that_count():
    parts = {
        "late": Aggregation("CAST(delay > 15 AS DOUBLE)", ("mean", "count"), (6 * HOUR,), where="NOT cancelled"),
        "delay": Aggregation('"Air Time"', ("max",), (6 * HOUR,)),
        "flights": Aggregation("1", ("count",), (6 * HOUR,)),
    }
    view = FeatureView("delays", ("carrier",), HOUR, ("flights",), event_timestamp="happened_at", aggregations=parts)
    both = (("flights", "cancelled"), ("flights", "delay"))
    assert column_lineage(view, TABLES) == {
        "carrier": (("flights", "carrier"),),
        "known_at": (("flights", "known_at"),),
        "late_mean_6h": both,
        "late_count_6h": both,
        "delay_max_6h": (("flights", "Air Time"),),
        "flights_count_6h": (),
    }


def test_a_lookup_is_made_from_its_expressions():
    lookup = Lookup({"size": "size * 2", "half": "CASE WHEN delay > 0 THEN size END"}, valid_from="known_at")
    view = FeatureView("attributes", ("carrier",), 0 * HOUR, ("carriers",), lookup=lookup)
    assert column_lineage(view, TABLES) == {
        "carrier": (("carriers", "carrier"),),
        "known_at": (("carriers", "known_at"),),
        "size": (("carriers", "size"),),
        "half": (("carriers", "delay"), ("carriers", "size")),
    }


def test_a_label_is_made_from_the_columns_of_its_expression():
    assert expression_lineage("flights", {"label": 'delay > 15 OR "AIR TIME" IS NULL'}, TABLES) == {
        "label": (("flights", "Air Time"), ("flights", "delay"))
    }


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT carrier, known_at, d FROM (SELECT carrier, known_at, COLUMNS('d.*') AS d FROM flights)",
        """SELECT carrier, known_at, delay AS d FROM flights UNION ALL BY NAME
           SELECT size AS d, carrier, known_at FROM carriers""",
        """SELECT carrier, known_at, v FROM (UNPIVOT (SELECT carrier, known_at, delay, "Air Time" FROM flights)
           ON delay, "Air Time" INTO NAME n VALUE v)""",
    ],
    ids=["columns", "by name", "unpivot"],
)  # fmt: skip
def test_what_cannot_be_followed_is_left_out_and_said(sql, caplog):
    filled().sql(sql).fetchall()  # DuckDB can
    with caplog.at_level(logging.WARNING):
        found = lineage(sql)
    assert "d" not in found
    assert "v" not in found
    assert "Feature view 'events': " in caplog.text
    assert "cannot be followed to" in caplog.text


def test_views_over_views_end_at_the_view_that_is_read():
    tables = {"hourly": [Column("carrier", "VARCHAR"), Column("delay_mean_6h", "DOUBLE")]}
    view = sql_view("SELECT carrier, known_at, delay_mean_6h / 60 AS hours FROM hourly", ("hourly",))
    assert column_lineage(view, tables)["hours"] == (("hourly", "delay_mean_6h"),)
