"""The endpoint as a client sees it, without a socket."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.errors import ArtefactError
from ml_assets.serving import http
from ml_assets.serving.request import MOST_ROWS
from ml_assets.serving.routing import Router
from ml_assets.serving.service import Service
from ml_assets_tests.serving import world
from ml_assets_tests.serving.test_predictor import Lost

SENT = world.INSTANCE | world.AT


class Client:
    """A client of one service; what it logs is in `log.records`."""

    def __init__(self, router: Router | None = None) -> None:
        self.log = world.Log()
        self.service = Service("arrival_delay", router or world.routed({"1": 1, "2": 0}), self.log)
        self.app = http.build(self.service)

    def request(self, method: str, path: str, **given) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
                return await client.request(method, path, **given)

        return asyncio.run(send())

    def predict(self, body: object, path: str = "/predict", **given) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, content=content, **given)


@pytest.fixture(scope="module")
def router() -> Router:
    return world.routed({"1": 1, "2": 0}, generation=7)


@pytest.fixture
def client(router: Router) -> Client:
    return Client(router)


def test_an_answer_names_score_id_version_generation_and_data_age(client: Client):
    answer = client.predict(SENT)
    wanted = client.service.table().arms["1"].predictor.predict(*decoded(client))
    assert answer.status_code == 200
    assert answer.json() == {
        "predictions": [
            {
                "prediction_id": client.log.records[0].prediction_id,
                "score": wanted.scores[0],
                "feature_ages": {"carrier_delays": 3600.0, "origin_congestion": 0.0},
                "missing_views": {},
            }
        ],
        "model": "arrival_delay",
        "version": "1",
        "generation": 7,
    }
    assert (answer.headers["x-model-version"], answer.headers["x-generation"]) == ("1", "7")


def decoded(client: Client) -> tuple[list, list]:
    contract = client.service.table().arms["1"].predictor.contract
    return contract.decode(json.dumps(SENT).encode(), now_us=0)


def test_the_path_pins_a_version(client: Client):
    pinned, routed = client.predict(SENT, "/versions/2/predict").json(), client.predict(SENT).json()
    assert pinned["version"] == "2"
    assert pinned["predictions"][0]["score"] != routed["predictions"][0]["score"]


def test_batches_on_a_thread_get_the_scores_of_single_rows(client: Client):
    instances = [SENT | {"distance_miles": float(n)} for n in range(40)]
    together = [one["score"] for one in client.predict({"instances": instances}).json()["predictions"]]
    assert together == [client.predict(instance).json()["predictions"][0]["score"] for instance in instances]


def test_a_prediction_is_logged_with_all_that_led_to_it(client: Client):
    answer = client.predict(SENT, headers={"x-request-id": "abc"}).json()
    record = client.log.records[0]
    assert (record.request_id, record.version, record.generation, record.propensity) == ("abc", "1", 7, 1.0)
    assert (record.status, record.purpose, record.score) == ("ok", "serve", answer["predictions"][0]["score"])
    assert record.at == world.NOON
    assert record.request["departs_at"].isoformat() == "2013-03-01T14:00:00+00:00"
    assert record.features["origin_congestion__mood"] == "busy"
    assert record.latency_us > 0


def test_our_own_test_requests_are_marked_in_the_log(client: Client):
    checked = client.predict(SENT, headers={"x-request-purpose": "check"}).json()["predictions"][0]
    assert client.log.records[0].purpose == "check"
    assert checked["features"] == client.log.records[0].features
    assert "features" not in client.predict(SENT).json()["predictions"][0]


def test_a_refusal_names_field_and_rule_and_is_logged_without_values(client: Client):
    answer = client.predict(SENT | {"carrier": 424242})
    assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (
        422,
        "$.carrier",
        "Expected str, got int",
    )
    record = client.log.records[0]
    assert (record.status, record.reason, record.request) == ("rejected", "$.carrier: Expected str, got int", {})
    assert "424242" not in answer.text + str(record)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/predict", 405),
        ("POST", "/versions/9/predict", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/arrival_delay/versions/9/ready", 404),
    ],
)
def test_an_unknown_address_is_an_error_in_json(client: Client, method: str, path: str, status: int):
    answer = client.request(method, path, content=json.dumps(SENT) if method == "POST" else None)
    assert (answer.status_code, "error" in answer.json()) == (status, True)


def test_a_declared_length_over_the_cap_is_refused_before_reading(client: Client):
    async def unread():
        pytest.fail("the body was read")
        yield b""

    answer = client.request("POST", "/predict", content=unread(), headers={"content-length": str(http.MOST_BYTES + 1)})
    assert answer.status_code == 413


def test_a_body_that_grows_over_the_cap_is_refused(client: Client):
    async def endless():
        for _ in range(http.MOST_BYTES // 65536 + 2):
            yield b" " * 65536

    assert client.request("POST", "/predict", content=endless()).status_code == 413


def test_too_many_rows_are_refused(client: Client):
    assert client.predict({"instances": [SENT] * (MOST_ROWS + 1)}).status_code == 422


def test_before_a_version_is_loaded_it_is_alive_but_not_ready():
    def load(version: str):
        raise ArtefactError("never")

    client = Client(Router(load))
    assert client.request("GET", "/v2/health/live").status_code == 200
    assert client.request("GET", "/v2/health/ready").status_code == 503
    answer = client.predict(SENT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.request("GET", "/").status_code == 503


def test_before_its_parity_is_proven_a_version_answers_by_its_name_alone():
    client = Client(world.routed({"1": 0}))
    answer = client.predict(SENT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "takes no traffic until its parity is proven" in answer.json()["error"]
    assert client.request("GET", "/v2/health/ready").status_code == 503
    assert client.request("GET", "/v2/models/arrival_delay/versions/1/ready").status_code == 200
    assert client.predict(SENT, path="/versions/1/predict").status_code == 200
    assert "0%" in client.request("GET", "/").text


def test_when_the_batches_waiting_are_full_more_are_refused_and_single_rows_are_not(client: Client):
    hold = Event()
    with ThreadPoolExecutor(20) as pool:
        blocked = [client.service._pool.submit(hold.wait) for _ in range(2)]
        waiting = [pool.submit(client.predict, {"instances": [SENT] * 17}) for _ in range(16)]
        while client.service._room._value:
            pass
        refused, single = client.predict({"instances": [SENT] * 17}), client.predict(SENT)
        hold.set()
        assert [one.result().status_code for one in waiting] == [200] * 16
    assert all(one.result() for one in blocked)
    assert (refused.status_code, single.status_code) == (503, 200)


def test_a_fault_of_ours_is_500_without_details_and_logged_as_failed(client: Client):
    class Broken(world.Store):
        def lookup(self, view, key, at):
            raise ZeroDivisionError(key)

    broken = Client(Router(lambda version: world.predictor(Broken())))
    assert broken.service.router.offer(b'{"generation": 1, "weights": {"1": 1}}')
    answer = broken.predict(SENT)
    assert answer.status_code == 500
    assert "UA" not in answer.text
    assert (broken.log.records[0].status, broken.log.records[0].reason) == ("failed", "ZeroDivisionError")


def test_metrics_count_answers_refusals_and_rows():
    client = Client()
    client.predict({"instances": [SENT, SENT | {"origin": None}]})
    client.predict({})
    text = client.request("GET", "/metrics").text
    for line in (
        'inference_requests_total{code="200",endpoint="arrival_delay",version="1"} 1.0',
        'inference_rejected_total{code="422",endpoint="arrival_delay"} 1.0',
        'inference_rows_total{endpoint="arrival_delay",version="1"} 2.0',
        'inference_feature_rows_missing_total{endpoint="arrival_delay",reason="null key",view="origin_congestion"} 1.0',
        "routing_generation 1.0",
    ):
        assert line in text


def test_the_openapi_document_is_whole_and_describes_every_field(client: Client):
    document = client.request("GET", "/openapi.json").json()
    said = {
        name: each["description"]
        for name, each in document["components"]["schemas"]["Prediction"]["properties"].items()
    }
    assert "probability" in said["score"]
    assert "seconds" in said["feature_ages"]
    assert "is null in the request" in said["missing_views"]
    instance = document["components"]["schemas"]["Instance"]
    assert set(instance["properties"]) == {*world.INSTANCE, "seats", "at"}
    assert set(instance["required"]) == {"carrier", "distance_miles", "departs_at"}
    assert instance["properties"]["distance_miles"]["maximum"] == 10_000
    references = [part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]]
    assert set(references) <= set(document["components"]["schemas"])


def test_every_documented_get_address_answers(client: Client):
    document = client.request("GET", "/openapi.json").json()
    reads = [path for path, methods in document["paths"].items() if "get" in methods]
    assert {path: client.request("GET", path).status_code for path in reads} == dict.fromkeys(reads, 200)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_whole_and_load_nothing_from_elsewhere(client: Client, path: str):
    page = client.request("GET", path).text
    assert "arrival_delay_minutes &gt; 15" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "$" not in page.replace("$.", "")


def test_the_example_on_the_documentation_page_is_a_request_that_works(client: Client):
    from html import unescape

    page = client.request("GET", "/docs").text
    example = unescape(page.split('spellcheck="false">')[1].split("</textarea>")[0])
    assert client.predict(json.loads(example)).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
NEAR = st.dictionaries(st.sampled_from([*SENT, "seats", "instances", "inputs", "outputs", "id"]), JSON).map(
    lambda d: SENT | d
)
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from([*SENT]) | st.text(), "shape": JSON, "datatype": st.text(), "data": JSON}
)
BODY = (
    st.binary()
    | JSON
    | NEAR
    | st.fixed_dictionaries({"instances": st.lists(NEAR)})
    | st.fixed_dictionaries({"inputs": st.lists(TENSOR)})
)
ADDRESS = st.sampled_from(
    ["/predict", "/versions/1/predict", "/v2/models/arrival_delay/infer", "/versions/%00/predict"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODY, path=ADDRESS)
def test_no_body_makes_the_endpoint_fail(client: Client, body: object, path: str):
    answer = client.predict(body if isinstance(body, bytes) else json.dumps(body).encode(), path)
    assert answer.status_code in {200, 400, 404, 413, 422}
    assert answer.json()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 2000), byte=st.integers(0, 255))
def test_no_damaged_byte_makes_the_endpoint_fail(client: Client, position: int, byte: int):
    body = bytearray(json.dumps({"instances": [SENT] * 3}).encode())
    body[position % len(body)] = byte
    assert client.predict(bytes(body)).status_code in {200, 400, 422}


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"inputs":[{"name":"a","shape":[1],"datatype":"x","data":' + b"[" * 50_000]
)
def test_deep_nesting_is_refused(client: Client, body: bytes):
    assert client.predict(body).status_code in {400, 422}
    assert client.predict(body, "/v2/models/arrival_delay/infer").status_code in {400, 422}


def test_an_answer_and_a_metric_say_why_a_view_has_no_row():
    client = Client()
    answer = client.predict(
        {"instances": [SENT | {"carrier": "ZZ"}, SENT | {"at": "2013-03-05T12:00:00Z"}, SENT]}
    ).json()
    assert [one["missing_views"] for one in answer["predictions"]] == [
        {"carrier_delays": "unknown entity"},
        {"carrier_delays": "too old: 4d 1h > 2d"},
        {},
    ]
    text = client.request("GET", "/metrics").text
    for reason in ("unknown entity", "too old"):
        labels = f'endpoint="arrival_delay",reason="{reason}",view="carrier_delays"'
        assert f"inference_feature_rows_missing_total{{{labels}}} 1.0" in text


def test_readiness_tells_what_is_stored_of_each_view():
    store = world.Store()
    client = served_by(store)
    ready = client.request("GET", "/v2/health/ready")
    assert (ready.status_code, ready.json()["online_store"]) == (
        200,
        {
            "carrier_delays@1": {"state": "ok", "newest": "2013-03-01T11:00:00Z"},
            "origin_congestion@1": {"state": "ok", "newest": "2013-03-01T12:00:00Z"},
        },
    )
    store.rows.clear()
    rebind(client)
    ready = client.request("GET", "/v2/health/ready").json()
    assert ready["ready"]
    assert {one["state"] for one in ready["online_store"].values()} == {"nothing stored"}


def served_by(store: world.Store) -> Client:
    client = Client(Router(lambda version: world.predictor(store)))
    assert client.service.router.offer(b'{"generation": 1, "weights": {"1": 1}}')
    return client


def rebind(client: Client) -> None:
    for arm in client.service.table().arms.values():
        arm.predictor.rebind()


def test_a_store_that_cannot_be_reached_answers_503_until_it_can():
    store = Lost()
    client = served_by(store)
    for path in ("/predict", "/versions/1/predict"):
        answer = client.predict(SENT, path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "online store: The online store redis://x cannot be used: Connection refused."
    assert client.predict({"instances": [SENT] * 50}).status_code == 503
    assert (client.log.records[0].status, client.log.records[0].score) == ("failed", None)
    for path in ("/v2/health/ready", "/v2/models/arrival_delay/versions/1/ready"):
        ready = client.request("GET", path)
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "Connection refused" in ready.json()["online_store"]["carrier_delays@1"]["state"]
    stored = 'endpoint="arrival_delay",view="carrier_delays@1"'
    assert f"online_store_reached{{{stored}}} 0.0" in client.request("GET", "/metrics").text
    store.lost = False
    rebind(client)
    shown = client.request("GET", "/metrics").text
    assert f"online_store_reached{{{stored}}} 1.0" in shown
    assert f"online_store_newest_timestamp_seconds{{{stored}}} 1.3621356e+09" in shown
    assert client.predict(SENT).status_code == client.request("GET", "/v2/health/ready").status_code == 200
