"""`kerasxfer-serving serve` below its options: one process, or several that are watched."""

import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from starlette.applications import Starlette

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.server.app import create_app
from kerasxfer_serving.server.logs import configure_logs
from kerasxfer_serving.server.options import ServerOptions
from kerasxfer_serving.server.processes import Heartbeat, Supervisor
from kerasxfer_serving.server.registry import as_sources
from kerasxfer_serving.server.running import Companion, RunOptions, listen, make_server


@dataclass(frozen=True, kw_only=True)
class Service:
    """All that a process needs to know to serve.

    Args:
        models: See `create_app`.
        options: Device and limits.
        run: Address, TLS and how to stop.
        watch: Whether changed models are reloaded.
        log_format: `"text"` or `"json"`.
        access_log: Whether every request has one.
        grpc_port: Port of the gRPC service. Defaults to `None`, none.
    """

    models: tuple[str, ...]
    options: ServerOptions
    run: RunOptions
    watch: bool = False
    log_format: str = "text"
    access_log: bool = True
    grpc_port: int | None = None


def serve(service: Service, processes: int, note: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        service: What and how.
        processes: How many processes; with more than one they are watched.
        note: Called with a line when the address is taken.

    Raises:
        KerasxferError: A model is refused, or the address is taken.
    """
    try:
        sockets = [listen(service.run)]
    except (OSError, TypeError, UnicodeError) as error:  # the latter two: a host that cannot be a name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Nothing can listen at {service.run.host}:{service.run.port}: {reason}. Choose `--host`, `--port`."
        ) from None
    host, port = sockets[0].getsockname()[:2]
    scheme = "https" if service.run.tls else "http"
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    if processes == 1:
        serve_here(service, lambda: note(f"Serving at {address}"), sockets)
        return
    for source in as_sources(service.models):  # better refused once here than by every process
        for path in source.versions().values():
            load_model_file(path)
    configure_logs(service.log_format, access=service.access_log)
    cores = max(1, service.options.cores // processes)
    shared = replace(service, options=replace(service.options, threads=cores))
    note(f"Serving at {address} with {processes} processes of {cores} cores")
    stop_timeout = service.run.shutdown_delay + service.run.shutdown_timeout + 10
    Supervisor(processes, partial(_work, shared), sockets, stop_timeout).run()


def serve_here(
    service: Service,
    on_started: Callable[[], None],
    sockets: Sequence[socket.socket],
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Serve in this process."""
    configure_logs(service.log_format, access=service.access_log)
    app = create_app(service.models, service.options, watch=service.watch)
    make_server(app, service.run, on_tick, _companions(app, service), on_started).run(list(sockets))


def _companions(app: Starlette, service: Service) -> list[Companion]:
    if service.grpc_port is None:
        return []
    from kerasxfer_serving.server.grpc_service import GrpcService

    return [GrpcService(app.state.server, service.run.host, service.grpc_port, service.run.tls)]


def _work(service: Service, sockets: Sequence[socket.socket], heartbeat: Heartbeat) -> None:
    """One of several processes."""
    try:
        serve_here(service, lambda: None, sockets, heartbeat.beat)
    except KerasxferError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
