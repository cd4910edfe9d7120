from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasxfer_serving.commands import _choices as choices
from kerasxfer_serving.commands import _model as foreign
from kerasxfer_serving.commands import _output

if TYPE_CHECKING:
    from kerasxfer_serving.benchmarking import Report


def benchmark(
    model: Annotated[Path, typer.Argument(help="Model file, .onnx.")],
    data: Annotated[Path | None, typer.Option(help="Folder of pictures. Without it, pictures are drawn.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Report as JSON, raw samples included.")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture of throughput and latency over batch size.")] = None,
    html: Annotated[Path | None, typer.Option(help="Report as one page.")] = None,
    device: Annotated[choices.Device, typer.Option(help="Never another one than asked for.")] = choices.Device.auto,
    batch_sizes: Annotated[str, typer.Option(help="As in 1,8,32,128. [default: 1,8,32, on a GPU also 128]")] = "",
    scenario: Annotated[str, typer.Option(help="offline, single-stream, or both.")] = "offline,single-stream",
    duration: Annotated[float, typer.Option(min=0.01, help="Seconds of every figure.")] = 10.0,
    limit: Annotated[int, typer.Option(min=1, help="Pictures of --data to use, taken by lot.")] = 2000,
    picture_size: Annotated[str, typer.Option(help="Height×width of drawn pictures.")] = "375x500",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of one run.")] = None,
    gpu_id: Annotated[int, typer.Option(min=0, help="Which GPU.")] = 0,
    tf32: Annotated[bool, typer.Option(help="Let CUDA round float32 products to TF32.")] = True,
    cache_dir: Annotated[Path | None, typer.Option(help="Where TensorRT keeps its engines.")] = None,
    preprocess: foreign.Preprocess = None,
    image_size: foreign.ImageSize = None,
    layout: foreign.Layout = None,
    labels: foreign.Labels = None,
    activation: foreign.Activation = None,
    resize: foreign.Resize = None,
    draft: foreign.Draft = False,
    format: Annotated[_output.Format, typer.Option(help="How to print the result.")] = _output.Format.text,
) -> None:
    """Measure a model on this machine: decode, model alone, end to end; VALID or INVALID with the reasons."""
    from kerasxfer_serving.benchmarking import benchmark as run

    manifest = foreign.described_manifest(
        model,
        preprocess=preprocess,
        image_size=image_size,
        layout=layout,
        labels=labels,
        activation=activation,
        resize=resize,
        draft=draft,
    )
    report = run(
        model,
        data,
        device=device.value,
        batch_sizes=_integers("--batch-sizes", batch_sizes, ",") or None,
        scenarios=[name.strip() for name in scenario.split(",")],
        duration=duration,
        limit=limit,
        picture_size=_size(picture_size),
        threads=threads,
        gpu_ids=(gpu_id,),
        tf32=tf32,
        cache_dir=cache_dir,
        manifest=manifest,
        progress=_output.note,
    )
    if out:
        report.save(out)
    if png or html:
        from kerasxfer_serving.benchmarking import picture

        for path, save in ((png, picture.save_png), (html, picture.save_html)):
            if path:
                save(report, path)
    if format is _output.Format.json:
        _output.print_json(report.to_dict())
    else:
        _print(report)


def _print(report: "Report") -> None:
    from kerasxfer_serving.benchmarking.tables import figures, headlines

    _output.print_table(figures(report))
    for name, text in headlines(report).items():
        print(f"{name:<20} {text}")
    print("VALID" if report.valid else "INVALID")
    for reason in report.reasons:
        print(f"  {reason}")


def _integers(option: str, text: str, separator: str) -> list[int]:
    from kerasxfer_serving.errors import UsageError

    try:
        numbers = [int(part) for part in text.split(separator)] if text else []
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise UsageError(f"`{option}` must be positive integers, as in 1{separator}8. Received: {option} {text}")
    return numbers


def _size(text: str) -> tuple[int, int]:
    from kerasxfer_serving.errors import UsageError

    match _integers("--picture-size", text, "x"):
        case [height, width]:
            return height, width
        case [side]:
            return side, side
        case _:
            raise UsageError(f"`--picture-size` must be height×width, as in 375x500. Received: --picture-size {text}")
