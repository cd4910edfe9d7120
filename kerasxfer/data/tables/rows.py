"""A table of images and labels as rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.text import printable
from kerasxfer_serving.inputs.walk import list_folders
from numpy.typing import NDArray

from kerasxfer.data.division import groups_by_pattern
from kerasxfer.data.image_rows import ImageRows, numbered
from kerasxfer.data.tables.columns import IMAGE_COLUMNS, TableColumns, TableOptions, find_columns
from kerasxfer.data.tables.files import find_files, image_paths
from kerasxfer.data.tables.labels import exactly_one, labels_by_class, many_labels, one_label
from kerasxfer.data.tables.source import Cell, TableSource, open_table

_SUBSETS = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_rows(
    table: Any,
    options: TableOptions,
    *,
    multi_hot: bool = False,
    class_names: Sequence[str] | None = None,
    may_miss: bool = False,
) -> tuple[ImageRows, TableColumns]:
    """Read a table of images and labels.

    Args:
        table: As in `ImageTable`.
        options: What is said about it.
        multi_hot: Whether an image has any number of labels. Defaults to `False`, exactly one.
        class_names: The classes by index. Defaults to `None`, those in the table.
        may_miss: Whether images may be missing, as long as some are there. Defaults to `False`.

    Returns:
        The rows, and the columns that they come from.

    Raises:
        UsageError: The table is none of images and labels, or its images are not there.
    """
    source = open_table(table, IMAGE_COLUMNS)
    columns = find_columns(source, options)
    wanted = [columns.image, *columns.labels, *filter(None, (columns.group, columns.weight, columns.split))]
    cells = dict(zip(wanted, source.read(wanted), strict=True))
    root, paths = _files(source, options, columns, cells[columns.image], may_miss=may_miss)
    labels, names = _labels(source, columns, cells, multi_hot, class_names, options.separator)
    groups = None
    if columns.group is not None:
        groups = _groups(cells[columns.group], _where(source, columns.group))
    elif options.group_pattern is not None:
        groups = groups_by_pattern(paths, options.group_pattern)
    return (
        ImageRows(
            root,
            paths,
            labels,
            names,
            weights=_weights(cells[columns.weight], _where(source, columns.weight)) if columns.weight else None,
            groups=groups,
            subsets=_subsets(cells[columns.split], _where(source, columns.split)) if columns.split else None,
        ),
        columns,
    )


def read_subsets(table: Any, options: TableOptions) -> frozenset[str]:
    """The subsets that a column of a table divides its rows into; none without such a column.

    Args:
        table: As in `ImageTable`.
        options: What is said about it.
    """
    source = open_table(table, IMAGE_COLUMNS)
    column = find_columns(source, options, labels=False).split
    if column is None:
        return frozenset()
    (cells,) = source.read([column])
    return frozenset(_subsets(cells, _where(source, column)).tolist())


def read_paths(table: Any, options: TableOptions, *, may_miss: bool = True) -> tuple[Path, list[str]]:
    """The images of a table whose labels do not matter.

    Args:
        table: As in `ImageTable`.
        options: What is said about it.
        may_miss: As in `read_rows`. Defaults to `True`.

    Returns:
        The folder, and the images' paths relative to it.
    """
    source = open_table(table, IMAGE_COLUMNS)
    columns = find_columns(source, options, labels=False)
    (cells,) = source.read([columns.image])
    root, paths = _files(source, options, columns, cells, may_miss=may_miss)
    return root, paths


def _files(
    source: TableSource, options: TableOptions, columns: TableColumns, cells: Sequence[Cell], *, may_miss: bool
) -> tuple[Path, list[str]]:
    root = source.folder if options.root is None else Path(options.root)
    if not root.is_dir():
        raise UsageError(f"`root` must be a folder of images. Received: root='{root}', which is not a folder")
    where = _where(source, columns.image)
    if not cells:
        raise UsageError(f"{source.name} has no rows.")
    paths, missing = find_files(root, image_paths(cells, where))
    if len(missing) == len(paths) or (missing and not may_miss):
        shown = ", ".join(f"'{printable(paths[row])}'" for row in missing[:3])
        folders = list_folders(root)[:5] if options.root is None else []
        there = f" Folders in '{root}': {', '.join(map(printable, folders))}." if folders else ""
        remedy = "" if len(missing) == len(paths) else ", or leave these rows out with `on_error='skip'`"
        raise UsageError(
            f"{len(missing):,} of {len(paths):,} images in {where} are not in '{root}': {shown}"
            f"{', …' if len(missing) > 3 else ''}. Say with `root` (`--images`) which folder the paths begin "
            f"in{remedy}.{there}"
        )
    return root, paths


def _labels(
    source: TableSource,
    columns: TableColumns,
    cells: dict[str, list[Cell]],
    multi_hot: bool,
    class_names: Sequence[str] | None,
    separator: str | None,
) -> tuple[NDArray[Any], list[str]]:
    if columns.by_class:
        flags = [cells[name] for name in columns.labels]
        table, names = labels_by_class(flags, columns.labels, class_names, source.name)
        return (table if multi_hot else exactly_one(table, source.name)), names
    (column,) = columns.labels
    where = _where(source, column)
    if multi_hot:
        return many_labels(cells[column], class_names, separator, where)
    return one_label(cells[column], class_names, where)


def _weights(cells: Sequence[Cell], where: str) -> NDArray[np.float32]:
    try:
        weights = np.array([float(cell) for cell in cells], "float32")
    except (TypeError, ValueError):
        weights = np.array([np.nan], "float32")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise UsageError(f"Weights must be numbers, 0 or more, and not all 0. {where} holds others.")
    return weights


def _groups(cells: Sequence[Cell], where: str) -> NDArray[np.intp]:
    names = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    if "" in names:
        raise UsageError(f"Every row must have a group. Row {names.index('') + 1:,} of {where} has none.")
    return numbered(names, in_order=True)[1]


def _subsets(cells: Sequence[Cell], where: str) -> NDArray[np.str_]:
    distinct, codes = numbered([str(cell).strip().lower() for cell in cells])
    strangers = [name for name in distinct if name not in _SUBSETS]
    if strangers:
        raise UsageError(
            f"A column of subsets holds train, validation and test. {where} holds {strangers[0]!r}: rename the column, "
            "name another one with `split_column`, or none: `split_column=''`."
        )
    return np.array([_SUBSETS[name] for name in distinct])[codes]


def _where(source: TableSource, column: str) -> str:
    return f"column '{printable(column)}' of {source.name}"
