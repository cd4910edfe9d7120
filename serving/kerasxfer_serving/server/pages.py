"""What a browser sees: the page for images, the description of the interface, and nothing fetched from elsewhere."""

import re
from functools import cache
from html import escape
from importlib.resources import files
from itertools import groupby

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving import __version__
from kerasxfer_serving.server.context import server_of
from kerasxfer_serving.server.json_bodies import JsonResponse
from kerasxfer_serving.server.openapi import OPERATIONS, Operation, document

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
_CODE = re.compile("`([^`]+)`")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP interface · kerasxfer-serving</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static/page.css">
</head>
<body>
<header>
<h1>HTTP interface</h1>
<p>kerasxfer-serving {version}. For programs: <a href="openapi.json">openapi.json</a>. For trying:
<a href="./">drop images</a>.</p>
</header>
<main>
{groups}
</main>
</body>
</html>
"""


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
    return Response(_render_docs(), media_type="text/html", headers=_HEADERS)


def _static(name: str) -> Response:
    return Response(_read(name), media_type=_FILES[name], headers=_HEADERS | {"Vary": "Accept"})


@cache
def _read(name: str) -> bytes:
    return (files(__package__) / "page" / name).read_bytes()


def _render_docs() -> str:
    """The OpenAPI document as a page without scripts."""
    return _PAGE.format(
        version=escape(__version__),
        groups="\n".join(_group(name, list(group)) for name, group in groupby(OPERATIONS, lambda item: item.group)),
    )


def _group(name: str, operations: list[Operation]) -> str:
    items = "\n".join(_operation(operation) for operation in operations)
    return f"<section><h2>{escape(name)}</h2>\n<dl class=operations>\n{items}\n</dl></section>"


def _marked(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _operation(operation: Operation) -> str:
    query = f"?{'&'.join(f'{name}=' for name in operation.query)}" if operation.query else ""
    bodies = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.body or ())
    statuses = ", ".join(str(status) for status in (200, *operation.statuses))
    return (
        f"<div><dt><code><b>{operation.method.upper()}</b> {escape(operation.path)}<wbr>{escape(query)}</code></dt>"
        f"<dd>{_marked(operation.summary)}"
        + (f" Body: {bodies}." if bodies else "")
        + f" <span class=quiet>Answers {statuses}.</span></dd></div>"
    )


def routes() -> list[Route]:
    """All pages."""
    return [
        Route("/", index),
        Route("/static/{name}", static),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]
