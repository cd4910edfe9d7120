"""uvicorn's HTTP protocol with the bounds that it lacks: on the size of a head, and on the time of anything.

uvicorn never closes a socket that is silent, or a head or body that stalls, and takes a head of any size. The
application bounds the bodies that it reads; here is the rest: heads, silent sockets, and bodies that nobody reads.
"""

import asyncio
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD = 32 << 10
_LINGER = 2.0  # seconds that a client may go on sending what nobody reads, so that it gets to read our answer
_SILENT_AT_STOP = 1.0  # seconds that a new connection has for its first byte when the server is about to stop
_PHRASES = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    _since: float | None = None
    """When the request began to arrive; of a new connection, when it was made; `None` between two requests."""
    _unread_since: float | None = None
    """When a request was first seen that is answered and still arriving."""
    _in_head = True
    _head_bytes = 0
    _refused = False
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._since is None:
            self._since = time.monotonic()
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD:
            self._refuse_head()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()
        self._in_head, self._since, self._unread_since = True, None, None

    def check(self, now: float, longest: float) -> None:
        """Close the connection if what it sends has taken too long. Called about once a second.

        Args:
            now: Time, by `time.monotonic`.
            longest: Seconds that a head may take.
        """
        if self._since is None or self.transport.is_closing():
            return
        if not self._in_head:
            self._check_unread(now)
        elif self.cycle is not None and not self.cycle.response_complete:
            return  # the next head may take its time while this answer does
        elif now - self._since > (_SILENT_AT_STOP if self._stopping and not self._head_bytes else longest):
            if self._head_bytes:
                self._refuse(408, "The head of a request came too slowly.")
            else:
                self.transport.close()

    def shutdown(self) -> None:
        """Close when idle; but let a request that is on its way be answered first."""
        self._stopping = True
        if self._since is None or not self._in_head:
            super().shutdown()

    def _check_unread(self, now: float) -> None:
        if not self.cycle.response_complete:
            return
        if self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > _LINGER:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(431, f"The head of a request has at most {_MAX_HEAD:,} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer before there is a request, and close."""
        self._refused = True
        body = f'{{"error":"{message}"}}'
        self.transport.write(
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        self.transport.close()
