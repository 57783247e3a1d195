"""The prediction log: what was accepted is there once, whatever happens to the process or the disk."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.adapters import prediction_log
from ml_assets.adapters.prediction_log import PredictionLog
from ml_assets.features.encode import Input, encode
from ml_assets.serving.record import PredictionRecord

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def record(number: int, **change: object) -> PredictionRecord:
    given = {
        "prediction_id": f"id-{number:06}",
        "request_id": "r",
        "at": NOON,
        "logged_at": NOON + timedelta(seconds=number),
        "endpoint": "arrival_delay",
        "model": "arrival_delay",
        "version": "1",
        "generation": 1,
        "propensity": 1.0,
        "purpose": "serve",
        "status": "ok",
        "reason": None,
        "request": {"carrier": "UA"},
        "features": {"x": 1.5, "c": "busy"},
        "feature_ages": {"view": None},
        "score": 0.25,
        "latency_us": 400,
    }
    return PredictionRecord(**(given | change))


def ids(folder: Path, **given) -> list[str]:
    return prediction_log.read(folder, **given)["prediction_id"].to_pylist()


def test_what_was_appended_is_read_while_the_segment_is_open(tmp_path: Path):
    log = PredictionLog(tmp_path)
    assert log.append([record(1), record(2)]) > 0
    found = prediction_log.read(tmp_path).to_pylist()
    assert found[0] | {"request": None} == {
        "prediction_id": "id-000001",
        "request_id": "r",
        "at": NOON,
        "logged_at": NOON + timedelta(seconds=1),
        "endpoint": "arrival_delay",
        "model": "arrival_delay",
        "version": "1",
        "generation": 1,
        "propensity": 1.0,
        "purpose": "serve",
        "status": "ok",
        "reason": None,
        "request": None,
        "features": '{"x":1.5,"c":"busy"}',
        "feature_ages": '{"view":null}',
        "score": 0.25,
        "latency_us": 400,
    }
    assert [one["prediction_id"] for one in found] == ["id-000001", "id-000002"]


def test_a_folder_that_is_not_there_has_no_rows(tmp_path: Path):
    assert prediction_log.read(tmp_path / "none").num_rows == 0


def test_rows_are_chosen_by_the_time_they_were_logged(tmp_path: Path):
    PredictionLog(tmp_path).append([record(n) for n in range(5)])
    span = {"since": NOON + timedelta(seconds=1), "until": NOON + timedelta(seconds=3)}
    assert ids(tmp_path, **span) == ["id-000001", "id-000002"]


@pytest.mark.parametrize("wanted", ["id-000001", 'a "quoted" \\ name', "größe\n", ""])
def test_one_prediction_is_read_by_its_whole_id(tmp_path: Path, wanted: str):
    log = PredictionLog(tmp_path, segment_bytes=1)
    others = [
        record(2, prediction_id=f"{wanted}1"),
        record(3, request_id=wanted),
        record(4, request={"carrier": wanted}),
    ]
    for each in (record(1, prediction_id=wanted), *others):
        log.append([each])
    (found,) = prediction_log.read(tmp_path, prediction_id=wanted).to_pylist()
    (same,) = [row for row in prediction_log.read(tmp_path).to_pylist() if row["prediction_id"] == wanted]
    assert found == same
    assert ids(tmp_path, prediction_id=wanted, since=NOON + timedelta(seconds=2)) == []
    assert ids(tmp_path, prediction_id="another") == []


def test_lines_without_the_letters_of_an_id_are_not_decoded(tmp_path: Path):
    PredictionLog(tmp_path).append([record(1), record(2)])
    (tmp_path / "odd.jsonl").write_bytes(b"no JSON of id-000002\n")
    assert ids(tmp_path, prediction_id="id-000001") == ["id-000001"]
    with pytest.raises(msgspec.DecodeError):
        ids(tmp_path)


def test_a_refusal_without_a_version_is_read_too(tmp_path: Path):
    nothing = dict.fromkeys(["at", "version", "generation", "propensity", "score"])
    PredictionLog(tmp_path).append([record(1, status="rejected", reason="$.x: is required", **nothing)])
    assert prediction_log.read(tmp_path)["reason"].to_pylist() == ["$.x: is required"]


def test_a_full_segment_is_closed_and_the_next_begun(tmp_path: Path):
    log = PredictionLog(tmp_path, segment_bytes=1000)
    for number in range(10):
        log.append([record(number)])
    assert len(list(tmp_path.glob("*.jsonl"))) >= 3
    assert len(list(tmp_path.glob("*.open"))) == 1
    log.close()
    assert list(tmp_path.glob("*.open")) == []
    assert len(ids(tmp_path)) == 10


def test_an_old_segment_is_closed_at_the_next_record(tmp_path: Path):
    log = PredictionLog(tmp_path, segment_seconds=0)
    for number in range(3):
        log.append([record(number)])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_a_torn_line_is_not_a_row(tmp_path: Path):
    log = PredictionLog(tmp_path)
    log.append([record(1), record(2)])
    (segment,) = tmp_path.glob("*.open")
    os.truncate(segment, segment.stat().st_size - 30)
    assert ids(tmp_path) == ["id-000001"]
    assert log.adopt() == 1
    assert ids(tmp_path) == ["id-000001"]


def test_a_segment_that_was_delivered_twice_counts_once(tmp_path: Path):
    log = PredictionLog(tmp_path)
    log.append([record(1)])
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    (tmp_path / "copy.jsonl").write_bytes(segment.read_bytes())
    assert ids(tmp_path) == ["id-000001"]


FULL = """
import resource, signal, sys
from pathlib import Path
from ml_assets.adapters.prediction_log import PredictionLog
from ml_assets_tests.adapters.test_prediction_log import record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
log = PredictionLog(Path(sys.argv[1]))
for number in range(10):
    log.append([record(number)])
