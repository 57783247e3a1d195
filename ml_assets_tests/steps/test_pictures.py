"""What the user interface shows of a table: its newest partition, the trend, and what is out of line."""

import base64
import io
import re

import pyarrow as pa
from PIL import Image

from ml_assets.adapters.lake import Lake
from ml_assets.engine import connect
from ml_assets.steps.pictures import markdown_table, profile_metadata, trend_metadata
from ml_assets.tables.profile import profile_partitions
from ml_assets.tables.trend import steps_out_of_line


def days(first, last, factor=1.0):
    """Profiles of a small table; `factor` multiplies its numbers."""
    numbers = [float(n % 7 + day % 5) * factor for day in range(first, last + 1) for n in range(30)]
    keys = [f"2013-01-{day:02}" for day in range(first, last + 1) for _ in range(30)]
    rows = pa.table({"partition_key": keys, "delay": numbers, "carrier": ["UA", "B6", "B6"] * (len(keys) // 3)})
    with connect(threads=1) as con:
        return profile_partitions(con, rows)


def png(shown):
    (content,) = re.findall(r"^!\[profile\]\(data:image/png;base64,(.*)\)$", shown.text)
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_newest_partition_is_shown_with_its_trend_and_what_is_out_of_line():
    history, current = days(1, 20), days(20, 21, factor=60)
    shown = trend_metadata(current, history, flagged=steps_out_of_line(history, current), label="20 to 21")
    (line,) = shown["out of line"].text.splitlines()
    assert line.startswith("- The ")
    assert "'delay' of 2013-01-21 is" in line
    lines = shown["statistics"].text.splitlines()
    assert lines[0] == "| column | type | nulls | distinct | minimum | median | maximum |"
    assert lines[2:] == [
        "| delay | DOUBLE | 0 | 7 | 60.0 | 240 | 420.0 |",
        "| carrier | VARCHAR | 0 | 2 | B6 |  | UA |",
    ]
    assert (png(shown["profile"]).width, shown["profile of"]) == (675, "20 to 21")


def test_one_partition_is_shown_as_a_portrait_and_nothing_is_out_of_line():
    alone = trend_metadata(days(3, 3))
    assert set(alone) == {"profile", "statistics"}
    assert png(alone["profile"]).tobytes() != png(trend_metadata(days(2, 3))["profile"]).tobytes()


def test_the_history_may_come_from_the_lake(tmp_path):
    lake = Lake(str(tmp_path))
    history = days(1, 9)
    lake.write("profiles/t", history, partitions=sorted(set(history["partition_key"].to_pylist())))
    stored = lake.dataset("profiles/t").to_table()
    current = days(10, 10)
    assert trend_metadata(current, stored)["profile"] == trend_metadata(current, history)["profile"]
    assert steps_out_of_line(stored, days(10, 10, factor=60)) == steps_out_of_line(history, days(10, 10, factor=60))


def test_rows_are_shown_as_one_whatever_their_partitions():
    rows = pa.table({"partition_key": ["a", "b"], "x": [1, 3]})
    shown = profile_metadata(rows, label="a to b")
    assert shown["statistics"].text.splitlines()[2] == "| x | BIGINT | 0 | 2 | 1 | 2 | 3 |"
    assert shown["profile of"] == "a to b"
    assert "profile of" not in profile_metadata(rows, label="")


def test_text_does_not_break_a_table():
    assert markdown_table(("a", "b"), [("x|y\nz", None)]).text.splitlines()[2:] == ["| x\\|y z |  |"]
