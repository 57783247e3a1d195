import csv
import io
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from ml_assets_tests.command import ML_ASSETS


def test_tables_are_listed_with_rows_partitions_versions_and_size(airline):
    lines = airline.said("table", "list").splitlines()
    assert lines[0].split() == ["table", "rows", "partitions", "versions", "newest", "size"]
    carriers, flights = lines[1:]
    assert carriers.split() == ["carriers", "not", "yet"]
    assert flights.startswith("flights")
    assert "46  2013-01-01 .. 2013-01-03 (3)         4" in flights
    everything = airline.process("table", "list", "--all").stdout
    assert {line.split()[0] for line in everything.splitlines()[1:]} == {
        "profiles/flights",
        "quarantine/flights",
        "raw/flights",
        "tables/flights",
    }


@pytest.mark.parametrize("name", ["flights", "airline/flights", "tables/flights"])
def test_a_table_is_read_by_any_of_its_names(airline, name):
    rows = json.loads(airline.said("table", "read", name, "--format", "json"))
    assert len(rows) == 46
    assert {row["partition_key"] for row in rows} == {"2013-01-01", "2013-01-02", "2013-01-03"}


def test_rows_columns_and_partitions_are_chosen(airline):
    chosen = ("--partition", "2013-01-02", "--where", "carrier = 'UA' AND delay > 20", "--columns", "flight_id,delay")
    assert airline.said("table", "read", "flights", *chosen).splitlines() == [
        "flight_id         delay",
        "UA-2013-01-02-00   33.5",
        "UA-2013-01-02-21   23.0",
        "UA-extra           33.5",
    ]


def test_a_table_shows_twenty_rows_and_says_that_there_are_more(airline):
    ran = airline.run("table", "read", "flights")
    assert len(ran.stdout.splitlines()) == 21
    assert ran.stderr == "The first 20 rows; --limit 0 gives all.\n"
    assert len(airline.said("table", "read", "flights", "--limit", "0").splitlines()) == 47
    assert len(airline.said("table", "read", "flights", "--format", "csv").splitlines()) == 47
    assert len(airline.said("table", "read", "flights", "--format", "csv", "--limit", "3").splitlines()) == 4


def test_a_version_and_a_moment_give_what_was_there_then(airline):
    where = ("--where", "flight_id = 'UA-2013-01-02-00'", "--columns", "delay", "--format", "jsonl")
    assert json.loads(airline.said("table", "read", "flights", *where)) == {"delay": 33.5}
    before = airline.run("table", "read", "flights", "--version", "2", *where)
    assert json.loads(before.stdout) == {"delay": 2.0}
    assert before.stderr.startswith("tables/flights: version 2, committed 20")
    committed = airline.lake.history("tables/flights")[1].committed_at.isoformat()
    moment = airline.run("table", "read", "flights", "--as-of", committed, *where)
    assert (moment.stdout, moment.stderr) == (before.stdout, before.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "flihgts"), "There is no table in the lake called 'flihgts'. Did you mean tables/flights"),
        (
            ("read", "carriers"),
            "tables/carriers holds nothing yet. Materialize it: ml-assets materialize +tables/carriers",
        ),
        (("read", "hotel/flights"), "There is no declared table called 'hotel/flights'. Did you mean flights?"),
        (
            ("read", "flights", "--as-of", "2013-03-01"),
            "did not exist at 2013-03-01 00:00:00 UTC. The first, version 0,",
        ),
        (("read", "flights", "--as-of", "yesterday"), "'yesterday' is no moment. Write it as 2013-03-01T14:30"),
        (("read", "flights", "--version", "9"), "has no version 9; it has versions 0 to 3"),
        (("read", "flights", "--version", "1", "--as-of", "2030-01-01"), "Give --as-of or --version, not both."),
        (
            ("read", "flights", "--partition", "2014-01-01"),
            "no partition 2014-01-01; it has 2013-01-01 .. 2013-01-03 (3)",
        ),
        (("read", "flights", "--columns", "dely"), "There is no column dely, but: flight_id, carrier"),
        (("read", "flights", "--where", "dely > 3"), '"dely" not found'),
        (("read", "flights", "--output", "rows.xls"), "rows.xls: give --format csv, json, jsonl or parquet"),
        (
            ("read", "flights", "--output", "/dev/null/rows.csv"),
            "/dev/null/rows.csv cannot be written: ",
        ),
        (("diff", "flights", "--from", "0", "--keys", "carrier, nr"), "has no column nr in both versions"),
        (("diff", "flights", "--from", "0", "--keys", "nr"), "has no column nr in both versions"),
        (("sql", "SELECT * FROM flight"), "Table with name flight does not exist"),
        (("sql", "SELECT * FROM tables.flights", "--as-of", "2013-03-01"), "The first, version 0, is of"),
        (("sql", "SET threads = 1"), "That gives no rows. Ask with one SELECT."),
    ],
)
def test_what_a_user_can_correct_is_one_sentence(airline, arguments, said):
    assert said in airline.refused("table", *arguments)


