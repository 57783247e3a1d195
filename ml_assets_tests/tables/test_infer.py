import gzip
import importlib
import json
from datetime import UTC, datetime
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.errors import DeliveryError
from ml_assets.feeds import timetable
from ml_assets.tables import contract
from ml_assets.tables.delivery import DeliveredFile, gather
from ml_assets.tables.format import Format
from ml_assets.tables.infer import infer
from ml_assets.tables.validate import validate
from ml_assets_tests.project import parquet

WEEK = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 8, tzinfo=UTC))


@pytest.fixture(scope="module")
def flights():
    return timetable.tables(*WEEK)


@pytest.fixture
def keeps(tmp_path, monkeypatch):
    """Load the contract that a file gives, and judge the file by it."""
    monkeypatch.syspath_prepend(tmp_path)

    def judge(content, name, keys=()):
        module = f"made_{uuid4().hex[:8]}"
        (tmp_path / f"{module}.py").write_text(infer(content, name, class_name="Made", keys=keys))
        importlib.invalidate_caches()
        made = contract.load(f"{module}.Made", keys=keys)
        file = DeliveredFile(name, content, None, datetime.now(UTC))
        gathered = gather([file], made)
        rows, problems = (gathered.rows, gathered.problems) if hasattr(gathered, "rows") else gathered
        assert problems == ()
        with duckdb.connect() as con:
            judged = validate(con, rows, made)
        assert judged.quarantine.to_pylist() == []
        assert judged.valid.num_rows == rows.num_rows
        return made

    return judge


KEYS = {
    "flight_schedules": ["flight_id"],
    "flight_outcomes": ["flight_id"],
    "weather": ["origin", "observed_at"],
    "aircraft": ["tailnum"],
    "airports": ["faa"],
}


@pytest.mark.parametrize("table", sorted(KEYS))
def test_the_real_flights_keep_the_contract_that_they_gave(flights, keeps, table):
    made = keeps(parquet(flights[table]), f"{table}.parquet", KEYS[table])
    assert made.names() == tuple(flights[table].column_names)


@pytest.mark.parametrize("table", sorted(KEYS))
def test_keys_are_found_where_no_two_rows_share_them(flights, table):
    source = infer(parquet(flights[table]), f"{table}.parquet", class_name="Made")
    found = source.partition("# keys: [")[2].partition("]")[0].split(", ")
    assert sorted(found) == sorted(KEYS[table])


def test_csv_and_json_lines_compressed_or_not_give_contracts_that_they_keep(flights, keeps):
    weather = flights["weather"]
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(weather, sink)
    csv = sink.getvalue().to_pybytes()
    lines = "\n".join(json.dumps(row, default=str) for row in weather.to_pylist()).encode()
    made = [keeps(csv, "weather.csv"), keeps(gzip.compress(csv), "weather.csv.gz"), keeps(lines, "weather.jsonl")]
    for each in made:
        assert each.column("observed_at").type == "TIMESTAMPTZ"
        assert each.column("temperature_f").type == "DOUBLE"
        assert each.column("origin").type == "VARCHAR"


def rules_of(csv):
    source = infer(csv.encode(), "orders.csv", class_name="Orders")
    return {line.split(":")[0].strip(): line.split(" = ")[1] for line in source.splitlines() if " = pa.Field(" in line}


def test_types_nulls_bounds_sets_and_codes_are_what_the_rows_show():
    lines = [
        f"{i},{'AB'[i % 2]},X{i:03},{i * 1.7 - 30:.2f},{i if i % 4 else ''},2013-01-0{i % 9 + 1}" for i in range(60)
    ]
    assert rules_of("\n".join(["nr,kind,code,amount,maybe,day", *lines])) == {
        "nr": 'pa.Field(ge=0, le=59, description="")',
        "kind": 'pa.Field(isin=["A", "B"], description="")',
        "code": 'pa.Field(str_matches=r"[A-Z0-9]{4}$", description="")',
        "amount": 'pa.Field(ge=-30, le=71, description="")',
        "maybe": 'pa.Field(nullable=True, ge=0, le=59, description="")',
        "day": 'pa.Field(description="")',
    }


def test_any_file_name_may_stand_in_the_contract(keeps):
    keeps(b"a,b\n1,x\n2,y\n", 'or"""ders\\N.csv')


def test_a_code_with_leading_zeros_stays_text():
    assert rules_of("zip\n01234\n99999\n")["zip"] == r'pa.Field(str_matches=r"\d{5}$", description="")'


def test_names_that_are_no_python_have_an_alias(keeps):
    made = keeps(b"flight id,class,_x,validate\n1,2,3,4\n5,6,7,8\n", "odd.csv")
    assert made.names() == ("flight id", "class", "_x", "validate")


@pytest.mark.parametrize(
    ("csv", "keys", "said"),
    [
        ("a,b\n1,1\n1,2\n", ["a"], "1 rows have the same a as another; choose other keys"),
        ("a,b\n1,1\n,2\n", ["a"], "the key a is null in 1 rows; choose others"),
        ("a,b\n1,1\n", ["c"], "there is no column c, but a, b"),
        ("a,_row\n1,1\n", [], "ml_assets itself adds _row to rows; rename it in the delivery"),
        ("a,b\n", [], "it holds no rows"),
    ],
)
def test_what_gives_no_contract_is_said(csv, keys, said):
    with pytest.raises(DeliveryError) as raised:
        infer(csv.encode(), "orders.csv", class_name="Orders", keys=keys)
    assert said in str(raised.value)


cells = st.one_of(
    st.none(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
    st.booleans(),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    kinds=st.lists(
        st.sampled_from(
            [st.integers(-(10**15), 10**15), st.floats(allow_nan=False), cells.filter(lambda v: isinstance(v, str))]
        ),
        min_size=1,
        max_size=3,
    ),
    n=st.integers(1, 12),
)
def test_any_file_keeps_the_contract_that_it_gave(keeps, data, kinds, n):
    columns = {
        f"c{i}": data.draw(
            st.lists(st.none() | kind.filter(lambda v: v not in (float("inf"), -float("inf"))), min_size=n, max_size=n)
        )
        for i, kind in enumerate(kinds)
    }
    keeps(parquet(pa.table(columns)), "any.parquet")


def test_a_csv_of_another_dialect_is_read_as_it_is_told():
    content = "nummer;betrag;ort\n1;2,5;Köln\n2;3,75;Bonn\n".encode("latin-1")
    told = Format(delimiter=";", decimal=",", encoding="latin-1")
    made = infer(content, "orte.csv", class_name="Orte", format=told)
    assert "betrag: float" in made
    assert 'str_length={"min_value": 4' in made
