"""What user code means: layout and comments say nothing, everything else does."""

import importlib
from uuid import uuid4

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.features import meaning

SQL = """SELECT carrier, delay AS "Last Delay" FROM flights WHERE carrier <> 'UA -- no' AND delay > 1e3"""


@pytest.mark.parametrize(
    "other",
    [
        """-- new\nselect Carrier, DELAY as "Last Delay" from Flights\nWHERE carrier<>'UA -- no' and\tdelay>1E3;""",
        f"/* é */ {SQL} -- end",
    ],
)
def test_layout_case_and_comments_of_sql_mean_nothing(other):
    assert meaning.of_sql(other) == meaning.of_sql(SQL)


@pytest.mark.parametrize(
    ("this", "that"),
    [
        ("'UA -- no'", "'ua -- no'"),
        ('"Last Delay"', '"last delay"'),
        ("1e3", "1e4"),
        (">", ">="),
        ("'UA -- no'", "'é'"),
    ],
)
def test_what_is_quoted_and_every_token_of_sql_counts(this, that):
    assert meaning.of_sql(SQL.replace(this, that)) != meaning.of_sql(SQL)


@pytest.mark.parametrize("sql", ["delay > 15", "$$Text$$ || E'\\n' || 'It''s'", "a->>'$.B'", "x::INT", "- -1"])
def test_the_meaning_of_an_expression_gives_the_same_value(sql):
    import duckdb

    def value(text):
        return duckdb.sql(f"SELECT {text} FROM (SELECT 20 AS delay, '{{\"B\": 1}}'::JSON AS a, 3.5 AS x)").fetchall()

    assert value(meaning.of_sql(sql)) == value(sql)


HELPERS = """\
def shared(values):
    return values
"""
FEATURES = '''\
"""Module."""
from os import path, sep
import numpy as np
from PACKAGE.helpers import shared
from PACKAGE import more

LIMITS = {"a": 1}
LIMITS["b"] = 2
UNUSED = 1


def request_features(columns):
    """Function."""
    # a comment
    return _inner(shared(columns), LIMITS)


def _inner(columns, limits):
    return more.scaled(columns, limits)


def unused():
    return UNUSED
'''
MORE = "FACTOR = 2\n\n\ndef scaled(columns, limits):\n    return columns, FACTOR\n"


class Code:
    """A package on disk."""

    def __init__(self, folder):
        self.name, self.folder = f"code_{uuid4().hex[:8]}", folder
        (folder / self.name).mkdir()
        for file, text in (("__init__", ""), ("features", FEATURES), ("helpers", HELPERS), ("more", MORE)):
            self.write(file, text)

    def write(self, file, text):
        (self.folder / self.name / f"{file}.py").write_text(text.replace("PACKAGE", self.name))
        importlib.invalidate_caches()

    def edited(self, file, this, that):
        path = self.folder / self.name / f"{file}.py"
        before = path.read_text()
        assert this in before
        path.write_text(before.replace(this, that))
        return self.hash()

    def hash(self):
        return meaning.of_function(f"{self.name}.features.request_features")


@pytest.fixture
def code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return Code(tmp_path)


@pytest.mark.parametrize(
    ("file", "this", "that"),
    [
        ("features", "# a comment", "# another"),
        ("features", '"""Function."""', '"""Another\n    text."""'),
        ("features", '"""Module."""\n', "\n\n"),
        ("features", "_inner(shared(columns), LIMITS)", "_inner(\n        shared(columns),\n        LIMITS,\n    )"),
        ("features", "UNUSED = 1", "UNUSED = 2"),
        ("features", "from os import path, sep", "from os import sep"),
        ("helpers", "def shared", "def other():\n    return 0\n\n\ndef shared"),
    ],
)
def test_what_cannot_change_a_result_does_not_count(code, file, this, that):
    before = code.hash()
    assert code.edited(file, this, that) == before


@pytest.mark.parametrize(
    ("file", "this", "that"),
    [
        ("features", "more.scaled(columns, limits)", "more.scaled(limits, columns)"),
        ("features", '{"a": 1}', '{"a": 3}'),
        ("features", 'LIMITS["b"] = 2', 'LIMITS["b"] = 3'),
        ("helpers", "return values", "return values[:1]"),
        ("more", "FACTOR = 2", "FACTOR = 3"),
        ("more", "return columns, FACTOR", "return FACTOR, columns"),
    ],
)
def test_code_that_is_reached_counts_wherever_it_stands(code, file, this, that):
    before = code.hash()
    assert code.edited(file, this, that) != before


@pytest.mark.parametrize(
    "text",
    [
        "def request_features(columns):\n    from PACKAGE.helpers import shared\n\n    return shared(columns)\n",
        "def request_features(columns):\n    import PACKAGE.helpers\n\n    return PACKAGE.helpers.shared(columns)\n",
        "try:\n    from PACKAGE.helpers import shared\nexcept ImportError:\n    shared = None\n\n\n"
        "def request_features(columns):\n    return shared(columns)\n",
    ],
    ids=["in the function", "a module in the function", "in a try"],
)
def test_what_is_imported_elsewhere_than_at_the_top_counts(code, text):
    code.write("features", text)
    before = code.hash()
    assert code.edited("helpers", "return values", "# every one\n    return values") == before
    assert code.edited("helpers", "return values", "return values[:1]") != before


def test_a_function_behind_another_name_counts(code):
    code.write("again", "from PACKAGE.features import request_features as other\nrequest_features = other\n")
    reference = f"{code.name}.again.request_features"
    before = meaning.of_function(reference)
    code.edited("more", "FACTOR = 2", "FACTOR = 3")
    assert meaning.of_function(reference) != before


def test_modules_that_import_each_other_end(code):
    code.write("helpers", "from PACKAGE import features\n\n\ndef shared(values):\n    return features.UNUSED\n")
    before = code.hash()
    assert code.edited("features", "UNUSED = 1", "UNUSED = 2") != before


def test_a_function_that_is_not_there_is_an_error():
    with pytest.raises(DeclarationError, match=r"There is no 'ml_assets\.defs\.flights\.features\.missing'"):
        meaning.of_function("ml_assets.defs.flights.features.missing")
