"""`predict`: one row per image, whatever the images."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from kerasxfer_serving.commands import _model, options
from kerasxfer_serving.commands._destination import OutputOptions, open_writer, stdout_for
from kerasxfer_serving.commands._engine import EngineOptions, open_engine
from kerasxfer_serving.commands.options import grouped
from kerasxfer_serving.commands.output import console, note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.inputs.walk import LeftOut
    from kerasxfer_serving.pipeline import Summary
    from kerasxfer_serving.predictor import PredictorArguments

_INPUT = "Images, folders, globs, .txt or .csv lists, zip or tar archives, URLs; `-` reads a list from stdin."
_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FEW = 256


@grouped
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The .onnx file.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT…", help=_INPUT)],
    *,
    output: OutputOptions,
    threshold: _model.ThresholdOption = None,
    engine: EngineOptions,
    described: _model.ModelOptions,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths in lists are relative to.", show_default=False)
    ] = None,
    all_files: Annotated[
        bool, typer.Option("--all-files", help="Read every file in folders and archives, whatever its suffix.")
    ] = False,
    max_errors: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Stop once more inputs than this have failed.",
            show_default=False,
            rich_help_panel=options.STOPPING,
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first input that fails.", rich_help_panel=options.STOPPING)
    ] = False,
    ignore_errors: Annotated[
        bool,
        typer.Option("--ignore-errors", help="Exit with 0 even if inputs failed.", rich_help_panel=options.STOPPING),
    ] = False,
    sha256: options.Sha256Option = None,
) -> None:
    """Classify images, one row each, with the status ok or what is wrong. Exits with 1 if any input failed."""
    reader = _open_reader(inputs, root, all_files)
    engine = engine.as_begun(output.begun_run())
    arguments: PredictorArguments = {
        **engine.arguments,
        "features": output.features,
        "manifest": described.manifest(model, sha256, threshold),
        "sha256": sha256,
    }
    limit = 0 if fail_fast else max_errors
    summary = _run(model, arguments, engine, reader, output, limit)
    _report(summary, reader.left_out)
    if summary.errors and not ignore_errors:
        raise typer.Exit(1)


def _run(
    model: Path,
    arguments: "PredictorArguments",
    options: EngineOptions,
    reader: "Reader",
    output: OutputOptions,
    max_errors: int | None,
) -> "Summary":
    from kerasxfer_serving.golden import changed
    from kerasxfer_serving.pipeline import predict_to

    stdout = stdout_for(output)
    tune = options.size is None and not _has_few(reader)
    with open_engine(model, arguments, options, tune=tune) as engine:
        if not engine.manifest.policy.draft and (differing := changed(engine.manifest)):
            note(f"Warning: this machine decodes {', '.join(differing)} unlike the one that exported the model.")
        try:
            with interruptible(), _progress(reader) as watch:
                writer = open_writer(engine, options.engine, output, reader, stdout)
                summary = predict_to(engine, reader, writer, max_errors=max_errors, watch=watch)
        except KeyboardInterrupt:
            out = output.out
            note(
                "Interrupted."
                if out == "-"
                else f"Interrupted: finished rows are in `{out}`; continue with `--resume`."
            )
            raise typer.Exit(_INTERRUPTED) from None
        if left := engine.describe_session().get("decoding", {}).get("decoded_by_pillow"):
            note(f"{left:,} images were decoded by Pillow: they are not JPEG files that the GPU decodes like Pillow.")
        return summary


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT, Ctrl-C, and SIGTERM, a scheduler's notice, raise `KeyboardInterrupt` within the context, once.

    From then on they have their default effect: a second one ends the process, wherever it is. That is safe at any
    moment, since what is committed is on disk.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        if not interrupted:
            for number, handler in before.items():
                signal.signal(number, handler)


def _open_reader(inputs: list[str], root: Path | None, all_files: bool) -> "Reader":
    from kerasxfer_serving.inputs.reader import Reader

    if "-" in inputs and sys.stdin is None:
        raise UsageError("`-` reads a list from standard input, which is closed. Open it, or name a file.")
    return Reader(inputs, root=root, all_files=all_files)


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
        note(f"Skipped: {left_out}. `--all-files` includes them.")
