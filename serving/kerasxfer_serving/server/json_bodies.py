"""JSON in and out, with errors that a client understands."""

from typing import TypeVar

import msgspec
from starlette.responses import Response

from kerasxfer_serving.server.errors import RequestError

T = TypeVar("T")


class JsonResponse(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return msgspec.json.encode(content)


def decode_json(body: bytes | memoryview | msgspec.Raw, kind: type[T], where: str = "The body") -> T:
    """Read JSON of a given type.

    Raises:
        RequestError: It is not JSON, or of another type.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{where} is invalid: {error}") from None
