"""Errors that a client is told, each with its HTTP status and its gRPC code."""

from collections.abc import Mapping
from typing import ClassVar

from kerasxfer_serving.errors import KerasxferError


class RequestError(KerasxferError):
    """A request that is not answered, and why.

    Args:
        message: What is wrong, for the client.

    Attributes:
        status: HTTP status.
        code: Name of the gRPC status.
        headers: Headers of the HTTP answer.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "INVALID_ARGUMENT"
    reason: ClassVar[str] = "bad_request"
    headers: ClassVar[Mapping[str, str]] = {}


class UnreadableImageError(RequestError):
    """An image of the request cannot be read."""

    reason = "unreadable_image"


class UnauthorizedError(RequestError):
    """No token, or a wrong one."""

    status, code, reason = 401, "UNAUTHENTICATED", "unauthorized"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class UnknownModelError(RequestError):
    """No such model, or no such version of it."""

    status, code, reason = 404, "NOT_FOUND", "unknown_model"


class SlowRequestError(RequestError):
    """The request did not arrive in time."""

    status, code, reason = 408, "CANCELLED", "slow_request"
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class TooLargeError(RequestError):
    """More bytes or images than a request may have."""

    status, code, reason = 413, "INVALID_ARGUMENT", "too_large"


class UnsupportedEncodingError(RequestError):
    """A Content-Encoding that is not known."""

    status, code, reason = 415, "INVALID_ARGUMENT", "unsupported_encoding"


class ClientGoneError(RequestError):
    """The client has left; nobody reads this answer."""

    status, code, reason = 499, "CANCELLED", "client_gone"


class OverloadedError(RequestError):
    """The server has as much work as it accepts."""

    status, code, reason = 503, "RESOURCE_EXHAUSTED", "overloaded"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class DeadlineError(RequestError):
    """The answer was not there in time."""

    status, code, reason = 504, "DEADLINE_EXCEEDED", "deadline"
