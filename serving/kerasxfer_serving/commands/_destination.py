"""Where the rows of `predict` go, as set by its options."""

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
            help="A .csv, .jsonl or .parquet file, a folder of parts, or `-` for stdout.",
            rich_help_panel=ROWS,
        ),
    ] = "-"
    format: Annotated[
        TableFormat | None,
        typer.Option(
            help="Format of the rows. Default: by OUT's suffix; parquet in a folder, csv on stdout.",
            show_default=False,
            rich_help_panel=ROWS,
        ),
    ] = None
    top_k: Annotated[
        int, typer.Option(min=1, help="Classes in each row, most probable first.", rich_help_panel=ROWS)
    ] = 1
    all_probabilities: Annotated[
        bool,
        typer.Option("--all-probabilities", help="Add the probability of every class.", rich_help_panel=ROWS),
    ] = False
    features: Annotated[
        bool,
        typer.Option("--features", help="Add the input of the last dense layer as features.", rich_help_panel=ROWS),
    ] = False
    csv_safe: Annotated[
        bool,
        typer.Option(
            "--csv-safe",
            help="Put an apostrophe before cells that a spreadsheet would run as formulas.",
            rich_help_panel=ROWS,
        ),
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.", rich_help_panel=STOPPING)] = (
        False
    )
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Start over, even if OUT holds an earlier run.", rich_help_panel=STOPPING),
    ] = False
    part_rows: Annotated[int, typer.Option(min=1, help="Rows per committed part.", rich_help_panel=STOPPING)] = 50_000

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UsageError("`--resume` continues a run and `--overwrite` starts it over: give only one.")
        if self.to_stdout and (self.format is TableFormat.parquet or self.resume):
            raise UsageError("Standard output takes csv or jsonl, and a run to it cannot be resumed: give `-o OUT`.")
        if self.csv_safe and (self.format or (TableFormat.csv if self.to_stdout else self.destination.format)) != "csv":
            raise UsageError("`--csv-safe` is for CSV: other formats have no formulas.")

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
        """The settings of the run to resume; empty if there is none."""
        from kerasxfer_serving.outputs.journal import begun_run

        return begun_run(self.destination.journal) if self.resume else {}


def stdout_for(options: OutputOptions) -> IO[bytes] | None:
    """Standard output if rows go there, else `None`. Call it before an engine silences what Ray prints.

    Raises:
        WriteError: Standard output is closed.
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
        name: The engine's name.
        options: What is written, and where.
        reader: The inputs.
        stdout: Standard output, if rows go there.

    Raises:
        UsageError: Files that are not ours are in the way.
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
        note(f"Warning: `{writer.damaged}` is missing or was changed: predicting again from there.")
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
