from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasxfer_serving.commands import _model, choices, options
from kerasxfer_serving.commands.options import grouped
from kerasxfer_serving.commands.output import note, print_json, print_line, print_table

if TYPE_CHECKING:
    from kerasxfer_serving.benchmarking import Report


_ONLINE = "A server"


@grouped
def benchmark(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="The .onnx file; leave it out with --url.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images. Default: synthetic images.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the report, with raw samples, to this JSON file.", show_default=False),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Plot throughput and latency against batch size.", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page.", show_default=False)] = None,
    *,
    device: options.DeviceOption = choices.Device.auto,
    batch_sizes: Annotated[
        str | None, typer.Option(help="Batch sizes, such as 1,8. Default: 1,8,32 and on a GPU 128.", show_default=False)
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="offline, single-stream or offline,single-stream (default), or server.", show_default=False),
    ] = None,
    url: Annotated[str | None, typer.Option(help="URL of a running server.", rich_help_panel=_ONLINE)] = None,
    target_p99: Annotated[
        float,
        typer.Option(
            min=0.001, help="Milliseconds within which 99 of 100 requests must be answered.", rich_help_panel=_ONLINE
        ),
    ] = 100.0,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Request rates to try, per second, such as 10,20.", rich_help_panel=_ONLINE, show_default=False
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="KERASXFER_SERVING_TOKEN",
            help="The server's bearer token.",
            rich_help_panel=_ONLINE,
            show_default=False,
        ),
    ] = None,
    duration: Annotated[float, typer.Option(min=0.01, help="Seconds to measure each figure for.")] = 10.0,
    limit: Annotated[int, typer.Option(min=1, help="Images of --data to use, chosen at random.")] = 2000,
    picture_size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of synthetic images.")] = "375x500",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="CPU threads per run of the model.",
            show_default=False,
            rich_help_panel=options.RUNNING,
        ),
    ] = None,
    gpu_id: Annotated[
        int | None,
        typer.Option(
            min=0, help="GPU to use. Default: the first.", show_default=False, rich_help_panel=options.RUNNING
        ),
    ] = None,
    tf32: options.Tf32Option = True,
    cpu_precision: options.CpuPrecisionOption = None,
    cache_dir: options.CacheDirOption = None,
    described: _model.ModelOptions,
    format: options.FormatOption = choices.ResultFormat.text,
) -> None:
    """Benchmark a model on this machine, or a server. Says VALID, or INVALID and why."""
    from kerasxfer_serving.benchmarking import benchmark as run
    from kerasxfer_serving.commands._server_benchmark import ServerBenchmarkOptions, measure_server
    from kerasxfer_serving.errors import UsageError
    from kerasxfer_serving.files import require_writable, writing

    for path in (out, png, html):
        if path is not None:
            with writing(path):
                require_writable(path)
    if url is not None or scenario == "server":
        if png or html or (url is None) == (model is None):
            raise UsageError(
                "To measure a server, give `--url URL`, or MODEL with `--scenario server`; only `-o` saves the report."
            )
        server = ServerBenchmarkOptions(
            url, model, data, target_p99, rates, duration, limit, picture_size, token, device.value
        )
        measure_server(server, out, format)
        return
    if model is None:
        raise UsageError("Give MODEL, an .onnx file, or `--url URL` of a server.")
    report = run(
        model,
        data,
        batch_sizes=options.read_integers("--batch-sizes", batch_sizes, least=1) if batch_sizes else None,
        scenarios=[name.strip() for name in (scenario or "offline,single-stream").split(",")],
        duration=duration,
        limit=limit,
        picture_size=options.read_size("--picture-size", picture_size),
        progress=note,
        device=device.value,
        threads=threads,
        gpu_ids=None if gpu_id is None else (gpu_id,),
        tf32=tf32,
        cpu_precision=cpu_precision and cpu_precision.value,
        cache_dir=cache_dir,
        manifest=described.manifest(model),
    )
    _save(report, out, png, html)
    if format is choices.ResultFormat.json:
        print_json(report.to_dict())
    else:
        _print(report)


def _save(report: "Report", out: Path | None, png: Path | None, html: Path | None) -> None:
    from kerasxfer_serving.benchmarking import pages

    if out:
        report.save(out)
    if png:
        pages.save_png(report, png)
    if html:
        pages.save_html(report, html)


def _print(report: "Report") -> None:
    from kerasxfer_serving.benchmarking.tables import figures, headlines

    print_table(figures(report))
    for name, text in headlines(report).items():
        print_line(f"{name:<20} {text}")
    print_line("VALID" if report.valid else "INVALID")
    for reason in report.reasons:
        print_line(f"  {reason}")