def test_a_file_is_written_whole_in_the_format_of_its_name(airline, tmp_path):
    wanted = tmp_path / "deep" / "flights.parquet"
    ran = airline.run("table", "read", "flights", "--output", str(wanted))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", f"Wrote {wanted}.\n")
    assert pq.read_table(wanted).num_rows == 46
    assert [path.name for path in wanted.parent.iterdir()] == ["flights.parquet"]


def test_a_link_is_written_through_and_a_pipe_is_not_replaced(airline, tmp_path):
    (tmp_path / "rows.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    query = ("table", "sql", "SELECT 1 AS n", "--output")
    assert airline.run(*query, str(tmp_path / "link.csv")).returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "rows.csv").read_text() == "n\n1\n"
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        assert airline.run(*query, str(pipe)).returncode == 0
        assert read.result() == "n\n1\n"
    assert pipe.is_fifo()


def test_columns_of_one_name_are_all_shown(airline):
    assert airline.said("table", "sql", "SELECT 1 AS a, 2 AS a").split() == ["a", "a_1", "1", "2"]


def test_text_with_line_ends_and_nulls_survives_as_csv(airline):
    query = "SELECT E'a\\nb' AS said, NULL AS nothing, flight_id FROM flights ORDER BY flight_id LIMIT 2"
    rows = list(csv.DictReader(io.StringIO(airline.said("table", "sql", query, "--format", "csv"))))
    assert rows[0] == {"said": "a\nb", "nothing": "", "flight_id": "B6-2013-01-01-00"}
    assert len(rows) == 2


def test_a_reader_that_has_enough_ends_a_large_answer(airline):
    query = "SELECT range AS n FROM range(100000000)"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{ML_ASSETS} table sql '{query}' --format csv | head -2"],
        env={"ML_ASSETS_HOME": str(airline.home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("n\n0\n", "")


def test_history_tells_when_which_partitions_changed(airline):
    lines = [line.split() for line in airline.said("table", "history", "flights").splitlines()]
    assert lines[0][:2] == ["version", "committed"]
    assert [(line[0], line[-2], line[-1]) for line in lines[1:]] == [
        ("3", "2013-01-02", "46"),
        ("2", "2013-01-03", "46"),
        ("1", "2013-01-02", "32"),
        ("0", "2013-01-01", "16"),
    ]


def test_a_difference_names_rows_by_key_with_old_and_new_values(airline):
    said = airline.said("table", "diff", "flights", "--from", "2", "--to", "3").splitlines()
    assert said[0].startswith("tables/flights: version 2 (")
    assert [line.split() for line in said[1:4]] == [
        ["partition", "added", "removed", "changed"],
        ["2013-01-02", "1", "1", "1"],
        ["total", "1", "1", "1"],
    ]
    assert [line.split() for line in said[5:]] == [
        ["change", "partition", "row", "column", "old", "new"],
        ["removed", "2013-01-02", "B6-2013-01-02-21"],
        ["changed", "2013-01-02", "UA-2013-01-02-00", "delay", "2.0", "33.5"],
        ["added", "2013-01-02", "UA-extra"],
    ]


def test_a_difference_as_json_says_which_partitions_were_read(airline):
    found = json.loads(airline.said("table", "diff", "flights", "--from", "0", "--to", "3", "--format", "json"))
    assert found["partitions_read"] == ["2013-01-02", "2013-01-03"]
    assert found["counts"]["2013-01-03"] == {"added": 14, "removed": 0, "changed": 0}
    assert len(found["rows"]) == 30
    assert found["keys"] == ["flight_id"]
    same = airline.said("table", "diff", "flights", "--from", "3")
    assert "The rows are the same." in same


def test_help_shows_an_example_for_every_command(airline):
    for command in ("list", "read", "history", "diff", "sql"):
        assert f"ml-assets table {command}" in airline.said("table", command, "--help")
