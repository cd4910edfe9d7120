"""Cells of a table as classes: one for each image, or any number of them."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.text import printable
from numpy.typing import NDArray

from kerasxfer.data.image_files import class_name
from kerasxfer.data.image_rows import numbered
from kerasxfer.data.tables.columns import flag
from kerasxfer.data.tables.source import Cell

_SEPARATORS = ("|", ";", ",")
_WHOLE = re.compile(r"-?\d+")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")


def one_label(cells: Sequence[Cell], class_names: Sequence[str] | None, where: str) -> tuple[NDArray[Any], list[str]]:
    """The class of each row.

    Args:
        cells: A column of labels.
        class_names: The classes by index, or `None` for those that there are.
        where: The column, for messages.

    Returns:
        Class indices, int32 `[n]`, and the names.

    Raises:
        UsageError: A row has no label, or several.
    """
    distinct, codes = numbered([_hashable(cell) for cell in cells])
    names = [_names(cell, None) for cell in distinct]
    counts = np.array([len(labels) for labels in names])[codes]
    if len(wrong := np.flatnonzero(counts != 1)):
        row = wrong[0]
        remedy = "say `label_mode='multi_hot'`" if counts[row] else "give it one, or take it out"
        raise UsageError(
            f"Every row must have one label. {len(wrong):,} row(s) of {where} have not, as row {row + 1:,}, which has "
            f"{counts[row]}: {remedy}."
        )
    if class_names is None and (several := next((labels[0] for labels in names if "|" in labels[0]), None)):
        raise UsageError(
            f"Labels in {where} look like several: {several!r}. Say `label_mode='multi_hot'`, or `class_names` if this "
            "is the name of one class."
        )
    classes, index_of = _classes([labels[0] for labels in names], class_names, where)
    return np.array([index_of(labels[0]) for labels in names], "int32")[codes], classes


def many_labels(
    cells: Sequence[Cell], class_names: Sequence[str] | None, separator: str | None, where: str
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which labels each row has: any number of them.

    Args:
        cells: A column of lists, JSON lists, or texts that hold labels between separators.
        class_names: The classes by index, or `None` for those that there are.
        separator: Between the labels; `None` to find out.
        where: The column, for messages.

    Returns:
        Bool `[n, classes]`, and the names.

    Raises:
        UsageError: It is not clear what separates the labels.
    """
    distinct, codes = numbered([_hashable(cell) for cell in cells])
    between = separator or _separator(distinct, where)
    names = [_names(cell, between) for cell in distinct]
    classes, index_of = _classes([name for labels in names for name in labels], class_names, where)
    kinds = np.zeros((len(distinct), len(classes)), bool)
    for number, labels in enumerate(names):
        kinds[number, [index_of(name) for name in labels]] = True
    return kinds[codes], classes


def labels_by_class(
    columns: Sequence[Sequence[Cell]], names: Sequence[str], class_names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which labels each row has, from a column of 0 and 1 for each class.

    Args:
        columns: The columns.
        names: Their names, which are the classes'.
        class_names: The classes by index, or `None` for the order of the columns.
        where: The table, for messages.

    Returns:
        Bool `[n, classes]`, and the names.

    Raises:
        UsageError: A cell holds something else.
    """
    own = [class_name(name.strip()) for name in names]
    classes, index_of = _classes(own, own if class_names is None else class_names, where)
    table = np.zeros((len(columns[0]), len(classes)), bool)
    for name, cells in zip(own, columns, strict=True):
        distinct, codes = numbered(cells)
        flags = [flag(cell) for cell in distinct]
        if None in flags:
            wrong = distinct[flags.index(None)]
            raise UsageError(f"Column '{printable(name)}' of {where} must hold 0 and 1. Received: {wrong!r}")
        table[:, index_of(name)] = np.array(flags, bool)[codes]
    return table, classes


def exactly_one(table: NDArray[np.bool_], where: str) -> NDArray[Any]:
    """The one label of each row, int32 `[n]`.

    Raises:
        UsageError: A row has none, or several.
    """
    counts = table.sum(1)
    if wrong := int((counts != 1).sum()):
        row = int(np.flatnonzero(counts != 1)[0])
        raise UsageError(
            f"{wrong:,} row(s) of {where} have no label or several, as row {row + 1:,}, which has {counts[row]}: "
            "say `label_mode='multi_hot'`."
        )
    return np.asarray(table.argmax(1), "int32")


def _classes(found: Sequence[str], given: Sequence[str] | None, where: str) -> tuple[list[str], Callable[[str], int]]:
    """The classes by index, and what finds a label's index."""
    distinct = list(dict.fromkeys(found))
    whole = all(map(_WHOLE.fullmatch, distinct))
    if given is None:
        names = sorted(distinct, key=int) if whole else sorted(distinct)
        return names, {name: index for index, name in enumerate(names)}.__getitem__
    names = [class_name(name) for name in given]
    index_of = {name: index for index, name in enumerate(names)}
    strangers = [name for name in distinct if name not in index_of]
    if strangers and whole and all(0 <= int(name) < len(names) for name in distinct):
        return names, int  # numbers of classes that have names
    if strangers or len(index_of) < len(names):
        raise UsageError(
            f"`class_names` must name every label of {where}, once each. Received: {list(given)}; the labels: "
            f"{distinct[:12]}"
        )
    return names, index_of.__getitem__


def _hashable(cell: Cell) -> Cell:
    """A cell as something to count by: lists as tuples, and what is not a number as nothing."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, dict):
        cell = cell.get("choices", str(cell))
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return tuple(cell) if isinstance(cell, list | set | np.ndarray) else cell


def _names(cell: Cell, separator: str | None) -> list[str]:
    """Names of the labels in a cell."""
    if isinstance(cell, tuple):
        return [name for each in cell for name in _names(each, None)]
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return []
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    if (listed := _json_list(text)) is not None:
        return [name for each in listed for name in _names(each, None)]
    if number := _WHOLE_FLOAT.fullmatch(text):  # what a frame makes of integers beside an empty cell
        text = number[1]
    parts = [text] if separator is None else text.split(separator)
    return [class_name(name) for part in parts if (name := part.strip())]


def _json_list(text: str) -> list[Cell] | None:
    """The labels of a JSON list, or of `{"choices": […]}` as Label Studio writes it."""
    if text[:1] not in ("[", "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = value.get("choices") if isinstance(value, dict) else value
    return value if isinstance(value, list) else None


def _separator(cells: Sequence[Cell], where: str) -> str | None:
    """What stands between the labels of a column."""
    texts = [cell for cell in cells if isinstance(cell, str) and _json_list(cell.strip()) is None]
    met = [separator for separator in _SEPARATORS if any(separator in text for text in texts)]
    if len(met) > 1:
        raise UsageError(
            f"It is not clear what separates the labels in {where}, which holds {' and '.join(map(repr, met))}: "
            "say it with `separator`."
        )
    return met[0] if met else None
