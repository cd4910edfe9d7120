"""`serve`: the model file behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from kerasxfer_serving.commands import choices, options
from kerasxfer_serving.commands.output import note

_MODELS = "An .onnx file, or a folder of versions, `<number>/model.onnx`; `=NAME` names it."
_MIB = 1 << 20


def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL[=NAME]…", help=_MODELS)],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for the same protocol over gRPC.")
    ] = None,
    device: options.DeviceOption = choices.Device.auto,
    cpu_precision: options.CpuPrecisionOption = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Number of processes; one that crashes is replaced.")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Cores to use. Default: all.")] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Default: 8 on the CPU, 128 on a GPU.")] = None,
    batch_delay: Annotated[float, typer.Option(min=0, help="Seconds that a GPU waits for a batch to fill.")] = 0.002,
    watch: Annotated[bool, typer.Option("--watch", help="Reload model files that change.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to the answer; then 504.")] = 30.0,
    receive_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds for a request to arrive; then 408.")
    ] = 10.0,
    keep_alive: Annotated[int, typer.Option(min=1, help="Seconds that an idle connection stays open.")] = 75,
    max_connections: Annotated[int, typer.Option(min=1, help="Connections at once; beyond, 503.")] = 1024,
    max_waiting: Annotated[int, typer.Option(min=1, help="Images in hand; beyond, 503.")] = 256,
    max_waiting_mib: Annotated[int, typer.Option(min=1, help="MiB of requests in hand; beyond, 503.")] = 256,
    max_body_mib: Annotated[int, typer.Option(min=1, help="MiB of one request; beyond, 413.")] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Images in one request; beyond, 413.")] = 128,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Pixels of one image. Default: by the memory.")] = None,
    shutdown_delay: Annotated[float, typer.Option(min=0, help="Seconds of not-ready before refusing.")] = 0.0,
    shutdown_timeout: Annotated[int, typer.Option(min=1, help="Seconds for what is begun at the end.")] = 30,
    token_file: Annotated[Path | None, typer.Option(help="Bearer tokens, one a line: the server then asks.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    cors_origin: Annotated[list[str] | None, typer.Option(help="Whose pages may read answers. Default: none.")] = None,
    log_format: Annotated[choices.LogFormat, typer.Option(help="One line an event.")] = choices.LogFormat.text,
    access_log: Annotated[bool, typer.Option(help="A line for every request.")] = True,
) -> None:
    """Answer over HTTP: the Open Inference Protocol V2, /predict, and a page to drop images on."""
    from kerasxfer_serving.server import ServerOptions
    from kerasxfer_serving.server.running import RunOptions
    from kerasxfer_serving.server.serving import Service
    from kerasxfer_serving.server.serving import serve as run

    limits = ServerOptions(
        device=device.value,
        cpu_precision=cpu_precision and cpu_precision.value,
        threads=threads,
        max_batch=max_batch,
        batch_delay=batch_delay,
        max_waiting=max_waiting,
        max_waiting_bytes=max_waiting_mib * _MIB,
        max_body=max_body_mib * _MIB,
        max_images=max_images,
        max_pixels=max_pixels,
        timeout=timeout,
        receive_timeout=receive_timeout,
        tokens=_read_tokens(token_file),
        cors_origins=tuple(cors_origin or ()),
    )
    how = RunOptions(
        host=host,
        port=port,
        tls=_tls(tls_cert, tls_key),
        keep_alive=keep_alive,
        max_connections=max_connections,
        shutdown_delay=shutdown_delay,
        shutdown_timeout=shutdown_timeout,
    )
    service = Service(
        models=tuple(models),
        options=limits,
        run=how,
        watch=watch,
        log_format=log_format.value,
        access_log=access_log,
        grpc_port=grpc_port,
    )
    run(service, processes, note)


def _read_tokens(path: Path | None) -> tuple[str, ...]:
    from kerasxfer_serving.errors import UsageError

    if path is None:
        return ()
    try:
        tokens = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`--token-file` cannot be read: {error}") from None
    if not tokens:
        raise UsageError(f"`--token-file` holds tokens, one a line. Received: `{path}` with none")
    return tokens


def _tls(cert: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    from kerasxfer_serving.errors import UsageError

    if (cert is None) != (key is None):
        raise UsageError("`--tls-cert` and `--tls-key` go together.")
    for path in (cert, key):
        if path is not None and not path.is_file():
            raise UsageError(f"There is no file `{path}` for TLS.")
    return (cert, key) if cert and key else None
