"""What a contract promises, read from text: a named check for every rule that is compiled."""

import subprocess
import sys

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.tables import contract
from ml_assets.tables.contract import Promise
from ml_assets.tables.schema import check_names, slug
from ml_assets_tests.tables.conftest import FLIGHTS
from ml_assets_tests.tables.test_rules import RULES

OURS = ["FlightSchedules", "FlightOutcomes", "Weather", "Aircraft", "Airports"]


def test_every_rule_is_promised_with_a_name_and_a_sentence(declare):
    found = contract.promises(
        declare(FLIGHTS, "Flights"), keys=["flight_id"], partition_column="arrived_at", has_known_at=True
    )
    assert found == (
        Promise("flight_id__is_not_null", "In every row flight_id is not null.", "flight_id"),
        Promise("carrier__is_not_null", "In every row carrier is not null.", "carrier"),
        Promise("carrier__is_one_of", "In every row carrier in (B6, UA).", "carrier"),
        Promise("arrived_at__is_not_null", "In every row arrived_at is not null.", "arrived_at"),
        Promise("delay__is_finite", "In every row delay is finite.", "delay"),
        Promise("delay__in_range", "In every row delay in [-120, 2000].", "delay"),
        Promise("seats__is_not_null", "In every row seats is not null.", "seats"),
        Promise("seats__is_above", "In every row seats > 0.", "seats"),
        Promise("cancelled__is_not_null", "In every row cancelled is not null.", "cancelled"),
        Promise("arrives_after_departure", "In every row: arrives after departure (arrived_at >= departed_at)."),
        Promise("known_at__is_not_null", "For every row it is known when it could first be used."),
        Promise("arrived_at__in_partition", "In every row arrived_at lies in the UTC day of the partition."),
        Promise("keys_are_unique", "A row is identified by flight_id: of several in a partition the newest counts."),
    )


@pytest.mark.parametrize("name", OURS)
def test_what_is_promised_is_what_is_compiled_in_the_flights(name):
    reference = f"ml_assets.defs.flights.contracts.{name}"
    promised = contract.promises(reference, keys=(), partition_column=None, has_known_at=False)
    assert [promise.check for promise in promised] == [rule.check for rule in contract.load(reference).rules]


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, field, *_ in RULES])
def test_every_keyword_of_a_field_is_promised_under_the_name_of_its_rule(one_column, kind, field):
    reference = one_column(kind, field)
    promised = contract.promises(reference, keys=(), partition_column=None, has_known_at=False)
    assert {p.check for p in promised} == {rule.check for rule in contract.load(reference).rules}


INHERITED = """
class Base(pa.DataFrameModel):
    a: int = pa.Field(ge=0, le=9)
    b: int = pa.Field(unique=True)
    class Config:
        unique = ["a", "b"]
        metadata: ClassVar = {"rules": {"a before b": "a < b"}}
class T(Base):
    a: int = pa.Field(ge=None, lt=5)
    class Config(Base.Config):
        metadata: ClassVar = {"rules": {"a is even": "a % 2 = 0", "a before b": "a <= b"}, "owner": "us"}
"""


def test_promises_are_inherited_as_the_rules_are(declare):
    reference = declare(INHERITED, "T")
    promised = contract.promises(reference, keys=["b"], partition_column=None, has_known_at=False)
    assert [promise.check for promise in promised] == [
        "a__is_not_null",
        "a__is_below",
        "b__is_not_null",
        "a_before_b",
        "a_is_even",
        "a_b__is_unique",
        "keys_are_unique",
    ]
    assert "(a <= b)" in promised[3].sentence
    assert {rule.check for rule in contract.load(reference, keys=["b"]).rules} == {p.check for p in promised[:-1]}


def test_a_value_that_is_no_literal_is_shown_as_it_is_written(one_column):
    reference = one_column("date", "le=date(2013, 1, 5)")
    promised = contract.promises(reference, keys=(), partition_column=None, has_known_at=False)
    assert promised[1] == Promise("x__is_at_most", "In every row x is at most date(2013, 1, 5).", "x")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("metadata: ClassVar = dict(rules={})", "write metadata as a literal dict"),
        ("metadata: ClassVar = {'rules': RULES}", "write its rules as a literal dict"),
        ("metadata: ClassVar = {**SHARED}", "write metadata as a literal dict"),
        ("metadata: ClassVar = {'rules': {'r': f'x > {1}'}}", "write its rules as a literal dict"),
        ("unique = COLUMNS", "write unique as a literal list"),
    ],
)
def test_rules_that_cannot_be_read_from_text_are_refused_at_their_line(declare, tmp_path, config, words):
    body = f"class T(pa.DataFrameModel):\n    x: int\n    class Config:\n        {config}\n"
    reference = declare(body, "T")
    with pytest.raises(DeclarationError, match=words) as caught:
        contract.promises(reference, keys=(), partition_column=None, has_known_at=False)
    written = (tmp_path / f"{reference.split('.')[0]}.py").read_text().splitlines()
    assert written[caught.value.line - 1].strip() == config


def test_a_rule_that_only_pandera_knows_is_refused_when_the_contract_loads(declare):
    body = "class T(pa.DataFrameModel):\n    x: int\n\nT.Config.metadata = {'rules': {'late': 'x > 1'}}\n"
    with pytest.raises(DeclarationError, match="disagree about the rules late: declare them plainly"):
        contract.load(declare(body, "T"))


def test_a_row_rule_may_not_take_the_name_of_another_rule(declare):
    body = "class T(pa.DataFrameModel):\n    x: int\n    class Config:\n"
    body += "        metadata: ClassVar = {'rules': {'x is not null': 'true'}}\n"
    with pytest.raises(DeclarationError, match="two rules are named x is not null"):
        contract.load(declare(body, "T"))


def test_names_of_checks_are_snake_case_unique_and_not_too_long():
    rules = [("Wind gust", ("Wind gust", "is_finite")), ("wind_gust", ("wind_gust", "is_finite"))]
    rules += [("x" * 200, ("x" * 200, "is_finite")), ("温度", ("温度",)), ("Tempé  (°C)", ("Tempé  (°C)",))]
    names = check_names(rules)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 80 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)
    assert check_names(rules[::-1]) == names[::-1]
    assert names[0].startswith("wind_gust__is_finite_")
    assert names[-1] == "tempe_c"
    assert slug("a__b") == "a_b"


def test_promises_need_neither_pandera_nor_duckdb(tmp_path):
    (tmp_path / "contracts.py").write_text("import pandera.pandas as pa\nclass T(pa.DataFrameModel):\n    a: float\n")
    script = (
        "import sys\nfrom ml_assets.tables import contract\n"
        "found = contract.promises('contracts.T', keys=['a'], partition_column=None, has_known_at=True)\n"
        "assert len(found) == 4, found\n"
        "heavy = {'pandera', 'pandas', 'pyarrow', 'numpy', 'duckdb', 'contracts'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
