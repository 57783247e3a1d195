"""The OpenAPI 3.1 document of an endpoint, generated from the request contract that also decodes its requests."""

from functools import cache
from importlib.metadata import version

import msgspec

from ml_assets.serving import v2
from ml_assets.serving.routing import Arm

_ERRORS = {
    "400": "The body is not JSON.",
    "404": "The model or version is not loaded here.",
    "413": "The body is too long.",
    "422": "A field breaks its rule; the answer names both.",
    "503": "No version is loaded yet, the online store cannot be reached, or too many batches wait: try again soon.",
}


class Error(msgspec.Struct, frozen=True):
    """What went wrong: the place in the request and the rule it breaks, never its value."""

    error: str
    field: str | None = None
    rule: str | None = None


@cache
def package_version() -> str:
    """Give the installed version of ml_assets."""
    return version("ml_assets")


def document(endpoint: str, arm: Arm, answer: type) -> dict:
    """Describe the endpoint by the contract of one arm; `answer` is the type of a `/predict` answer."""
    contract, schema = arm.predictor.contract, arm.predictor.schema
    types = [contract.instance, contract.instances, answer, v2.InferRequest, v2.InferResponse, Error]
    references, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    one, many, predictions, infer, inferred, error = references
    predict = _operation(
        f"Score {schema.label}, by entity keys and request fields", {"anyOf": [one, many]}, predictions, error
    )
    tensors = _operation("Open Inference Protocol V2", infer, inferred, error)
    pinned = {"parameters": [_parameter("version", [arm.version])]}
    model = f"/v2/models/{schema.model}"
    paths = {
        "/predict": {"post": {"operationId": "predict"} | predict},
        "/versions/{version}/predict": pinned | {"post": {"operationId": "predict_by_version"} | predict},
        f"{model}/infer": {"post": {"operationId": "infer"} | tensors},
        f"{model}/versions/{{version}}/infer": pinned | {"post": {"operationId": "infer_by_version"} | tensors},
    } | {path: {"get": _read(text)} for path, text in _reads(model).items()}
    info = {"title": endpoint, "version": package_version(), "description": f"Predicts: {schema.label}"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}}


def _reads(model: str) -> dict[str, str]:
    return {
        "/routing": "Versions, weights and generation",
        "/metrics": "Prometheus metrics",
        "/v2": "Server metadata",
        "/v2/health/live": "Whether the process turns",
        "/v2/health/ready": "Whether a version takes traffic and the online store answers; what it holds of each view",
        model: "Model metadata: inputs, outputs, versions",
        f"{model}/ready": "Whether the model is loaded",
    }


def _operation(summary: str, body: dict, answer: dict, error: dict) -> dict:
    good = {"200": {"description": "Scored.", "content": {"application/json": {"schema": answer}}}}
    bad = {c: {"description": d, "content": {"application/json": {"schema": error}}} for c, d in _ERRORS.items()}
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"summary": summary, "requestBody": request, "responses": good | bad}


def _parameter(name: str, examples: list[str]) -> dict:
    schema = {"type": "string", "examples": examples}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _read(summary: str) -> dict:
    answers = {"200": {"description": summary}, "503": {"description": _ERRORS["503"]}}
    return {"summary": summary, "responses": answers}
