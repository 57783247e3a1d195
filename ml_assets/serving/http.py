"""The HTTP face of an endpoint: routes, limits, and errors that name a place and a rule but never a value."""

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ml_assets.errors import RequestError
from ml_assets.serving import openapi, pages, v2
from ml_assets.serving.predictor import NOTHING_STORED, ViewState
from ml_assets.serving.request import instant
from ml_assets.serving.routing import Arm
from ml_assets.serving.service import Answer, Call, Service

MOST_BYTES = 4 * 1024 * 1024
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MISSING = (
    "For each view without a row, why: `unknown entity` (no row of it by then is kept), `too old: 3d > 2d`, `nothing"
    " stored` (of the whole view) or `null key: origin is null in the request`. Its features are then the view's"
    " defaults, else null."
)
_encode = msgspec.json.Encoder().encode


class Prediction(msgspec.Struct, frozen=True):
    """One scored row. Requests with the header `x-request-purpose: check` also get the inputs that were scored."""

    prediction_id: Annotated[str, msgspec.Meta(description="Its id in the prediction log.")]
    score: Annotated[float, msgspec.Meta(description="The probability that the label is true, from 0 to 1.")]
    feature_ages: Annotated[
        dict[str, float | None],
        msgspec.Meta(description="By view, seconds from the feature row to the prediction time; null: no row counted."),
    ]
    missing_views: Annotated[dict[str, str], msgspec.Meta(description=_MISSING)]
    features: Annotated[
        dict[str, float | str | None] | msgspec.UnsetType,
        msgspec.Meta(description="The inputs by name, before encoding."),
    ] = msgspec.UNSET


class Predictions(msgspec.Struct, frozen=True):
    """The answer of `POST /predict`: a prediction for each instance, all by one version."""

    predictions: list[Prediction]
    model: str
    version: str
    generation: int


Endpoint = Callable[[Request], Awaitable[Response]]


def build(service: Service) -> Starlette:
    """Make the ASGI application of a service."""
    routes = _Routes(service)
    return Starlette(
        routes=[Route(path, _guarded(service, handler), methods=[method]) for method, path, handler in routes.listed()],
        exception_handlers={Exception: _failure(service), 404: _plain, 405: _plain},
    )


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service, self._router = service, service.router

    def listed(self) -> list[tuple[str, str, Endpoint]]:
        model = "/v2/models/{model}"
        return [
            ("POST", "/predict", self.predict),
            ("POST", "/versions/{version}/predict", self.predict),
            ("GET", "/", self.status_page),
            ("GET", "/docs", self.docs_page),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/routing", self.routing),
            ("GET", "/metrics", self.metrics),
            ("GET", "/v2", self.server),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            *(("GET", base, self.model) for base in (model, model + "/versions/{version}")),
            *(("GET", base + "/ready", self.ready) for base in (model, model + "/versions/{version}")),
            *(("POST", base + "/infer", self.infer) for base in (model, model + "/versions/{version}")),
        ]

    async def predict(self, request: Request) -> Response:
        body, call = await _body(request), _call(request)
        answer = await self._service.predict(call, lambda arm, now: arm.predictor.contract.decode(body, now_us=now))
        features = answer.features if call.check else [msgspec.UNSET] * len(answer.ids)
        columns = answer.ids, answer.scores, answer.ages, answer.missing, features
        predictions = [Prediction(*row) for row in zip(*columns, strict=True)]
        content = Predictions(predictions, answer.model, answer.version, answer.generation)
        return _json(content, headers=_headers(call, answer))

    async def infer(self, request: Request) -> Response:
        self._require_model(request)
        body, call = v2.decode(await _body(request)), _call(request)
        answer = await self._service.predict(call, lambda arm, now: v2.rows(body, arm, now_us=now))
        return _json(v2.response(body, answer, answer.model), headers=_headers(call, answer))

    async def model(self, request: Request) -> Response:
        return _json(v2.metadata(self._require_model(request), list(self._service.table().arms)))

    async def server(self, _: Request) -> Response:
        return _json({"name": "ml_assets", "version": openapi.package_version(), "extensions": []})

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if "model" in request.path_params:
            self._require_model(request)
        version = request.path_params.get("version")  # one that is loaded can be asked by its name
        stores = self._service.stores(version)
        reached = not any(state.unreachable for state in stores.values())
        ready = (bool(version) or self._service.ready) and reached
        shown = {name: _store(state) for name, state in stores.items()}
        return _json({"ready": ready, "online_store": shown}, status=200 if ready else 503)

    async def routing(self, _: Request) -> Response:
        return _json({"endpoint": self._service.endpoint} | self._router.status())

    async def metrics(self, _: Request) -> Response:
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        return _json(openapi.document(self._service.endpoint, _main_arm(self._service), Predictions))

    async def status_page(self, _: Request) -> Response:
        return HTMLResponse(pages.status(self._service.endpoint, self._router.status(), _main_arm(self._service)))

    async def docs_page(self, _: Request) -> Response:
        return HTMLResponse(pages.docs(openapi.document(self._service.endpoint, _main_arm(self._service), Predictions)))

    def _require_model(self, request: Request) -> Arm:
        table, version = self._service.table(), request.path_params.get("version")
        arm = table.pinned(version) if version else _main_arm(self._service)
        if request.path_params["model"] != arm.predictor.schema.model:
            raise RequestError("is not served here", path="model", status=404)
        return arm


def _store(state: ViewState) -> dict[str, object]:
    said = state.unreachable or (NOTHING_STORED if state.newest is None else "ok")
    return {"state": said, "newest": instant(state.newest)}


def _main_arm(service: Service) -> Arm:
    return max(service.table().arms.values(), key=lambda arm: arm.share)


def _call(request: Request) -> Call:
    given = request.headers.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    check = request.headers.get("x-request-purpose") == "check"
    return Call(request_id, request.path_params.get("version"), check)


def _headers(call: Call, answer: Answer) -> dict[str, str]:
    return {"x-request-id": call.request_id, "x-model-version": answer.version, "x-generation": str(answer.generation)}


async def _body(request: Request) -> bytes:
    # The declared length refuses before reading; the count guards against clients that declare none or lie.
    if int(request.headers.get("content-length", "0")) > MOST_BYTES:
        raise RequestError(f"must not exceed {MOST_BYTES} bytes", path="body", status=413)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise RequestError(f"must not exceed {MOST_BYTES} bytes", path="body", status=413)
    return bytes(body)


def _guarded(service: Service, handler: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            if request.method == "POST":
                service.refuse(_call(request), f"{error.path}: {error.problem}", code=error.status)
            headers = {"retry-after": "1"} if error.status == 503 else {}
            content = {"error": str(error), "field": error.path, "rule": error.problem}
            return _json(content, status=error.status, headers=headers)
        except ClientDisconnect:
            return Response(status_code=499)

    return answer


def _failure(service: Service) -> Callable[[Request, Exception], Awaitable[Response]]:
    # Starlette re-raises after this answer, so that the traceback reaches the server's log.
    async def answer(request: Request, error: Exception) -> Response:
        service.refuse(_call(request), type(error).__name__, code=500)
        return _json({"error": "the endpoint failed on this request; its log tells why"}, status=500)

    return answer


async def _plain(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _json({"error": "no such address or method here; see /docs"}, status=status)


def _json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(content), status_code=status, headers=headers, media_type="application/json")
