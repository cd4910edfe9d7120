"""Which column of a table is which: as it is said, or by the usual names, which is told."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.lists import PATH_COLUMNS
from kerasxfer_serving.inputs.text import find_column, printable

from kerasxfer.data.tables.source import Cell, TableSource

IMAGE_COLUMNS = ("image", "path", "file_name", "filepath", "image_path", *PATH_COLUMNS, "image_id", "id")
LABEL_COLUMNS = ("label", "class", "category", "target", "labels", "class_name", "choice", "choices", "tags")
SPLIT_COLUMN = "split"

_FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True)
class TableOptions:
    """What is said about a table of images and labels; see `kerasxfer.ImageTable`.

    Args:
        root: Folder that paths are relative to. Defaults to `None`, the table's.
        image_column: Column of the images' paths. Defaults to `None`, the usual names.
        label_column: Column of the labels, or one column for each class. Defaults to `None`, the usual names.
        separator: What stands between the labels of a cell. Defaults to `None`, which is found out.
        group_column: Column of the groups. Defaults to `None`, no groups.
        group_pattern: Regular expression that finds the group in a path instead. Defaults to `None`.
        weight_column: Column of the rows' weights. Defaults to `None`, rows that all count the same.
        split_column: Column that says which rows are for training, validation and test; `""` for none, even if one
            is called `split`. Defaults to `None`: that one, if it is there.
    """

    root: str | None = None
    image_column: str | None = None
    label_column: str | tuple[str, ...] | None = None
    separator: str | None = None
    group_column: str | None = None
    group_pattern: str | None = None
    weight_column: str | None = None
    split_column: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableOptions":
        """The options from plain values of JSON; keys that a later version has added are passed over."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        columns = known.get("label_column")
        return cls(**known | {"label_column": tuple(columns) if isinstance(columns, list) else columns})

    def or_else(self, others: "TableOptions") -> "TableOptions":
        """These options, and where nothing is said about images and labels, what others say."""
        places = ("root", "image_column", "label_column", "separator")
        return replace(self, **{name: getattr(others, name) for name in places if getattr(self, name) is None})

    def __post_init__(self) -> None:
        if self.group_column is not None and self.group_pattern is not None:
            raise UsageError("`group_column` and `group_pattern` exclude each other; give one.")


NOTHING_SAID = TableOptions()


def refuse_table_options(path: str | os.PathLike[str], options: TableOptions) -> None:
    """Refuse what is said about a table where there is none; the pattern of groups is for folders too.

    Raises:
        UsageError: Something is said.
    """
    said = [name for name, value in vars(options).items() if value is not None and name != "group_pattern"]
    if said:
        option = "images" if said[0] == "root" else said[0].replace("_", "-")
        raise UsageError(f"`--{option}` is for tables of images and labels. Received: '{path}', which is not a table.")


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table, by their names in it.

    Args:
        image: The column of paths.
        labels: The column of labels, or a column for each class; empty where there are none.
        by_class: Whether there is a column for each class.
        group: The column of groups, or `None`.
        weight: The column of weights, or `None`.
        split: The column of subsets, or `None`.
        found: What was found by its usual name, for a person to read.
    """

    image: str
    labels: tuple[str, ...]
    by_class: bool
    group: str | None
    weight: str | None
    split: str | None
    found: tuple[str, ...]


def find_columns(source: TableSource, options: TableOptions, *, labels: bool = True) -> TableColumns:
    """Find the columns of a table.

    Args:
        source: The table.
        options: What is said about it.
        labels: Whether it must have labels. Defaults to `True`.

    Raises:
        UsageError: There is no such column, or none that is called as usual.
    """
    found = []
    image = _said(source, "image_column", options.image_column) or _usual(source, IMAGE_COLUMNS)
    if image is None:
        raise UsageError(
            f"{source.name} has no column that is called as those of images are ({', '.join(IMAGE_COLUMNS[:5])}, …): "
            f"name it with `image_column`. It has: {_listed(source.columns)}"
        )
    if options.image_column is None:
        found.append(f"images in column '{printable(image)}'")
    group = _said(source, "group_column", options.group_column)
    weight = _said(source, "weight_column", options.weight_column)
    split = _said(source, "split_column", options.split_column or None) or _usual(source, (SPLIT_COLUMN,))
    if split is not None and options.split_column is None:
        found.append(f"subsets in column '{printable(split)}'")
    others = [name for name in source.columns if name not in (image, group, weight, split)]
    if options.split_column == "":
        split = None
    said = options.label_column
    by_class = said is not None and not isinstance(said, str)
    columns: Sequence[str] = ()
    if said is not None:
        columns = [name for name in ([said] if isinstance(said, str) else said) if _said(source, "label_column", name)]
    elif labels:
        columns, by_class = _usual_labels(source, others)
        kind = "labels in columns" if by_class else "labels in column"
        found.append(f"{kind} {_listed(columns)}")
    return TableColumns(image, tuple(columns), by_class, group, weight, split, tuple(found))


def flag(cell: Cell) -> bool | None:
    """What a cell of a class's column says: whether the image has the label; `None` where it is neither 0 nor 1."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return False
    return _FLAGS.get(str(cell).strip().lower())


def _usual_labels(source: TableSource, others: Sequence[str]) -> tuple[Sequence[str], bool]:
    named = find_column(others, LABEL_COLUMNS)
    if named is not None:
        return [others[named]], False
    if len(others) > 1 and all(_is_flags(column) for column in source.head(others)):
        return others, True
    raise UsageError(
        f"{source.name} has no column that is called as those of labels are ({', '.join(LABEL_COLUMNS[:4])}, …), nor "
        "columns of 0 and 1 for the classes: name it, or them, with `label_column`. "
        f"It has: {_listed(source.columns)}"
    )


def _is_flags(cells: Sequence[Cell]) -> bool:
    return bool(cells) and all(flag(cell) is not None for cell in cells) and any(map(_filled, cells))


def _filled(cell: Cell) -> bool:
    return cell is not None and str(cell).strip() != ""


def _said(source: TableSource, option: str, name: str | None) -> str | None:
    if name is not None and name not in source.columns:
        raise UsageError(
            f"`{option}` must be a column of {source.name}. Received: {option}={name!r}; it has: "
            f"{_listed(source.columns)}"
        )
    return name


def _usual(source: TableSource, names: Sequence[str]) -> str | None:
    place = find_column(source.columns, names)
    return None if place is None else source.columns[place]


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:most])
    return shown + (", …" if len(names) > most else "")
