"""Which features there are, what is known of them, and what a model would have seen."""

import csv
import io
import json
import re

import pandas as pd
import pytest

from ml_assets import reading
from ml_assets.cli.features import _LISTED, _SEEN
from ml_assets.errors import TableNotFoundError
from ml_assets.steps.feature_catalogue import timing
from ml_assets_tests.cli.airline import Airline, begun
from ml_assets_tests.project import DOCUMENTS

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
LATE = """\
type: ml_assets.components.Model
attributes:
  name: late
  spine: {table: flights, time: "arrived_at - INTERVAL 2 HOUR"}
  label: {table: flights, expression: "delay > 15"}
  features: [carrier_delays, last_flight, carrier_attributes]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three days of flights with the features of all three views but the last day of one; a model that uses them."""
    with begun(tmp_path_factory.mktemp("features"), {**DOCUMENTS, "late": LATE}) as (project, airline):
        project.land_days(*DAYS)
        project.land_carriers()
        assert project.run("raw/flights", "tables/flights", first=DAYS[0], last=DAYS[-1]).success
        assert project.run("raw/carriers", "tables/carriers").success
        assert project.run("features/carrier_delays", first=DAYS[0], last=DAYS[-1]).success
        assert project.run("features/last_flight", first=DAYS[0], last=DAYS[1]).success
        assert project.run("features/carrier_attributes").success
        yield airline


def test_views_are_listed_with_what_one_chooses_by(shop):
    listed = {line["view"]: line for line in json.loads(shop.said("features", "list", "--format", "json"))}
    assert set(listed) == {"carrier_delays", "last_flight", "carrier_attributes"}
    found = listed["carrier_delays"]
    assert {name: found[name] for name in ("entity", "features", "times", "version", "used by")} == {
        "entity": "carrier",
        "features": 4,
        "times": "every 1h, counts for 2d",
        "version": 1,
        "used by": "late (not released)",
    }
    assert found["newest"].startswith("2013-01-03 ")
    assert re.fullmatch(r"\d+d", found["lag"])
    assert listed["last_flight"]["newest"].startswith("2013-01-02 ")
    assert "carrier_attributes  carrier" in shop.said("features", "list")


def test_a_view_is_shown_with_origin_statistics_and_users(shop):
    shown = shop.said("features", "show", "carrier_delays")
    assert re.search(r"features/carrier_delays  \(.*defs\.yaml:\d+\)", shown)
    assert "delay = mean, count of delay over 6h, 1d" in shown
    line = next(line for line in shown.splitlines() if line.startswith("delay_count_6h"))
    assert line.split()[1:3] == ["DOUBLE", "0.0%"]
    assert line.endswith("tables/flights.delay")
    facts = json.loads(shop.said("features", "show", "features/carrier_delays", "--format", "json"))
    (row,) = [row for row in facts["features"] if row["name"] == "delay_count_6h"]
    kept = shop.lake.dataset("feature_profiles/carrier_delays").to_table().to_pylist()
    assert row["profile"] in json.loads(json.dumps(kept, default=str))
    assert facts["partitions"] == [DAYS[0], DAYS[-1]]
    assert facts["consumers"] == {"late": None}
    assert (
        "SELECT carrier, known_at"
        in json.loads(shop.said("features", "show", "last_flight", "--format", "json"))["definition"]
    )


def test_of_a_view_without_days_the_rows_are_told_without_a_gap(shop):
    assert re.search(
        r"^rows     2; newest 2012-12-31 00:00:00 UTC$", shop.said("features", "show", "carrier_attributes"), re.M
    )


FLEET = """\
type: ml_assets.components.FeatureView
attributes:
  name: fleet
  table: flights
  entity: [carrier]
  lookup: {columns: {last_delay: delay}VALID}
"""


@pytest.mark.parametrize(
    ("valid", "times"),
    [
        ("", "from arrived_at, once known"),
        (", valid_from: known_at", "from when a row is known"),
        (", valid_until: known_at", "from arrived_at until known_at, once known"),
    ],
)
def test_of_a_lookup_it_is_told_from_when_its_rows_hold(project, valid, times):
    project.declare(*DOCUMENTS.values(), FLEET.replace("VALID", valid))
    assert timing(project.view("fleet")) == times


