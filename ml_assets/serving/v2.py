"""The Open Inference Protocol (V2 REST): tensors to request rows, answers to tensors.

A model has one input tensor of shape [n] (or [n, 1]) per request field, and optionally one for the prediction time.
Times and text are BYTES (times in RFC 3339); null stands for a missing value, also in FP64, since JSON has no NaN.
"""

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import msgspec

from ml_assets.errors import RequestError
from ml_assets.serving.request import Row
from ml_assets.serving.routing import Arm
from ml_assets.serving.service import Answer

_DATATYPES = {"VARCHAR": "BYTES", "TIMESTAMPTZ": "BYTES", "BIGINT": "INT64", "DOUBLE": "FP64", "BOOLEAN": "BOOL"}
_ACCEPTED = {
    "BYTES": {"BYTES"},
    "BOOL": {"BOOL"},
    "INT64": {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"},
    "FP64": {"FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64"},
}
OUTPUTS = {"score": "FP64", "prediction_id": "BYTES"}


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named column of a request or an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that the client wants."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """The body of `POST .../infer`."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `POST .../infer`."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(InferRequest)


def decode(body: bytes) -> InferRequest:
    """Read an inference request; RequestError 400 for bad JSON, 422 for another shape or an unknown output."""
    try:
        request = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).rpartition(" - at ")
        raise RequestError((problem or str(error)).replace("`", ""), path=path.strip("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError(
            "the body must be well-formed JSON in UTF-8, without NaN or Infinity", path="$", status=400
        ) from None
    for n, output in enumerate(request.outputs or ()):
        if output.name not in OUTPUTS:
            raise RequestError(f"must be one of {', '.join(OUTPUTS)}", path=f"$.outputs[{n}].name")
    return request


def rows(request: InferRequest, arm: Arm, *, now_us: int) -> tuple[list[Row], list[int]]:
    """Turn the tensors into request rows of the arm's contract."""
    columns = {}
    wanted = {tensor["name"]: tensor["datatype"] for tensor in inputs(arm)}
    for n, tensor in enumerate(request.inputs):
        path = f"$.inputs[{n}]"
        if tensor.name not in wanted or tensor.name in columns:
            raise RequestError("names no input of this model, or one twice", path=f"{path}.name")
        if tensor.datatype not in _ACCEPTED[wanted[tensor.name]]:
            raise RequestError(f"must be {wanted[tensor.name]}", path=f"{path}.datatype")
        columns[tensor.name] = _flat(tensor, path)
    if len({len(values) for values in columns.values()}) > 1:
        raise RequestError("must all have the same number of rows", path="$.inputs")
    named = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return arm.predictor.contract.convert(named, now_us=now_us, path="$.inputs[*].data[{}]")


def inputs(arm: Arm) -> list[dict]:
    """Describe the input tensors of an arm."""
    contract = arm.predictor.contract
    fields = [{"name": f.name, "datatype": _DATATYPES[f.type], "shape": [-1]} for f in contract.fields]
    return [
        *fields,
        {"name": contract.time_field, "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}},
    ]


def metadata(arm: Arm, versions: Sequence[str]) -> dict:
    """Describe a model as `GET /v2/models/{model}` gives it."""
    outputs = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()]
    schema = arm.predictor.schema
    extra = {"label": schema.label, "model_hash": schema.model_hash, "version": arm.version}
    described = {"name": schema.model, "versions": list(versions), "platform": "lightgbm"}
    return described | {"inputs": inputs(arm), "outputs": outputs, "parameters": extra}


def response(request: InferRequest, answer: Answer, model: str) -> InferResponse:
    """Give the wanted outputs (all when none are named); the request's id comes back."""
    data: dict[str, list] = {"score": answer.scores, "prediction_id": answer.ids}
    names = [output.name for output in request.outputs] if request.outputs else list(OUTPUTS)
    tensors = [Tensor(name, [len(answer.ids)], OUTPUTS[name], data[name]) for name in names]
    return InferResponse(model, answer.version, tensors, request.id, {"generation": answer.generation})


def _flat(tensor: Tensor, path: str) -> list:
    nested = bool(tensor.data) and all(isinstance(value, list) for value in tensor.data)
    values = list(chain.from_iterable(tensor.data)) if nested else tensor.data
    rows_first = len(tensor.shape) in {1, 2} and tensor.shape[1:] in ([], [1])
    if not rows_first or prod(tensor.shape) != len(values):
        raise RequestError("must be [n] or [n, 1] with n values in data", path=f"{path}.shape")
    return values
