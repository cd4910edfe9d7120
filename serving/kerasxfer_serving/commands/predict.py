"""`predict`: one row per picture, whatever the pictures."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasxfer_serving.commands import _choices as choices
from kerasxfer_serving.commands import _model as describing
from kerasxfer_serving.commands._output import note

if TYPE_CHECKING:
    from kerasxfer_serving.commands._engine import Engine
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.outputs.summary import Summary
    from kerasxfer_serving.outputs.writer import Writer

_INPUT = "Pictures, folders, globs, .txt/.csv lists, zip or tar archives, URLs; `-`: a list on stdin."
_INTERRUPTED = 130


def predict(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT…", help=_INPUT)],
    out: Annotated[
        str, typer.Option("--out", "-o", help="A .csv, .jsonl or .parquet file, a folder for parts, `-`: stdout.")
    ] = "-",
    format: Annotated[
        choices.Table | None, typer.Option(help="Default: by OUT's suffix; parquet in a folder, csv on stdout.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Classes in each row, most probable first.")] = 1,
    all_probabilities: Annotated[bool, typer.Option("--all-probabilities", help="Add every class's.")] = False,
    features: Annotated[bool, typer.Option("--features", help="Add the input of the last dense layer.")] = False,
    batch_size: Annotated[str, typer.Option(help="A number; `auto` measures.")] = "auto",
    device: Annotated[choices.Device, typer.Option(help="Never another one than asked for.")] = choices.Device.auto,
    gpu_id: Annotated[str, typer.Option(help="Which GPU, or several: 0,1.")] = "0",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run of the model; cores share the runs.")] = 1,
    tf32: Annotated[bool, typer.Option(help="Let CUDA round float32 products to TF32.")] = True,
    cache_dir: Annotated[Path | None, typer.Option(help="Keeps TensorRT's engines and timings.")] = None,
    preprocess: describing.Preprocess = None,
    image_size: describing.ImageSize = None,
    layout: describing.Layout = None,
    labels: describing.Labels = None,
    activation: describing.Activation = None,
    resize: describing.Resize = None,
    draft: describing.Draft = False,
    root: Annotated[Path | None, typer.Option(help="Where relative paths in lists start.")] = None,
    all_files: Annotated[bool, typer.Option("--all-files", help="Of folders and archives, whatever suffix.")] = False,
    max_errors: Annotated[int | None, typer.Option(min=0, help="Stop when more inputs have failed.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop when one input has failed.")] = False,
    ignore_errors: Annotated[bool, typer.Option("--ignore-errors", help="Exit with 0 where inputs failed.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew whatever OUT holds.")] = False,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows that are committed at once, at most.")] = 50_000,
    sha256: Annotated[str | None, typer.Option(help="Hash that the model file must have.")] = None,
    engine: Annotated[choices.Engine, typer.Option(help="This process, or a Ray cluster.")] = choices.Engine.local,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; `auto` finds it. Default: Ray on this machine alone.")
    ] = None,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Predictors on the cluster. Default: as many as it has room for.")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each. Default: 1 where the cluster has any.")
    ] = None,
) -> None:
    """Classify pictures: one row each, ok or what is wrong with it. Exits with 1 where any input failed."""
    options = dict(locals())
    from kerasxfer_serving.commands._engine import open_engine
    from kerasxfer_serving.image_io.golden import changed
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.pipeline import predict_to

    reader = Reader(inputs, root=root, all_files=all_files)
    options["stdout"] = sys.stdout.buffer
    with open_engine(options, reader) as predictor:
        if not draft and (differing := changed(predictor.manifest)):
            note(f"Warning: this machine reads {', '.join(differing)} otherwise than the one that exported the model.")
        writer = _open_writer(predictor, options)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's notice ends a run as Ctrl-C does
        try:
            with _progress(reader) as watch:
                limit = 0 if fail_fast else max_errors
                summary = predict_to(predictor, reader, writer, max_errors=limit, watch=watch)
        except KeyboardInterrupt:
            note("Interrupted." if out == "-" else f"Interrupted: what is done is in `{out}`; go on with `--resume`.")
            raise typer.Exit(_INTERRUPTED) from None
    _report(summary)
    if summary.errors and not ignore_errors:
        raise typer.Exit(1)


def _open_writer(predictor: "Engine", options: dict[str, Any]) -> "Writer":
    from kerasxfer_serving.errors import UsageError
    from kerasxfer_serving.outputs.destination import is_single_file
    from kerasxfer_serving.outputs.predictions import columns
    from kerasxfer_serving.outputs.writer import PartWriter, StreamWriter

    out, format = Path(options["out"]), options["format"]
    shown = {"top_k": options["top_k"], "all_probabilities": options["all_probabilities"]}
    table = columns(predictor.manifest.class_names, features=options["features"], **shown)
    if options["out"] == "-":
        if format == "parquet" or options["resume"]:
            raise UsageError("Standard output takes csv or jsonl, and cannot be resumed: give `-o OUT`.")
        return StreamWriter(options["stdout"], format or "csv", table, **shown)
    if out.suffix and not (is_single_file(out) or out.is_dir() or options["out"].endswith("/")):
        raise UsageError(
            "OUT is a .csv, .jsonl or .parquet file, or a folder: one that is there, or a name without suffix, or with "
            f"a slash at its end. Received: -o {options['out']}"
        )
    if is_single_file(out) and format not in (None, out.suffix[1:].lower()):
        raise UsageError(f"`--format` must be that of OUT. Received: --format {format} -o {out}")
    format = format or (out.suffix[1:].lower() if is_single_file(out) else "parquet")
    return PartWriter(
        out,
        str(format),
        table,
        run=_run(predictor, options) | {"format": format, "columns": table},
        versions=_versions() | {"engine": options["engine"], "session": predictor.describe_session()},
        **{name: options[name] for name in ("resume", "overwrite", "part_rows")},
        **shown,
    )


def _run(engine: "Engine", options: dict[str, Any]) -> dict[str, Any]:
    """All that decides the rows, apart from the inputs. The engine is none of it: either may continue the other's."""
    return engine.describe() | {
        "root": str(options["root"]) if options["root"] else None,
        "all_files": options["all_files"],
    }


def _versions() -> dict[str, Any]:
    import numpy
    import onnxruntime
    import PIL

    from kerasxfer_serving import __version__

    modules = {"numpy": numpy, "onnxruntime": onnxruntime, "pillow": PIL}
    return {"kerasxfer_serving": __version__, **{name: module.__version__ for name, module in modules.items()}}


@contextmanager
def _progress(reader: "Reader") -> Iterator[Any]:
    """A progress bar on a terminal; yields what `predict_to` calls after every batch."""
    from kerasxfer_serving.commands._output import console
    from kerasxfer_serving.commands._progress import watch_run

    stderr = console()
    if not stderr.is_terminal:
        yield lambda summary: None
        return
    with watch_run(stderr, reader) as watch:
        yield watch


def _report(summary: "Summary") -> None:
    counts = ", ".join(f"{code} {count:,}" for code, count in summary.status.most_common())
    workers = ", ".join(f"{step} {rate:,.1f}" for step, rate in summary.worker_rates.items())
    note(
        f"{summary.done:,} inputs in {summary.elapsed:,.1f} s, {summary.rate:,.1f} a second "
        f"(one worker: {workers or 'nothing'}), bottleneck {summary.bottleneck}: {counts or 'none'}."
    )
    if summary.skipped:
        skipped = ", ".join(f"{suffix} {count:,}" for suffix, count in summary.skipped.most_common(8))
        note(f"Not taken for pictures, by suffix: {skipped}. `--all-files` takes them.")
