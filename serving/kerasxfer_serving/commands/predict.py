"""`predict`: one row per image, whatever the images."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasxfer_serving.commands import _destination, _engine, _model, choices, options
from kerasxfer_serving.commands._destination import OutputOptions, open_writer, stdout_for
from kerasxfer_serving.commands._engine import EngineOptions, open_engine
from kerasxfer_serving.commands._interrupts import interruptible
from kerasxfer_serving.commands.output import console, note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.inputs.walk import LeftOut
    from kerasxfer_serving.outputs.summary import Summary

_INPUT = "Images, folders, globs, .txt or .csv lists, zip or tar archives, URLs; `-` reads a list from stdin."
_INTERRUPTED = 130
_FEW = 256


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT…", help=_INPUT)],
    out: _destination.OutOption = "-",
    format: _destination.TableFormatOption = None,
    top_k: _destination.TopKOption = 1,
    all_probabilities: _destination.AllProbabilitiesOption = False,
    features: _destination.FeaturesOption = False,
    threshold: _model.ThresholdOption = None,
    csv_safe: _destination.CsvSafeOption = False,
    batch_size: _engine.BatchSizeOption = "auto",
    device: options.DeviceOption = choices.Device.auto,
    gpu_id: _engine.GpuIdOption = None,
    threads: _engine.ThreadsOption = 1,
    tf32: options.Tf32Option = True,
    cpu_precision: options.CpuPrecisionOption = None,
    decode_processes: _engine.DecodeProcessesOption = None,
    cache_dir: options.CacheDirOption = None,
    preprocess: _model.PreprocessOption = None,
    mean: _model.MeanOption = None,
    std: _model.StdOption = None,
    scale: _model.ScaleOption = None,
    image_size: _model.ImageSizeOption = None,
    layout: _model.LayoutOption = None,
    labels: _model.LabelsOption = None,
    activation: _model.ActivationOption = None,
    multi_label: _model.MultiLabelOption = False,
    output: _model.OutputNameOption = None,
    resize: _model.ResizeOption = None,
    crop_fraction: _model.CropFractionOption = None,
    interpolation: _model.InterpolationOption = None,
    draft: _model.DraftOption = False,
    decode: _model.DecodeOption = choices.Decode.pillow,
    max_pixels: _model.MaxPixelsOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that relative paths in lists start from.", show_default=False)
    ] = None,
    all_files: Annotated[
        bool, typer.Option("--all-files", help="Take every file in folders and archives, whatever its suffix.")
    ] = False,
    max_errors: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Stop when more inputs than this have failed.",
            show_default=False,
            rich_help_panel=options.STOPPING,
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop when one input has failed.", rich_help_panel=options.STOPPING)
    ] = False,
    ignore_errors: Annotated[
        bool,
        typer.Option(
            "--ignore-errors", help="Exit with 0 even where inputs have failed.", rich_help_panel=options.STOPPING
        ),
    ] = False,
    resume: _destination.ResumeOption = False,
    overwrite: _destination.OverwriteOption = False,
    part_rows: _destination.PartRowsOption = 50_000,
    sha256: options.Sha256Option = None,
    engine: options.EngineOption = choices.EngineName.local,
    address: options.AddressOption = None,
    num_workers: options.NumWorkersOption = None,
    gpus_per_worker: _engine.GpusPerWorkerOption = None,
) -> None:
    """Classify images: one row each, ok or what is wrong with it. Exits with 1 where any input failed."""
    output_options = OutputOptions(
        out=out,
        format=format,
        top_k=top_k,
        all_probabilities=all_probabilities,
        features=features,
        csv_safe=csv_safe,
        resume=resume,
        overwrite=overwrite,
        part_rows=part_rows,
    )
    model_options = _model.ModelOptions(
        sha256=sha256,
        draft=draft,
        decode=decode,
        max_pixels=max_pixels,
        threshold=threshold,
        preprocess=preprocess,
        mean=mean,
        std=std,
        scale=scale,
        image_size=image_size,
        layout=layout,
        labels=labels,
        activation=activation,
        multi_label=multi_label,
        output=output,
        resize=resize,
        crop_fraction=crop_fraction,
        interpolation=interpolation,
    )
    reader = _open_reader(inputs, root, all_files)
    begun = output_options.begun_run()
    size = _batch_size(batch_size, begun)
    if device is choices.Device.fastest and begun:
        device = choices.Device(begun["device"])
        cpu_precision = choices.CpuPrecision(begun["cpu_precision"]) if begun.get("cpu_precision") else None
    engine_options = EngineOptions(
        engine=engine,
        device=device,
        gpu_ids=options.read_integers("--gpu-id", gpu_id, least=0) if gpu_id is not None else None,
        batch_size=size,
        tune=size is None and not _has_few(reader),
        threads=threads,
        tf32=tf32,
        cpu_precision=cpu_precision,
        decode_processes=decode_processes,
        cache_dir=cache_dir,
        features=features,
        address=address,
        num_workers=num_workers,
        gpus_per_worker=gpus_per_worker,
    )
    limit = 0 if fail_fast else max_errors
    summary = _run(model, model_options, engine_options, reader, output_options, limit)
    _report(summary, reader.left_out)
    if summary.errors and not ignore_errors:
        raise typer.Exit(1)


def _run(
    model: Path,
    model_options: _model.ModelOptions,
    engine_options: EngineOptions,
    reader: "Reader",
    output_options: OutputOptions,
    max_errors: int | None,
) -> "Summary":
    from kerasxfer_serving.image_io.golden import changed
    from kerasxfer_serving.pipeline import predict_to

    stdout = stdout_for(output_options)
    with open_engine(model, model_options, engine_options) as engine:
        if not model_options.draft and (differing := changed(engine.manifest)):
            note(f"Warning: this machine reads {', '.join(differing)} otherwise than the one that exported the model.")
        try:
            with interruptible(), _progress(reader) as watch:
                writer = open_writer(engine, engine_options.engine, output_options, reader, stdout)
                summary = predict_to(engine, reader, writer, max_errors=max_errors, watch=watch)
        except KeyboardInterrupt:
            out = output_options.out
            note("Interrupted." if out == "-" else f"Interrupted: what is done is in `{out}`; go on with `--resume`.")
            raise typer.Exit(_INTERRUPTED) from None
        if left := engine.describe_session().get("decoding", {}).get("decoded_by_pillow"):
            note(f"{left:,} images were decoded by Pillow: they are no JPEG files that the GPU reads as Pillow does.")
        return summary


def _open_reader(inputs: list[str], root: Path | None, all_files: bool) -> "Reader":
    from kerasxfer_serving.inputs.reader import Reader

    if "-" in inputs and sys.stdin is None:
        raise UsageError("`-` reads a list from standard input, which is closed. Open it, or name the list.")
    return Reader(inputs, root=root, all_files=all_files)


def _batch_size(text: str, begun: Mapping[str, Any]) -> int | None:
    """The size asked for, or the one that the run was begun with; `None` where it is to be measured."""
    if text == "auto":
        return begun.get("batch_size")
    if len(numbers := options.read_integers("--batch-size", text, least=1)) > 1:
        raise UsageError(f"`--batch-size` is `auto` or one number. Received: {text!r}")
    return numbers[0]


def _has_few(reader: "Reader") -> bool:
    """Whether there are so few inputs that measuring is not worth the second it takes."""
    return reader.repeatable and len(list(islice(reader, _FEW))) < _FEW


@contextmanager
def _progress(reader: "Reader") -> "Iterator[Callable[[Summary], None]]":
    """A progress bar on a terminal; yields what `predict_to` calls after every batch."""
    from kerasxfer_serving.commands._progress import watch_run

    stderr = console()
    if not stderr.is_terminal:
        yield lambda summary: None
        return
    with watch_run(stderr, reader) as watch:
        yield watch


def _report(summary: "Summary", left_out: "LeftOut") -> None:
    counts = ", ".join(f"{code} {count:,}" for code, count in summary.status.most_common())
    workers = ", ".join(f"{step} {rate:,.1f}" for step, rate in summary.worker_rates.items())
    note(
        f"{summary.done:,} inputs in {summary.elapsed:,.1f} s, {summary.rate:,.1f} a second "
        f"(one worker: {workers or 'nothing'}), bottleneck {summary.bottleneck}: {counts or 'none'}."
    )
    if left_out:
        note(f"Not taken for images: {left_out}. `--all-files` takes them.")
