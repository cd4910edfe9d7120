"""Tables of every kind as columns of plain values, read only where they are asked for."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter, methodcaller
from pathlib import Path
from typing import Any, TypeVar

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.text import open_text, printable, read_table

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
"""Suffixes of the files that are tables."""

Cell = Any
"""What a cell holds: text from CSV, plain values from other formats, `None` where there is nothing."""

Record = TypeVar("Record")

_HEAD = 1000


@dataclass(frozen=True)
class TableSource:
    """A table.

    Args:
        name: What messages call it.
        folder: Where its paths begin, unless something else is said.
        columns: Names of its columns.
        read: Cells of the columns with the given names, a list for each.
        head: The same of the first rows only.
    """

    name: str
    folder: Path
    columns: list[str]
    read: Callable[[Sequence[str]], list[list[Cell]]]
    head: Callable[[Sequence[str]], list[list[Cell]]]


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a table's by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def open_table(table: Any, usual: Sequence[str]) -> TableSource:
    """Open a table.

    Args:
        table: Path of a CSV, TSV, JSON Lines or Parquet file, a frame that narwhals knows (pandas, Polars, PyArrow, …)
            or a mapping of names to columns.
        usual: Names of columns that its header is expected to have one of.

    Raises:
        UsageError: It is none of these, or cannot be read.
    """
    if isinstance(table, Mapping):
        return _from_columns("the table", table)
    if not isinstance(table, str | os.PathLike):
        return _from_frame("the table", Path(), table)
    path = Path(table)
    if not path.is_file() or not is_table(path):
        what = "which is no table" if path.exists() else "which does not exist"
        raise UsageError(
            f"A table must be a file of the kind {', '.join(sorted(SUFFIXES))}, a frame or a dictionary of columns. "
            f"Received: '{path}', {what}"
        )
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(path)
    return _from_json_lines(path) if suffix in (".jsonl", ".ndjson") else _from_text(path, usual)


def _from_text(path: Path, usual: Sequence[str]) -> TableSource:
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    with path.open("rb") as file:
        header = [name.strip() for name in read_table(file, usual, separator).header]
    width = len(header)

    def rows() -> Iterator[list[str]]:
        with path.open("rb") as file:
            for number, row in enumerate(read_table(file, usual, separator).rows, 2):
                if len(row) == width:
                    yield row
                elif len(row) > width and any(row[width:]):
                    raise UsageError(
                        f"Row {number:,} of '{path}' has {len(row)} cells, and the header {width}: put quotes around a "
                        "cell that holds the separator."
                    )
                elif row:
                    yield [*row[:width], *[""] * (width - len(row))]

    return _from_records(path, header, rows, lambda name: itemgetter(header.index(name)))


def _from_json_lines(path: Path) -> TableSource:
    def records() -> Iterator[dict[str, Cell]]:
        with path.open("rb") as file, open_text(file) as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"Line {number:,} of '{path}' is not JSON: {error}") from None
                if not isinstance(record, dict):
                    raise UsageError(f"Line {number:,} of '{path}' must be an object of JSON. Received: {line[:80]}")
                yield record

    names = dict.fromkeys(name for record in islice(records(), _HEAD) for name in record)
    return _from_records(path, list(names), records, lambda name: methodcaller("get", name))


def _from_records(
    path: Path,
    header: list[str],
    records: Callable[[], Iterator[Record]],
    cell: Callable[[str], Callable[[Record], Cell]],
) -> TableSource:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"The columns of '{path}' must have names of their own. Received: '{printable(twice)}' twice")

    def read(names: Sequence[str], most: int | None = None) -> list[list[Cell]]:
        columns: list[list[Cell]] = [[] for _ in names]
        remaining = islice(records(), most)
        # Some at a time: a million rows at once would keep the garbage collector busy.
        while some := list(islice(remaining, _HEAD)):
            for name, column in zip(names, columns, strict=True):
                column.extend(map(cell(name), some))
        return columns

    return TableSource(f"'{path}'", path.parent, header, read, lambda names: read(names, _HEAD))


def _from_parquet(path: Path) -> TableSource:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise KerasxferError("To read Parquet files: `pip install 'kerasxfer[tables]'`.") from None
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UsageError(f"'{path}' is not a Parquet file: {error}") from None

    def read(names: Sequence[str]) -> list[list[Cell]]:
        table = parquet.ParquetFile(path).read(columns=list(names))
        return [table.column(name).to_pylist() for name in names]

    def head(names: Sequence[str]) -> list[list[Cell]]:
        batch = next(parquet.ParquetFile(path).iter_batches(_HEAD, columns=list(names)), None)
        return [[] if batch is None else batch.column(name).to_pylist() for name in names]

    return TableSource(f"'{path}'", path.parent, list(file.schema_arrow.names), read, head)


def _from_frame(name: str, folder: Path, frame: Any) -> TableSource:
    try:
        import narwhals
    except ImportError:
        raise KerasxferError("To read frames of pandas, Polars, …: `pip install 'kerasxfer[tables]'`.") from None
    try:
        known = narwhals.from_native(frame)
    except TypeError:
        raise UsageError(
            "`table` must be a path, a frame of pandas, Polars or another library that narwhals knows, or a dictionary "
            f"of columns. Received: {type(frame).__name__}"
        ) from None
    eager = known.collect() if isinstance(known, narwhals.LazyFrame) else known

    def read(names: Sequence[str]) -> list[list[Cell]]:
        return [eager[column].to_list() for column in names]

    return TableSource(
        name, folder, list(map(str, eager.columns)), read, lambda names: [column[:_HEAD] for column in read(names)]
    )


def _from_columns(name: str, columns: Mapping[str, Iterable[Cell]]) -> TableSource:
    cells = {key: column.tolist() if hasattr(column, "tolist") else list(column) for key, column in columns.items()}
    lengths = {key: len(column) for key, column in cells.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"The columns of a table must be of one length. Received: {lengths}")
    return TableSource(
        name,
        Path(),
        list(cells),
        lambda names: [cells[key] for key in names],
        lambda names: [cells[key][:_HEAD] for key in names],
    )
