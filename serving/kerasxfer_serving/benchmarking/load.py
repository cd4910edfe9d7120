"""Open-loop load on a server: requests at random times that do not wait for answers, as people send them.

A request that the server delays does not delay the next one, and its latency counts from when it was due: so a slow
server cannot hide behind a client that waits for it.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kerasxfer_serving.errors import KerasxferError, UsageError

_CONNECTIONS = 512
_SECONDS = 60.0


@dataclass(frozen=True)
class Sent:
    """One request: seconds from when it was due, the answer's status (0 without one), and how late it was sent."""

    latency: float
    status: int
    lateness: float


def check_url(url: str) -> None:
    """Refuse what is no URL of a server.

    Raises:
        UsageError: It is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"`--url` must be http://HOST:PORT or https://HOST:PORT. Received: {url!r}")


class Target:
    """The path of a server that images are sent to.

    Args:
        url: `http://` or `https://`, with host, port and path.
        token: Bearer token. Defaults to `None`.

    Raises:
        UsageError: The URL is none of those.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        check_url(url)
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> int:
        """Send one image; return the status, 0 where there is no answer."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._exchange(body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            return 0

    async def _exchange(self, body: bytes) -> int:
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        kept = False
        try:
            head = b"%sContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % (self._head, len(body))
            writer.write(head + body)
            await writer.drain()
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            kept = b"\r\nconnection: close" not in answer
            return int(answer.split(b" ", 2)[1])
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, ssl=self.tls)

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def open_loop(target: Target, bodies: Sequence[bytes], rate: float, count: int, seed: int = 0) -> list[Sent]:
    """Send `count` images at random times, `rate` a second on average (a Poisson process, as MLPerf's Server does).

    Args:
        target: Where to.
        bodies: The images, in turn.
        rate: Requests a second.
        count: How many.
        seed: Of the times.

    Returns:
        What became of each request.
    """
    times = random.Random(seed)
    due = time.perf_counter() + 0.05
    limit = asyncio.Semaphore(_CONNECTIONS)
    tasks: list[asyncio.Task[Sent]] = []

    async def send(number: int, due: float) -> Sent:
        async with limit:
            lateness = time.perf_counter() - due
            status = await target.post(bodies[number % len(bodies)])
            return Sent(time.perf_counter() - due, status, lateness)

    for number in range(count):
        due += times.expovariate(rate)
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(send(number, due)))
    return list(await asyncio.gather(*tasks))


async def capacity(target: Target, bodies: Sequence[bytes], seconds: float, clients: int = 16) -> float:
    """Images a second that a server answers when there are always `clients` that wait.

    Raises:
        KerasxferError: It answers none.
    """
    end = time.perf_counter() + seconds
    answered = 0

    async def ask(number: int) -> None:
        nonlocal answered
        while time.perf_counter() < end:
            status = await target.post(bodies[number % len(bodies)])
            if status != 200:
                raise KerasxferError(f"The server answers with {status or 'nothing'} instead of 200.")
            answered += 1
            number += clients

    started = time.perf_counter()
    await asyncio.gather(*(ask(number) for number in range(clients)))
    return answered / (time.perf_counter() - started)
