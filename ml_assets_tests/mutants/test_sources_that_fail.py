"""Sources that fail in the middle, taken through the real graph: real servers, Dagster's own retries."""

import socket
import subprocess
import sys
import time

import dagster as dg
import pytest

from ml_assets.adapters.sources.base import Fetched
from ml_assets.adapters.sources.python import PythonSource
from ml_assets.adapters.sources.s3 import client_from_environment
from ml_assets.orchestration.alerts import alert_sensor
from ml_assets_tests import s3
from ml_assets_tests.adapters import postgres
from ml_assets_tests.adapters.sink import sink
from ml_assets_tests.adapters.sources.servers import Api, Says
from ml_assets_tests.mutants.delivery import Mutant, csv, good, put
from ml_assets_tests.mutants.graph import Graph, Outcome

DAY, NEXT = "2012-03-01", "2012-03-02"
NUMBERS = {"seats": int, "delay": float, "distance": float}


@pytest.fixture
def graph_of(new_project):
    """A function that makes a graph of one table, given its source."""

    def make(source, *, times=2):
        retry = f"retry: {{times: {times}, delay: 0.2s}}"
        return Graph(new_project(), {"flights": f"\n  source: {source}\n  {retry}\n  expectations: {{volume: null}}"})

    return make


def waits(outcome: Outcome) -> list:
    """How long Dagster waited before each further attempt."""
    found = [event for event in outcome.result.all_events if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]
    return [event.step_retry_data.seconds_to_wait for event in found]


class Flights:
    """An API with pages of half a day; a test puts other answers before those of a page."""

    def __init__(self):
        self.asked, self.instead, self.each = [], {}, lambda: None

    def __call__(self, request):
        page, day = int(request.params["page"]), request.params["day"]
        self.asked.append(page)
        self.each()
        others = self.instead.get(page)
        if others:
            return others.pop(0)
        rows = [{name: NUMBERS.get(name, str)(value) for name, value in row.items()} for row in good(day)]
        return Says({"flights": rows[20 * (page - 1) : 20 * page]})


@pytest.fixture
def flights():
    return Flights()


@pytest.fixture
def api(flights, graph_of):
    """A graph whose flights come from a real server on loopback; the day before stands."""
    with Api(flights) as server:
        url = f"{server.url}/flights?day={{partition}}"
        graph = graph_of(f'{{http: {{url: "{url}", items: flights, page_param: page}}}}')
        assert graph.run("flights", DAY).counts == (40, 40, 0, 0)
        flights.asked.clear()
        yield graph


def test_an_api_that_wants_to_be_asked_later_is_asked_later_within_the_attempt(api, flights):
    flights.instead = {1: [Says(status=429, headers={"Retry-After": "0"})], 2: [Says(status=500), Says(status=502)]}
    outcome = api.run("flights", NEXT)
    assert (outcome.failed, outcome.counts) == (set(), (40, 40, 0, 0))
    assert (flights.asked, waits(outcome)) == ([1, 1, 2, 2, 2, 3], [])


def test_an_api_that_wants_to_be_left_alone_for_long_is_left_to_the_retry_of_the_asset(api, flights):
    flights.instead = {2: [Says(status=429, headers={"Retry-After": "90"})]}
    outcome = api.run("flights", NEXT)
    assert (outcome.failed, outcome.counts) == (set(), (40, 40, 0, 0))
    assert len(waits(outcome)) == 1
    assert flights.asked == [1, 2, 2, 3]  # the page that had come was not asked for again


def test_an_api_that_fails_for_ever_is_given_up_after_the_declared_attempts_and_told_once(api, flights, monkeypatch):
    with dg.DagsterInstance.local_temp() as instance, sink() as (address, received):
        monkeypatch.setenv("ML_ASSETS_ALERT_URLS", f"json://{address}")
        api.project.instance, cursor, told = instance, None, []

        def tick():
            nonlocal cursor
            with dg.build_sensor_context(instance, cursor=cursor) as context:
                cursor = alert_sensor().evaluate_tick(context).cursor
            told.append(len(received))

        tick()
        flights.instead, flights.each = {2: [Says(status=500)] * 99}, tick
        outcome = api.run("flights", NEXT)
        assert outcome.refused
        assert flights.asked == [1, *[2] * 9]  # three tries in each of three attempts
        first, second = waits(outcome)
        assert 0 < first <= 0.4 < 0.8 >= second > 0
        assert set(told) == {0}
        tick()
        tick()
        assert [each["title"] for each in received] == [f"raw/flights, tables/flights {NEXT} gave up"]
        said = f"/flights of {NEXT}, page 2: status 500, 3 times."
        assert said in outcome.error
        assert said in received[0]["message"]
        assert NEXT not in api.project.lake.partitions("raw/flights")
    flights.instead, flights.each = {}, lambda: None
    api.project.instance = dg.DagsterInstance.ephemeral()


@pytest.fixture(scope="module")
def database():
    with postgres.running() as url:
        yield url


def execute(url, *statements):
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.begin() as con:
        for statement in statements:
            con.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def feed(database, graph_of):
    """A graph whose flights come from a view that ends its own connection at a late row, while there is an outage."""
    columns = {name: {int: "BIGINT", float: "FLOAT8"}.get(NUMBERS.get(name), "TEXT") for name in good(DAY, 1)[0]}
    columns |= {"arrived_at": "TIMESTAMPTZ", "known_at": "TIMESTAMPTZ"}
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    values = ", ".join(str(tuple(row.values())) for day in (DAY, NEXT) for row in good(day, 1000))
    late = f"flight_id = 'UA-{NEXT}-0900' AND EXISTS (SELECT FROM outage)"
    gate = f"CASE WHEN {late} THEN pg_terminate_backend(pg_backend_pid())::text ELSE gate END AS gate"
    execute(
        database,
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        f"CREATE TABLE flights ({declared})",
        f"INSERT INTO flights VALUES {values}",
        "CREATE TABLE outage ()",
        f"CREATE VIEW feed AS SELECT {', '.join(columns).replace('gate', gate)} FROM flights",
    )
    graph = graph_of(f'{{sql: {{url: "{database}", table: feed}}}}', times=1)
    assert graph.run("flights", DAY).counts == (1000, 1000, 0, 0)
    return graph


