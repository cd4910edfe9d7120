"""Names of classes, however they come: sequences, mappings by index or by name, arrays, files."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kerasxfer_serving.errors import ModelError, UsageError
from kerasxfer_serving.inputs.text import decode_text, find_column, read_table

ClassNames: TypeAlias = Iterable[str] | Mapping[int, str] | Mapping[str, int]
"""Names in order, names by index, or indices by name."""

_NAME_COLUMNS = ("class_name", "label_name", "name", "label", "class", "category", "display_name")
_INDEX_COLUMNS = ("index", "idx", "class_index", "class_idx", "class_id", "label_id", "id")


def normalise_class_names(names: object) -> tuple[str, ...]:
    """Class names in the order of their indices.

    Args:
        names: A sequence or array of names, as `["cat", "dog"]` or scikit-learn's `classes_`; names by index,
            `{0: "cat", 1: "dog"}`; or indices by name, as Keras's `class_indices`, `{"cat": 0, "dog": 1}`.

    Returns:
        The names without spaces around them; numbers as text.

    Raises:
        UsageError: If `names` is none of these, its indices leave a gap, or a name is empty or not Unicode.

    Example:

    >>> normalise_class_names({"dog": 1, "cat": 0})
    ('cat', 'dog')
    """
    if isinstance(names, Mapping):
        names = _by_index(names)
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise UsageError(f"Class names come as a list, or as a mapping from or to indices. Received: {names!r:.200}")
    return tuple(_name(name) for name in names)


def read_labels(path: str | Path) -> list[str]:
    """Class names from a file.

    Args:
        path: A text file with one name a line; a table, `.csv` or `.tsv`, with a column `name`, `label` or `class`, in
            the order of its column `index` or `id` where it has one; or JSON: a list, names by index, indices by name,
            Keras's `imagenet_class_index.json`, or a configuration with `id2label`.

    Raises:
        ModelError: The file cannot be read, or is none of these.
    """
    path = Path(path)
    readers = {".json": _from_json, ".csv": _from_table, ".tsv": _from_table}
    try:
        return list(readers.get(path.suffix.lower(), _from_lines)(path))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"`{path}` is not a list of labels (one per line, CSV or JSON, in UTF-8): {error}") from error


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names with their number where one occurs twice, as ImageNet's "crane" does."""
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))


def _name(name: Any) -> str:
    text = str(name).strip() if isinstance(name, str) or _is_integer(name) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = ""
    if not text:
        raise UsageError(f"A class name is text that is not empty, in Unicode. Received: {name!r:.200}")
    return text


def _by_index(names: Mapping[Any, Any]) -> list[Any]:
    """The names in the order of the indices, which are the values where these are integers, and else the keys."""
    count = range(len(names))
    by_value = {int(value): key for key, value in names.items() if _is_integer(value)}
    by_key = {int(key): value for key, value in names.items() if _is_integer(key) or _is_digits(key)}
    if set(by_value) == set(count) and not all(map(_is_integer, names)):
        return [by_value[index] for index in count]
    for start in (0, 1):
        if names and set(by_key) == {start + index for index in count}:
            return [by_key[start + index] for index in count]
    raise UsageError(f"A mapping of class names has every index from 0 once. Received: {dict(names)!r:.200}")


def _is_integer(item: Any) -> bool:
    return hasattr(item, "__index__") and not isinstance(item, bool)


def _is_digits(item: Any) -> bool:
    return isinstance(item, str) and item.isascii() and item.isdecimal() and len(item) < 10


def _from_lines(path: Path) -> Sequence[str]:
    return normalise_class_names([line for line in decode_text(path.read_bytes()).splitlines() if line.strip()])


def _from_json(path: Path) -> Sequence[str]:
    data = json.loads(decode_text(path.read_bytes()))
    if isinstance(data, dict):
        data = data.get("id2label", data)
        # Keras's file gives WordNet's number and the name.
        data = {key: value[-1] if isinstance(value, list) and value else value for key, value in data.items()}
    elif isinstance(data, list):
        data = [item.get("name") if isinstance(item, dict) else item for item in data]
    return normalise_class_names(data)


def _from_table(path: Path) -> Sequence[str]:
    with path.open("rb") as file:
        separator = "\t" if path.suffix.lower() == ".tsv" else None
        header, rows = read_table(file, (*_NAME_COLUMNS, *_INDEX_COLUMNS), separator)
        table = [row for row in rows if any(row)]
    name, index = find_column(header, _NAME_COLUMNS), find_column(header, _INDEX_COLUMNS)
    if name is None:
        return normalise_class_names([row[0] for row in [header, *table]])
    if index is None:
        return normalise_class_names([row[name] for row in table])
    names = {row[index].strip(): row[name] for row in table}
    if len(names) != len(table):
        raise UsageError("an index occurs twice")
    return normalise_class_names(names)
