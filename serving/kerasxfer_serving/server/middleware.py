"""What every HTTP request goes through: identity, token, figures, log, and an answer whatever happens."""

import hmac
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kerasxfer_serving.server.context import RequestContext, context_of
from kerasxfer_serving.server.core import InferenceServer
from kerasxfer_serving.server.errors import RequestError, UnauthorizedError
from kerasxfer_serving.server.json_bodies import JsonResponse

ACCESS_LOG = logging.getLogger("kerasxfer_serving.access")
_LOG = logging.getLogger(__name__)


class Tokens:
    """The bearer tokens that open a server.

    Args:
        tokens: The tokens; with none, everybody may ask.
        open_paths: Paths that need no token.
    """

    def __init__(self, tokens: Sequence[str], open_paths: Iterable[str] = ()) -> None:
        self._tokens = [token.encode() for token in tokens]
        self._open = frozenset(open_paths)

    def check(self, authorization: str | bytes, path: str = "") -> None:
        """Raise `UnauthorizedError` where the Authorization header does not open a path."""
        if not self._tokens or path in self._open:
            return
        given = authorization.encode() if isinstance(authorization, str) else authorization
        scheme, _, token = given.partition(b" ")
        # Every token is compared, so the time tells nothing.
        matches = [hmac.compare_digest(token.strip(), known) for known in self._tokens]
        if scheme.lower() != b"bearer" or not any(matches):
            raise UnauthorizedError("This server needs a token: `Authorization: Bearer TOKEN`.")


class RequestMiddleware:
    """Gives each request its context, checks its token, counts and logs it, and answers for what goes wrong."""

    def __init__(self, app: ASGIApp, server: InferenceServer, tokens: Tokens) -> None:
        self._app = app
        self._server = server
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        context = RequestContext.begin(scope, self._server)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers["X-Request-Id"] = context.id
                if self._server.draining:
                    headers["Connection"] = "close"
            await send(message)

        try:
            self._tokens.check(_header(scope, b"authorization"), scope["path"].removeprefix(scope.get("root_path", "")))
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            context.error = error
            if not isinstance(error, RequestError):
                _LOG.exception("Request %s failed", context.id)
            if not status:
                await _error_response(error)(scope, receive, send_with_id)
        finally:
            context.share.close()
            self._record(scope, context, status, time.perf_counter() - started)

    def _record(self, scope: Scope, context: RequestContext, status: int, seconds: float) -> None:
        metrics = self._server.metrics
        metrics.requests.labels("http", scope["method"], str(status)).inc()
        metrics.request_seconds.labels("http").observe(seconds)
        if isinstance(context.error, RequestError):
            metrics.rejected.labels(context.error.reason).inc()
        if ACCESS_LOG.isEnabledFor(logging.INFO):
            ACCESS_LOG.info("request", extra={"fields": _describe(scope, context, status, seconds)})


def error_body(error: Exception) -> dict[str, str]:
    """What a client is told of an error: all of its own, nothing of ours."""
    return {"error": str(error) if isinstance(error, RequestError) else "The server failed; its log says why."}


async def answer_error(request: Request, error: Exception) -> JsonResponse:
    """The answer to a `RequestError` of an endpoint."""
    context_of(request).error = error
    return _error_response(error)


def _error_response(error: Exception) -> JsonResponse:
    if isinstance(error, RequestError):
        return JsonResponse(error_body(error), error.status, dict(error.headers))
    return JsonResponse(error_body(error), 500)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _describe(scope: Scope, context: RequestContext, status: int, seconds: float) -> dict[str, Any]:
    client = scope.get("client") or ("", 0)
    described = {
        "id": context.id,
        "client": client[0],
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(seconds * 1000, 2),
    }
    if context.error is not None:
        described["error"] = str(context.error)
    return described
