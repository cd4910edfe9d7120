"""Bodies of requests: read in bounded time, within the memory that all requests share, and unpacked."""

import asyncio
import zlib
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request

from kerasxfer_serving.server.errors import (
    ClientGoneError,
    OverloadedError,
    RequestError,
    SlowRequestError,
    TooLargeError,
    UnsupportedEncodingError,
)
from kerasxfer_serving.server.options import ServerOptions

_LEAST_RATE = 64 << 10  # bytes a second that a client must send, beyond the first seconds
_LARGE = 64 << 10  # what takes longer to unpack than the event loop should stand still
_WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Memory:
    """Bytes of all requests in hand, and their limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def open(self) -> "Share":
        """The share of one request, to be closed with it."""
        return Share(self)

    def take(self, size: int) -> None:
        """Take bytes, or say that there are none left."""
        if self._used and self._used + size > self._limit:
            raise OverloadedError(f"Requests hold {self._used:,} bytes already, at most {self._limit:,} may. Retry.")
        self._used += size

    def give_back(self, size: int) -> None:
        """Let go of bytes."""
        self._used -= size


class Share:
    """The bytes that one request holds."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Hold `size` bytes in all."""
        if size > self._size:
            self._memory.take(size - self._size)
            self._size = size

    def close(self) -> None:
        """Let go of them."""
        self._memory.give_back(self._size)
        self._size = 0


async def read_body(request: Request, options: ServerOptions, share: Share) -> bytes:
    """The body of a request, unpacked.

    Raises:
        RequestError: It is too large, comes too slowly, is packed in an unknown way or not as it says, does not fit
            into memory beside the others, or its client leaves.
    """
    body = await _receive(request, options, share)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise UnsupportedEncodingError(f"Content-Encoding is {', '.join(_WINDOW_BITS)}. Received: {encoding!r:.100}")
    if len(body) <= _LARGE:
        unpacked = unpack(body, encoding, options.max_body)
    else:
        unpacked = await asyncio.to_thread(unpack, body, encoding, options.max_body)
    share.grow_to(len(body) + len(unpacked))
    return unpacked


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo gzip or deflate, up to `limit` bytes; deflate with its wrapping or, as some send it, without."""
    try:
        return _inflate(body, _WINDOW_BITS[encoding], limit)
    except zlib.error as error:
        if encoding == "deflate":
            try:
                return _inflate(body, -15, limit)
            except zlib.error:
                pass
        raise RequestError(f"The body is not {encoding}: {error}") from None


def _inflate(body: bytes, window_bits: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(window_bits)
    unpacked = unpacker.decompress(body, limit + 1)
    if len(unpacked) > limit:
        raise TooLargeError(f"A body has at most {limit:,} bytes, unpacked. Received: more.")
    if not unpacker.eof:
        raise zlib.error("it ends early")
    return unpacked


async def _receive(request: Request, options: ServerOptions, share: Share) -> bytes:
    declared = request.headers.get("content-length")
    expected = None if declared is None else int(declared)
    if expected is not None:
        _check_size(expected, options, share)
    chunks, size = [], 0
    loop = asyncio.get_running_loop()
    begun = loop.time() + options.receive_timeout
    try:
        async with asyncio.timeout_at(begun) as timeout:
            async for chunk in request.stream():
                if chunk:
                    chunks.append(chunk)
                    size += len(chunk)
                    _check_size(size, options, share)
                    if size != expected:
                        timeout.reschedule(begun + size / _LEAST_RATE)
    except TimeoutError:
        raise SlowRequestError(f"The body came too slowly: {size:,} bytes.") from None
    except ClientDisconnect:
        raise ClientGoneError("The client disconnected while sending.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_size(size: int, options: ServerOptions, share: Share) -> None:
    if size > options.max_body:
        raise TooLargeError(f"A body has at most {options.max_body:,} bytes. Received: {size:,}")
    share.grow_to(size)