def test_statistics_are_made_where_none_are_kept(shop, tmp_path):
    import shutil

    own = shop.copied(tmp_path)
    kept = json.loads(own.said("features", "show", "carrier_delays", "--format", "json"))["features"]
    shutil.rmtree(own.home / "lake" / "feature_profiles")
    made = json.loads(own.said("features", "show", "carrier_delays", "--format", "json"))["features"]
    assert [each["profile"] | {"partition_key": ""} for each in made] == [
        each["profile"] | {"partition_key": ""} for each in kept
    ]


def test_a_preview_gives_the_rows_of_a_day_or_what_counts_at_a_moment(shop):
    rows = [
        json.loads(line)
        for line in shop.said("features", "preview", "carrier_delays", "--format", "jsonl").splitlines()
    ]
    assert rows[0]["feature_timestamp"].startswith("2013-01-03 23:00:00")
    assert {row["feature_timestamp"][:10] for row in rows} == {"2013-01-03"}
    day = shop.said("features", "preview", "carrier_delays", "--partition", DAYS[0], "--format", "csv")
    assert {row["feature_timestamp"][:10] for row in csv.DictReader(io.StringIO(day))} == {DAYS[0]}
    at = shop.said("features", "preview", "carrier_delays", "--at", "2013-01-02T12:30", "--format", "jsonl")
    counted = [json.loads(line) for line in at.splitlines()]
    assert [(row["carrier"], row["feature_timestamp"][:16], row["age"]) for row in counted] == [
        ("B6", "2013-01-02 12:00", "00:30:00"),
        ("UA", "2013-01-02 12:00", "00:30:00"),
    ]


def seen(shop, *words):
    return {
        (line["view"], line["feature"]): line
        for line in json.loads(shop.said("features", "get", *words, "--format", "json"))
    }


def test_what_a_model_would_have_seen_is_what_stood_on_the_grid_then(shop):
    found = seen(shop, "late", "--entity", "carrier=UA", "--at", "2013-01-02T12:30")
    (row,) = [
        row
        for row in shop.lake.dataset("features/carrier_delays").to_table().to_pylist()
        if row["carrier"] == "UA" and row["feature_timestamp"].isoformat() == "2013-01-02T12:00:00+00:00"
    ]
    for feature in ("delay_mean_6h", "delay_count_6h", "delay_mean_1d", "delay_count_1d"):
        assert found["carrier_delays", feature]["offline"] == row[feature]
        assert found["carrier_delays", feature]["row at"].startswith("2013-01-02 12:00:00")
        assert found["carrier_delays", feature]["age"] == "30m"
    assert found["carrier_attributes", "fleet"]["offline"] == 100.0
    by_number = seen(shop, "carrier_delays@1", "--entity", "carrier=UA", "--at", "2013-01-02T12:30")
    assert by_number == {key: line for key, line in found.items() if key[0] == "carrier_delays"}
    assert "no feature view 'carrier_delays@7'" in shop.refused("features", "preview", "carrier_delays@7")
    later = seen(shop, "last_flight", "--entity", "carrier=UA", "--at", "2013-01-09T12:00")
    assert later["last_flight", "last_delay"] == {
        "view": "last_flight", "feature": "last_delay", "offline": None, "row at": None, "age": None,
        "missing": "too old: 6d 14h > 1d",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("carrier", "at", "reason"),
    [
        ("UX", "2013-01-03T12:30", "unknown entity"),
        ("UA", "2012-12-01T12:30", "unknown entity"),
        ("UA", "2013-01-20T12:30", "too old: 16d 13h 30min > 2d"),
        ("", "2013-01-20T12:30", "null key: carrier is null"),
    ],
)
def test_where_no_row_counts_the_reason_is_said_of_the_lake_and_of_the_store(shop, carrier, at, reason):
    words = ("features", "get", "carrier_delays", f"carrier={carrier}", "--at", at)
    asked = shop.run(*words)
    assert asked.returncode == 0
    assert f"carrier_delays: no row counts offline: {reason}." in asked.stderr
    assert "online" not in asked.stderr
    both = shop.run(*words, "--online", "--format", "json")
    assert f"carrier_delays: no row counts offline: {reason}." in both.stderr
    assert f"carrier_delays: no row counts online: {reason}." in both.stderr
    for line in json.loads(both.stdout):
        assert (line["missing"], line["missing online"]) == (reason, reason)
        assert line["same"] == "yes"


