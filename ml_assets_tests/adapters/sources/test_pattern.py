"""Patterns: which paths match, what files are called, which day is theirs, and how little has to be listed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.adapters.sources.pattern import Pattern
from ml_assets.errors import DeclarationError, DeliveryError

MATCHES = {
    "*.csv": (["a.csv", "2013-01-05.csv"], ["x/a.csv", "a.csv.gz", "acsv", ".a.csv", "_a.csv"]),
    "*/*.csv": (["x/a.csv"], ["a.csv", "x/y/a.csv", "_x/a.csv"]),
    "**/*.csv": (["a.csv", "x/a.csv", "x/y/a.csv"], ["x/.y/a.csv", "x/_y/a.csv"]),
    "x/**": (["x/a.csv", "x/y/b"], ["y/a.csv", "x/a.tmp"]),
    "a?.csv": (["ab.csv"], ["a.csv", "a/.csv", "abc.csv"]),
    "[!ab].csv": (["c.csv"], ["a.csv", "b.csv"]),
    "[a-c^].csv": (["b.csv", "^.csv"], ["d.csv"]),
    "a+(b).csv": (["a+(b).csv"], ["aab.csv", "aa(b).csv"]),
    "{partition}/a-{partition}.csv": (["2013-01-05/a-2013-01-05.csv"], ["2013-01-05/a-2013-01-06.csv", "x/a-x.csv"]),
}


@pytest.mark.parametrize(("text", "paths"), MATCHES.items(), ids=MATCHES)
def test_what_matches(text, paths):
    pattern = Pattern(f"/landing/{text}", daily=True)
    assert [path for path in paths[0] if not pattern.matches(f"/landing/{path}")] == []
    assert [path for path in paths[1] if pattern.matches(f"/landing/{path}")] == []


@pytest.mark.parametrize(
    ("text", "path", "day"),
    [
        ("w/*.parquet", "w/2013-01-05T14.parquet", "2013-01-05"),
        ("w/*.parquet", "w/weather_2013-01-04_v2.parquet", "2013-01-04"),
        ("w/*/*.parquet", "w/2013-01-09/2013-01-05.parquet", "2013-01-05"),
        ("w/day={partition}/*.parquet", "w/day=2013-01-05/part-0.parquet", "2013-01-05"),
        ("w/{partition}/*.parquet", "w/2013-01-05/of-2013-01-09.parquet", "2013-01-05"),
    ],
)
def test_the_day_of_a_file(text, path, day):
    assert Pattern(text, daily=True).partition(path) == day


def test_a_day_that_is_none_is_refused():
    with pytest.raises(DeliveryError, match="2013-02-30 is not a day"):
        Pattern("w/{partition}/*", daily=True).partition("w/2013-02-30/a")


def test_only_what_days_have_in_common_is_listed():
    pattern = Pattern("s3://b/w/{partition}*.parquet", daily=True)
    assert pattern.prefix(["2013-01-05"]) == "s3://b/w/2013-01-05"
    assert pattern.prefix(["2013-01-05", "2013-01-09"]) == "s3://b/w/2013-01-0"
    assert pattern.prefix(["2013-01-05", "2014-01-05"]) == "s3://b/w/201"
    assert pattern.prefix() == pattern.prefix([]) == "s3://b/w/"
    assert Pattern("s3://b/w/2013-*", daily=True).prefix(["2013-01-05"]) == "s3://b/w/2013-"


@pytest.mark.parametrize("text", ["../x/*.csv", "a/../../x.csv", ".."])
def test_a_pattern_that_leads_up_is_refused(text):
    with pytest.raises(DeclarationError, match=r"holds `\.\.`"):
        Pattern(text, daily=True)


def test_a_day_in_the_pattern_of_a_table_without_days_is_refused():
    with pytest.raises(DeclarationError, match="has no partitions"):
        Pattern("x/{partition}.csv", daily=False)


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(DeclarationError, match=r"x/\[b-a\] is none: bad character range b-a"):
        Pattern("x/[b-a]", daily=False)


NAMES = st.text("ab*?[]!-^\\.{}1", min_size=1, max_size=6).filter(lambda name: name.strip("."))


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
def test_any_text_is_a_pattern_and_its_prefix_misses_nothing(parts, path_parts):
    path = "/".join(["w", *path_parts])
    try:
        pattern = Pattern("/".join(["w", *parts]), daily=False)
    except DeclarationError:
        return
    if pattern.matches(path):
        assert path.startswith(pattern.prefix())
        assert not re.search(r"(^|/)[._]", pattern.name(path))
