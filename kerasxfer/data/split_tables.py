"""Writes train, validation and test as tables that name the images where they are."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.data.decisions import Decisions
from kerasxfer.data.image_rows import ImageRows
from kerasxfer.data.splits import new_folder
from kerasxfer.data.tables.columns import IMAGE_COLUMNS, TableOptions, find_columns
from kerasxfer.data.tables.rows import read_rows
from kerasxfer.data.tables.source import Cell, open_table


@dataclass(frozen=True)
class Columns:
    """A table's columns: what is written of each row.

    Args:
        header: Names of the columns.
        cells: A list for each.
        image: Number of the column of paths.
    """

    header: list[str]
    cells: list[list[Cell]]
    image: int


def read_for_split(path: Path, options: TableOptions) -> tuple[ImageRows, Columns]:
    """Read a table that is to be divided; its labels matter for the balance alone.

    Args:
        path: The table.
        options: What is said about it.

    Returns:
        The rows, and all columns of the table.

    Raises:
        UsageError: The table is divided already.
    """
    rows, columns = read_rows(path, replace(options, separator=options.separator or "|"), multi_hot=True, may_miss=True)
    if columns.split is not None:
        raise UsageError(
            f"'{path}' is divided by its column '{columns.split}', which `kerasxfer train` honours. To divide it anew, "
            "without the column: `--split-column ''`."
        )
    source = open_table(path, IMAGE_COLUMNS)
    ignored = find_columns(source, replace(options, split_column=None), labels=False).split
    header = [name for name in source.columns if name != ignored]
    return rows, Columns(header, source.read(header), header.index(columns.image))


def decided(rows: ImageRows, columns: Columns, decisions: Decisions) -> tuple[ImageRows, Columns]:
    """A table without the rows that are excluded.

    Raises:
        UsageError: A row is to get another label, which stands in the table itself.
    """
    if decisions.labels:
        raise UsageError(
            f"'{decisions.source}' changes labels, which stand in the table: change them there. Received: "
            f"{len(decisions.labels)} decisions with a label"
        )
    kept = decisions.kept(rows)
    cells = [[cell for cell, keep in zip(column, kept, strict=True) if keep] for column in columns.cells]
    return rows.take(kept), replace(columns, cells=cells)


def columns_of(rows: ImageRows) -> Columns:
    """The columns `image` and `label` for images that come from class folders."""
    return Columns(["image", "label"], [rows.paths, [rows.class_names[label] for label in rows.labels]], 0)


def write_tables(rows: ImageRows, columns: Columns, subsets: Mapping[str, NDArray[np.intp]], destination: Path) -> None:
    """Write `destination/subset.csv` for each subset, all of them or nothing; paths are relative to that folder.

    Args:
        rows: The images.
        columns: What is written of each row.
        subsets: Row numbers by subset.
        destination: A folder that does not exist, or is empty.
    """
    way = _way(destination, rows.root)
    paths = [path if os.path.isabs(path) else f"{way}/{path}" for path in rows.paths]  # noqa: PTH117  (per row)
    cells: list[Sequence[Cell]] = [*columns.cells]
    cells[columns.image] = paths
    with new_folder(destination) as unfinished:
        for subset, chosen in subsets.items():
            path = unfinished / f"{subset}.csv"
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns.header)
                writer.writerows([_written(column[row]) for column in cells] for row in chosen)


def _way(start: Path, root: Path) -> str:
    """The POSIX path from one folder to another; from the top where the other is on another of Windows's drives."""
    try:
        way = os.path.relpath(root, start)
    except ValueError:
        way = os.path.abspath(root)  # noqa: PTH100
    return way.replace(os.sep, "/")


def _written(cell: Cell) -> Cell:
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    return "" if cell is None else cell