def test_of_a_row_that_counts_nothing_is_missing(shop):
    asked = shop.run("features", "get", "carrier_delays", "carrier=UA", "--at", "2013-01-03T12:30", "--online")
    assert "no row counts" not in asked.stderr
    assert "missing" not in asked.stdout


def test_online_stands_beside_offline_and_a_difference_is_named(shop, tmp_path):
    own = shop.copied(tmp_path)
    words = ("carrier_delays", "carrier_attributes", "--entity", "carrier=UA", "--at", "2013-01-03T12:30", "--online")
    found = seen(own, *words)
    assert {line["same"] for line in found.values()} == {"yes"}
    assert all(line["online"] == line["offline"] is not None for line in found.values())
    (own.home / "online" / "features.db").unlink()
    lost = seen(own, *words)
    assert {line["same"] for line in lost.values()} == {"NO"}
    assert {line["online"] for line in lost.values()} == {None}
    assert {line["missing online"] for line in lost.values()} == {"nothing stored"}
    assert {line["missing"] for line in lost.values()} == {None}


def test_own_rows_get_the_features_that_the_command_gives(shop, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(shop.home))
    rows = pd.DataFrame(
        {
            "carrier": ["UA", "DL", None, "B6", "UA"],
            "at": pd.to_datetime(["2013-01-02T12:30"] * 4 + ["2013-01-01T00:00"]),
        }
    )
    joined = reading.features(rows, ["carrier_delays", "carrier_attributes@1"]).to_pylist()
    assert [row["carrier"] for row in joined] == ["UA", "DL", None, "B6", "UA"]
    assert [row["carrier_attributes__fleet"] for row in joined] == [100.0, None, None, 50.0, 100.0]
    said = seen(shop, "carrier_delays", "--entity", "carrier=B6", "--at", "2013-01-02T12:30")
    assert joined[3]["carrier_delays__delay_mean_6h"] == said["carrier_delays", "delay_mean_6h"]["offline"]
    for unknown in ("carrier_delay", "carrier_delays@7", "carrier_delays@x"):
        with pytest.raises(TableNotFoundError, match=f"no feature view '{unknown}'"):
            reading.features(rows, [unknown])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "carrier_delay"), "There is no feature view called 'carrier_delay'. Did you mean carrier_delays?"),
        (("get", "lat", "--entity", "carrier=UA"), "model or feature view called 'lat'. Did you mean late?"),
        (("get", "late"), "'carrier_delays' is about carrier. Say which: --entity carrier=..."),
        (("get", "late", "--entity", "UA"), "'UA' names no value. Write an entity as carrier=UA"),
        (("get", "late", "--entity", "carrier=UA", "--at", "noon"), "'noon' is no moment. Write it as 2013-"),
        (("get", "late", "carrier=UA", "carier=B6"), "'carier' is no entity column of these views. Did you mean"),
        (("get", "late", "carrer=UA"), "'carrer' is no entity column of these views. Did you mean carrier"),
        (("get", "late", "carrier=UA", "x=1"), "'x' is no entity column of these views. There are: carrier."),
        (("get", "late", "carrier=UA", "carrier=B6"), "'carrier' is given twice, as 'UA' and as 'B6'. Ask"),
        (("preview", "last_flight", "--partition", DAYS[2]), "no partition 2013-01-03; it has 2013-01-01 .. "),
        (("preview", "last_flight", "--partition", DAYS[0], "--at", "2013-01-01"), "Give --at or --partition, not"),
    ],
)  # fmt: skip
def test_what_a_person_gets_wrong_is_said_in_a_sentence(shop, words, sentence):
    assert sentence in shop.refused("features", *words)


def test_a_view_without_rows_says_how_to_get_some(shop, tmp_path):
    empty = Airline(shop.code, tmp_path, shop.spec)
    assert "ml-assets materialize +features/carrier_delays" in empty.refused("features", "preview", "carrier_delays")
    assert "not yet" in empty.said("features", "list")
    assert "features/carrier_delays" in empty.said("features", "show", "carrier_delays")


