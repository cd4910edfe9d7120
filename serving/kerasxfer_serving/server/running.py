"""One process of the server: uvicorn, made to stop the way that orchestrators expect."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.applications import Starlette

from kerasxfer_serving.server.core import InferenceServer
from kerasxfer_serving.server.protocol import GuardedProtocol

_LOG = logging.getLogger(__name__)
_CHECKS_PER_TICK = 10  # uvicorn ticks ten times a second


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an application is run.

    Args:
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        tls: Files of the certificate chain and of its key, PEM. Defaults to `None`, no TLS.
        keep_alive: Seconds that an idle connection stays open: more than a proxy's, or it answers 502. Defaults to 75.
        max_connections: Connections at once; beyond, 503. Defaults to 1024.
        shutdown_delay: Seconds between being told to stop and refusing connections, in which *ready* is false and
            load balancers turn away. Defaults to 0.
        shutdown_timeout: Seconds after that for what is begun. Defaults to 30.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tls: tuple[Path, Path] | None = None
    keep_alive: int = 75
    max_connections: int = 1024
    shutdown_delay: float = 0.0
    shutdown_timeout: int = 30


class Companion(Protocol):
    """Another service on the same models."""

    async def start(self) -> None:
        """Begin to listen."""

    async def stop(self, grace: float) -> None:
        """Refuse what is new, and give what has begun so many seconds."""


class Server(uvicorn.Server):
    """uvicorn with guards, and a stop in which nothing is lost: not ready, wait, refuse, finish, exit with 0.

    Args:
        config: Uvicorn's.
        server: What answers; its `draining` tells probes.
        options: How it is run.
        on_tick: Called once a second.
        companions: What begins and stops with it, in its event loop.
        on_started: Called when it listens.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server: InferenceServer,
        options: RunOptions,
        on_tick: Callable[[], None] = lambda: None,
        companions: Sequence[Companion] = (),
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._server = server
        self._options = options
        self._on_tick = on_tick
        self._companions = companions
        self._on_started = on_started
        self._stop_at: float | None = None

    async def on_tick(self, counter: int) -> bool:
        if counter % _CHECKS_PER_TICK == 0:
            self._on_tick()
            self._check_connections()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for companion in self._companions:
            await companion.start()
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        checks = asyncio.create_task(self._keep_checking())
        stops = [companion.stop(self._options.shutdown_timeout) for companion in self._companions]
        try:
            await asyncio.gather(*stops, super().shutdown(sockets))
        finally:
            checks.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the stop, a second one ends it at once.

        uvicorn would note the signal, raise it again at its end, and so not exit with 0.
        """
        if self._server.draining:
            self.should_exit = self.force_exit = True
            return
        _LOG.info("%s: stopping", signal.Signals(sig).name)
        self._server.draining = True
        self._stop_at = time.monotonic() + self._options.shutdown_delay

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._check_connections()

    def _check_connections(self) -> None:
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol):
                connection.check(now, self._server.options.receive_timeout)


def make_server(
    app: Starlette,
    options: RunOptions,
    on_tick: Callable[[], None] = lambda: None,
    companions: Sequence[Companion] = (),
    on_started: Callable[[], None] = lambda: None,
) -> Server:
    """An application as a server that can be run."""
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=options.tls[0] if options.tls else None,
        ssl_keyfile=options.tls[1] if options.tls else None,
        timeout_keep_alive=options.keep_alive,
        limit_concurrency=options.max_connections,
        timeout_graceful_shutdown=options.shutdown_timeout,
        backlog=2048,
    )
    return Server(config, app.state.server, options, on_tick, companions, on_started)


def listen(options: RunOptions) -> socket.socket:
    """The listening socket, so that several processes can share it and a taken port is an error at once."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family)
    if os.name == "posix":  # a port whose last connections are still closing; on Windows, one that another server has
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener
