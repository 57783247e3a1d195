"""Every rule: a value just inside its boundary passes and a mutant just outside fails, as in pandera itself."""

import importlib
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaError

from ml_assets.errors import DeclarationError
from ml_assets.tables import contract
from ml_assets.tables.validate import validate
from ml_assets_tests.tables.conftest import deliver

MIDNIGHT = datetime(2013, 1, 5, tzinfo=UTC)
TINY = timedelta(microseconds=1)
MOMENT = "datetime.fromisoformat('2013-01-05T00:00:00+00:00')"
RULES = [
    # type, rule, passes, fails, name of the rule
    ("float", "ge=0", 0.0, -5e-324, "x >= 0"),
    ("float", "ge=0.1", 0.1, 0.09999999999999999, "x >= 0.1"),
    ("float", "gt=0.1", 0.10000000000000002, 0.1, "x > 0.1"),
    ("float", "le=2.5", 2.5, 2.5000000000000004, "x <= 2.5"),
    ("float", "lt=2.5", 2.4999999999999996, 2.5, "x < 2.5"),
    ("int", "ge=3", 3, 2, "x >= 3"),
    ("int", "gt=3", 4, 3, "x > 3"),
    ("int", "le=3", 3, 4, "x <= 3"),
    ("int", "lt=3", 2, 3, "x < 3"),
    ("int", "eq=3", 3, 4, "x = 3"),
    ("int", "ne=3", 4, 3, "x != 3"),
    ("str", "eq='a'", "a", "A", "x = a"),
    ("bool", "eq=True", True, False, "x = True"),
    ("float", "in_range={'min_value': 0, 'max_value': 5}", 5.0, 5.000000000000001, "x in [0, 5]"),
    ("float", "in_range={'min_value': 0, 'max_value': 5}", 0.0, -5e-324, "x in [0, 5]"),
    ("float", "in_range={'min_value': 0, 'max_value': 5, 'include_min': False}", 5e-324, 0.0, "x in (0, 5]"),
    ("float", "in_range={'min_value': 0, 'max_value': 5, 'include_max': False}", 4.999999999999999, 5.0, "x in [0, 5)"),
    ("int", "isin=[1, 2]", 2, 3, "x in (1, 2)"),
    ("str", "isin=['it\\'s', 'b']", "it's", "its", "x in (it's, b)"),
    ("int", "notin=[1, 2]", 3, 2, "x not in (1, 2)"),
    ("str", "str_matches='ab+'", "abc", "xab", "x matches 'ab+'"),
    ("str", "str_matches='a|b$'", "b", "cb", "x matches 'a|b$'"),
    ("str", "str_contains='b+c'", "abbc", "abb", "x contains 'b+c'"),
    ("str", "str_startswith='A%'", "A%b", "Ab", "x starts with 'A%'"),
    ("str", "str_endswith='_z'", "a_z", "abz", "x ends with '_z'"),
    ("str", "str_length={'min_value': 2, 'max_value': 3}", "né", "n", "x has 2 to 3 characters"),
    ("str", "str_length={'min_value': 2, 'max_value': 3}", "nén", "néné", "x has 2 to 3 characters"),
    ("str", "str_length={'min_value': 2}", "né", "é", "x has at least 2 characters"),
    ("str", "str_length={'max_value': 2}", "né", "née", "x has at most 2 characters"),
    ("datetime", f"ge={MOMENT}", MIDNIGHT, MIDNIGHT - TINY, "x >= 2013-01-05T00:00:00Z"),
    ("datetime", f"lt={MOMENT}", MIDNIGHT - TINY, MIDNIGHT, "x < 2013-01-05T00:00:00Z"),
    ("date", "le=date(2013, 1, 5)", date(2013, 1, 5), date(2013, 1, 6), "x <= 2013-01-05"),
]


@pytest.mark.parametrize(("kind", "field", "passes", "fails", "name"), RULES)
def test_a_rule_passes_inside_its_boundary_and_fails_outside_like_pandera(
    one_column, con, kind, field, passes, fails, name
):
    reference = one_column(kind, field)
    loaded = contract.load(reference)
    found = validate(con, deliver(loaded, [{"x": passes}, {"x": fails}]), loaded)
    assert found.valid.column("x").to_pylist() == [passes]
    assert found.quarantine.select(["row", "rule"]).to_pylist() == [{"row": 2, "rule": name}]
    if kind != "datetime":  # pandera means a naive time by `datetime`, ml_assets an instant
        assert (pandera_accepts(reference, passes), pandera_accepts(reference, fails)) == (True, False)


