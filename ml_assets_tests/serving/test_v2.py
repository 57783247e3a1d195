"""The Open Inference Protocol over the same models."""

import pytest

from ml_assets_tests.serving import world
from ml_assets_tests.serving.test_http import SENT, Client

INFER = "/v2/models/arrival_delay/infer"
DATATYPES = {"distance_miles": "FP64", "seats": "INT64"}


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(world.routed({"1": 1, "2": 0}))


def tensor(name: str, values: list, **change: object) -> dict:
    return {"name": name, "shape": [len(values)], "datatype": DATATYPES.get(name, "BYTES"), "data": values} | change


def body(rows: list[dict], **change: object) -> dict:
    return {"inputs": [tensor(name, [row[name] for row in rows]) for name in rows[0]]} | change


def test_tensors_get_the_scores_of_named_instances(client: Client):
    rows = [
        SENT | {"distance_miles": float(n), "origin": None if n % 2 else "EWR", "seats": n or None} for n in range(5)
    ]
    answer = client.predict(body(rows), INFER).json()
    named = client.predict({"instances": rows}).json()["predictions"]
    assert answer["outputs"][0] == {
        "name": "score",
        "datatype": "FP64",
        "shape": [5],
        "data": [one["score"] for one in named],
    }
    assert (answer["model_name"], answer["model_version"]) == ("arrival_delay", "1")


def test_the_id_comes_back(client: Client):
    assert client.predict(body([SENT], id="mine"), INFER).json()["id"] == "mine"


def test_only_the_wanted_outputs_are_given(client: Client):
    answer = client.predict(body([SENT], outputs=[{"name": "prediction_id"}]), INFER).json()
    assert [output["name"] for output in answer["outputs"]] == ["prediction_id"]


def test_the_version_in_the_path_is_pinned(client: Client):
    assert client.predict(body([SENT]), "/v2/models/arrival_delay/versions/2/infer").json()["model_version"] == "2"


def test_columns_of_shape_n_by_1_are_taken_flat_or_nested(client: Client):
    wanted = client.predict(body([SENT, SENT]), INFER).json()["outputs"][0]["data"]
    for data in (["UA", "UA"], [["UA"], ["UA"]]):
        changed = body([SENT, SENT])
        changed["inputs"][0] = tensor("carrier", data, shape=[2, 1])
        assert client.predict(changed, INFER).json()["outputs"][0]["data"] == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datatype": "FP64"}, "$.inputs[0].datatype: must be BYTES"),
        ({"shape": [2]}, "$.inputs[0].shape: must be [n] or [n, 1] with n values in data"),
        ({"shape": [1, 2]}, "$.inputs[0].shape: must be [n] or [n, 1] with n values in data"),
        ({"name": "origin"}, "$.inputs[1].name: names no input of this model, or one twice"),
        ({"data": ["UA", "UA"], "shape": [2]}, "$.inputs: must all have the same number of rows"),
        ({"data": [7]}, "$.inputs[*].data[0].carrier: Expected str, got int"),
        ({"data": "UA"}, "$.inputs[0].data: Expected array, got str"),
    ],
)
def test_a_wrong_tensor_is_named(client: Client, change: dict, message: str):
    changed = body([SENT])
    changed["inputs"][0] |= change
    answer = client.predict(changed, INFER)
    assert (answer.status_code, answer.json()["error"]) == (422, message)


def test_an_unknown_output_is_named(client: Client):
    answer = client.predict(body([SENT], outputs=[{"name": "shap"}]), INFER)
    assert answer.json()["error"] == "$.outputs[0].name: must be one of score, prediction_id"


def test_a_missing_tensor_is_named(client: Client):
    answer = client.predict({"inputs": [tensor("carrier", ["UA"])]}, INFER)
    assert (answer.status_code, answer.json()["field"]) == (422, "$.inputs[*].data[0].distance_miles")


def test_metadata_describe_inputs_outputs_and_versions(client: Client):
    found = client.request("GET", "/v2/models/arrival_delay").json()
    assert (found["name"], found["versions"], found["platform"]) == ("arrival_delay", ["1", "2"], "lightgbm")
    assert {one["name"]: one["datatype"] for one in found["inputs"]} == {
        "carrier": "BYTES",
        "origin": "BYTES",
        "distance_miles": "FP64",
        "departs_at": "BYTES",
        "seats": "INT64",
        "at": "BYTES",
    }
    assert {one["name"] for one in found["outputs"]} == {"score", "prediction_id"}


@pytest.mark.parametrize(
    "path",
    ["", "/health/live", "/health/ready", "/models/arrival_delay/ready", "/models/arrival_delay/versions/2/ready"],
)
def test_server_and_health_addresses_answer(client: Client, path: str):
    assert client.request("GET", "/v2" + path).status_code == 200