@pytest.fixture(scope="module")
def viewless(tmp_path_factory):
    """A project with a table and no view."""
    with begun(tmp_path_factory.mktemp("viewless"), {"flights": DOCUMENTS["flights"]}) as (_, airline):
        yield airline


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl", "parquet"])
def test_where_no_row_counts_yet_and_where_there_is_no_view_there_are_none_in_every_format(
    shop, viewless, tmp_path, form
):
    views = ("carrier_delays", "last_flight", "carrier_attributes")
    asked = [(shop, ("preview", view, "--at", "2012-01-01T00:00"), "carrier,feature_timestamp,age,") for view in views]
    for airline, words, header in [*asked, (viewless, ("list",), ",".join(_LISTED))]:
        written = tmp_path / "none.parquet"
        said = airline.run("features", *words, "--format", form, *(["-o", str(written)] if form == "parquet" else []))
        assert said.returncode == 0, said.stderr
        if form == "parquet":
            assert ",".join(pd.read_parquet(written).columns).startswith(header)
        elif form == "csv":
            assert said.stdout.startswith(header)
            assert said.stdout.count("\n") == 1
        else:
            assert {"json": "[", "jsonl": "", "table": header.split(",")[0]}[form] in said.stdout
            assert form != "table" or "No rows." in said.stderr


def test_the_columns_of_an_empty_list_are_those_of_a_full_one(shop):
    (first, *_) = json.loads(shop.said("features", "list", "--format", "json"))
    assert tuple(first) == _LISTED
    (first, *_) = json.loads(shop.said("features", "get", "carrier_attributes", "carrier=UA", "--format", "json"))
    assert tuple(first) == _SEEN


def test_a_view_that_was_edited_since_says_so(shop, tmp_path):
    own = shop.copied(tmp_path)
    stored = own.lake.dataset("features/carrier_attributes").to_table()
    own.lake.write("features/carrier_attributes", stored.rename_columns({"fleet": "ships"}))
    own.said("features", "show", "carrier_attributes")
    for words in (
        ("get", "carrier_attributes", "--entity", "carrier=UA"),
        ("preview", "carrier_attributes", "--at", "2013-02-01"),
    ):
        assert "was edited and is not computed anew: its rows lack fleet." in own.refused("features", *words)


def test_the_catalogue_is_one_page_with_every_view_and_feature(shop, tmp_path):
    shop.said("features", "catalogue", "--output", str(tmp_path / "out" / "features.html"))
    page = (tmp_path / "out" / "features.html").read_text()
    assert "3 feature views with 6 features" in page
    for name in ("carrier_delays", "last_flight", "carrier_attributes", "delay_mean_6h", "last_delay", "fleet"):
        assert name in page
    assert page.count("<svg") == 6
    assert "tables/flights.delay" in page
    assert "SELECT carrier, known_at, arrived_at AS event_timestamp" in page
    assert not re.search(r"(src|href)=\"(?!#)", page)  # nothing from elsewhere


@pytest.fixture
def thirds(shop, tmp_path):
    """Means that no double holds exactly, and one with many digits before the point."""
    own = shop.copied(tmp_path)
    stored = own.lake.dataset("features/carrier_delays").to_table()
    for name, value in (("delay_mean_6h", 0.1 + 0.2), ("delay_mean_1d", 12345678.9), ("delay_count_6h", 2 / 3e9)):
        place = stored.column_names.index(name)
        stored = stored.set_column(place, name, [[value] * stored.num_rows])
    own.lake.write("features/carrier_delays", stored, partitions=list(DAYS))
    return own


def test_tables_show_six_digits_and_files_all_of_them(thirds):
    shown = thirds.said("features", "preview", "carrier_delays", "--limit", "1").splitlines()[1].split()
    assert shown[-4:] == ["0.3", "6.66667e-10", "12345679.0", "8.0"]
    said = thirds.said("features", "get", "carrier_delays", "--entity", "carrier=UA", "--at", "2013-01-03T12:30")
    assert "0.30000000000000004" not in said
    assert " 0.3 " in said
    for form in ("csv", "json", "jsonl"):
        words = ("get", "carrier_delays", "--entity", "carrier=UA", "--at", "2013-01-03T12:30", "--format", form)
        assert "0.30000000000000004" in thirds.said("features", *words)
        assert "0.30000000000000004" in thirds.said("features", "preview", "carrier_delays", "--format", form)