full = log.dropped
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append([record(99)])
sys.stdout.write(str(full))
"""


def run(script: str, folder: Path) -> subprocess.Popen:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}, text=True)


def test_a_full_disk_is_counted_and_leaves_whole_lines(tmp_path: Path):
    dropped = int(run(FULL, tmp_path).communicate()[0])
    found = ids(tmp_path)
    assert 0 < dropped < 10
    assert len(found) == 10 - dropped + 1
    assert found[-1] == "id-000099"


FOREVER = """
import sys
from pathlib import Path
from ml_assets.adapters.prediction_log import PredictionLog
from ml_assets_tests.adapters.test_prediction_log import record
log = PredictionLog(Path(sys.argv[1]), segment_bytes=4000)
for number in range(10**6):
    log.append([record(number)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("lines", [1, 7, 200])
def test_every_record_acknowledged_before_kill_9_is_there_once(tmp_path: Path, lines: int):
    writer = run(FOREVER, tmp_path)
    for _ in range(lines):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    acknowledged = lines + writer.communicate()[0].count("\n")
    PredictionLog(tmp_path).adopt()
    found = ids(tmp_path)
    assert found[:acknowledged] == [f"id-{number:06}" for number in range(acknowledged)]
    assert len(found) <= acknowledged + 1
    assert list(tmp_path.glob("*.open")) == []


INPUTS = (Input("x", "numeric"), Input("c", "categorical", ("busy", "calm")))


@given(
    st.lists(
        st.tuples(st.none() | st.floats(allow_nan=True, allow_infinity=False), st.none() | st.text()),
        min_size=1,
        max_size=5,
    )
)
def test_expanded_features_encode_to_the_bits_that_were_scored(tmp_path_factory, rows: list[tuple]):
    folder = tmp_path_factory.mktemp("log")
    records = [record(n, features={"x": x, "c": c}) for n, (x, c) in enumerate(rows)]
    PredictionLog(folder).append(records)
    table = prediction_log.expand(prediction_log.read(folder), INPUTS)
    again = encode({"x": table["x"].to_numpy(), "c": table["c"].to_pylist()}, INPUTS)
    wanted = encode({"x": np.array([x for x, _ in rows], float), "c": [c for _, c in rows]}, INPUTS)
    assert again.tobytes() == wanted.tobytes()