def pandera_accepts(reference, value, dtype=None):
    module, _, name = reference.rpartition(".")
    try:
        getattr(importlib.import_module(module), name).validate(pd.DataFrame({"x": pd.Series([value], dtype=dtype)}))
    except SchemaError:
        return False
    return True


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_breaks_only_the_rule_that_forbids_nulls(one_column, con, value):
    for field, broken in (("nullable=True, ge=0", []), ("ge=0", ["x is not null"])):
        loaded = contract.load(one_column("float", field))
        found = validate(con, deliver(loaded, [{"x": value}]), loaded)
        assert found.quarantine.column("rule").to_pylist() == broken
        assert found.valid.column("x").to_pylist() == [None] * (1 - len(broken))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinity_is_quarantined_and_recorded_as_json(one_column, con, value):
    import json

    loaded = contract.load(one_column("float"))
    found = validate(con, deliver(loaded, [{"x": value}]), loaded)
    assert found.quarantine.column("rule").to_pylist() == ["x is finite"]
    assert float(json.loads(found.quarantine.column("record")[0].as_py())["x"]) == value


@pytest.mark.parametrize(("field", "config"), [("unique=True", ""), ("", "unique = ['x']"), ("", "unique = 'x'")])
def test_every_row_of_a_tie_breaks_uniqueness_and_nulls_do_not(declare, con, field, config):
    body = f"class T(pa.DataFrameModel):\n    x: float = pa.Field({field or 'ge=0'}, nullable=True)\n    k: int\n"
    body += f"    class Config:\n        {config or 'pass'}\n"
    loaded = contract.load(declare(body, "T"), keys=["k"])
    rows = [{"x": x, "k": k} for k, x in enumerate([1.0, 1.0, 2.0, None, None])]
    found = validate(con, deliver(loaded, rows), loaded)
    assert found.quarantine.select(["row", "rule"]).to_pylist() == [
        {"row": 1, "rule": "x is unique"},
        {"row": 2, "rule": "x is unique"},
    ]
    assert found.counts["2013-01-05"].by_rule == {"x is unique": 2}


def test_uniqueness_is_judged_after_duplicates_by_key_are_gone_and_within_a_partition(declare, con):
    import pyarrow as pa

    loaded = contract.load(
        declare("class T(pa.DataFrameModel):\n    x: int = pa.Field(unique=True)\n    k: int\n", "T"), keys=["k"]
    )
    same = [{"x": 1, "k": 1}, {"x": 1, "k": 1}]
    both = pa.concat_tables([deliver(loaded, same), deliver(loaded, same[:1], partition="2013-01-06")])
    found = validate(con, both, loaded)
    assert (found.valid.num_rows, found.quarantine.num_rows) == (2, 0)


ROW_RULE = """
class Base(pa.DataFrameModel):
    a: int
    b: int = pa.Field(nullable={nullable})
    class Config:
        metadata: ClassVar = {{"rules": {{"a before b": "a < b -- strictly"}}}}
class T(Base):
    class Config:
        metadata: ClassVar = {{"rules": {{"a is even": "a % 2 = 0"}}}}
"""


def test_row_rules_in_sql_add_up_along_inheritance_and_accept_null(declare, con):
    loaded = contract.load(declare(ROW_RULE.format(nullable=True).replace("b: int", "b: pd.Int64Dtype"), "T"))
    rows = [{"a": 2, "b": 3}, {"a": 2, "b": 2}, {"a": 1, "b": 1}, {"a": 2, "b": None}]
    found = validate(con, deliver(loaded, rows), loaded)
    assert found.quarantine.column("rules").to_pylist() == [["a before b"], ["a before b", "a is even"]]


