from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasxfer_serving.commands import _model, choices, options
from kerasxfer_serving.commands.output import note, print_json, print_line, print_table

if TYPE_CHECKING:
    from kerasxfer_serving.benchmarking import Report


def benchmark(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of images. Without it, images are drawn.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report as JSON, with raw samples.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Plot throughput and latency over the batch size.", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one page.", show_default=False)] = None,
    device: options.DeviceOption = choices.Device.auto,
    batch_sizes: Annotated[
        str | None, typer.Option(help="As in 1,8. Default: 1,8,32, on a GPU also 128.", show_default=False)
    ] = None,
    scenario: Annotated[str, typer.Option(help="offline, single-stream, or both.")] = "offline,single-stream",
    duration: Annotated[float, typer.Option(min=0.01, help="Seconds that each figure is measured for.")] = 10.0,
    limit: Annotated[int, typer.Option(min=1, help="Number of images of --data to use, drawn by lot.")] = 2000,
    picture_size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of drawn images.")] = "375x500",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="CPU threads of one run of the model.",
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
    cache_dir: options.CacheDirOption = None,
    preprocess: _model.PreprocessOption = None,
    mean: _model.MeanOption = None,
    std: _model.StdOption = None,
    scale: _model.ScaleOption = None,
    image_size: _model.ImageSizeOption = None,
    layout: _model.LayoutOption = None,
    labels: _model.LabelsOption = None,
    activation: _model.ActivationOption = None,
    output: _model.OutputNameOption = None,
    resize: _model.ResizeOption = None,
    crop_fraction: _model.CropFractionOption = None,
    interpolation: _model.InterpolationOption = None,
    draft: _model.DraftOption = False,
    max_pixels: _model.MaxPixelsOption = None,
    format: options.FormatOption = choices.ResultFormat.text,
) -> None:
    """Measure a model on this machine: decoding, the model alone, end to end; VALID or INVALID with the reasons."""
    from kerasxfer_serving.benchmarking import benchmark as run
    from kerasxfer_serving.files import require_writable, writing

    model_options = _model.ModelOptions(
        draft=draft,
        max_pixels=max_pixels,
        preprocess=preprocess,
        mean=mean,
        std=std,
        scale=scale,
        image_size=image_size,
        layout=layout,
        labels=labels,
        activation=activation,
        output=output,
        resize=resize,
        crop_fraction=crop_fraction,
        interpolation=interpolation,
    )
    for path in (out, png, html):
        if path is not None:
            with writing(path):
                require_writable(path)
    report = run(
        model,
        data,
        batch_sizes=options.read_integers("--batch-sizes", batch_sizes, least=1) if batch_sizes else None,
        scenarios=[name.strip() for name in scenario.split(",")],
        duration=duration,
        limit=limit,
        picture_size=options.read_size("--picture-size", picture_size),
        progress=note,
        device=device.value,
        threads=threads,
        gpu_ids=None if gpu_id is None else (gpu_id,),
        tf32=tf32,
        cache_dir=cache_dir,
        manifest=model_options.manifest(model),
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
