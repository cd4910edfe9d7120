"""What is at a path: a data set of class folders or of a table, or the images alone."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

from kerasxfer_serving.inputs.walk import LeftOut, find_images

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.data.image_table import ImageTable
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions, refuse_table_options
from kerasxfer.data.tables.rows import read_paths, read_subsets
from kerasxfer.data.tables.source import is_table


def opener(path: str | os.PathLike[str], table: TableOptions = NOTHING_SAID) -> Callable[..., ImageDataset]:
    """What opens the images at a path, wherever a folder or a table may be given.

    Args:
        path: Folder of class folders, or file of a table.
        table: What is said about the table. Defaults to nothing.

    Returns:
        `ImageFolder` or `ImageTable` of that path, to be called with the other arguments.

    Raises:
        UsageError: Something is said about a table, and the path is none.
    """
    if is_table(path):
        return functools.partial(ImageTable, path, **dataclasses.asdict(table))
    refuse_table_options(path, table)
    return functools.partial(ImageFolder, path, group_pattern=table.group_pattern)


def without_labels(path: str | os.PathLike[str], table: TableOptions = NOTHING_SAID) -> Callable[..., ImageDataset]:
    """As `opener`, for what does not look at labels: those of a table may be of any kind, or none."""
    if not is_table(path):
        return opener(path, table)
    root, paths = read_paths(path, table, may_miss=False)
    return functools.partial(ImageTable, {"image": paths, "label": ["unknown"] * len(paths)}, root=root)


def subsets(path: str | os.PathLike[str], table: TableOptions = NOTHING_SAID) -> frozenset[str]:
    """Which of `"training"`, `"validation"` and `"test"` the table at a path has rows for.

    Args:
        path: Folder of class folders, or file of a table.
        table: What is said about the table. Defaults to nothing.

    Returns:
        The subsets; none where no column says so.
    """
    return read_subsets(path, table) if is_table(path) else frozenset()


def image_paths(
    path: Path, table: TableOptions = NOTHING_SAID, left_out: LeftOut | None = None
) -> tuple[Path, list[str]]:
    """Find the images below a folder, or those that a table names.

    Args:
        path: The folder, or file of the table.
        table: What is said about the table. Defaults to nothing.
        left_out: Counts what is no image. Defaults to `None`.

    Returns:
        The folder that paths are relative to, and the paths: sorted, or in the table's order.
    """
    if is_table(path):
        return read_paths(path, table)
    return path, sorted(find_images(path, left_out))