def test_a_connection_that_is_lost_within_a_page_leaves_nothing_of_the_day_and_the_next_run_has_all(feed, database):
    execute(database, "INSERT INTO outage DEFAULT VALUES")
    outcome = feed.run("flights", NEXT)
    assert outcome.refused
    assert len(waits(outcome)) == 1
    assert "postgresql+psycopg://tests@127.0.0.1" in outcome.error
    assert "feed does not answer: " in outcome.error
    assert "terminating connection" in outcome.error
    assert feed.project.lake.partitions("raw/flights") == [DAY]
    execute(database, "TRUNCATE outage")
    outcome = feed.run("flights", NEXT)
    assert (outcome.failed, outcome.counts) == (set(), (1000, 1000, 0, 0))


@pytest.fixture(scope="module")
def bucket_server():
    """S3 as moto's server plays it, in a process of its own."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            options = {
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            }
            s3.client(options).create_bucket(Bucket=s3.BUCKET)
            yield options
        finally:
            process.terminate()


def _wait_for(port):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise TimeoutError(port)


class Bucket:
    """The bucket that flights are delivered into, by somebody else than who reads them."""

    def __init__(self, options):
        self.client, self.writes = s3.client(options), []

    def write(self, **_):
        """Do the next of `writes`; an answer would take the place of that of S3."""
        if self.writes:
            self.writes.pop(0)()

    def put(self, name, content):
        self.client.put_object(Bucket=s3.BUCKET, Key=f"flights/{name}", Body=content)


@pytest.fixture
def bucket(bucket_server, monkeypatch):
    for name, value in bucket_server.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(bucket_server)
    for found in bucket.client.list_objects_v2(Bucket=s3.BUCKET).get("Contents", []):
        bucket.client.delete_object(Bucket=s3.BUCKET, Key=found["Key"])
    reader = client_from_environment().meta.events  # boto's own, told just before a request goes out
    reader.register("before-call.s3.GetObject", bucket.write)
    yield bucket
    reader.unregister("before-call.s3.GetObject", bucket.write)


@pytest.fixture
def objects(bucket, graph_of):
    graph = graph_of(f'{{files: "s3://{s3.BUCKET}/flights/**/*.csv"}}', times=1)
    bucket.put(f"{DAY}.csv", Mutant().content(DAY))
    assert graph.run("flights", DAY).counts == (40, 40, 0, 0)
    return graph


def test_an_object_that_is_replaced_while_it_is_read_is_taken_whole_as_it_is_then(objects, bucket):
    old, new = (Mutant(put("delay", value, 5)).content(NEXT) for value in ("1.0", "2.0"))
    bucket.put(f"{NEXT}.csv", old)
    bucket.writes = [lambda: bucket.put(f"{NEXT}.csv", new)]
    outcome = objects.run("flights", NEXT, (f"{NEXT}.csv", new))
    assert (outcome.failed, outcome.row(5)["delay"], waits(outcome)) == (set(), 2.0, [])
    assert len(objects.project.lake.dataset("raw/flights", partitions=[NEXT]).to_table()) == 1


def test_an_object_that_is_replaced_again_and_again_is_asked_for_again_and_then_given_up(objects, bucket):
    def restated(n):
        return lambda: bucket.put(f"{DAY}.csv", Mutant(put("delay", f"{n}.5", 5)).content(DAY))

    restated(0)()
    bucket.writes = [restated(n) for n in range(1, 99)]
    outcome = objects.run("flights", DAY)
    assert outcome.refused
    assert len(waits(outcome)) == 1
    assert f"s3://{s3.BUCKET}/flights/{DAY}.csv is replaced again and again while it is read" in outcome.error
    bucket.writes = []
    assert objects.run("flights", DAY).row(5)["delay"] > 0.5


def test_an_object_whose_name_climbs_out_of_its_folder_is_left_out_and_named(objects, bucket):
    name = f"../../etc/{NEXT}.csv"
    bucket.put(name, csv(good(NEXT)))
    outcome = objects.run("flights", NEXT)
    said = f"s3://{s3.BUCKET}/flights/{name}: the name leads out of its folder. Deliver the file under another one."
    assert f"s3://{s3.BUCKET}/flights/**/*.csv has nothing of {NEXT}." in outcome.error
    assert said in outcome.error
    assert [path.name for path in objects.project.landing.parent.iterdir()] == ["lake"]


def test_a_source_of_any_kind_that_gives_a_name_which_climbs_is_refused_at_once(graph_of, monkeypatch):
    def fetch(_source, partitions, _positions):
        return (Fetched(day, f"../../{day}.csv", Mutant().content(day)) for day in partitions)

    monkeypatch.setattr(PythonSource, "fetch", fetch)  # none of ours does that
    graph = graph_of("{python: PACKAGE.contracts.Flights}")
    outcome = graph.run("flights", DAY)
    assert outcome.refused
    assert f"flights: the name '../../{DAY}.csv' leads out of its folder. Deliver it under another." in outcome.error
    assert waits(outcome) == []
    assert not graph.project.lake.exists("raw/flights")
    assert not list(graph.project.landing.parent.rglob("*.csv"))