def refusal(reference, keys=()):
    with pytest.raises(DeclarationError) as caught:
        contract.load(reference, keys=keys)
    assert caught.value.file
    assert caught.value.line
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        ("int", "coerce=True", "column x: the option coerce cannot be run in SQL"),
        ("float", "default=1.0", "the option default"),
        ("int", "regex=True", "the option regex"),
        ("int", "unique_values_eq=[1]", "the check unique_values_eq cannot be run in SQL; state it in SQL"),
        ("int", "ge=1, raise_warning=True", "the check greater_than_or_equal_to with its options"),
        ("float", "ge=1, ignore_na=False", "with its options"),
        ("int", "ge='1'", "the value '1' does not suit a BIGINT"),
        ("int", "isin=[True]", "the value True does not suit a BIGINT"),
        ("str", "isin=['a', None]", "the value None does not suit a VARCHAR"),
        ("int", "isin=[]", "the list of values is empty"),
        ("float", "le=float('nan')", "does not suit a DOUBLE"),
        ("datetime", "ge=datetime(2013, 1, 5)", "has no time zone"),
        ("int", "str_matches='a'", "it needs text and the column is a BIGINT"),
        ("str", "str_matches='(?=a)'", "invalid perl operator"),
        ("str", "str_matches='(a'", "cannot be loaded: missing )"),
    ],
)
def test_what_sql_cannot_run_exactly_is_refused_by_name(one_column, kind, field, words):
    assert words in refusal(one_column(kind, field))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('@pa.check("x")\n    def positive(cls, x):\n        return x > 0', "the check positive"),
        ('@pa.check("x", name="isin")\n    def positive(cls, x):\n        return x > 0', "the check isin"),
        ("@pa.dataframe_check\n    def whole(cls, d):\n        return d.x > 0", "the dataframe check whole"),
        ('@pa.parser("x")\n    def half(cls, x):\n        return x / 2', "a parser"),
        ("class Config:\n        coerce = True", "the option coerce of the contract"),
        ("class Config:\n        strict = 'filter'", "strict = 'filter'"),
        ("class Config:\n        ordered = True", "the option ordered"),
        ("class Config:\n        unique = ['y']", "no column y"),
        ("class Config:\n        metadata: ClassVar = {'rules': {'r': 'y > 1'}}", 'Referenced column "y" not found'),
        ("class Config:\n        metadata: ClassVar = {'rules': {'r': 'max(x) > 1'}}", "cannot contain aggregates"),
        ("class Config:\n        metadata: ClassVar = {'rules': {'r': 'count(*) OVER () > 1'}}", "window"),
        (
            "class Config:\n        metadata: ClassVar = {'rules': {'r': 'x + 1'}}",
            "gives a BIGINT, it must give a BOOLEAN",
        ),
        ("class Config:\n        metadata: ClassVar = {'rules': {'r': 'x >'}}", "syntax error"),
        ("class Config:\n        metadata: ClassVar = {'rules': {'r': None}}", "give it an SQL expression"),
    ],
)
def test_parts_of_a_model_that_cannot_become_sql_are_refused(declare, extra, words):
    assert words in refusal(declare(f"class Table(pa.DataFrameModel):\n    x: int\n\n    {extra}\n", "Table"))


def test_a_key_must_be_a_column_that_is_never_null(one_column):
    assert "the key y is no column of the contract; its columns: x" in refusal(one_column("int", "gt=0"), keys=["y"])
    assert "the key x may not be null" in refusal(one_column("float", "nullable=True"), keys=["x"])


BOUNDS = "class T(pa.DataFrameModel):\n    x: float = pa.Field(nullable=True, ge=-1.5, lt=10, ne=3, notin=[4.5])\n"
TEXTS = """
class T(pa.DataFrameModel):
    x: str = pa.Field(nullable=True, str_matches='[ab]+c?', str_length={'max_value': 3})
"""


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(-20, 20), st.sampled_from([-1.5, 10.0, 3.0, 4.5])), min_size=1, max_size=20
    )
)
def test_numbers_are_judged_row_by_row_as_pandera_would(tmp_path_factory, values):
    agree_with_pandera(tmp_path_factory, BOUNDS, "bounds_of_tests", values, "float64")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.none(), st.text("abcdé", max_size=5)), min_size=1, max_size=20))
def test_texts_are_judged_row_by_row_as_pandera_would(tmp_path_factory, values):
    agree_with_pandera(tmp_path_factory, TEXTS, "texts_of_tests", values, "object")


def agree_with_pandera(tmp_path_factory, body, module, values, dtype):
    import sys

    from ml_assets import engine

    if module not in sys.modules:
        folder = tmp_path_factory.mktemp("property")
        (folder / f"{module}.py").write_text("import pandera.pandas as pa\n" + body)
        sys.path.insert(0, str(folder))
    loaded = contract.load(f"{module}.T")
    found = validate(engine.connect(threads=1), deliver(loaded, [{"x": value} for value in values]), loaded)
    refused = {row - 1 for row in found.quarantine.column("row").to_pylist()}
    expected = {i for i, value in enumerate(values) if not pandera_accepts(f"{module}.T", value, dtype)}
    assert refused == expected
