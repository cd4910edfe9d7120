"""What a browser sees: the page for images, the description of the interface, and nothing fetched from elsewhere."""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving.server.context import server_of
from kerasxfer_serving.server.docs_page import render_docs
from kerasxfer_serving.server.json_bodies import JsonResponse
from kerasxfer_serving.server.openapi import document

_FILES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
STATIC_PATHS = tuple(f"/static/{name}" for name in _FILES)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def index(request: Request) -> Response:
    """The page for people; for KServe V1, which asks for no HTML, a sign of life."""
    if "text/html" in request.headers.get("accept", ""):
        return _static("index.html")
    return JsonResponse({"status": "alive"}, headers={"Vary": "Accept"})


async def static(request: Request) -> Response:
    """A file of the page."""
    name = request.path_params["name"]
    return _static(name) if name in _FILES else JsonResponse({"error": f"There is no file {name!r:.100}."}, 404)


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    registry = server_of(request).registry
    models = {name: registry.versions(name) for name in registry.names()}
    return JsonResponse(document(models, request.scope.get("root_path", "")))


async def docs(request: Request) -> Response:
    """The OpenAPI document for people."""
    return Response(render_docs(), media_type="text/html", headers=_HEADERS)


def _static(name: str) -> Response:
    return Response(_read(name), media_type=_FILES[name], headers=_HEADERS | {"Vary": "Accept"})


@cache
def _read(name: str) -> bytes:
    return (files(__package__) / "page" / name).read_bytes()


def routes() -> list[Route]:
    """All pages."""
    return [
        Route("/", index),
        Route("/static/{name}", static),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]
