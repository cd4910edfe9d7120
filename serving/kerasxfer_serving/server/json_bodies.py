"""JSON in and out, with errors that a client understands, and the images in it: base64 in all its spellings."""

import binascii
import re
from typing import TypeVar

import msgspec
from starlette.responses import Response

from kerasxfer_serving.image_io.formats import HEAD, format_of
from kerasxfer_serving.server.errors import RequestError

T = TypeVar("T")

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+=-]+)*;base64,", re.ASCII | re.IGNORECASE)
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n"


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


def from_base64(text: str | bytes, where: str) -> bytes:
    """The bytes of base64 text: standard or URL-safe, with line ends or without padding, or a data URL.

    Raises:
        RequestError: The text is not base64; `where` says which one.
    """
    if isinstance(text, str):
        if text[:5].lower() == "data:" and (prefix := _DATA_URL.match(text)):
            text = text[prefix.end() :]
        try:
            text = text.encode("ascii")
        except UnicodeEncodeError:
            raise RequestError(f"{where} is not base64.") from None
    text = text.translate(_STANDARD, _SPACE)
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True) if text else b""
    except binascii.Error as error:
        raise RequestError(f"{where} is not base64: {error}.") from None


def image_bytes(element: bytes, where: str) -> bytes:
    """The image in a binary element, which some clients fill with base64 text."""
    if format_of(element[:HEAD]) is not None:
        return element
    try:
        return from_base64(element, where)
    except RequestError:
        return element  # neither: the decoder says what is wrong with it
