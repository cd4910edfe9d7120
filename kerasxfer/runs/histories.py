"""The history of a run as a table: one row an epoch, in CSV or JSON Lines, and back."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import write_atomically, writing

Row = dict[str, Any]


def read_history(path: str | os.PathLike[str]) -> dict[str, list[Any]]:
    """Read the history of a run.

    Args:
        path: A run folder (its `history.csv`), a `.csv` file (`SmoothedMetricsLogger`'s or
            `keras.callbacks.CSVLogger`'s) or a `.jsonl` file.

    Returns:
        A list per column, all of one length, `epoch` first. `None` stands where an epoch has no value.

    Raises:
        KerasxferError: There is no such file, or it has no epoch in it.
    """
    file = Path(path)
    file = file / "history.csv" if file.is_dir() else file
    if not file.is_file():
        raise KerasxferError(f"No history to read: `{file}` does not exist. A run folder has a `history.csv`.")
    rows = [row for row in (read_jsonl(file) if file.suffix == ".jsonl" else read_csv(file)) if "batch" not in row]
    if not rows:
        raise KerasxferError(f"`{file}` has no epochs: the run ended before its first epoch did.")
    return to_columns(rows)


def to_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns of one length; `None` where a row lacks the key."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def stage_starts(history: Mapping[str, list[Any]]) -> list[tuple[int, str]]:
    """Where a new stage of a schedule begins: pairs of position in the history and what to call the stage."""
    stages = history.get("stage") or []
    previous = [None, *stages]
    return [
        (i, f"stage {stage:g}" if isinstance(stage, int | float) else str(stage))
        for i, stage in enumerate(stages)
        if stage is not None and stage != previous[i]
    ]


def read_csv(path: Path) -> Iterator[Row]:
    """The rows of a CSV file; empty cells and Keras's `NA` are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            row = {name: _value(cell) for name, cell in cells.items() if name and cell not in (None, "", "NA")}
            yield {**row, "epoch": int(row["epoch"])}


def read_jsonl(path: Path) -> Iterator[Row]:
    """The rows of a JSON Lines file; a last line cut off by a crash is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Replace a CSV file in one step: columns may appear in any epoch, and a reader never sees half a table."""
    columns = to_columns(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with writing(path):
        write_atomically(path, text.getvalue())


class HistoryFiles:
    """The history of a fit on disk, up to date after every epoch.

    Args:
        csv: Path of a table with a row an epoch, or `None`.
        jsonl: Path of JSON Lines with a line an epoch and, before it, a line for each batch it was given; or `None`.
    """

    def __init__(self, csv: str | os.PathLike[str] | None, jsonl: str | os.PathLike[str] | None) -> None:
        self.csv = None if csv is None else Path(csv)
        self.jsonl = None if jsonl is None else Path(jsonl)
        self._epoch_line: tuple[int, int] | None = None  # epoch of the last line, and where that line begins

    def read(self) -> list[Row]:
        """The rows that are there: from `jsonl`, which has batches too, or else from `csv`."""
        if self.jsonl and self.jsonl.is_file():
            return list(read_jsonl(self.jsonl))
        return list(read_csv(self.csv)) if self.csv and self.csv.is_file() else []

    def keep_before(self, epoch: int) -> None:
        """Drop `epoch` and later ones, which are about to be trained again."""
        self._epoch_line = None
        for path in filter(None, (self.csv, self.jsonl)):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.jsonl:
            rows = read_jsonl(self.jsonl) if epoch and self.jsonl.is_file() else iter(())
            self.jsonl.write_text(_to_jsonl([row for row in rows if row["epoch"] < epoch]), encoding="utf-8")

    def write(self, rows: list[Row], batches: list[Row]) -> None:
        """Write the history up to now; the last row may be one that was written before and has gained columns."""
        if self.csv:
            write_csv(self.csv, rows)
        if self.jsonl:
            epoch = rows[-1]["epoch"]
            with self.jsonl.open("r+", encoding="utf-8", newline="") as file:
                rewrite = self._epoch_line is not None and self._epoch_line[0] == epoch
                file.seek(*((self._epoch_line[1],) if self._epoch_line and rewrite else (0, os.SEEK_END)))
                file.truncate()
                file.write(_to_jsonl(batches))
                self._epoch_line = (epoch, file.tell())
                file.write(_to_jsonl(rows[-1:]))


def _to_jsonl(rows: Iterable[Row]) -> str:
    """Rows as strict JSON Lines: what is not a finite number becomes null."""
    lines = ({name: None if _is_lost(value) else value for name, value in row.items()} for row in rows)
    return "".join(json.dumps(line, allow_nan=False, ensure_ascii=False, default=str) + "\n" for line in lines)


def _is_lost(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _value(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell
