"""`create_app`: the server as an ASGI application, to be run by itself or mounted in another."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving.server import compatible, metrics, oip, pages, predicting
from kerasxfer_serving.server.context import server_of
from kerasxfer_serving.server.core import InferenceServer
from kerasxfer_serving.server.errors import RequestError
from kerasxfer_serving.server.json_bodies import JsonResponse
from kerasxfer_serving.server.middleware import RequestMiddleware, Tokens, answer_error
from kerasxfer_serving.server.options import ServerOptions
from kerasxfer_serving.server.registry import Models

# Probes come without a token, and the page must be there to be given one.
_OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/ping", "/", "/docs", "/openapi.json", *pages.STATIC_PATHS)


def create_app(models: Models, options: ServerOptions | None = None, *, watch: bool = False) -> Starlette:
    """Serve models over HTTP: the Open Inference Protocol V2, `/predict`, and the paths of other servers.

    The models are loaded, checked and warmed before this returns. When the application is the root one, its threads end
    with it; where it is mounted in another, call `app.state.server.close()` at the end.

    Args:
        models: An `.onnx` file, a folder `<number>/model.onnx` of versions, or several of them as a list (named after
            the files, or `"path=name"`) or a dictionary of name to path.
        options: Device and limits. Defaults to `ServerOptions()`.
        watch: Whether files that change are reloaded without losing a request. Defaults to `False`.

    Returns:
        A Starlette application; `app.state.server` is its `InferenceServer`.

    Raises:
        UsageError: There is no such model, or its name is not possible.
        ModelError: A model file is refused.
        DeviceError: The device is not available.

    Example:

    ```python
    from starlette.routing import Mount

    app = create_app({"cats": "model.onnx"})            # uvicorn module:app
    parent = Starlette(routes=[Mount("/vision", app)])  # or inside another application
    ```
    """
    options = options or ServerOptions()
    return app_of(InferenceServer(models, options, watch=watch))


def app_of(server: InferenceServer) -> Starlette:
    """The application of a server that is there already."""
    options = server.options
    middleware = [Middleware(RequestMiddleware, server=server, tokens=Tokens(options.tokens, _OPEN_PATHS))]
    if options.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Inference-Header-Content-Length", "X-Request-Id"],
            expose_headers=["Inference-Header-Content-Length", "X-Request-Id"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=[
            *predicting.routes(),
            *oip.routes(),
            *compatible.routes(),
            Route("/metrics", _metrics),
            *pages.routes(),
        ],
        middleware=middleware,
        exception_handlers={RequestError: answer_error, HTTPException: _answer_http_error},
        lifespan=_lifespan(server),
    )
    app.state.server = server
    return app


def _lifespan(server: InferenceServer) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            server.close()

    return lifespan


async def _metrics(request: Request) -> Response:
    return Response(server_of(request).metrics.render(), media_type=metrics.CONTENT_TYPE)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """404 and 405, in the protocol's form."""
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    return JsonResponse({"error": message}, error.status_code, dict(error.headers or {}))
