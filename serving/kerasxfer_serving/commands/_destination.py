"""Where the rows of `predict` go, as its options say."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from kerasxfer_serving.commands.choices import EngineName, TableFormat
from kerasxfer_serving.commands.options import ROWS, STOPPING
from kerasxfer_serving.commands.output import note
from kerasxfer_serving.errors import UsageError, WriteError

if TYPE_CHECKING:
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.outputs.destination import Destination
    from kerasxfer_serving.outputs.predictions import Predictions
    from kerasxfer_serving.outputs.tables import Row
    from kerasxfer_serving.outputs.writer import Writer
    from kerasxfer_serving.pipeline import PredictionEngine


@dataclass(frozen=True)
class OutputOptions:
    """What is written, and where."""

    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="A .csv, .jsonl or .parquet file, a folder for parts, or `-`: stdout.",
            rich_help_panel=ROWS,
        ),
    ] = "-"
    format: Annotated[
        TableFormat | None,
        typer.Option(
            help="Default: by the suffix of OUT; parquet in a folder, csv on stdout.",
            show_default=False,
            rich_help_panel=ROWS,
        ),
    ] = None
    top_k: Annotated[
        int, typer.Option(min=1, help="Classes in each row, most probable first.", rich_help_panel=ROWS)
    ] = 1
    all_probabilities: Annotated[
        bool,
        typer.Option("--all-probabilities", help="Add the probabilities of all classes.", rich_help_panel=ROWS),
    ] = False
    features: Annotated[
        bool, typer.Option("--features", help="Add the input of the last dense layer.", rich_help_panel=ROWS)
    ] = False
    csv_safe: Annotated[
        bool,
        typer.Option(
            "--csv-safe",
            help="Put an apostrophe before cells that a spreadsheet would compute.",
            rich_help_panel=ROWS,
        ),
    ] = False
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was interrupted.", rich_help_panel=STOPPING)
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever OUT holds.", rich_help_panel=STOPPING)
    ] = False
    part_rows: Annotated[
        int, typer.Option(min=1, help="Most rows that are committed at once.", rich_help_panel=STOPPING)
    ] = 50_000

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UsageError("`--resume` continues a run and `--overwrite` begins it anew: give one of them.")
        if self.to_stdout and (self.format is TableFormat.parquet or self.resume):
            raise UsageError("Standard output takes csv or jsonl, and cannot be resumed: give `-o OUT`.")
        if self.csv_safe and (self.format or (TableFormat.csv if self.to_stdout else self.destination.format)) != "csv":
            raise UsageError("`--csv-safe` is for CSV: a cell of another format is never a formula.")

    @property
    def to_stdout(self) -> bool:
        """Whether rows go to standard output."""
        return self.out == "-"

    @property
    def destination(self) -> "Destination":
        """The file or folder."""
        from kerasxfer_serving.outputs.destination import Destination

        return Destination.of(self.out, self.format)

    def begun_run(self) -> Mapping[str, Any]:
        """What was asked for by the run that is resumed; empty where there is none."""
        from kerasxfer_serving.outputs.journal import begun_run

        return begun_run(self.destination.journal) if self.resume else {}


def stdout_for(options: OutputOptions) -> IO[bytes] | None:
    """Standard output where rows go there, else `None`. To be asked before an engine turns off what Ray prints.

    Raises:
        WriteError: It is closed.
    """
    if not options.to_stdout:
        return None
    if sys.stdout is None:
        raise WriteError("Standard output is closed. Open it, or name a file with `-o OUT`.")
    return sys.stdout.buffer


def open_writer(
    engine: "PredictionEngine", name: EngineName, options: OutputOptions, reader: "Reader", stdout: IO[bytes] | None
) -> "Writer":
    """The writer that the options ask for.

    Args:
        engine: What predicts.
        name: What it is called.
        options: What is written, and where.
        reader: The inputs.
        stdout: The file in place of one that is named.

    Raises:
        UsageError: Something is in the way.
        WriteError: Nothing can be written there.
    """
    from kerasxfer_serving.outputs.predictions import columns
    from kerasxfer_serving.outputs.writer import PartWriter, StreamWriter

    table = columns(
        engine.manifest.class_names,
        options.top_k,
        multi_label=engine.manifest.is_multi_label,
        all_probabilities=options.all_probabilities,
        features=options.features,
    )
    to_rows = partial(_rows, options=options)
    if stdout is not None:
        return StreamWriter(stdout, options.format or "csv", table, to_rows=to_rows)
    destination = options.destination
    destination.require_apart(reader.sources, all_files=reader.all_files)
    writer = PartWriter(
        destination,
        table,
        run=engine.describe()  # the engine is none of it: either may continue the other's run
        | {"root": str(reader.root) if reader.root else None, "all_files": reader.all_files}
        | {"format": destination.format, "columns": table, "csv_safe": options.csv_safe},
        versions=_versions() | {"engine": name, "session": engine.describe_session()},
        resume=options.resume,
        overwrite=options.overwrite,
        part_rows=options.part_rows,
        to_rows=to_rows,
    )
    if writer.damaged:
        note(f"Warning: `{writer.damaged}` is missing or was changed: predicting again from there on.")
    return writer


def _rows(predictions: "Predictions", options: OutputOptions) -> "Iterable[Row]":
    from kerasxfer_serving.outputs.tables import without_formulas

    rows = predictions.rows(options.top_k, all_probabilities=options.all_probabilities)
    return map(without_formulas, rows) if options.csv_safe else rows


def _versions() -> dict[str, str]:
    import numpy
    import onnxruntime
    import PIL

    from kerasxfer_serving import __version__

    return {
        "kerasxfer_serving": __version__,
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
    }
