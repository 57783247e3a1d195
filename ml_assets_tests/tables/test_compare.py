"""Two versions of a contract: what changed, and whether someone who kept the earlier one may break."""

import pytest

from ml_assets.tables import compare, contract
from ml_assets.tables.outline import read, read_text
from ml_assets.tables.validate import validate
from ml_assets_tests.tables.conftest import HEAD, deliver

CASES = [
    # the field before, after, the effect, words of the reason
    ("x: int", "x: float", "breaking", "the type was BIGINT, is DOUBLE"),
    ("x: int = pa.Field(nullable=True)", "x: int", "breaking", "may no longer be null"),
    ("x: int", "x: int = pa.Field(nullable=True)", "compatible", "readers may meet nulls"),
    ("x: int = pa.Field(description='a')", "x: int = pa.Field(description='b')", "neutral", "description"),
    ("x: int", "y: int = pa.Field(nullable=True)", "breaking", "the column is gone"),
    ("x: int = pa.Field(ge=0)", "x: int = pa.Field(ge=1)", "breaking", "were ge=0, are ge=1: narrower"),
    ("x: int = pa.Field(ge=0)", "x: int = pa.Field(gt=0)", "breaking", "narrower"),
    ("x: int = pa.Field(gt=0)", "x: int = pa.Field(ge=0)", "compatible", "wider"),
    ("x: int = pa.Field(ge=0, le=9)", "x: int = pa.Field(ge=-1, le=8)", "breaking", "narrower"),
    ("x: int = pa.Field(ge=0, le=9)", "x: int = pa.Field(le=9)", "compatible", "wider"),
    ("x: int", "x: int = pa.Field(lt=9)", "breaking", "were not bounded, are lt=9: narrower"),
    ("x: int = pa.Field(lt=9)", "x: int", "compatible", "are not bounded: wider"),
    ("x: float = pa.Field(le=LIMIT)", "x: float = pa.Field(le=9)", "breaking", "cannot be compared"),
    ("x: str = pa.Field(isin=['a', 'b'])", "x: str = pa.Field(isin=['a'])", "breaking", "no longer allowed: b"),
    ("x: str = pa.Field(isin=['a'])", "x: str = pa.Field(isin=['b', 'a'])", "compatible", "now allowed: b"),
    ("x: str = pa.Field(isin=['a'])", "x: str", "compatible", "no longer listed"),
    ("x: str", "x: str = pa.Field(isin=['a'])", "breaking", "now listed"),
    ("x: str = pa.Field(notin=['a'])", "x: str = pa.Field(notin=['a', 'b'])", "breaking", "now forbidden: b"),
    ("x: str = pa.Field(notin=['a', 'b'])", "x: str = pa.Field(ne='a')", "compatible", "no longer forbidden: b"),
    ("x: str = pa.Field(isin=KINDS)", "x: str = pa.Field(isin=['a'])", "breaking", "cannot be compared"),
    ("x: str = pa.Field(str_matches='a')", "x: str = pa.Field(str_matches='b')", "breaking", "was 'a', is 'b'"),
    ("x: str = pa.Field(str_matches='a')", "x: str", "compatible", "str_matches is gone"),
    ("x: str", "x: str = pa.Field(str_startswith='a')", "breaking", "is new"),
    ("x: str = pa.Field(str_length={'max_value': 3})", "x: str = pa.Field(str_length=(1, 3))", "breaking", "narrower"),
    ("x: str = pa.Field(str_length=2)", "x: str = pa.Field(str_length={'max_value': 3})", "compatible", "wider"),
    ("x: int = pa.Field(unique=True)", "x: int", "compatible", "no longer be unique"),
    ("x: int", "x: int = pa.Field(unique=True)", "breaking", "must be unique now"),
]
SAME = [
    ("x: int = pa.Field(ge=0, le=9)", "x: int = pa.Field(in_range={'min_value': 0, 'max_value': 9})"),
    ("x: str = pa.Field(isin=['a', 'b'])", "x: str = pa.Field(isin=('b', 'a'))"),
    ("x: date = pa.Field(le=date(2013, 1, 5))", "x: date = pa.Field(le=date(2013, 1,   5))"),
    ("x: int", "x: int = pa.Field()  # a comment"),
]


def outlined(body):
    return read_text(f"{HEAD}class T(pa.DataFrameModel):\n    {body}\n    z: str = pa.Field(nullable=True)\n", "T")


@pytest.mark.parametrize(("before", "after", "effect", "words"), CASES)
def test_a_change_has_an_effect_and_a_reason_at_its_line(before, after, effect, words):
    changes = compare.diff(outlined(before), outlined(after))
    assert changes[0].effect == effect
    assert words in changes[0].sentence
    assert compare.is_breaking(changes) == (effect == "breaking")
    assert {change.line for change in changes} == {9}


@pytest.mark.parametrize(("before", "after"), SAME)
def test_the_same_promise_in_other_words_is_no_change(before, after):
    assert compare.diff(outlined(before), outlined(after)) == ()


def test_a_new_column_breaks_only_if_it_may_not_be_null():
    one, many = outlined("x: int"), outlined("x: int\n    y: int\n    w: int = pa.Field(nullable=True)")
    assert [(c.subject, c.effect) for c in compare.diff(one, many)] == [("y", "breaking"), ("w", "compatible")]


CONFIG = 'x: int\n    class Config:\n        metadata = {"rules": %s}\n        unique = %s'


def test_row_rules_unique_sets_and_keys_are_compared():
    before = outlined(CONFIG % ({"kept": "x  > 1", "gone": "x < 9", "other": "x > 2"}, ["x", "z"]))
    after = outlined(CONFIG % ({"kept": "x > 1", "other": "x > 3", "new": "x < 7"}, ["x"]))
    changes = compare.diff(before, after, keys=(["x"], ["x", "z"]))
    assert [(c.subject, c.effect) for c in changes] == [
        ("gone", "compatible"),
        ("other", "breaking"),
        ("new", "breaking"),
        ("x, z", "compatible"),
        ("x", "breaking"),
        ("keys", "breaking"),
    ]
    assert compare.diff(before, before, keys=(["x"], ["x"])) == ()


def test_a_contract_on_disk_and_an_earlier_text_are_compared(declare, tmp_path):
    reference = declare("class T(pa.DataFrameModel):\n    x: int = pa.Field(ge=0)\n", "T")
    source = (tmp_path / f"{reference.split('.')[0]}.py").read_text()
    assert compare.diff(read_text(source, "T"), read(reference)) == ()
    assert compare.is_breaking(compare.diff(read_text(source.replace("ge=0", "ge=-1"), "T"), read(reference)))


VALUES = {"int": [-5, -1, 0, 1, 5, 8, 9, 10, None], "str": ["", "a", "ab", "b", "abc", "abcd", None]}


TRIED = [
    case[:2]
    for case in CASES
    if case[0][:6] == case[1][:6] and case[0].split()[1].strip(":") in VALUES and "KINDS" not in case[0]
]


@pytest.mark.parametrize(("before", "after"), TRIED)
def test_what_is_called_compatible_quarantines_no_row_that_was_valid(declare, con, before, after):
    loaded = [contract.load(declare(f"class T(pa.DataFrameModel):\n    {body}\n", "T")) for body in (before, after)]
    rows = [{"x": value} for value in VALUES[before.split()[1]] * 2]
    was, now = ({repr(v) for v in validate(con, deliver(of, rows), of).valid.column("x").to_pylist()} for of in loaded)
    assert was <= now or compare.is_breaking(compare.diff(*(read(of.reference) for of in loaded)))
