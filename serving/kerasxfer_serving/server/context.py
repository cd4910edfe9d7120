"""What belongs to one request: its server, its identity, the bytes it holds."""

import re
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

from kerasxfer_serving.server.bodies import Share, read_body
from kerasxfer_serving.server.core import InferenceServer

KEY = "kerasxfer_serving.request"
_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass
class RequestContext:
    """One HTTP request on its way.

    Args:
        server: What answers it.
        share: The bytes that it holds.
        id: The client's `X-Request-Id`, or a new one.
        error: Why it was not answered.
    """

    server: InferenceServer
    share: Share
    id: str
    error: Exception | None = field(default=None)

    @classmethod
    def begin(cls, scope: Scope, server: InferenceServer) -> "RequestContext":
        """The context of a request that arrives, put into its scope."""
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode("ascii") if _ID.fullmatch(given) else secrets.token_hex(8)
        context = scope[KEY] = cls(server, server.memory.open(), request_id)
        return context


def context_of(request: Request) -> RequestContext:
    """The context of a request."""
    context: RequestContext = request.scope[KEY]
    return context


def server_of(request: Request) -> InferenceServer:
    """The server that answers a request."""
    return context_of(request).server


async def body_of(request: Request) -> bytes:
    """The body of a request, within the server's limits."""
    context = context_of(request)
    return await read_body(request, context.server.options, context.share)


def gone(request: Request) -> Callable[[], Coroutine[None, None, None]]:
    """What returns when the client of a request has left; only after the body has been read."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait
