"""`serve`: the model file behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from kerasxfer_serving.commands import choices, options
from kerasxfer_serving.commands.output import note

_MODELS = "An .onnx file, or a folder of versions, `<number>/model.onnx`; `=NAME` sets its name."
_MIB = 1 << 20


def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL[=NAME]…", help=_MODELS)],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for the same protocol over gRPC.")
    ] = None,
    device: options.DeviceOption = choices.Device.auto,
    cpu_precision: options.CpuPrecisionOption = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Number of processes; one that crashes is replaced.")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Cores to use. Default: all.")] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Largest batch. Default: 8 on the CPU, 128 on a GPU.")
    ] = None,
    batch_delay: Annotated[float, typer.Option(min=0, help="Seconds a GPU waits for a batch to fill.")] = 0.002,
    watch: Annotated[bool, typer.Option("--watch", help="Reload model files when they change.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to answer a request; then 504.")] = 30.0,
    receive_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds for a request to arrive; then 408.")
    ] = 10.0,
    keep_alive: Annotated[int, typer.Option(min=1, help="Seconds an idle connection stays open.")] = 75,
    max_connections: Annotated[int, typer.Option(min=1, help="Most open connections; beyond that, 503.")] = 1024,
    max_waiting: Annotated[int, typer.Option(min=1, help="Most images waiting; beyond that, 503.")] = 256,
    max_waiting_mib: Annotated[int, typer.Option(min=1, help="Most MiB of requests waiting; beyond that, 503.")] = 256,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Most MiB in one request; beyond that, 413.")] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Most images in one request; beyond that, 413.")] = 128,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Most pixels in one image. Default: by memory.")] = None,
    shutdown_delay: Annotated[float, typer.Option(min=0, help="Seconds to report not-ready before shutdown.")] = 0.0,
    shutdown_timeout: Annotated[int, typer.Option(min=1, help="Seconds to finish open requests at shutdown.")] = 30,
    token_file: Annotated[
        Path | None, typer.Option(help="File of bearer tokens, one per line; requests then need one.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate, PEM.")] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may read answers. Default: none.")
    ] = None,
    log_format: Annotated[choices.LogFormat, typer.Option(help="Format of log lines.")] = choices.LogFormat.text,
    access_log: Annotated[bool, typer.Option(help="Log a line for every request.")] = True,
) -> None:
    """Serve models over HTTP: the Open Inference Protocol V2, /predict, and a page to drop images on."""
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
        raise UsageError(f"`--token-file` must hold tokens, one per line. Received: `{path}` with none")
    return tokens


def _tls(cert: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    from kerasxfer_serving.errors import UsageError

    if (cert is None) != (key is None):
        raise UsageError("`--tls-cert` and `--tls-key` go together: give both.")
    for path in (cert, key):
        if path is not None and not path.is_file():
            raise UsageError(f"The TLS file `{path}` does not exist.")
    return (cert, key) if cert and key else None
