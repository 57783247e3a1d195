"""`source:` in YAML: what the sources are told, and what a wrong declaration is told at its line."""

from datetime import timedelta

import pytest

from ml_assets.adapters.sources.base import Files, Http, Python, Sql
from ml_assets.tables.format import Format
from ml_assets_tests.components.test_declarations import complaint, line_of
from ml_assets_tests.project import CARRIERS, FLIGHTS

WRITTEN = 'source: {files: "flights/*.parquet"}'
API = "https://api.test/flights?day={partition}"
HTTP = f'source: {{http: {{url: "{API}"'


def test_files_with_their_format(project):
    declared = {"files": "a/*.csv", "format": {"kind": "csv", "delimiter": ";", "nulls": ["-"], "max_bytes": "1.5MB"}}
    spec = project.table("flights", source=declared).source
    assert spec == Files("a/*.csv", Format(kind="csv", delimiter=";", nulls=("-",), max_bytes=1_500_000))


def test_files_whose_names_tell_everything(project):
    assert project.table("flights").source == Files("flights/*.parquet", Format())


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("2GiB", 2**31), ("1 K", 1000), (77, 77), ("12", 12), ("12B", 12)]
)
def test_sizes(project, text, size):
    source = {"files": "a/*.csv", "format": {"max_bytes": text}}
    assert project.table("flights", source=source).source.format.max_bytes == size


def test_sql(project):
    declared = {"url": "sqlite:///shop.db", "table": "orders", "cursor": "updated_at", "every": "10m"}
    expected = Sql("sqlite:///shop.db", table="orders", cursor="updated_at", every=timedelta(minutes=10))
    assert project.table("flights", source={"sql": declared}).source == expected


def test_http(project):
    declared = {"url": API, "params": {"size": "100"}, "items": "data", "next_url": "next", "look_back": "7d"}
    expected = Http(API, params={"size": "100"}, items="data", next_url="next", look_back=timedelta(days=7))
    assert project.table("flights", source={"http": declared}).source == expected


def test_texts_that_look_like_numbers_stay_what_they_are(project, monkeypatch):
    monkeypatch.setenv("KEY", "1e5")
    nulls = ["-999.00", "None", "007", "{{x}}"]
    declared = {"files": "a/*.csv", "format": {"nulls": nulls, "text_nulls": ["0"]}}
    form = project.table("flights", source=declared).source.format
    assert (form.nulls, form.text_nulls) == (tuple(nulls), ("0",))
    declared = {"url": API, "params": {"size": 100, "page": "007"}, "headers": {"X-Api-Key": "{{ env.KEY }}"}}
    http = project.table("flights", source={"http": declared}).source
    assert (http.params, http.headers) == ({"size": "100", "page": "007"}, {"X-Api-Key": "1e5"})


def test_python(project):
    assert project.table("flights", source={"python": "shop.sources.orders"}).source == Python("shop.sources.orders")


def test_secrets_come_from_the_environment_and_are_not_shown(project, monkeypatch):
    monkeypatch.setenv("SHOP_URL", "postgresql://me:hunter2@db/shop")
    monkeypatch.setenv("TOKEN", "hunter3")
    sql = 'source: {sql: {url: "{{ env.SHOP_URL }}", table: orders}}'
    project.declare(FLIGHTS.replace(WRITTEN, sql))
    project.load()
    http = HTTP + ', headers: {Authorization: "Bearer {{ env.TOKEN }}"}}}'
    project.declare(FLIGHTS.replace(WRITTEN, http))
    project.load()
    spec = project.table("flights", source={"sql": {"url": "{{ env.SHOP_URL }}", "table": "orders"}}).source
    assert spec.url.endswith("hunter2@db/shop")
    assert "hunter2" not in repr(spec)


WRONG = {
    "no kind": ("source: {}", "source:", ["exactly one of files, sql, http, python; this has none"]),
    "two kinds": (
        'source: {files: "a/*.csv", python: a.b}',
        "source:",
        ["exactly one of files, sql, http, python; this has files and python"],
    ),
    "unknown kind": ("source: {kafka: topic}", "source:", ["kafka"]),
    "a pattern that leads up": ('source: {files: "../a/*.csv"}', "files:", ["`..`", "the path that it leads to"]),
    "a place that is none": ('source: {files: "gs://a/*.csv"}', "files:", ["local or s3://"]),
    "a format of no files": ("source: {python: a.b, format: {kind: csv}}", "format:", ["how to read `files`"]),
    "a delimiter of two": (
        'source: {files: "a/*", format: {delimiter: "||"}}',
        "format:",
        ["format.delimiter is '||'", "one ASCII character"],
    ),
    "an unknown zone": ('source: {files: "a/*", format: {time_zone: Mars}}', "format:", ["'Mars' is unknown"]),
    "a size that is none": ('source: {files: "a/*", format: {max_bytes: much}}', "format:", ["'much' is no size"]),
    "no address of a database": ("source: {sql: {url: shop.db, table: a}}", "sql:", ["no SQLAlchemy URL"]),
    "neither table nor query": ('source: {sql: {url: "sqlite:///a"}}', "sql:", ["either `table` or `query`"]),
    "a password": (
        'source: {sql: {url: "postgresql://me:hunter2@db/shop", table: a}}',
        "sql:",
        ["a password does not belong into YAML", "{{ env.SHOP_URL }}"],
    ),
    "a token": (
        HTTP + ", headers: {Authorization: Bearer hunter2}}}",
        "http:",
        ["the Authorization does not belong into YAML", "{{ env.SHOP_TOKEN }}"],
    ),
    "a token among the parameters": (
        HTTP + ", params: {api_key: hunter2}}}",
        "http:",
        ["the api_key does not belong into YAML", "{{ env.SHOP_TOKEN }}"],
    ),
    "no web address": ('source: {http: {url: "ftp://a/{partition}"}}', "http:", ["https:// or http://"]),
    "an address with a bracket": (
        'source: {http: {url: "https://[a/{partition}"}}',
        "http:",
        ["https:// or http://"],
    ),
    "no day to ask for": ('source: {http: {url: "https://a/"}}', "http:", ["write {partition}", "`url` or `params`"]),
    "two ways to the next page": (HTTP + ", next_url: a, page_param: b}}", "http:", ["not by next_url and page_param"]),
    "an interval that is none": (HTTP + ", every: hourly}}", "http:", ["'hourly' is no duration"]),
    "no function": ("source: {python: orders}", "python:", ["'orders' is no `package.module.function`"]),
}


@pytest.mark.parametrize(("source", "place", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_source_is_told_at_its_line(project, source, place, words):
    assert WRITTEN in FLIGHTS
    path = project.declare(FLIGHTS.replace(WRITTEN, source))
    said = complaint(project)
    assert f"defs.yaml:{line_of(path, place)}" in said
    assert not [word for word in words if word not in said], said


def test_a_password_is_not_repeated_in_the_complaint(project):
    project.declare(FLIGHTS.replace(WRITTEN, 'source: {sql: {url: "mysql://me:hunter2@db/a", table: a}}'))
    said = complaint(project)
    assert "a password does not belong" in said
    assert "hunter2" not in said


def test_a_day_in_the_pattern_of_a_table_without_days_is_told(project):
    path = project.declare(CARRIERS.replace("carriers/*.parquet", "a/{partition}.csv"))
    assert f"defs.yaml:{line_of(path, 'files:')}: Table 'carriers': The pattern a/{{partition}}.csv" in complaint(
        project
    )
